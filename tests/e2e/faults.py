"""Faults for a session over a private Tor network: their kinds, their times, and how they are caused.

Knows relays, gateways, and the tors and processes of parties. Does not know what a session makes of a fault
(survival.py). A seed decides all that can be decided beforehand; which circuits and relays there are is the network's.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import os
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from onionmpc.errors import TorError
from onionmpc.session.agreement import DEFAULT_CIRCUITS
from onionmpc.testnet.state import NetworkState
from onionmpc.tor.control.login import open_control
from tests.e2e.kit import Party, gone
from tests.support.faulty_network import FaultyNetwork
from tests.support.party_tor import (
    INTRODUCTION,
    OpenCircuit,
    PartyTor,
    close_circuits,
    descriptor_holders,
    find_party_tor,
    open_circuits,
)

# With more at once, a network of 12 relays may have no path that a party's guards allow.
RELAYS_DOWN_AT_ONCE = 2
# How long a fault waits for what it is to hit: a party's tor may just be gone, or its circuits.
PATIENCE_S = 45.0
POLL_S = 0.25
# A stopped tor is ended and replaced by its supervisor; one that has not noticed after so long never will.
REPLACEMENT_S = 90.0

T = TypeVar("T")


class Kind(enum.Enum):
    """A kind of fault: its name, and the shortest and longest time until it is undone, in seconds; 0 for never."""

    CIRCUIT = ("circuit", 0.0, 0.0)
    CIRCUITS = ("circuits", 0.0, 0.0)
    RELAY = ("relay", 3.0, 10.0)
    GUARD = ("guard", 5.0, 15.0)
    RENDEZVOUS = ("rendezvous", 3.0, 10.0)
    STOPPED_RELAY = ("stopped_relay", 15.0, 25.0)
    TOR_KILLED = ("tor_killed", 0.0, 0.0)
    TOR_STOPPED = ("tor_stopped", 0.0, 0.0)
    ASLEEP = ("asleep", 5.0, 20.0)
    NETWORK_GONE = ("network_gone", 5.0, 15.0)
    NETWORK_STALLED = ("network_stalled", 5.0, 20.0)
    INTRO_LOST = ("intro_lost", 0.0, 0.0)
    DESCRIPTOR_LOST = ("descriptor_lost", 0.0, 0.0)

    @property
    def word(self) -> str:
        """Its name."""
        return self.value[0]


@dataclass(frozen=True, slots=True)
class Planned:
    """A fault to come.

    Attributes:
        at_s: seconds from the start of the plan.
        hold_s: seconds until it is taken back.
        dice: seed of the choices that are left to make.
    """

    kind: Kind
    at_s: float
    hold_s: float
    dice: int


@dataclass(slots=True)
class Fault:
    """A fault that was caused. Times are those of the event loop.

    Attributes:
        target: what it hit, in words.
        ended_s: when it was over; None while it lasts.
    """

    kind: Kind
    target: str
    began_s: float
    ended_s: float | None = None


class Nothing(Exception):
    """A fault waited for a target and found none."""


def plan_faults(seed: int, seconds: float, every_s: float, kinds: Sequence[Kind] = tuple(Kind)) -> list[Planned]:
    """Return the faults of this seed: one every few seconds, each kind once before any comes again.

    Args:
        seconds: how long to go on.
        every_s: seconds from one to the next: from half of that to one and a half.
    """
    dice = random.Random(seed)
    plan: list[Planned] = []
    deck: list[Kind] = []
    at_s = 0.0
    while at_s < seconds:
        deck = deck or dice.sample(kinds, len(kinds))
        kind = deck.pop()
        _, least_s, most_s = kind.value
        plan.append(Planned(kind, at_s, dice.uniform(least_s, most_s), dice.randrange(2**32)))
        at_s += every_s * dice.uniform(0.5, 1.5)
    return plan


class Injector:
    """Causes faults in a network and its parties.

    Args:
        tell: is told each fault as it begins.

    Attributes:
        faults: those that came about, in the order in which they began.
        missed: what did not go as planned, in words.
    """

    def __init__(self, network: FaultyNetwork, parties: Sequence[Party], tell: Callable[[str], None]) -> None:
        self.faults: list[Fault] = []
        self.missed: list[str] = []
        self._network = network
        self._parties = parties
        self._tell = tell
        self._may_go_down = asyncio.Semaphore(RELAYS_DOWN_AT_ONCE)
        self._down: set[str] = set()
        # Whose process, tor or network is being dealt with: a second fault there would hide the first.
        self._busy: set[Party] = set()

    async def follow(self, plan: Sequence[Planned]) -> None:
        """Do all that is planned, each in its time, and return when the last one is over."""
        loop = asyncio.get_running_loop()
        start_s = loop.time()
        async with asyncio.TaskGroup() as group:
            for planned in plan:
                await asyncio.sleep(max(0.0, start_s + planned.at_s - loop.time()))
                group.create_task(self.inject(planned))

    async def inject(self, planned: Planned) -> None:
        """Do one fault, from its beginning to its end."""
        dice = random.Random(planned.dice)
        try:
            match planned.kind:
                case Kind.CIRCUIT | Kind.CIRCUITS | Kind.INTRO_LOST:
                    await self._close_circuits(planned, dice)
                case Kind.RELAY | Kind.GUARD | Kind.RENDEZVOUS | Kind.STOPPED_RELAY:
                    await self._lose_relay(planned, dice)
                case Kind.TOR_KILLED | Kind.TOR_STOPPED:
                    await self._lose_tor(planned, dice)
                case Kind.ASLEEP:
                    await self._fall_asleep(planned, dice)
                case Kind.NETWORK_GONE | Kind.NETWORK_STALLED:
                    await self._lose_network(planned, dice)
                case Kind.DESCRIPTOR_LOST:
                    await self._lose_descriptor(planned, dice)
        except (Nothing, TorError, OSError) as error:  # OSError: a process that has just ended
            self.missed.append(f"{planned.kind.word}: {error}")
            self._tell(f"{planned.kind.word} did not go well: {error}")

    async def _close_circuits(self, planned: Planned, dice: random.Random) -> None:
        async with self._party(dice) as party:
            tor, found = await self._circuits(party, planned.kind)
            async with open_control(tor.control) as control:
                with self._noted(planned, party.name):
                    await close_circuits(control, [dice.choice(found)] if planned.kind is Kind.CIRCUIT else found)

    async def _lose_relay(self, planned: Planned, dice: random.Random) -> None:
        async with self._may_go_down:
            relay, words = await self._relay(planned.kind, dice)
            down = self._stopped if planned.kind is Kind.STOPPED_RELAY else self._killed
            with self._noted(planned, words):
                async with down(relay):
                    await asyncio.sleep(planned.hold_s)

    async def _lose_tor(self, planned: Planned, dice: random.Random) -> None:
        async with self._party(dice) as party:
            tor = await self._tor(party)
            with self._noted(planned, party.name):
                if planned.kind is Kind.TOR_KILLED:
                    _signal(signal.SIGKILL, tor.process)
                    return
                try:
                    _signal(signal.SIGSTOP, tor.process)
                    async with asyncio.timeout(REPLACEMENT_S):
                        await gone(tor.process)
                except TimeoutError:
                    raise Nothing(f"{party.name} did not end its stopped tor in {REPLACEMENT_S:g} s") from None
                finally:
                    _signal(signal.SIGCONT, tor.process)

    async def _fall_asleep(self, planned: Planned, dice: random.Random) -> None:
        async with self._party(dice) as party:
            children = party.children("")
            with self._noted(planned, party.name):
                try:
                    # The supervisor is the first to sleep and the last to wake: so it is with a whole machine.
                    _signal(signal.SIGSTOP, party.process_id, *children)
                    await asyncio.sleep(planned.hold_s)
                finally:
                    _signal(signal.SIGCONT, *children, party.process_id)

    async def _lose_network(self, planned: Planned, dice: random.Random) -> None:
        async with self._party(dice) as party:
            place = (await self._tor(party)).gateway
            (slot,) = (slot for slot in self._state.slots if (slot.address, slot.gateway_port) == place)
            gateway = self._network.gateway(slot)
            with self._noted(planned, party.name):
                try:
                    if planned.kind is Kind.NETWORK_GONE:
                        gateway.cut()
                    else:
                        gateway.stall()
                    await asyncio.sleep(planned.hold_s)
                finally:
                    gateway.restore()

    async def _lose_descriptor(self, planned: Planned, dice: random.Random) -> None:
        """Restart the relays that hold a party's descriptor: they keep it in memory alone."""

        async def restart(relay: str) -> None:
            async with self._may_go_down:
                if relay not in self._down:  # else it has lost it already
                    async with self._killed(relay):
                        pass

        async with self._party(dice) as party:
            tor, _ = await self._circuits(party, Kind.INTRO_LOST)
            async with open_control(tor.control) as control:
                holders = await descriptor_holders(
                    control, party.heard("address_known")[0]["onion"], [relay.fingerprint for relay in self._state.tors]
                )
        if not holders:
            raise Nothing(f"no relay holds the descriptor of {party.name}")
        with self._noted(planned, f"{len(holders)} relays hold that of {party.name}"):
            async with asyncio.TaskGroup() as group:
                for holder in sorted(holders):
                    group.create_task(restart(holder))

    @contextlib.asynccontextmanager
    async def _killed(self, relay: str) -> AsyncIterator[None]:
        self._down.add(relay)
        await self._network.kill_relay(relay)
        try:
            yield
        finally:
            await self._network.revive_relay(relay)
            self._down.discard(relay)

    @contextlib.asynccontextmanager
    async def _stopped(self, relay: str) -> AsyncIterator[None]:
        self._down.add(relay)
        self._network.stop_relay(relay)
        try:
            yield
        finally:
            self._network.continue_relay(relay)
            self._down.discard(relay)

    # --- Whom it hits ---

    @property
    def _state(self) -> NetworkState:
        assert self._network.state is not None
        return self._network.state

    @contextlib.asynccontextmanager
    async def _party(self, dice: random.Random) -> AsyncIterator[Party]:
        """Choose a party that nothing is being done to, and keep other faults from it meanwhile."""

        async def choose() -> Party | None:
            free = [party for party in self._parties if party not in self._busy and party.code is None]
            return dice.choice(free) if free else None

        party = await _eventually(choose, "a party that is left alone")
        self._busy.add(party)
        try:
            yield party
        finally:
            self._busy.discard(party)

    async def _tor(self, party: Party) -> PartyTor:
        """Return a party's tor as soon as it has one."""

        async def find() -> PartyTor | None:
            with contextlib.suppress(TorError):
                return find_party_tor(party.process_id)
            return None

        return await _eventually(find, f"a tor of {party.name}")

    async def _circuits(self, party: Party, kind: Kind) -> tuple[PartyTor, list[OpenCircuit]]:
        """Return a party's tor, as soon as it has some, and its circuits of the sort that such a fault hits."""

        def wanted(circuits: list[OpenCircuit]) -> list[OpenCircuit]:
            match kind:
                case Kind.CIRCUITS:
                    return circuits
                case Kind.INTRO_LOST:
                    return [circuit for circuit in circuits if circuit.purpose == INTRODUCTION]
            # Those that carry links: the gathering leaves others behind. The lower numbers dial us, each as many as are
            # raced, and all of those are kept (PROTOCOL 3).
            accepted = [circuit for circuit in circuits if circuit.joined and circuit.joined.accepted]
            newest = accepted[-party.number * DEFAULT_CIRCUITS :] if party.number else []
            return [circuit for circuit in circuits if circuit.dialled or circuit in newest]

        async def find() -> tuple[PartyTor, list[OpenCircuit]] | None:
            # It may just be replaced.
            with contextlib.suppress(TorError):
                tor = find_party_tor(party.process_id)
                async with open_control(tor.control) as control:
                    if found := wanted(await open_circuits(control)):
                        return tor, found
            return None

        return await _eventually(find, f"circuits of {party.name}")

    async def _relay(self, kind: Kind, dice: random.Random) -> tuple[str, str]:
        """Return the fingerprint of a relay that is up, and what it is, in words."""

        async def choose() -> tuple[str, str] | None:
            candidates, whose = [tor.fingerprint for tor in self._state.tors if not tor.authority], ""
            if kind is not Kind.RELAY:
                async with self._party(dice) as party:
                    _, circuits = await self._circuits(party, Kind.CIRCUIT)
                path = dice.choice(circuits).relays
                candidates = list({Kind.GUARD: path[:1], Kind.RENDEZVOUS: path[-1:]}.get(kind, path))
                whose = f" of {party.name}"
            up = [relay for relay in candidates if relay not in self._down]
            return (dice.choice(up), whose) if up else None

        relay, whose = await _eventually(choose, "a relay that is up")
        nickname = next(tor.nickname for tor in self._state.tors if tor.fingerprint == relay)
        return relay, f"{nickname}{whose}"

    # --- What is kept of it ---

    @contextlib.contextmanager
    def _noted(self, planned: Planned, target: str) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        fault = Fault(planned.kind, target, loop.time())
        self.faults.append(fault)
        self._tell(f"{planned.kind.word}: {target}" + (f", for {planned.hold_s:.0f} s" if planned.hold_s else ""))
        yield
        fault.ended_s = loop.time()


async def _eventually(find: Callable[[], Awaitable[T | None]], what: str) -> T:
    """Repeat a question until it has an answer.

    Raises:
        Nothing: there was none for too long.
    """
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + PATIENCE_S
    while True:
        found = await find()
        if found is not None:
            return found
        if loop.time() > deadline_s:
            raise Nothing(f"there was not {what} within {PATIENCE_S:g} s")
        await asyncio.sleep(POLL_S)


def _signal(number: signal.Signals, *processes: int) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)
