"""`python -m benchmarks.commands`: how long commands take that only print something.

Each command runs in turn with a Python that does nothing: a ratio to Python's own start is beside the milliseconds.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.common import Spread, options_of, report, table

COMMANDS = ("--help", "programs", "levels", "host --help")


def run_for(*arguments: str) -> float:
    """Run Python with these arguments; return how long it took, in seconds."""
    # People's Python keeps its bytecode.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    started_s = time.perf_counter()
    subprocess.run([sys.executable, *arguments], env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started_s


def measure(repeats: int) -> dict[str, Any]:
    """Run each command so often, a bare Python before each; the first round fills the caches and is not counted."""
    times: dict[str, list[tuple[float, float]]] = {words: [] for words in COMMANDS}
    for count in range(repeats + 1):
        for words in COMMANDS:
            pair = run_for("-c", ""), run_for("-m", "onionmpc.cli", *words.split())
            if count:
                times[words].append(pair)
    return {
        words: {
            "ms": Spread.of(1000 * ours_s for _, ours_s in pairs),
            "over_python": Spread.of(ours_s / python_s for python_s, ours_s in pairs),
        }
        for words, pairs in times.items()
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    options = options_of("commands", __doc__, repeats=11).parse_args(arguments)
    commands = measure(options.repeats)
    rows = [[f"`onionmpc {name}`", case["ms"].show(0), case["over_python"].show(1)] for name, case in commands.items()]
    shown = table(["command", "ms", "ratio to Python's own start"], rows)
    results = {"repeats": options.repeats, "commands": commands}
    report("commands", "Commands that only print", [shown], results, options.output)


if __name__ == "__main__":
    main()
