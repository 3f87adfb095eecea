"""`python -m benchmarks.privacy_speed`: what each circuit length costs, from one run on one private Tor network.

Three parties stand in three regions. In each round they draw fresh guards, the same ones for all settings; then links
of all settings are pinged in turns, and a session of each setting runs the same program by the real commands. Believe
the ratios within a round before any number of seconds. Knows what a setting promises, and what tor says that it built.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import math
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import plots
from benchmarks.common import RESULTS, ROOT, Spread, end_party, report, say, table, write
from benchmarks.overhead import keep_identities
from benchmarks.round_trips import Echo, RoundTrips, time_round_trips
from onionmpc.errors import OnionMPCError
from onionmpc.files import private_directory, socket_directory
from onionmpc.identity import Identity
from onionmpc.levels import Level
from onionmpc.mesh.direct import DirectNetwork
from onionmpc.testnet.network import PrivateNetwork
from onionmpc.testnet.place import join_testnet, profiles_directory
from onionmpc.testnet.regions import load_regions
from onionmpc.tor.network import tor_network
from onionmpc.tor.options import TorOptions

PROGRAM = ROOT / "benchmarks" / "two_loads.py"
# Where the parties stand, by number. A party dials those of higher numbers.
REGIONS = ("europe-central", "america-east", "asia")
PARTIES = range(len(REGIONS))
PAIRS = tuple(itertools.combinations(PARTIES, 2))
# Of each pair and setting, in each round: links at once, and how often.
LINKS_AT_ONCE = 2
TURNS = 2
ROUNDS = 50
# Of 16 bytes: to each of the two others goes half a MiB, and as much comes from it.
ELEMENTS = 2**15
HALVES = {"rounds": f"{ROUNDS} rounds", "large": "large messages"}
PADDING_RATE = 20
SESSION_LIMIT_S = 240.0
TOR_LIMIT_S = 120.0
PING_LIMIT_S = 120.0
LINE_LIMIT_BYTES = 2**20
MIB = 2**20


class Failed(Exception):
    """Something did not go as it must for its figures to count."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What is compared.

    Attributes:
        levels: of the parties of a session, by number; empty without tor.
        dialler, listener: of the two parties of a pinged link.
        learns: who learns what, in words.
        padding: records a second.
    """

    name: str
    levels: tuple[Level, ...]
    dialler: Level
    listener: Level
    learns: str
    padding: int = 0

    @property
    def promised(self) -> int:
        """Relays between the two parties of a pinged link, at the least."""
        if not self.levels:
            return 0
        return self.dialler.promise.dialled + self.listener.promise.accepted - 1


SHORT, STANDARD, LONG = Level.SHORT, Level.STANDARD, Level.LONG
AS_STANDARD = "as standard; {} longer until its guard is found (guard_discovery)"
SETTINGS = (
    Setting("no tor", (), STANDARD, STANDARD, "all parties, and who is on the way: every IP, and who talks with whom"),
    Setting(
        "short",
        (SHORT,) * 3,
        SHORT,
        SHORT,
        "every other party, and each relay that one of them picks: the IP; providers: that Tor is used",
    ),
    Setting(
        "standard",
        (STANDARD,) * 3,
        STANDARD,
        STANDARD,
        "no other party: the IP; the guard: the IP, but not the others; a peer who runs relays finds the guard in time "
        "(guard_discovery); providers: that Tor is used, when and how much",
    ),
    Setting(
        "long when dialling",
        (LONG, STANDARD, STANDARD),
        LONG,
        STANDARD,
        AS_STANDARD.format("the party that is long has"),
    ),
    Setting(
        "long when listening",
        (STANDARD, STANDARD, LONG),
        STANDARD,
        LONG,
        AS_STANDARD.format("the party that is long has"),
    ),
    Setting("long", (LONG,) * 3, LONG, LONG, AS_STANDARD.format("every party has")),
    Setting(
        "standard, padded",
        (STANDARD,) * 3,
        STANDARD,
        STANDARD,
        "as standard; providers and guards: not when and how much the program says",
        padding=PADDING_RATE,
    ),
)


@dataclass(frozen=True, slots=True)
class Session:
    """What one session took.

    Attributes:
        seconds: by half, from the last party's start to the last party's end.
        wire_bytes: by half, what each party's provider saw, both ways; without tor, what its program sent and received.
        links: of each pair, the relays that its dialler and its listener counted.
    """

    seconds: dict[str, float]
    wire_bytes: dict[str, list[int]]
    links: list[tuple[int, int]]


@dataclass(slots=True)
class Measured:
    """All that was measured of one setting, and how often that failed."""

    circuits: list[RoundTrips] = field(default_factory=list)
    sessions: list[Session] = field(default_factory=list)
    failed_dials: int = 0
    failed_sessions: list[str] = field(default_factory=list)


# What was measured of each setting, by its name.
Round = Mapping[str, Measured]


class Watch:
    """What passes by at the ways out of the parties, with the time of the event loop, which is CLOCK_MONOTONIC."""

    def __init__(self, network: PrivateNetwork) -> None:
        self._pieces: list[list[tuple[float, int]]] = [[] for _ in PARTIES]
        assert network.state is not None
        for slot in network.state.slots:
            if slot.region in REGIONS:
                # All places of the region: during a session there is one party in it.
                network.gateway(slot).on_bytes = self._noting(REGIONS.index(slot.region))

    def _noting(self, party: int) -> Callable[[int, bool], None]:
        def note(size: int, _outward: bool) -> None:
            self._pieces[party].append((time.monotonic(), size))

        return note

    def forget(self) -> None:
        """Begin anew."""
        for pieces in self._pieces:
            pieces.clear()

    def count(self, began_s: float, ended_s: float) -> list[int]:
        """Return how many bytes went either way between two times, by party."""
        return [sum(size for at_s, size in pieces if began_s <= at_s <= ended_s) for pieces in self._pieces]


# --- The commands that people type -------------------------------------------------------------------------------


class Party:
    """One `onionmpc join`, followed by what it says."""

    def __init__(self, number: int, process: asyncio.subprocess.Process) -> None:
        self.number = number
        self.process = process
        self.events: list[dict[str, Any]] = []
        self.words: list[str] = []

    async def follow(self, heard: Callable[[], None]) -> None:
        """Keep what it says until it ends; `heard` is called after each event."""
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            try:
                event = json.loads(line)
                event["event"]
            except (ValueError, KeyError, TypeError):
                self.words.append(line.decode(errors="replace"))
            else:
                self.events.append(event)
                heard()
        await self.process.wait()

    def said(self, name: str) -> bool:
        """Whether there was such an event."""
        return any(event["event"] == name for event in self.events)

    def link(self, peer: int) -> dict[str, Any]:
        """Return what it measured last of its link to a peer."""
        told = [event for event in self.events if event["event"] == "link_measured" and event["party"] == peer]
        if not told:
            raise Failed(f"party {self.number} did not measure its link to party {peer}")
        return told[-1]

    @property
    def last_words(self) -> str:
        """The end of what it said."""
        told = [event.get("error", "") for event in self.events if event["event"] == "failed"]
        return " ".join([*told, *self.words])[-1000:]


def commands(setting: Setting, folder: Path, testnet: Path, sockets: Path) -> tuple[Path, list[list[str]]]:
    """Return the state directory and, for each party, the words after "python"."""
    state = private_directory(folder / "state")
    onions = keep_identities(state, len(PARTIES), exposed=SHORT in setting.levels)
    found = []
    for number in PARTIES:
        words = ["join", *(onion for onion in onions if onion != onions[number]), str(PROGRAM)]
        words += ["--identity", f"party-{number}", "--yes", "--log-format", "json"]
        words += [f"--public={ROUNDS}", f"--public={ELEMENTS}"]
        if setting.levels:
            level = setting.levels[number]
            words += ["--testnet", str(testnet), "--region", REGIONS[number], "--profile", profile(number, level)]
            words += ["--circuit-length", level.value, "--min-circuit-length", SHORT.value]
            words += ["--show-my-ip"] if level is SHORT else []
            words += [f"--padding={setting.padding}"] if setting.padding else []
            start = ["-P", "-m", "onionmpc.cli"]
        else:
            start = ["-m", "benchmarks.direct_party", str(sockets), str(folder / f"memory-{number}.json")]
        found.append([*start, *words, "--", str(folder)])
    return state, found


def profile(number: int, level: Level) -> str:
    """Return which profile a party's tor has at a level: tors of several levels run side by side, and share none."""
    return f"party-{number}-{level.value}"


