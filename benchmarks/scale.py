"""`python -m benchmarks.scale`: what more parties cost, on one machine and a private Tor network.

Runs the real `onionmpc join` with a full list, each party a process. Up to 9 parties have a tor each; more of them
share 9 tors by `--control`.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from benchmarks.benchmark import Aim, Benchmark, Take, Turn, main
from benchmarks.common import MB
from benchmarks.sessions import WORKLOAD, run_listed
from benchmarks.tors import bench_tors, private_network
from onionmpc.testnet.place import profiles_directory

SIZES = {f"{parties} parties": parties for parties in (3, 5, 7, 9, 15, 25)}
# Beside those of the network; more of them would measure the machine.
TORS = 9
ROUNDS = 20
LIMIT_S = 420.0


async def run_session(
    directory: Path, parties: int, limit_s: float, controls: Sequence[Sequence[str]] = (), rounds: int = ROUNDS
) -> dict[str, float]:
    """Run one session of parties that start at the same time; return what it took the party that is last or largest.

    Args:
        directory: of the private network.
        controls: for each party in turn, the options that lead to its tor; none for a tor of its own.

    Raises:
        Failed: it did not end well.
    """
    ways = controls or [["--testnet", str(directory)]]
    all_ = await run_listed(parties, [WORKLOAD], ways, [f"rounds={rounds}"], limit_s)
    started_s = all_[0].started_s
    loads = [party.results["loads"][0] for party in all_]
    return {
        "published_s": max(party.heard_s["published"] for party in all_) - started_s,
        "connected_s": max(party.connected_s for party in all_) - started_s,
        # The output at the end is a round as well.
        "round_s": max(load["ended_s"] - load["began_s"] for load in loads) / (rounds + 1),
        "supervisor_mb": max(party.peak_bytes for party in all_) / MB,
    }


async def run_size(directory: Path, parties: int) -> dict[str, float]:
    """Run one session of so many parties, on tors of their own or, where they are too many, on shared ones."""
    # No tor knows anything from the session before.
    shutil.rmtree(profiles_directory(directory), ignore_errors=True)
    if parties <= TORS:
        return await run_session(directory, parties, LIMIT_S)
    async with bench_tors(directory, TORS) as tors:
        return await run_session(directory, parties, LIMIT_S, [["--control", tor.control] for tor in tors])


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[Take]:
    """Start a network."""
    async with private_network() as directory:

        async def take(turn: Turn) -> None:
            turn.note(turn.name, **await run_size(directory, SIZES[turn.name]))

        yield take


BENCHMARK = Benchmark(
    name="scale",
    question="What do more parties cost, up to 25?",
    turns=list(SIZES),
    opened=opened,
    figures={
        "published_s": ("all published, s", 1),
        "connected_s": ("all connected, s", 1),
        "round_s": ("one round, s", 3),
        "supervisor_mb": ("highest memory of a supervisor, MB", 0),
    },
    ratios=[("7 parties", "3 parties")],
    aims=[
        Aim("all connected: 7 parties / 3", "7 parties / 3 parties", "connected_s", 1.3),
        Aim("memory of a supervisor of 25 parties", "25 parties", "supervisor_mb", 150, "MB"),
    ],
    repeats=2,
    networks=1,
)

if __name__ == "__main__":
    main(BENCHMARK)
