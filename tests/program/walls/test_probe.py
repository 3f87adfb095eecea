"""The probe for walls: a caller that gives up early leaves no thread that still reads."""

from __future__ import annotations

import contextlib
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from onionmpc.errors import ProgramError
from onionmpc.program.walls.probe import probing
from tests.support.session import processes_of_ours

ENOUGH_S = 10.0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists a process's children")
def test_a_thread_that_waits_for_the_answer_ends_with_the_probe() -> None:
    before = set(processes_of_ours())
    with ThreadPoolExecutor(1) as threads:
        with probing() as walls:
            answer = threads.submit(walls)
            (probe,) = set(processes_of_ours()) - before
            # Its own children keep the pipes open for a moment after it was killed.
            while not processes_of_ours(probe) and not answer.done():
                pass
        with contextlib.suppress(ProgramError):
            answer.result(ENOUGH_S)