async def run_session(setting: Setting, testnet: Path, watch: Watch) -> Session:
    """Run one session by the real commands.

    Raises:
        Failed: it did not end well, or built less than its levels promise.
        TimeoutError: it took longer than SESSION_LIMIT_S.
    """
    watch.forget()
    with tempfile.TemporaryDirectory(prefix="onionmpc-bench-") as name, socket_directory() as sockets:
        folder = Path(name)
        state, words = commands(setting, folder, testnet, sockets)
        parties: list[Party] = []
        try:
            for number, command in enumerate(words):
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, *command),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=asyncio.subprocess.PIPE,
                    limit=LINE_LIMIT_BYTES,
                    cwd=ROOT,
                    env={**os.environ, "ONIONMPC_STATE": str(state)},
                    start_new_session=True,
                )
                parties.append(Party(number, process))
            async with asyncio.timeout(SESSION_LIMIT_S):
                await _followed(parties)
        finally:
            await asyncio.gather(*(end_party(party.process) for party in parties))
        for party in parties:
            # A padded session goes on to the full minute; we leave it when all have their results.
            if party.process.returncode != 0 and not party.said("rounding"):
                # What it said names files of this machine: for a person, and not for the results.
                say(party.last_words)
                raise Failed(f"party {party.number} ended with status {party.process.returncode}")
        notes = [json.loads((folder / f"notes-{number}.json").read_text()) for number in PARTIES]
    return sum_up(setting, notes, parties, watch)


