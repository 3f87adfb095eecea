"""Beside Tor Browser, a system's tor, OnionShare and the filters of Tails and Whonix, on one machine at once.

Others have ports that are always the same, and this machine may have a tor there: so all of it, with a private Tor
network, is in a network namespace of its own, where neighbours.py is run.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.leaks import can_seal

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
NEIGHBOURS_S = 400.0
ALONE = (
    "import os, sys; from tests.e2e import sealed; "
    "sealed.leave_network(); sealed.use_network(); os.execv(sys.executable, sys.argv[1:])"
)


@pytest.mark.tor
@pytest.mark.skipif(sys.platform != "linux", reason="network namespaces are Linux's")
def test_nobody_is_disturbed_and_all_are_named(tmp_path: Path) -> None:
    if not can_seal():
        pytest.skip("nobody may make a network namespace on this machine")
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--basetemp",
        tmp_path / "beside",
    ]
    variables = {name: value for name, value in os.environ.items() if name != "ONIONMPC_TEST_TESTNET"}
    paths = os.pathsep.join([str(ROOT), variables.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", ALONE, *command, str(HERE / "neighbours.py")],
        env=variables | {"PYTHONPATH": paths},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=NEIGHBOURS_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout, done.stdout
