"""Runs one session under faults, and judges whether it came through unharmed.

Unharmed is: every party ends well, all print what the same program prints without any network, each party's program
read what its peers' programs wrote to it and not a byte else, and no supervisor grew. How long a fault was felt is
taken from what the parties themselves say of their links.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.faults import Fault, Injector, Planned
from tests.e2e.kit import Outfit, Party, Stage
from tests.support.faulty_network import FaultyNetwork

SCRIPT = Path(__file__).with_name("rounds.py")
LEAST_ROUNDS = 300
# Gateways before every tor, and as good as no delay: faults are to take time, not distance.
LATENCY_MS = 5.0
MAX_SUPERVISOR_MIB = 150.0
SAMPLE_S = 1.0
# From the last fault to the end of all parties: the slowest recovery, which the parties have patience for, the last
# block and the end of a session.
SETTLE_S = 660.0
# After the first party failed, for the others to say so too.
LAST_WORDS_S = 30.0
# A party that is asked to leave tells the others, for 8 s at the most (PROTOCOL 3), and ends its processes.
FAREWELL_S = 20.0
REFERENCE_TIMEOUT_S = 600.0
LAST_EVENTS, LAST_LINES = 30, 30
# An outage is a fault's if it began in the fault's time or so much later: circuits notice some losses late.
AFTERMATH_S = 15.0
# A link that carries nothing at the moment was last heard of at its last PING (PROTOCOL 3), before the fault.
IDLE_S = 12.0
# What a clock, a pipe and a busy machine may shift an event.
JITTER_S = 0.5


@dataclass(frozen=True, slots=True)
class Outage:
    """A time without a peer; times are those of the event loop, `back_s` is None if it never came back."""

    party: int
    peer: int
    lost_s: float
    back_s: float | None


@dataclass(frozen=True, slots=True)
class Felt:
    """A fault, and how it affected the parties.

    Attributes:
        at_s: seconds from the first fault's beginning.
        held_s: until it was over; None if it never was.
        links: how many ends of links it broke.
        hidden: whether it broke none and came while one was broken already: what it did cannot be told.
        recovery_s: from its beginning until the last of these carried bytes again; None if it broke none, or if one
            of them never came back.
        survived: whether it was over and all came back, or the session succeeded without.
    """

    kind: str
    target: str
    at_s: float
    held_s: float | None
    links: int
    hidden: bool
    recovery_s: float | None
    survived: bool


@dataclass(slots=True)
class Report:
    """The outcome of a session under faults.

    Attributes:
        unprovoked: outages that no fault explains.
        outages: all of them, whatever explains them.
        missed: faults that did not come about.
        peak_mib: the most memory that any supervisor and any program took.
        problems: why it did not come through unharmed; empty if it did.
        last_words: of each party.
    """

    seed: int
    parties: int
    seconds: float = 0.0
    rounds: int = 0
    felt: list[Felt] = field(default_factory=list)
    unprovoked: int = 0
    outages: list[Outage] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    peak_mib: dict[str, float] = field(default_factory=lambda: {"supervisor": 0.0, "program": 0.0})
    output_ok: bool = False
    digests_ok: bool = False
    problems: list[str] = field(default_factory=list)
    last_words: dict[str, str] = field(default_factory=dict, repr=False)

    def describe(self) -> str:
        """Say everything that helps to find out why it failed."""
        lines = [f"{self.parties} parties, seed {self.seed}: {'; '.join(self.problems) or 'unharmed'}"]
        for felt in self.felt:
            over = "never over" if felt.held_s is None else f"over after {felt.held_s:.1f} s"
            broke = f"broke {felt.links}" if not felt.hidden else "hidden by another"
            back = "" if felt.recovery_s is None else f", back after {felt.recovery_s:.1f} s"
            lines.append(
                f"{felt.at_s:7.1f} s  {felt.kind}: {felt.target}, {over}; {broke}{back}"
                + ("" if felt.survived else "  NOT SURVIVED")
            )
        lines += [f"missed: {missed}" for missed in self.missed]
        lines += [f"--- {name} ---\n{words}" for name, words in self.last_words.items()]
        return "\n".join(lines)


async def survive(
    network: FaultyNetwork,
    folder: Path,
    plan: Sequence[Planned],
    *,
    seed: int,
    parties: int,
    options: Sequence[str] = ("--patience", "10m"),
    environment: Mapping[str, str] | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Report:
    """Run a session, cause the planned faults, and judge the outcome.

    Args:
        folder: where the parties keep everything.
        seed: of the program's values.
        options: what each party is started with.
        environment: further variables of each party.
        tell: is told each fault as it begins.
    """
    report = Report(seed, parties)
    loop = asyncio.get_running_loop()
    async with _stage(network, folder) as stage:
        stage.outfit = lambda _name: Outfit(environment=environment or {})
        enough = folder / "enough"
        started = await _gather(stage, parties, seed, enough, options)
        await asyncio.gather(*(party.prints("running") for party in started))
        tell(f"{parties} parties compute")
        injector = Injector(network, started, tell)
        began_s = loop.time()
        async with _watching_memory(started, report):
            await _until_over_or_one_ends(injector.follow(plan), started)
            enough.touch()
            failed = any(party.code for party in started)
            await _all_end(started, LAST_WORDS_S if failed else SETTLE_S)
        report.seconds = loop.time() - began_s
        report.last_words = {party.name: _last_words(party) for party in started}
        await _judge(report, started, injector, seed)
    return report


@contextlib.asynccontextmanager
async def _stage(network: FaultyNetwork, folder: Path) -> AsyncIterator[Stage]:
    stage = Stage(network.directory, folder)
    try:
        yield stage
    finally:
        # Asked, not killed: a killed supervisor leaves its directory of sockets behind.
        left = [party for party in stage.parties if party.code is None]
        for party in left:
            party.interrupt()
        await _all_end(left, FAREWELL_S)
        await stage.close()


async def _gather(stage: Stage, parties: int, seed: int, enough: Path, options: Sequence[str]) -> list[Party]:
    script, private = str(SCRIPT), [str(enough)]
    arguments = [f"--public={argument}" for argument in (seed, LEAST_ROUNDS)]
    host = await stage.host(script, *arguments, *options, parties=parties, private=private)
    invites = await stage.invites(host, parties - 1)
    joining = [
        stage.start(f"joiner {number}", "join", invite, script, *options, private=private)
        for number, invite in enumerate(invites, 1)
    ]
    return [host, *await asyncio.gather(*joining)]


async def _until_over_or_one_ends(faults: Any, parties: Iterable[Party]) -> None:
    """Follow the plan to its end, or until a party has ended."""
    following = asyncio.create_task(faults)
    ends = [asyncio.create_task(party.ends(None)) for party in parties]
    try:
        await asyncio.wait({following, *ends}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        # Cancelled, it takes back what it has done to processes; the rest ends with the network.
        for task in (following, *ends):
            task.cancel()
        await asyncio.wait({following, *ends})
    if not following.cancelled():
        following.result()


async def _all_end(parties: Iterable[Party], timeout_s: float) -> None:
    with contextlib.suppress(AssertionError):  # the judge says which did not, and what all of them said
        await asyncio.gather(*(party.ends(timeout_s) for party in parties))


@contextlib.asynccontextmanager
async def _watching_memory(parties: Sequence[Party], report: Report) -> AsyncIterator[None]:
    async def watch() -> None:
        while True:
            for party in parties:
                programs = party.children("onionmpc.program.process.child")
                for role, processes in {"supervisor": [party.process_id], "program": programs}.items():
                    report.peak_mib[role] = max(report.peak_mib[role], *map(_peak_mib, processes), 0.0)
            await asyncio.sleep(SAMPLE_S)

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.wait({watching})


def _last_words(party: Party) -> str:
    """Return the last lines that a party has written since its program began."""
    began = next((index for index, event in enumerate(party.events) if event["event"] == "agreed"), 0)
    told = [
        json.dumps({key: value for key, value in event.items() if key != "heard_s"}) for event in party.events[began:]
    ]
    return "\n".join([*told[-LAST_EVENTS:], *party.words[-LAST_LINES:]])


def _peak_mib(process: int) -> float:
    """Return the most memory that a process ever held, 0 if it is gone; proc(5), VmHWM."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return 0.0