async def _followed(parties: Sequence[Party]) -> None:
    leaving = False

    def leave_when_all_are_done() -> None:
        nonlocal leaving
        if not leaving and all(party.said("rounding") for party in parties):
            leaving = True
            for party in parties:
                with contextlib.suppress(ProcessLookupError):
                    party.process.send_signal(signal.SIGINT)

    await asyncio.gather(*(party.follow(leave_when_all_are_done) for party in parties))


def sum_up(
    setting: Setting, notes: Sequence[Mapping[str, Mapping[str, float]]], parties: Sequence[Party], watch: Watch
) -> Session:
    """Return what a session took, from what its programs and its supervisors told."""
    seconds, wire_bytes = {}, {}
    for half in HALVES:
        began_s = max(note[half]["began_s"] for note in notes)
        ended_s = max(note[half]["ended_s"] for note in notes)
        seconds[half] = ended_s - began_s
        if setting.levels:
            wire_bytes[half] = watch.count(min(note[half]["began_s"] for note in notes), ended_s)
        else:
            # Each sends as much as it receives.
            wire_bytes[half] = [2 * int(note[half]["sent_bytes"]) for note in notes]
    links = []
    if setting.levels:
        for low, high in PAIRS:
            dialled, accepted = parties[low].link(high), parties[high].link(low)
            check_promise(setting.levels[low], setting.levels[high], dialled["own_relays"], accepted["own_relays"])
            if (dialled["claimed_relays"], accepted["claimed_relays"]) != (
                accepted["own_relays"],
                dialled["own_relays"],
            ):
                raise Failed(f"parties {low} and {high} claim other relays than they measured")
            links.append((dialled["own_relays"], accepted["own_relays"]))
    return Session(seconds, wire_bytes, links)


