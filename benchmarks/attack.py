"""`python -m benchmarks.attack`: what strangers at the door cost a session. No tor.

The same session runs quiet and attacked, in turns: three `onionmpc join` commands over local sockets, of which one is
visited by strangers of every kind while the programs run. The strangers are the least urgent process of this machine:
what is measured is what the party does about them, not what they do.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from benchmarks.benchmark import Aim, Benchmark, Turn, main, no_setup
from benchmarks.common import Failed
from benchmarks.overhead import Case, alone, check_same_work, run_case
from benchmarks.processes import Process, running
from benchmarks.sessions import WORKLOAD
from benchmarks.strangers import ALL_CAME

VISITED = 1
STRANGERS = 1000
# The programs run a little longer than the strangers need.
SESSION = Case(WORKLOAD, ("rounds=250",), delay_ms=25)
VISIT_LIMIT_S = 60.0
SIDES = ("quiet", "attacked")


@contextlib.asynccontextmanager
async def visited(parties: Sequence[Process], state: Path, sockets: Path) -> AsyncIterator[None]:
    """Let strangers come to one of the parties as soon as its program runs.

    Raises:
        Failed: not all came before the parties had ended.
    """
    async with running(VISIT_LIMIT_S) as processes:
        while not parties[VISITED].heard("agreed"):  # noqa: ASYNC110 (its supervisor may end without a word)
            await asyncio.sleep(0.02)
        words = (str(STRANGERS), str(VISITED), state, sockets)
        strangers = await processes.start(sys.executable, "-m", "benchmarks.strangers", *words)
        yield
        if ALL_CAME not in strangers.printed:
            raise Failed(f"the session ended before {STRANGERS} strangers had come: {strangers.last_words}")


async def take(turn: Turn) -> None:
    """Run the session quiet and attacked."""
    runs = {
        side: await run_case(SESSION, "onionmpc", visited if side == "attacked" else alone)
        for side in turn.alternating(SIDES)
    }
    check_same_work(runs.values())
    for side, run in runs.items():
        turn.note(side, compute_s=run["compute_s"], cpu_s=run["cpu_s"], peak_mb=run["peak_mb"])
    turn.note("attacked, more than quiet", peak_mb=runs["attacked"]["peak_mb"] - runs["quiet"]["peak_mb"])


BENCHMARK = Benchmark(
    name="attack",
    question="What do a thousand strangers at the door cost? (no Tor)",
    turns=["both"],
    opened=no_setup(take),
    figures={
        "compute_s": ("program, s", 2),
        "cpu_s": ("processor time of all parties, s", 2),
        "peak_mb": ("highest memory of a supervisor, MB", 1),
    },
    ratios=[("attacked", "quiet")],
    aims=[
        Aim("1,000 strangers: attacked / quiet", "attacked / quiet", "compute_s", 1.1),
        Aim("memory added by 1,000 strangers", "attacked, more than quiet", "peak_mb", 20, "MB"),
    ],
    repeats=7,
)

if __name__ == "__main__":
    main(BENCHMARK)
