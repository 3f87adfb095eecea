"""Finds out in a child process which walls this machine can build.

Knows how to start that process and read its answer. build.py runs in it. This module imports little, so that a command
can start the probe first and import everything else while it runs.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import msgspec

from onionmpc.errors import ProgramError
from onionmpc.machine import refusing
from onionmpc.program.spec import Walls
from onionmpc.program.walls.environment import environment_without_ours

TIMEOUT_S = 30.0


@contextlib.contextmanager
def probing() -> Iterator[Callable[[], Walls]]:
    """Start a process that walls itself in; yield a function that waits for it and returns its walls.

    Raises:
        SystemRefused: the process cannot be started.
        ProgramError: from the function: the process failed or took too long.
    """
    with refusing("cannot start the program process"):
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "onionmpc.program.walls.build"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment_without_ours(),
        )

    reading = threading.Lock()

    def walls() -> Walls:
        try:
            with reading:
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
        # Waits, and closes its pipes: not before a thread that reads them has seen their end. It would go on to read
        # whatever gets their descriptors next.
        with reading, process:
            pass


def probe_walls() -> Walls:
    """Return the walls that this machine can build; raises as `probing` does."""
    with probing() as walls:
        return walls()