def check_promise(dialler: Level, listener: Level, own: int | None, accepted: int | None) -> None:
    """Check that both sides of a circuit were counted, and are no shorter than promised.

    Raises:
        Failed: they were not, or are.
    """
    promised = (dialler.promise.dialled, listener.promise.accepted)
    if own is None or accepted is None or own < promised[0] or accepted < promised[1]:
        raise Failed(f"{own} and {accepted} relays were counted, expected {promised[0]} and {promised[1]} or more")


# --- Round trips -------------------------------------------------------------------------------------------------


async def draw_guards(testnet: Path) -> None:
    """Give each party a guard, the same at all levels: else we would compare where guards stand."""
    profiles = profiles_directory(testnet)
    shutil.rmtree(profiles, ignore_errors=True)
    async with contextlib.AsyncExitStack() as stack, asyncio.timeout(TOR_LIMIT_S):
        await _enter_all(stack, [_tor(testnet, number, STANDARD) for number in PARTIES])
    for number in PARTIES:
        for level in (SHORT, LONG):
            copy = profiles / profile(number, level)
            shutil.copytree(profiles / profile(number, STANDARD), copy, ignore=shutil.ignore_patterns("lock"))


@contextlib.asynccontextmanager
async def _tor(testnet: Path, number: int, level: Level) -> AsyncIterator[Echo]:
    """A party's tor, which has bootstrapped."""
    identity = Identity(secrets.token_bytes(32))
    with join_testnet(testnet, REGIONS[number]) as place:
        options = TorOptions(
            extra_torrc=place.torrc, profiles=place.profiles, profile=profile(number, level), level=level
        )
        async with tor_network(identity, options, lambda _progress: None) as network:
            yield Echo(identity, network)


@contextlib.asynccontextmanager
async def _no_tor(sockets: Path) -> AsyncIterator[Echo]:
    identity = Identity(secrets.token_bytes(32))
    async with DirectNetwork(sockets, identity.onion) as network:
        yield Echo(identity, network)


async def _enter_all(
    stack: contextlib.AsyncExitStack, parties: Sequence[contextlib.AbstractAsyncContextManager[Echo]]
) -> list[Echo]:
    """Enter all at the same time, each in a task of its own that leaves it when the stack is left."""
    entered: list[asyncio.Future[Echo]] = [asyncio.get_running_loop().create_future() for _ in parties]

    async def hold(party: contextlib.AbstractAsyncContextManager[Echo], ready: asyncio.Future[Echo]) -> None:
        try:
            async with party as echo:
                ready.set_result(echo)
                await asyncio.Event().wait()
        except OnionMPCError as error:
            if not ready.done():
                ready.set_exception(error)

    holding = [asyncio.create_task(hold(*pair)) for pair in zip(parties, entered, strict=True)]

    async def let_go() -> None:
        for task in holding:
            task.cancel()
        await asyncio.gather(*holding, return_exceptions=True)

    stack.push_async_callback(let_go)
    return await asyncio.gather(*entered)


async def ping_all(settings: Sequence[Setting], testnet: Path, measured: Round) -> None:
    """Ping links of all settings in turns, between all pairs at once.

    Raises:
        OnionMPCError: a tor did not start.
    """
    levels = sorted({level for setting in settings if setting.levels for level in (setting.dialler, setting.listener)})
    keys = [(number, level) for number in PARTIES for level in levels]
    async with contextlib.AsyncExitStack() as stack:
        sockets = stack.enter_context(socket_directory())
        async with asyncio.timeout(TOR_LIMIT_S):
            tors = await _enter_all(stack, [_tor(testnet, *key) for key in keys])
            direct = await _enter_all(stack, [_no_tor(sockets) for _ in PARTIES])
            await asyncio.gather(*(party.listen() for party in [*tors, *direct]))
        by_key = dict(zip(keys, tors, strict=True))
        for _, setting in itertools.product(range(TURNS), settings):
            pairs = [
                (by_key[low, setting.dialler], by_key[high, setting.listener])
                if setting.levels
                else (direct[low], direct[high])
                for low, high in PAIRS
            ]
            await asyncio.gather(
                *(_ping(setting, *pair, measured[setting.name]) for pair in pairs for _ in range(LINKS_AT_ONCE))
            )


