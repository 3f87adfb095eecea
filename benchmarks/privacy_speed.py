"""`python -m benchmarks.privacy_speed`: what each circuit length costs, from one run on one private Tor network.

Three parties stand in three regions. In each round they draw fresh guards, the same ones for all settings; then links
of all settings are pinged in turns, and a session of each setting runs the same program by the real commands. Believe
the ratios within a round before any number of seconds. Knows what a setting promises, and what tor says that it built.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import secrets
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.common import MIB, Failed, Spread, in_turns, options_of, report, run, say, table, write
from benchmarks.links import DIAL_TIMEOUT_S, Announced, Listener, echo, ping
from benchmarks.sessions import ONIONMPC, WORKLOAD, Process, direct, keep_identities, listed, running, scratch
from benchmarks.tors import party_network, private_network
from onionmpc.errors import OnionMPCError
from onionmpc.files import private_directory, socket_directory
from onionmpc.identity import Identity
from onionmpc.levels import Level
from onionmpc.testnet.place import profiles_directory
from onionmpc.testnet.regions import load_regions
from tests.support.direct import DirectNetwork
from tests.support.faulty_network import FaultyNetwork

# Where the parties are, by number. A party dials those of higher numbers.
REGIONS = ("europe-central", "america-east", "asia")
PARTIES = range(len(REGIONS))
PAIRS = tuple(itertools.combinations(PARTIES, 2))
# Of each pair and setting, in each round: links at once, how often, and messages over each.
LINKS_AT_ONCE = 2
TURNS = 2
PINGS = 5
ROUNDS = 50
# Of 16 bytes: to each of the two others goes half a MiB, and as much comes from it.
ELEMENTS = 2**15
# What the program does, one after the other: what to call it, and the words for it.
HALVES = {"rounds": f"{ROUNDS} rounds", "large": "large messages"}
LOADS = (f"rounds={ROUNDS}", f"array={ELEMENTS}")
PADDING_RATE = 20
SESSION_LIMIT_S = 240.0
TOR_LIMIT_S = 120.0
PING_LIMIT_S = 120.0


@dataclass(frozen=True, slots=True)
class Setting:
    """What is compared.

    Attributes:
        levels: of the parties of a session, by number; empty without tor.
        dialler, listener: of the two parties of a pinged link.
        padding: records a second.
    """

    name: str
    levels: tuple[Level, ...]
    dialler: Level
    listener: Level
    padding: int = 0

    @property
    def promised(self) -> int:
        """Relays between the two parties of a pinged link, at the least."""
        if not self.levels:
            return 0
        return self.dialler.promise.dialled + self.listener.promise.accepted - 1


SHORT, STANDARD, LONG = Level.SHORT, Level.STANDARD, Level.LONG
SETTINGS = (
    Setting("no tor", (), STANDARD, STANDARD),
    Setting("short", (SHORT,) * 3, SHORT, SHORT),
    Setting("standard", (STANDARD,) * 3, STANDARD, STANDARD),
    Setting("long when dialling", (LONG, STANDARD, STANDARD), LONG, STANDARD),
    Setting("long when listening", (STANDARD, STANDARD, LONG), STANDARD, LONG),
    Setting("long", (LONG,) * 3, LONG, LONG),
    Setting("standard, padded", (STANDARD,) * 3, STANDARD, STANDARD, padding=PADDING_RATE),
)
# Who learns what, by setting.
AS_STANDARD = "as standard; {} longer until its guard is found (guard_discovery)"
LEARNS = {
    "no tor": "all parties, and who is on the way: every IP, and who talks with whom",
    "short": "every other party, and each relay that one of them picks: the IP; providers: that Tor is used",
    "standard": "no other party: the IP; the guard: the IP, but not the others; a peer who runs relays finds the guard "
    "in time (guard_discovery); providers: that Tor is used, when and how much",
    "long when dialling": AS_STANDARD.format("the party that is long has"),
    "long when listening": AS_STANDARD.format("the party that is long has"),
    "long": AS_STANDARD.format("every party has"),
    "standard, padded": "as standard; providers and guards: not when and how much the program says",
}


@dataclass(frozen=True, slots=True)
class RoundTrips:
    """What one circuit took.

    Attributes:
        own, accepted: relays that the dialler's and the listener's tor counted, the rendezvous point in both; None
            where there is no tor.
        median_s: of PINGS messages there and back.
    """

    own: int | None
    accepted: int | None
    median_s: float


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

    def add(self, other: Measured) -> None:
        """Add what another round measured."""
        self.circuits += other.circuits
        self.sessions += other.sessions
        self.failed_dials += other.failed_dials
        self.failed_sessions += other.failed_sessions


# What was measured of each setting, by its name.
Round = Mapping[str, Measured]


class Watch:
    """What passes by at the ways out of the parties, with the time of the event loop, which is CLOCK_MONOTONIC."""

    def __init__(self, network: FaultyNetwork) -> None:
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


def link_of(party: Process, peer: int) -> Mapping[str, Any]:
    """Return what a party measured last of its link to a peer."""
    told = [event for event in party.heard("link_measured") if event["party"] == peer]
    if not told:
        raise Failed(f"the link to party {peer} was not measured")
    return told[-1]


def way_of(setting: Setting, number: int, testnet: Path) -> list[str]:
    """Return a party's options of `onionmpc join`."""
    if not setting.levels:
        return []
    level = setting.levels[number]
    return [
        *("--testnet", str(testnet), "--region", REGIONS[number], "--profile", profile(number, level)),
        *("--circuit-length", level.value, "--min-circuit-length", SHORT.value),
        *(["--show-my-ip"] if level is SHORT else []),
        *([f"--padding={setting.padding}"] if setting.padding else []),
    ]


