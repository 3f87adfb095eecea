"""`python -m benchmarks.startup`: how long a person waits for a session, on a private Tor network.

Runs what `onionmpc demo` runs, the commands that people type, on a network with the delays of a world of regions, and
notes when each party says what. Knows the events of their JSON logs and where a test network keeps the tors' profiles.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.common import Spread, memory_of, report, say, table
from onionmpc.cli.demo import Demo, DemoParty
from onionmpc.cli.output import StatusLine
from onionmpc.errors import OnionMPCError
from onionmpc.testnet.network import Latency, PrivateNetwork
from onionmpc.testnet.place import profiles_directory

PROGRAM = "average-salary"
SESSION_LIMIT_S = 90.0
MIB = 2**20
# The words for each start of the tors: without anything kept, and with the consensus and the guards of the last time.
STARTS = ("first", "later")
# What a person waits for. The first two count from a party's own command, the others from the host's; all are those of
# the party that is last.
STEPS = {
    "address_s": "address shown",
    "published_s": "published",
    "gathered_s": "all gathered",
    "connected_s": "all connected",
    "result_s": "result",
    "ended_s": "ended",
}


@dataclass(slots=True)
class Times:
    """When a party did what, by the clock of this process."""

    command_s: float
    connected_s: float = 0.0
    events_s: dict[str, float] = field(default_factory=dict)
    dial_retries: int = 0
    peak_bytes: int = 0


class TimedDemo(Demo):
    """A demonstration that nobody watches, with a clock."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, Silence())
        self.times: list[Times] = []

    async def _start(self, name: str, arguments: list[str]) -> DemoParty:
        self.times.append(Times(time.monotonic()))
        return await super()._start(name, arguments)

    def _show(self, party: DemoParty, event: dict[str, Any]) -> None:
        times = self.times[self.parties.index(party)]
        times.events_s.setdefault(event["event"], time.monotonic())
        if event["event"] == "link_up" and event["connected"] == event["peers"]:
            times.connected_s = time.monotonic()
        times.dial_retries += event["event"] == "dial_retry"
        with contextlib.suppress(OSError):  # it may have ended since it wrote this
            times.peak_bytes = memory_of(party.process.pid).get("peak_bytes", 0)
        super()._show(party, event)


class Silence(StatusLine):
    """Shows nothing."""

    def line(self, text: str) -> None:
        """Nobody watches."""

    def going_on(self, what: str, detail: str = "") -> None:
        """Nobody watches."""


async def run_session(directory: Path, parties: int) -> dict[str, float]:
    """Run one session; return how long its steps took, in seconds, and the memory of its largest supervisor.

    Raises:
        OnionMPCError: it did not end well.
        TimeoutError: it did not end within SESSION_LIMIT_S.
    """
    demo = TimedDemo(directory)
    async with asyncio.timeout(SESSION_LIMIT_S):
        await demo.run(PROGRAM, parties, [], ["--demo"])
    host_s = demo.times[0].command_s
    return {
        "address_s": max(times.events_s["address_known"] - times.command_s for times in demo.times),
        "published_s": max(times.events_s["published"] - times.command_s for times in demo.times),
        "gathered_s": max(times.events_s["roster_known"] for times in demo.times) - host_s,
        "connected_s": max(times.connected_s for times in demo.times) - host_s,
        "result_s": max(times.events_s["program_ended"] for times in demo.times) - host_s,
        "ended_s": max(times.events_s["ended"] for times in demo.times) - host_s,
        "dial_retries": sum(times.dial_retries for times in demo.times),
        "supervisor_peak_mib": max(times.peak_bytes for times in demo.times) / MIB,
    }


async def measure(
    sizes: list[int], repeats: int, latency: Latency, budget_s: float
) -> tuple[float, dict[int, dict[str, list[dict[str, float]]]], int]:
    """Run sessions of all sizes in turns, until there are enough repeats or the time is up.

    Returns:
        How long the network took to come up, what each session took by size and start, and how many sessions failed.
    """
    sessions: dict[int, dict[str, list[dict[str, float]]]] = {size: {start: [] for start in STARTS} for size in sizes}
    failures = 0
    until_s = time.monotonic() + budget_s
    with tempfile.TemporaryDirectory(prefix="onionmpc-bench-") as name:
        directory = Path(name)
        before_s = time.monotonic()
        say("starting a private Tor network")
        async with PrivateNetwork(directory, latency=latency):
            network_s = time.monotonic() - before_s
            for repeat, size in itertools.product(range(repeats), sizes):
                if repeat and time.monotonic() > until_s:
                    say(f"stopping after {repeat} of {repeats} repeats: --budget is spent")
                    break
                shutil.rmtree(profiles_directory(directory), ignore_errors=True)
                for start in STARTS:
                    try:
                        session = await run_session(directory, size)
                    except (OnionMPCError, TimeoutError) as error:
                        failures += 1
                        say(f"{size} parties, {start} start: failed ({str(error) or type(error).__name__})")
                        continue
                    say(f"{size} parties, {start} start: result after {session['result_s']:.1f} s")
                    sessions[size][start].append(session)
    return network_s, sessions, failures


def spreads(sessions: list[dict[str, float]]) -> dict[str, Spread]:
    """Sum up what each step of several sessions took."""
    return {key: Spread.of(session[key] for session in sessions) for key in sessions[0]}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description=__doc__.splitlines()[0])
    parser.add_argument("--parties", type=int, action="append", metavar="M", help="how many (3, 5, 7); repeatable")
    parser.add_argument("--repeats", type=int, default=5, help="pairs of a first and a later start (5)")
    parser.add_argument("--latency", choices=["regions", "none"], default="regions", help="of the network (regions)")
    parser.add_argument("--budget", type=float, default=210, metavar="S", help="start no further repeat after S (210)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where to write (benchmarks/results/startup.json)")
    options = parser.parse_args()
    try:
        network_s, sessions, failures = asyncio.run(
            measure(options.parties or [3, 5, 7], options.repeats, options.latency, options.budget)
        )
    except OnionMPCError as error:
        sys.exit(f"the private network did not come up: {error.message}")
    results = {
        size: {start: spreads(runs) for start, runs in by_start.items() if runs} for size, by_start in sessions.items()
    }
    rows = [
        [
            *(str(size), start),
            *(steps[key].show(1) for key in STEPS),
            *(steps[key].show(0) for key in ("dial_retries", "supervisor_peak_mib")),
        ]
        for size, by_start in results.items()
        for start, steps in by_start.items()
    ]
    spans = (f"{words}, s" for words in STEPS.values())
    header = ["parties", "start", *spans, "dials that failed", "highest memory of a supervisor, MiB"]
    report(
        "startup",
        f"From the command to the result, latency: {options.latency}",
        [table(header, rows), f"The private network itself took {network_s:.1f} s; {failures} sessions failed."],
        {
            "latency": options.latency,
            "program": PROGRAM,
            "network_s": round(network_s, 1),
            "failed_sessions": failures,
            "parties": results,
        },
        options.output,
    )
    if failures:
        sys.exit(1)


if __name__ == "__main__":
    main()
