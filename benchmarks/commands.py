"""`python -m benchmarks.commands`: how long commands take that only print something.

Runs each command in turn with a Python that does nothing, so that a ratio to Python's own start stands beside the
milliseconds. Knows the command line alone.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import Spread, report, table

TITLE = "Commands that only print"
COMMANDS = (["--help"], ["programs"], ["levels"], ["host", "--help"])
MS = 1000.0


def run_for(arguments: Sequence[str], environment: dict[str, str]) -> float:
    """Run Python with these arguments; return how long it took, in seconds."""
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def measure(repeats: int) -> dict[str, Any]:
    """Run each command so often, a bare Python before each; the first round fills the caches and is not counted."""
    # People's Python keeps its bytecode.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    times: dict[str, list[float]] = {" ".join(command): [] for command in COMMANDS}
    bare: dict[str, list[float]] = {name: [] for name in times}
    for count in range(repeats + 1):
        for command in COMMANDS:
            python_s = run_for(["-c", ""], environment)
            ours_s = run_for(["-m", "onionmpc.cli", *command], environment)
            if count:
                times[" ".join(command)].append(ours_s)
                bare[" ".join(command)].append(python_s)
    return {
        name: {
            "ms": Spread.of(MS * seconds for seconds in times[name]),
            "over_python": Spread.of(ours / python for ours, python in zip(times[name], bare[name], strict=True)),
        }
        for name in times
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.commands", description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=11, metavar="N", help="runs of each command (11)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where to write instead of results/commands.json")
    options = parser.parse_args(arguments)
    commands = measure(options.repeats)
    rows = [[f"`onionmpc {name}`", case["ms"].show(0), case["over_python"].show(1)] for name, case in commands.items()]
    shown = table(["command", "ms", "over Python's own start, a ratio"], rows)
    report("commands", TITLE, [shown], {"repeats": options.repeats, "commands": commands}, options.output)


if __name__ == "__main__":
    main()
