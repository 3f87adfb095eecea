"""`python -m benchmarks.commands`: how long commands take that only print something.

Each command runs right after a Python that does nothing: the ratio to Python's own start is beside the milliseconds.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator

from benchmarks.benchmark import Aim, Benchmark, Take, Turn, main

COMMANDS = ("onionmpc --help", "onionmpc programs", "onionmpc levels", "onionmpc host --help")


def run_for(*arguments: str) -> float:
    """Run Python with these arguments; return how long it took, in seconds."""
    # People's Python keeps its bytecode.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    started_s = time.perf_counter()
    subprocess.run([sys.executable, *arguments], env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started_s


def run_command(command: str) -> float:
    """Run an onionmpc command; return how long it took, in seconds."""
    return run_for("-m", "onionmpc.cli", *command.split()[1:])


async def take(turn: Turn) -> None:
    """Run a bare Python, and a command."""
    python_s, command_s = run_for("-c", ""), run_command(turn.name)
    turn.note(turn.name, ms=1000 * command_s, over_python=command_s / python_s)


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[Take]:
    """Fill the caches."""
    for command in COMMANDS:
        run_command(command)
    yield take


BENCHMARK = Benchmark(
    name="commands",
    question="How long do commands take that only print something?",
    turns=COMMANDS,
    opened=opened,
    figures={"ms": ("ms", 0), "over_python": ("ratio to Python's own start", 1)},
    aims=[Aim(command, command, "ms", 300, "ms") for command in COMMANDS[:2]],
    repeats=11,
)

if __name__ == "__main__":
    main(BENCHMARK)