async def _ping(setting: Setting, dialler: Echo, listener: Echo, measured: Measured) -> None:
    try:
        async with asyncio.timeout(PING_LIMIT_S):
            trips = await time_round_trips(dialler, listener, setting.padding)
        if setting.levels:
            check_promise(setting.dialler, setting.listener, trips.own, trips.accepted)
    except (OnionMPCError, TimeoutError, Failed) as error:
        measured.failed_dials += 1
        say(f"{setting.name}: a circuit failed ({str(error) or type(error).__name__})")
    else:
        measured.circuits.append(trips)


# --- All of it ---------------------------------------------------------------------------------------------------


async def measure(
    settings: Sequence[Setting], repeats: int, budget_s: float, keep: Callable[[Sequence[Round]], None]
) -> list[Round]:
    """Measure all settings in turns, until there are enough repeats or the time is up.

    Args:
        keep: called with what there is, at the end of each round.
    Raises:
        OnionMPCError: the private network did not come up.
    """
    rounds: list[Round] = []
    until_s = time.monotonic() + budget_s
    with tempfile.TemporaryDirectory(prefix="onionmpc-bench-") as name:
        testnet = Path(name) / "net"
        say("starting a private Tor network")
        async with PrivateNetwork(testnet, latency="regions") as network:
            watch = Watch(network)
            for repeat in range(repeats):
                if repeat and time.monotonic() > until_s:
                    say(f"stopping after {repeat} of {repeats} repeats: --budget is spent")
                    break
                say(f"round {repeat + 1} of {repeats}")
                rounds.append({setting.name: Measured() for setting in settings})
                try:
                    await _one_round(turned(settings, repeat), testnet, watch, rounds[-1])
                finally:
                    keep(rounds)
    return rounds


def turned(settings: Sequence[Setting], repeat: int) -> list[Setting]:
    """Return the settings in an order of this repeat's own, so that none is always the first."""
    start = repeat % len(settings)
    return [*settings[start:], *settings[:start]]


async def _one_round(settings: Sequence[Setting], testnet: Path, watch: Watch, measured: Round) -> None:
    try:
        await draw_guards(testnet)
        await ping_all(settings, testnet, measured)
    except (OnionMPCError, TimeoutError) as error:
        say(f"no round trips in this round: {str(error) or type(error).__name__}")
    for setting in settings:
        before_s = time.monotonic()
        try:
            session = await run_session(setting, testnet, watch)
        except (Failed, TimeoutError, OSError) as error:
            words = str(error) if isinstance(error, Failed) else type(error).__name__
            measured[setting.name].failed_sessions.append(words)
            say(f"{setting.name}: the session failed ({words})")
        else:
            measured[setting.name].sessions.append(session)
            halves = ", ".join(f"{HALVES[half]} {seconds:.1f} s" for half, seconds in session.seconds.items())
            say(f"{setting.name}: {halves}; the whole command {time.monotonic() - before_s:.0f} s")


