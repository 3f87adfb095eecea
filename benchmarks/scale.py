"""`python -m benchmarks.scale`: what more parties cost, on one machine and a private Tor network.

Runs the real `onionmpc join` with a full list, each party a process. Up to 9 parties have a tor each; more of them
share 9 tors by `--control`.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.common import MIB, failure_noted, in_turns, options_of, report, run, say, spreads, table, write
from benchmarks.sessions import WORKLOAD, Process, run_listed
from benchmarks.tors import bench_tors, private_network
from onionmpc.testnet.place import profiles_directory

SIZES = (3, 5, 7, 9, 15, 25)
# Beside those of the network; more of them would measure the machine.
TORS = 9
ROUNDS = 20
MEASURES = {
    "published_s": ("all published, s", 1),
    "connected_s": ("all connected, s", 1),
    "links_s": ("after all were published, s", 1),
    "round_s": ("one round, s", 3),
    "supervisor_mib": ("highest memory of a supervisor, MiB", 0),
    "program_mib": ("of a program, MiB", 0),
}

Session = dict[str, float]


def sum_up(parties: Sequence[Process], rounds: int) -> Session:
    """Return what a session took, of the party that is last or largest."""
    started_s = parties[0].started_s
    published_s = max(party.heard_s["published"] for party in parties)
    connected_s = max(party.connected_s for party in parties)
    results = [party.results for party in parties]
    loads = [result["loads"][0] for result in results]
    return {
        "published_s": published_s - started_s,
        "connected_s": connected_s - started_s,
        "links_s": connected_s - published_s,
        # The output at the end is a round as well.
        "round_s": max(load["ended_s"] - load["began_s"] for load in loads) / (rounds + 1),
        "supervisor_mib": max(party.peak_bytes for party in parties) / MIB,
        "program_mib": max(result["peak_bytes"] for result in results) / MIB,
    }


async def run_session(
    directory: Path, parties: int, rounds: int, ways: Sequence[Sequence[str]], limit_s: float
) -> Session:
    """Run one session of parties that start at the same time.

    Args:
        directory: of the private network.
        ways: for each party in turn, the options that lead to its tor; none for a tor of its own.
    """
    own = [["--testnet", str(directory)]]
    return sum_up(await run_listed(parties, [WORKLOAD], ways or own, [f"rounds={rounds}"], limit_s), rounds)


async def run_size(directory: Path, parties: int, options: argparse.Namespace) -> Session:
    """Run one session of so many parties, on tors of their own or, where they are too many, on shared ones."""
    # No tor knows anything from the session before.
    shutil.rmtree(profiles_directory(directory), ignore_errors=True)
    async with contextlib.AsyncExitStack() as stack:
        shared = parties > options.tors
        tors = await stack.enter_async_context(bench_tors(directory, options.tors)) if shared else []
        ways = [["--control", tor.control] for tor in tors]
        return await run_session(directory, parties, options.rounds, ways, options.limit)


@dataclass(slots=True)
class OfSize:
    """All sessions of one number of parties: those that ended well, and why the others did not."""

    runs: list[Session] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def summarise(sizes: Mapping[int, OfSize], tors: int) -> dict[str, Any]:
    """Return what the sessions say, by number of parties."""
    return {
        "parties": {
            size: {"tors": min(size, tors), **spreads(of_size.runs), "failures": of_size.failures}
            for size, of_size in sorted(sizes.items())
        }
    }


def tables(results: Mapping[str, Any]) -> list[str]:
    """Show what `summarise` returned to a person."""
    rows = [
        [
            *(str(size), str(of_size["tors"])),
            *(of_size[key].show(decimals) if key in of_size else "" for key, (_, decimals) in MEASURES.items()),
            str(len(of_size["failures"])),
        ]
        for size, of_size in results["parties"].items()
    ]
    header = ["parties", "tors", *(words for words, _ in MEASURES.values()), "sessions that failed"]
    return [table(header, rows)]


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run sessions of all sizes in turns; write after each what there is, and return all of it."""
    measured: dict[int, OfSize] = {}
    results: dict[str, Any] = {}
    async with private_network() as (_, directory):
        for _, size in in_turns(options.parties or SIZES, options.repeats, options.budget):
            of_size = measured.setdefault(size, OfSize())
            with failure_noted(f"{size} parties", of_size.failures.append):
                of_size.runs.append(await run_size(directory, size, options))
                say(f"{size} parties: all connected after {of_size.runs[-1]['connected_s']:.1f} s")
            results = {"latency": "regions", "rounds": options.rounds, **summarise(measured, options.tors)}
            write("scale", results, options.output)
    return results


def main() -> None:
    """Measure, print and write."""
    parser = options_of("scale", __doc__, repeats=3, budget_s=1500)
    sizes = ", ".join(map(str, SIZES))
    parser.add_argument("--parties", type=int, action="append", metavar="M", help=f"how many ({sizes}); repeatable")
    parser.add_argument("--tors", type=int, default=TORS, help=f"more parties than this share so many ({TORS})")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"of the program ({ROUNDS})")
    parser.add_argument("--limit", type=float, default=420, metavar="S", help="what a session may take (420)")
    options = parser.parse_args()
    results = run(measure(options))
    report("scale", "More parties, latency: regions", tables(results), results, options.output)


if __name__ == "__main__":
    main()