# --- Judging -----------------------------------------------------------------------------------------------------


async def _judge(report: Report, parties: Sequence[Party], injector: Injector, seed: int) -> None:
    for party in parties:
        if party.code != 0:
            report.problems.append(f"{party.name} " + (f"ended with {party.code}" if party.code else "did not end"))
    report.missed = injector.missed
    report.outages = [outage for party in parties for outage in outages(party)]
    report.felt, report.unprovoked = feel(injector.faults, report.outages, ended_well=not report.problems)
    report.problems += [f"{felt.kind} was never over" for felt in report.felt if felt.held_s is None]
    report.problems += [f"{felt.kind} was not survived" for felt in report.felt if not felt.survived]
    if report.peak_mib["supervisor"] > MAX_SUPERVISOR_MIB:
        report.problems.append(f"a supervisor took {report.peak_mib['supervisor']:.0f} MiB")
    if any(party.code != 0 for party in parties):
        return
    results = [party.output.splitlines() for party in parties]
    report.rounds = int(results[0][1].split()[-2])
    reference = await _reference(seed, report.rounds)
    report.output_ok = all(lines[:2] == ["running", reference] for lines in results)
    if not report.output_ok:
        report.problems.append(f"results differ: {[lines[1] for lines in results]}, expected {reference}")
    tallies = {party.number: json.loads(lines[2]) for party, lines in zip(parties, results, strict=True)}
    differing = differing_links(tallies)
    report.digests_ok = not differing
    report.problems += differing