def percentile(values: Iterable[float], share: float) -> float:
    """Return the lowest of at least one value that this share of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def summarise(setting: Setting, measured: Measured) -> dict[str, Any]:
    """Return what was measured of a setting; what there is none of is left out."""
    result: dict[str, Any] = {
        "levels": [level.value for level in setting.levels],
        "padding": setting.padding,
        "learns": setting.learns,
        "promised_relays": setting.promised,
        "failed_dials": measured.failed_dials,
        "failed_sessions": measured.failed_sessions,
    }
    if measured.circuits:
        trips_ms = [circuit.median_s * 1000 for circuit in measured.circuits]
        result["round_trip"] = {
            "relays": counts(total(circuit.own, circuit.accepted) for circuit in measured.circuits),
            "own_and_accepted": counts(f"{circuit.own} and {circuit.accepted}" for circuit in measured.circuits),
            "median_ms": round(percentile(trips_ms, 0.5), 1),
            "p95_ms": round(percentile(trips_ms, 0.95), 1),
            "lowest_ms": round(min(trips_ms), 1),
            "highest_ms": round(max(trips_ms), 1),
            "circuits": len(trips_ms),
        }
    if measured.sessions:
        result["session_relays"] = counts(
            " ".join(str(total(*link)) for link in session.links) or "0" for session in measured.sessions
        )
        for half in HALVES:
            result[half] = {
                "seconds": Spread.of(session.seconds[half] for session in measured.sessions),
                "wire_bytes": Spread.of(size for session in measured.sessions for size in session.wire_bytes[half]),
            }
    return result


def merged(rounds: Sequence[Round], name: str) -> Measured:
    """Return what all rounds measured of a setting."""
    whole = Measured()
    for measured in rounds:
        whole.circuits += measured[name].circuits
        whole.sessions += measured[name].sessions
        whole.failed_dials += measured[name].failed_dials
        whole.failed_sessions += measured[name].failed_sessions
    return whole


# What is compared with standard, each from what one round measured of a setting.
FIGURES: dict[str, Callable[[Measured], list[float]]] = {
    "round_trip": lambda measured: [circuit.median_s for circuit in measured.circuits],
    "rounds": lambda measured: [session.seconds["rounds"] for session in measured.sessions],
    "large": lambda measured: [session.seconds["large"] for session in measured.sessions],
}


def against_standard(rounds: Sequence[Round], name: str) -> dict[str, Spread]:
    """Return the ratios to standard in the same round, hence with the same guards; those that there are."""
    found = {}
    for figure, values in FIGURES.items():
        pairs = [(values(one[name]), values(one[STANDARD.value])) for one in rounds if STANDARD.value in one]
        ratios = [percentile(ours, 0.5) / percentile(theirs, 0.5) for ours, theirs in pairs if ours and theirs]
        if ratios:
            found[figure] = Spread.of(ratios)
    return found


def total(own: int | None, accepted: int | None) -> int:
    """Return the relays between two parties: the rendezvous point, which both count, counts once."""
    return 0 if own is None or accepted is None else own + accepted - 1


def counts(values: Iterable[object]) -> dict[str, int]:
    """Return how often each value occurs, by its words."""
    words = [str(value) for value in values]
    return {word: words.count(word) for word in sorted(set(words))}


def tables(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Show the results to a person."""
    return [
        table(
            [
                *("setting", "relays measured", "round trip, ms: median", "95 %", "circuits", f"{ROUNDS} rounds, s"),
                *("large messages, s", f"KiB at a party, {ROUNDS} rounds", "MiB at a party, large", "failed"),
            ],
            [row(name, result) for name, result in results.items()],
        ),
        table(
            ["against standard in the same round", "round trip", f"{ROUNDS} rounds", "large messages"],
            [
                [name, *(result["against_standard"][figure].show() for figure in FIGURES)]
                for name, result in results.items()
                if len(result["against_standard"]) == len(FIGURES)
            ],
        ),
        table(["setting", "who learns what"], [[name, result["learns"]] for name, result in results.items()]),
    ]


def row(name: str, result: Mapping[str, Any]) -> list[str]:
    """Return a row of the table; what was not measured is a dash."""
    trip = result.get("round_trip")
    trips = [_ms(trip["median_ms"]), _ms(trip["p95_ms"]), str(trip["circuits"])] if trip else ["-", "-", "-"]
    halves = [result.get(half) for half in HALVES]
    seconds = [half["seconds"].show(1) if half else "-" for half in halves]
    sizes = [
        _scaled(half["wire_bytes"], unit).show(1) if half else "-"
        for half, unit in zip(halves, (1024, MIB), strict=True)
    ]
    failed = result["failed_dials"] + len(result["failed_sessions"])
    return [name, " or ".join(trip["relays"]) if trip else "-", *trips, *seconds, *sizes, str(failed)]


def _ms(milliseconds: float) -> str:
    # Without tor it is less than one.
    return f"{milliseconds:.{0 if milliseconds >= 10 else 1}f}"


