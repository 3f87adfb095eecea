"""The error for what a program must not do says so, and what to do instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.rehearsal import write_spec
from tests.support.walls import run_program

STARTS = {
    "subprocess": "import subprocess; subprocess.run(['true'])",
    "fork": "import multiprocessing; multiprocessing.get_context('fork').Process().start()",
    # Neither of these causes an audit event: they call what subprocess is made of.
    "spawn": "import multiprocessing; multiprocessing.get_context('spawn').Process().start()",
    "tracker": "from multiprocessing import resource_tracker; resource_tracker.ensure_running()",
}


@pytest.mark.parametrize("how", STARTS)
def test_starting_a_process_says_what_is_refused_and_what_to_do_instead(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], how: str
) -> None:
    assert run_program(write_spec(tmp_path, STARTS[how], parties=1)).status == 1
    said = capfd.readouterr().err
    assert "the program is walled in and cannot start a process: use threads, or n_jobs=1 in scikit-learn" in said
    assert "--allow-subprocess" in said
