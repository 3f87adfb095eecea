"""`python -m benchmarks.startup`: how long a person waits for a session, on a private Tor network.

Runs the commands that people type, a host and its joiners, and notes when each says what. Beside it, in turns, parties
with full lists, and the least that such a start consists of: the bootstrap of a plain tor, the publication of a service
and one dial to it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import secrets
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import scale
from benchmarks.common import MIB, Spread, failure_noted, in_turns, options_of, report, run, say, spreads, table
from benchmarks.sessions import ONIONMPC, Process, running, scratch
from benchmarks.tors import BOOTSTRAP_TIMEOUT_S, dial_raw, plain_tor, private_network
from onionmpc.files import private_directory, socket_directory, write_private
from onionmpc.identity import SEED_BYTES, Identity
from onionmpc.mesh.listener import listening_unix
from onionmpc.mesh.network import Stream
from onionmpc.testnet.place import profiles_directory
from onionmpc.tor.circuit.status import service_id
from onionmpc.tor.control.connection import Control
from onionmpc.tor.endpoint import UNIX_PREFIX
from onionmpc.tor.service.descriptor import Uploads
from onionmpc.tor.service.service import EphemeralService

PROGRAM = "average-salary"
SESSION_LIMIT_S = 90.0
LISTED_ROUNDS = 1
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
# One after the other, by plain tors.
PLAIN = {
    "bootstrap_s": "bootstrap",
    "publication_s": "publication, to the first directory",
    "dial_s": "one dial",
    "whole_s": "all of it",
}


async def run_session(directory: Path, parties: int) -> dict[str, float]:
    """Run one session of a host and joiners; return how long its steps took, and the memory of its largest supervisor.

    Raises:
        Failed: it did not end well within SESSION_LIMIT_S.
    """
    common = ("--yes", "--log-format", "json", "--testnet", directory, "--", "--demo")
    with scratch() as folder:
        async with running(SESSION_LIMIT_S, ONIONMPC_STATE=private_directory(folder / "state")) as processes:
            host = await processes.start(*ONIONMPC, "host", PROGRAM, "--parties", str(parties), *common)
            await processes.hears(lambda: len(host.heard("invite_ready")) == parties - 1)
            invites = host.heard("invite_ready")
            for number in range(1, parties):
                invite = folder / f"invite-{number}.txt"
                write_private(invite, invites[number - 1]["invite"].encode())
                await processes.start(*ONIONMPC, "join", f"@{invite}", PROGRAM, *common)
            await processes.ended(processes.all)
            return steps_of(processes.all)


def steps_of(parties: Sequence[Process]) -> dict[str, float]:
    """Return when the last party took each step; the first party is the host."""
    host_s = parties[0].started_s
    last = {name: max(party.heard_s[name] for party in parties) for name in ("roster_known", "program_ended", "ended")}
    return {
        "address_s": max(party.heard_s["address_known"] - party.started_s for party in parties),
        # A session on a network without delays may end before the last directory has answered.
        "published_s": max(
            party.heard_s.get("published", party.heard_s["ended"]) - party.started_s for party in parties
        ),
        "gathered_s": last["roster_known"] - host_s,
        "connected_s": max(party.connected_s for party in parties) - host_s,
        "result_s": last["program_ended"] - host_s,
        "ended_s": last["ended"] - host_s,
        "dial_retries": sum(len(party.heard("dial_retry")) for party in parties),
        "supervisor_peak_mib": max(party.peak_bytes for party in parties) / MIB,
    }


async def run_plain(directory: Path) -> dict[str, float]:
    """Have one plain tor bootstrap and publish, and another dial it; return how long each took, in seconds."""
    async with asyncio.timeout(SESSION_LIMIT_S), contextlib.AsyncExitStack() as stack:
        target = stack.enter_context(socket_directory()) / "service"
        await stack.enter_async_context(listening_unix(target, Stream.close))
        _, socks = await stack.enter_async_context(plain_tor(directory))
        times_s = [time.monotonic()]
        control, _ = await stack.enter_async_context(plain_tor(directory))
        await control.bootstrap(lambda _percent, _words: None, BOOTSTRAP_TIMEOUT_S)
        times_s.append(time.monotonic())
        service = EphemeralService(control, Identity(secrets.token_bytes(SEED_BYTES)))
        await first_upload(control, service, f"{UNIX_PREFIX}{target}")
        times_s.append(time.monotonic())
        await (await dial_raw(socks, service.onion)).close()
        times_s.append(time.monotonic())
    spans_s = [after_s - before_s for before_s, after_s in itertools.pairwise(times_s)]
    return dict(zip(PLAIN, [*spans_s, sum(spans_s)], strict=True))


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
        failures: why others failed.
    """

    sessions: dict[int, dict[str, list[dict[str, float]]]]
    network_s: float = 0.0
    listed: dict[str, list[dict[str, float]]] = field(default_factory=lambda: {start: [] for start in STARTS})
    plain: list[dict[str, float]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    async def take_turns(self, directory: Path, size: int) -> None:
        """Run plain tors, and sessions of full lists, each beginning with nothing."""
        with failure_noted("plain tors and full lists", self.failures.append):
            plain = await run_plain(directory)
            listed = {
                start: await scale.run_session(directory, size, LISTED_ROUNDS, [], SESSION_LIMIT_S) for start in STARTS
            }
            connected_s = listed["first"]["connected_s"]
            say(f"plain tors: dialled after {plain['whole_s']:.1f} s; full lists: {connected_s:.1f} s")
            self.plain.append(plain)
            for start in STARTS:
                self.listed[start].append({"connected_s": listed[start]["connected_s"]})

    async def gather(self, directory: Path, size: int, start: str) -> None:
        """Run a host and its joiners."""
        with failure_noted(f"{size} parties, {start} start", self.failures.append):
            session = await run_session(directory, size)
            say(f"{size} parties, {start} start: result after {session['result_s']:.1f} s")
            self.sessions[size][start].append(session)


async def measure(sizes: Sequence[int], options: argparse.Namespace) -> Measured:
    """Run sessions of all sizes in turns, until there are enough repeats or the time is up."""
    measured = Measured({size: {start: [] for start in STARTS} for size in sizes})
    before_s = time.monotonic()
    async with private_network(options.latency) as (_, directory):
        measured.network_s = time.monotonic() - before_s
        for _, size in in_turns(sizes, options.repeats, options.budget):
            if size == min(sizes):
                shutil.rmtree(profiles_directory(directory), ignore_errors=True)
                await measured.take_turns(directory, size)
            shutil.rmtree(profiles_directory(directory), ignore_errors=True)
            for start in STARTS:
                await measured.gather(directory, size, start)
    return measured


def over_plain(connected: Sequence[Mapping[str, float]], plain: Sequence[Mapping[str, float]]) -> Spread | None:
    """Return how much longer sessions took to connect than plain tors before them, run by run."""
    ratios = [ours["connected_s"] / raw["whole_s"] for ours, raw in zip(connected, plain, strict=False)]
    return Spread.of(ratios) if ratios else None


def summarise(measured: Measured, smallest: int) -> dict[str, Any]:
    """Return what is written down."""
    return {
        "network_s": round(measured.network_s, 1),
        "failed_sessions": len(measured.failures),
        "parties": {
            size: {start: spreads(runs) for start, runs in by_start.items() if runs}
            for size, by_start in measured.sessions.items()
        },
        "listed": {"parties": smallest, **{start: spreads(runs) for start, runs in measured.listed.items() if runs}},
        "raw": spreads(measured.plain),
        "over_raw": over_plain(measured.listed["first"], measured.plain),
    }


def tables(results: Mapping[str, Any]) -> list[str]:
    """Show what `summarise` returned to a person."""
    rows = [
        [
            *(str(size), start),
            *(steps[key].show(1) for key in STEPS),
            *(steps[key].show(0) for key in ("dial_retries", "supervisor_peak_mib")),
        ]
        for size, by_start in results["parties"].items()
        for start, steps in by_start.items()
    ]
    spans = (f"{words}, s" for words in STEPS.values())
    header = ["parties", "start", *spans, "dials that failed", "highest memory of a supervisor, MiB"]
    listed = results["listed"]
    beside = [
        *([f"plain tors: {PLAIN[key]}", spread.show(1)] for key, spread in results["raw"].items()),
        *(
            [f"{listed['parties']} parties with full lists, {start} start: all connected", steps["connected_s"].show(1)]
            for start, steps in listed.items()
            if start in STARTS
        ),
        *(
            [["full lists, first start / plain tors, a ratio", results["over_raw"].show(2)]]
            if results["over_raw"]
            else []
        ),
    ]
    return [
        table(header, rows),
        table(["beside it", "seconds"], beside),
        f"The private network itself took {results['network_s']} s; {results['failed_sessions']} sessions failed.",
    ]


def main() -> None:
    """Measure, print and write."""
    parser = options_of("startup", __doc__, repeats=5, budget_s=210)
    parser.add_argument("--parties", type=int, action="append", metavar="M", help="how many (3, 5, 7); repeatable")
    parser.add_argument("--latency", choices=["regions", "none"], default="regions", help="of the network (regions)")
    options = parser.parse_args()
    sizes = options.parties or [3, 5, 7]
    results = {
        "latency": options.latency,
        "program": PROGRAM,
        **summarise(run(measure(sizes, options)), min(sizes)),
    }
    title = f"From the command to the result, latency: {options.latency}"
    report("startup", title, tables(results), results, options.output)
    if results["failed_sessions"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