async def _reference(seed: int, rounds: int) -> str:
    """Return the result of the same program for one party without any network."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, SCRIPT, str(seed), str(rounds)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(REFERENCE_TIMEOUT_S):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return next((line for line in output.decode().splitlines() if line.startswith("opened ")), "nothing")


def differing_links(tallies: dict[int, dict[str, Any]]) -> list[str]:
    """Compare what each party's program wrote to each other with what that one read.

    Args:
        tallies: for each party, what its program printed last (rounds.py).
    """
    return [
        f"party {reader} read {tallies[reader][str(writer)]['read']}, but party {writer} wrote {links['written']}"
        for writer, told in tallies.items()
        for reader, links in ((int(peer), links) for peer, links in told.items())
        if tallies[reader][str(writer)]["read"] != links["written"]
    ]


def outages(party: Party) -> list[Outage]:
    """Read from a party's events when it was without which peer."""
    found: list[Outage] = []
    away: dict[int, float] = {}
    for event in party.events:
        match event["event"]:
            case "link_broken":
                away.setdefault(event["party"], event["heard_s"])
            case "peer_quiet":
                away.setdefault(event["party"], event["heard_s"] - event["quiet_s"])
            case "link_resumed":
                away.pop(event["party"], None)
                lost_s = event["heard_s"] - event["away_s"]
                found.append(Outage(party.number, event["party"], lost_s, event["heard_s"]))
    return found + [Outage(party.number, peer, lost_s, None) for peer, lost_s in away.items()]


def feel(faults: Sequence[Fault], lost: Iterable[Outage], *, ended_well: bool) -> tuple[list[Felt], int]:
    """Ascribe outages to faults.

    Args:
        ended_well: all parties did; what was still lost then was not needed any more.
    Returns:
        The faults, and how many outages none of them explains.
    """
    lost = list(lost)
    felt: list[list[Outage]] = [[] for _ in faults]
    unprovoked = 0
    for outage in lost:
        index = _cause(faults, outage)
        if index is None:
            unprovoked += 1
        else:
            felt[index].append(outage)
    told = []
    for fault, its in zip(faults, felt, strict=True):
        backs = [outage.back_s for outage in its if outage.back_s is not None]
        all_back = len(backs) == len(its)
        others = any(one.lost_s < fault.began_s and (one.back_s or math.inf) > fault.began_s for one in lost)
        told.append(
            Felt(
                fault.kind.word,
                fault.target,
                fault.began_s - faults[0].began_s,
                None if fault.ended_s is None else fault.ended_s - fault.began_s,
                len(its),
                others and not its,
                max(backs) - fault.began_s if its and all_back else None,
                ended_well or (all_back and fault.ended_s is not None),
            )
        )
    return told, unprovoked


def _cause(faults: Sequence[Fault], outage: Outage) -> int | None:
    """Return which fault an outage is ascribed to: the newest that had begun, else the next if it comes at once."""
    before = [
        index
        for index, fault in enumerate(faults)
        if fault.began_s <= outage.lost_s + JITTER_S
        and (fault.ended_s is None or outage.lost_s <= fault.ended_s + AFTERMATH_S)
    ]
    after = [index for index, fault in enumerate(faults) if outage.lost_s < fault.began_s <= outage.lost_s + IDLE_S]
    return max(before, default=min(after, default=None))