def profile(number: int, level: Level) -> str:
    """Return which profile a party's tor has at a level: tors of several levels run side by side, and share none."""
    return f"party-{number}-{level.value}"


async def run_session(setting: Setting, testnet: Path, watch: Watch) -> Session:
    """Run one session by the real commands.

    Raises:
        Failed: it did not end well within SESSION_LIMIT_S, or built less than its levels promise.
    """
    watch.forget()
    ways = [way_of(setting, number, testnet) for number in PARTIES]
    with scratch() as folder, socket_directory() as sockets:
        state = private_directory(folder / "state")
        onions = keep_identities(state, len(PARTIES), exposed=SHORT in setting.levels)
        async with running(SESSION_LIMIT_S, ONIONMPC_STATE=state) as processes:
            for words in listed(onions, [WORKLOAD], ways, LOADS):
                await processes.start(*(ONIONMPC if setting.levels else direct(sockets)), *words)
            parties = processes.all
            ending = asyncio.create_task(processes.ended(parties, allowed=is_done))
            # A padded session goes on to the full minute; we leave it when all have their results.
            leaving = asyncio.create_task(processes.hears(lambda: all(map(is_done, parties))))
            await asyncio.wait({ending, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if leaving.done() and not leaving.exception():
                for party in parties:
                    with contextlib.suppress(ProcessLookupError):
                        party.process.send_signal(signal.SIGINT)
            leaving.cancel()
            await ending
            return sum_up(setting, parties, watch)


def is_done(party: Process) -> bool:
    """Whether a party has its result, and only waits for the full minute."""
    return bool(party.heard("rounding"))


def sum_up(setting: Setting, parties: Sequence[Process], watch: Watch) -> Session:
    """Return what a session took, from what its programs and its supervisors told."""
    seconds, wire_bytes = {}, {}
    for half, notes in zip(HALVES, zip(*(party.results["loads"] for party in parties), strict=True), strict=True):
        began_s, ended_s = (max(note[key] for note in notes) for key in ("began_s", "ended_s"))
        seconds[half] = ended_s - began_s
        if setting.levels:
            wire_bytes[half] = watch.count(min(note["began_s"] for note in notes), ended_s)
        else:
            # Each sends as much as it receives.
            wire_bytes[half] = [2 * int(note["sent_bytes"]) for note in notes]
    links = []
    if setting.levels:
        for low, high in PAIRS:
            dialled, accepted = link_of(parties[low], high), link_of(parties[high], low)
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
async def _tor(testnet: Path, number: int, level: Level) -> AsyncIterator[Listener]:
    """A party's tor, which has bootstrapped."""
    identity = Identity(secrets.token_bytes(32))
    of_level = profile(number, level)
    async with party_network(testnet, REGIONS[number], identity, profile=of_level, level=level) as network:
        yield Listener(identity, network, echo)


@contextlib.asynccontextmanager
async def _no_tor(sockets: Path) -> AsyncIterator[Listener]:
    identity = Identity(secrets.token_bytes(32))
    async with DirectNetwork(sockets, identity.onion) as network:
        yield Listener(identity, network, echo)


async def _enter_all(
    stack: contextlib.AsyncExitStack, parties: Sequence[contextlib.AbstractAsyncContextManager[Listener]]
) -> list[Listener]:
    """Enter all at the same time, each in a task of its own that leaves it when the stack is left."""
    entered: list[asyncio.Future[Listener]] = [asyncio.get_running_loop().create_future() for _ in parties]

    async def hold(party: contextlib.AbstractAsyncContextManager[Listener], ready: asyncio.Future[Listener]) -> None:
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


async def time_round_trips(dialler: Listener, listener: Listener, rate: int) -> RoundTrips:
    """Dial a circuit, send PINGS messages there and back, one after the other, and hang up.

    Raises:
        OnionMPCError: there is no circuit.
        TimeoutError: it lost what was sent.
    """
    async with Announced(dialler.network, rate).link(dialler.identity, listener.identity.onion) as (end, stream):
        path = stream.path
        accepted = None if path is None else await listener.network.accepted_path(path.rendezvous)
        async with asyncio.timeout(DIAL_TIMEOUT_S):
            await ping(end)  # what the handshake left to do
            trips_s = [await ping(end) for _ in range(PINGS)]
    relays = (path.relays if path else None, accepted.relays if accepted else None)
    return RoundTrips(*relays, percentile(trips_s, 0.5))


async def _ping(setting: Setting, dialler: Listener, listener: Listener, measured: Measured) -> None:
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
    """Measure all settings in rounds; `keep` is called with what there is, at the end of each."""
    rounds: list[Round] = []
    async with private_network() as (network, testnet):
        watch = Watch(network)
        for repeat, in_order in itertools.groupby(in_turns(settings, repeats, budget_s), key=lambda turn: turn[0]):
            say(f"round {repeat + 1} of {repeats}")
            rounds.append({setting.name: Measured() for setting in settings})
            try:
                await _one_round([setting for _, setting in in_order], testnet, watch, rounds[-1])
            finally:
                keep(rounds)
    return rounds


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
        except (Failed, OSError) as error:
            say(f"{setting.name}: the session failed ({error})")
            # What its parties said names files of this machine: for a person, and not for the results.
            words = str(error).partition(":")[0] if isinstance(error, Failed) else type(error).__name__
            measured[setting.name].failed_sessions.append(words)
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
        "learns": LEARNS[setting.name],
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
        whole.add(measured[name])
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


def straight_ms() -> dict[str, float]:
    """Return the round trips of the straight ways between the parties, which no setting has: by the latency table."""
    regions = load_regions()
    return {
        f"{REGIONS[low]} to {REGIONS[high]}": round(2000 * regions.one_way_s(REGIONS[low], REGIONS[high]), 1)
        for low, high in PAIRS
    }


def main() -> None:
    """Measure, print and write."""
    names = [setting.name for setting in SETTINGS]
    parser = options_of("privacy_speed", __doc__, repeats=3, budget_s=900)
    parser.add_argument("--setting", action="append", choices=names, help="what to measure (all); repeatable")
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

    rounds = run(measure(settings, options.repeats, options.budget, keep))
    results = as_data(rounds)
    title = f"Privacy and speed: parties in {', '.join(REGIONS)}"
    report("privacy_speed", title, tables(results["settings"]), results, options.output)
    print("What the levels buy against someone who looks for a guard: benchmarks/results/guard_discovery.json")
    if any("round_trip" not in result or "large" not in result for result in results["settings"].values()):
        sys.exit("some setting was never measured")


if __name__ == "__main__":
    main()
