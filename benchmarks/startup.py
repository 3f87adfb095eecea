"""`python -m benchmarks.startup`: how long a person waits for a session, on a private Tor network.

Runs what `onionmpc demo` runs, the commands that people type, on a network with the delays of a world of regions, and
notes when each party says what. Beside it, in turns, parties that know each other from full lists, and the least that
such a start consists of: the bootstrap of a plain tor, the publication of a service and one dial to it. Knows the
events of JSON logs and where a test network keeps the tors' profiles.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import scale
from benchmarks.common import Spread, memory_of, report, say, table
from benchmarks.tors import BOOTSTRAP_TIMEOUT_S, plain_tor
from onionmpc.cli.demo import Demo, Rehearsal
from onionmpc.cli.followed import Event, Followed
from onionmpc.cli.output import StatusLine
from onionmpc.errors import OnionMPCError, PeerUnreachable
from onionmpc.files import socket_directory
from onionmpc.identity import SEED_BYTES, Identity
from onionmpc.mesh.listener import listening_unix
from onionmpc.mesh.network import Stream
from onionmpc.testnet.network import PrivateNetwork
from onionmpc.testnet.place import profiles_directory
from onionmpc.testnet.regions import Latency
from onionmpc.tor.circuit.status import service_id
from onionmpc.tor.control.connection import Control
from onionmpc.tor.dialling.dial import dial_onion
from onionmpc.tor.endpoint import UNIX_PREFIX
from onionmpc.tor.service.descriptor import Uploads
from onionmpc.tor.service.service import VIRTUAL_PORT, EphemeralService

PROGRAM = "average-salary"
SESSION_LIMIT_S = 90.0
LISTED_ROUNDS = 1
DIAL_TIMEOUT_S = 30.0
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
# By hand, one after the other.
PLAIN = {
    "bootstrap_s": "bootstrap",
    "publication_s": "publication, to the first directory",
    "dial_s": "one dial",
    "whole_s": "all of it",
}
OVER_PLAIN = {
    "over_raw": "full lists, first start: all connected / plain tors, a ratio",
    "gathered_over_raw": "host and joiners, first start: all connected / plain tors, a ratio",
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

    async def _start(self, name: str, words: Sequence[str], rehearsal: Rehearsal, testnet: Path) -> Followed:
        self.times.append(Times(time.monotonic()))
        return await super()._start(name, words, rehearsal, testnet)

    def _show(self, party: Followed, event: Event) -> None:
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
        await demo.run(Rehearsal(PROGRAM, parties, [], ["--demo"]), directory)
    host_s = demo.times[0].command_s
    return {
        "address_s": max(times.events_s["address_known"] - times.command_s for times in demo.times),
        # A session on a network without delays may end before the last directory has answered.
        "published_s": max(
            times.events_s.get("published", times.events_s["ended"]) - times.command_s for times in demo.times
        ),
        "gathered_s": max(times.events_s["roster_known"] for times in demo.times) - host_s,
        "connected_s": max(times.connected_s for times in demo.times) - host_s,
        "result_s": max(times.events_s["program_ended"] for times in demo.times) - host_s,
        "ended_s": max(times.events_s["ended"] for times in demo.times) - host_s,
        "dial_retries": sum(times.dial_retries for times in demo.times),
        "supervisor_peak_mib": max(times.peak_bytes for times in demo.times) / MIB,
    }


async def run_plain(directory: Path) -> dict[str, float]:
    """Have one plain tor bootstrap and publish, and another dial it; return how long each took, in seconds.

    Raises:
        OnionMPCError, TimeoutError: it did not work.
    """
    async with asyncio.timeout(SESSION_LIMIT_S), contextlib.AsyncExitStack() as stack:
        target = stack.enter_context(socket_directory()) / "service"
        await stack.enter_async_context(listening_unix(target, Stream.close))
        _, socks = await stack.enter_async_context(plain_tor(directory))
        started_s = time.monotonic()
        control, _ = await stack.enter_async_context(plain_tor(directory))
        await control.bootstrap(lambda _percent, _words: None, BOOTSTRAP_TIMEOUT_S)
        bootstrapped_s = time.monotonic()
        service = EphemeralService(control, Identity(secrets.token_bytes(SEED_BYTES)))
        await first_upload(control, service, f"{UNIX_PREFIX}{target}")
        published_s = time.monotonic()
        while True:
            with contextlib.suppress(PeerUnreachable):
                await (await dial_onion(socks, service.onion, VIRTUAL_PORT, DIAL_TIMEOUT_S)).stream.close()
                break
        dialled_s = time.monotonic()
    return {
        "bootstrap_s": bootstrapped_s - started_s,
        "publication_s": published_s - bootstrapped_s,
        "dial_s": dialled_s - published_s,
        "whole_s": dialled_s - started_s,
    }


async def first_upload(control: Control, service: EphemeralService, target: str) -> None:
    """Add a service, and wait until one directory has taken its descriptor."""
    uploads = Uploads()
    heard: asyncio.Queue[str] = asyncio.Queue()
    async with control.on_event("HS_DESC", heard.put_nowait):
        await service.add(target)
        while not uploads.taken:
            uploads.hear(service_id(service.onion), await heard.get())


@dataclass(slots=True)
class Measured:
    """What was measured in one network.

    Attributes:
        sessions: what each session of a host and joiners took, by number of parties and start.
        listed: what sessions of full lists took, by start; of the smallest number of parties.
        plain: what each run of plain tors took, just before a first start.
        failures: how many sessions failed.
    """

    sessions: dict[int, dict[str, list[dict[str, float]]]]
    network_s: float = 0.0
    listed: dict[str, list[dict[str, float]]] = field(default_factory=lambda: {start: [] for start in STARTS})
    plain: list[dict[str, float]] = field(default_factory=list)
    failures: int = 0

    async def take_turns(self, directory: Path, size: int) -> None:
        """Run plain tors, and sessions of full lists, each beginning with nothing."""
        try:
            plain = await run_plain(directory)
            listed = {
                start: await scale.run_session(directory, size, LISTED_ROUNDS, [], SESSION_LIMIT_S) for start in STARTS
            }
        except (OnionMPCError, TimeoutError, scale.Failed) as error:
            self.failures += 1
            say(f"plain tors and full lists: failed ({str(error) or type(error).__name__})")
            return
        say(f"plain tors: dialled after {plain['whole_s']:.1f} s; full lists: {listed['first']['connected_s']:.1f} s")
        self.plain.append(plain)
        for start in STARTS:
            self.listed[start].append({"connected_s": listed[start]["connected_s"]})

    async def gather(self, directory: Path, size: int, start: str) -> None:
        """Run a host and its joiners."""
        try:
            session = await run_session(directory, size)
        except (OnionMPCError, TimeoutError) as error:
            self.failures += 1
            say(f"{size} parties, {start} start: failed ({str(error) or type(error).__name__})")
        else:
            say(f"{size} parties, {start} start: result after {session['result_s']:.1f} s")
            self.sessions[size][start].append(session)


async def measure(sizes: Sequence[int], repeats: int, latency: Latency, budget_s: float) -> Measured:
    """Run sessions of all sizes in turns, until there are enough repeats or the time is up."""
    measured = Measured({size: {start: [] for start in STARTS} for size in sizes})
    until_s = time.monotonic() + budget_s
    with tempfile.TemporaryDirectory(prefix="onionmpc-bench-") as name:
        directory = Path(name)
        before_s = time.monotonic()
        say("starting a private Tor network")
        async with PrivateNetwork(directory, latency=latency):
            measured.network_s = time.monotonic() - before_s
            for repeat, size in itertools.product(range(repeats), sizes):
                if repeat and time.monotonic() > until_s:
                    say(f"stopping after {repeat} of {repeats} repeats: --budget is spent")
                    break
                if size == min(sizes):
                    shutil.rmtree(profiles_directory(directory), ignore_errors=True)
                    await measured.take_turns(directory, size)
                shutil.rmtree(profiles_directory(directory), ignore_errors=True)
                for start in STARTS:
                    await measured.gather(directory, size, start)
    return measured


def over_plain(connected: Sequence[dict[str, float]], plain: Sequence[dict[str, float]]) -> Spread | None:
    """Return how much longer sessions took to connect than plain tors before them, run by run."""
    ratios = [ours["connected_s"] / raw["whole_s"] for ours, raw in zip(connected, plain, strict=False)]
    return Spread.of(ratios) if ratios else None


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
    sizes = options.parties or [3, 5, 7]
    try:
        measured = asyncio.run(measure(sizes, options.repeats, options.latency, options.budget))
    except OnionMPCError as error:
        sys.exit(f"the private network did not come up: {error.message}")
    results = {
        size: {start: spreads(runs) for start, runs in by_start.items() if runs}
        for size, by_start in measured.sessions.items()
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
    listed = {start: spreads(runs) for start, runs in measured.listed.items() if runs}
    plain = spreads(measured.plain) if measured.plain else {}
    ratios = {
        "over_raw": over_plain(measured.listed["first"], measured.plain),
        "gathered_over_raw": over_plain(measured.sessions[min(sizes)]["first"], measured.plain),
    }
    report(
        "startup",
        f"From the command to the result, latency: {options.latency}",
        [
            table(header, rows),
            table(["beside it", "seconds"], beside(plain, listed, ratios, min(sizes))),
            f"The private network itself took {measured.network_s:.1f} s; {measured.failures} sessions failed.",
        ],
        {
            "latency": options.latency,
            "program": PROGRAM,
            "network_s": round(measured.network_s, 1),
            "failed_sessions": measured.failures,
            "parties": results,
            "listed": {"parties": min(sizes), **listed},
            "raw": plain,
            **ratios,
        },
        options.output,
    )
    if measured.failures:
        sys.exit(1)


def beside(
    plain: dict[str, Spread], listed: dict[str, dict[str, Spread]], ratios: dict[str, Spread | None], size: int
) -> list[list[str]]:
    """Return rows about what was measured beside a host and its joiners."""
    rows = [[f"plain tors: {PLAIN[key]}", spread.show(1)] for key, spread in plain.items()]
    for start, steps in listed.items():
        rows.append([f"{size} parties with full lists, {start} start: all connected", steps["connected_s"].show(1)])
    for key, spread in ratios.items():
        if spread is not None:
            rows.append([OVER_PLAIN[key], spread.show(2)])
    return rows


if __name__ == "__main__":
    main()
