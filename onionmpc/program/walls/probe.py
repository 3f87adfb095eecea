"""How far a program can be walled in on this machine, found out in a process of its own.

Knows how to start that process and to read its answer; build.py is what runs in it. Imports little, so
that a command can start it first and import all else meanwhile.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator

import msgspec

from onionmpc.errors import ProgramError
from onionmpc.machine import refusing
from onionmpc.program.spec import Walls
from onionmpc.program.walls.build import environment_of_program

TIMEOUT_S = 30.0


@contextlib.contextmanager
def probing() -> Iterator[Callable[[], Walls]]:
    """Build walls around a process, and yield what waits for them and returns how far that got.

    That raises:
        ProgramError: it cannot even be tried.
        SystemRefused: no process can be started.
    """
    with refusing("cannot start the program process"):
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "onionmpc.program.walls.build"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment_of_program(),
        )

    def walls() -> Walls:
        try:
            out, err = process.communicate(timeout=TIMEOUT_S)
            return msgspec.json.decode(out, type=Walls)
        except subprocess.TimeoutExpired:
            raise ProgramError(f"the walls around a program were not up after {TIMEOUT_S:g} s") from None
        except msgspec.DecodeError:
            last = err.decode(errors="replace").strip().rpartition("\n")[2]
            raise ProgramError(f"cannot put walls around a program on this machine: {last}") from None

    try:
        yield walls
    finally:
        if process.poll() is None:
            process.kill()
        with process:  # waits, and closes its pipes
            pass


def probe_walls() -> Walls:
    """Return how far a program can be walled in; raises as `probing` does."""
    with probing() as walls:
        return walls()