def _scaled(spread: Spread, unit: float) -> Spread:
    return Spread(spread.median / unit, spread.lowest / unit, spread.highest / unit, spread.count)


def round_trip_rows(results: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what plots.draw_round_trips wants."""
    return [
        {
            "name": name,
            "relays": max(map(int, result["round_trip"]["relays"])),
            "median_ms": result["round_trip"]["median_ms"],
            "p95_ms": result["round_trip"]["p95_ms"],
        }
        for name, result in results.items()
        if "round_trip" in result
    ]


def program_times(results: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """Return what plots.draw_program_times wants, empty if no session ended well."""
    done = {name: result for name, result in results.items() if all(half in result for half in HALVES)}
    if not done:
        return {}
    times = {}
    for half, words in HALVES.items():
        spreads = {name: result[half]["seconds"] for name, result in done.items()}
        times[words] = {
            name: {"median": spread.median, "lowest": spread.lowest, "highest": spread.highest}
            for name, spread in spreads.items()
        }
    return times


def draw(results: Mapping[str, Mapping[str, Any]], output: Path) -> None:
    """Draw the results beside those in JSON, or say why not."""
    pictures: list[tuple[str, Callable[[Path], None]]] = []
    if rows := round_trip_rows(results):
        pictures.append(("round_trips", lambda path: plots.draw_round_trips(rows, path)))
    if times := program_times(results):
        pictures.append(("programs", lambda path: plots.draw_program_times(times, path)))
    for word, picture in pictures:
        path = output.with_name(f"{output.stem}_{word}.svg")
        try:
            picture(path)
        except plots.NoMatplotlib as error:
            say(str(error))
            return
        print(f"drawn: {path}")


def straight_ms() -> dict[str, float]:
    """Return the round trips of the straight ways between the parties, which no setting has: by the latency table."""
    regions = load_regions()
    return {
        f"{REGIONS[low]} to {REGIONS[high]}": round(2000 * regions.one_way_s(REGIONS[low], REGIONS[high]), 1)
        for low, high in PAIRS
    }


def main() -> None:
    """Measure, print, write and draw."""
    names = [setting.name for setting in SETTINGS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.privacy_speed", description=__doc__.splitlines()[0])
    parser.add_argument("--setting", action="append", choices=names, help="what to measure (all); repeatable")
    parser.add_argument("--repeats", type=int, default=3, help="rounds of all settings (3)")
    parser.add_argument("--budget", type=float, default=900, metavar="S", help="start no further round after S (900)")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="where to write (benchmarks/results/privacy_speed.json)"
    )
    options = parser.parse_args()
    settings = [setting for setting in SETTINGS if setting.name in (options.setting or names)]

    def as_data(rounds: Sequence[Round]) -> dict[str, Any]:
        return {
            "regions": REGIONS,
            "straight_round_trip_ms": straight_ms(),
            "rounds": ROUNDS,
            "elements": ELEMENTS,
            "settings": {
                setting.name: {
                    **summarise(setting, merged(rounds, setting.name)),
                    "against_standard": against_standard(rounds, setting.name),
                }
                for setting in settings
            },
        }

    def keep(rounds: Sequence[Round]) -> None:
        write("privacy_speed", as_data(rounds), options.output)

    try:
        rounds = asyncio.run(measure(settings, options.repeats, options.budget, keep))
    except OnionMPCError as error:
        sys.exit(f"the private network did not come up: {error.message}")
    results = as_data(rounds)
    title = f"Privacy and speed: parties in {', '.join(REGIONS)}"
    report("privacy_speed", title, tables(results["settings"]), results, options.output)
    draw(results["settings"], options.output or RESULTS / "privacy_speed.json")
    print("What the levels buy against someone who looks for a guard: benchmarks/results/guard_discovery.json")
    if any("round_trip" not in result or "large" not in result for result in results["settings"].values()):
        sys.exit("some setting was never measured")


if __name__ == "__main__":
    main()
