"""The other parties whose links have come up: what each has said, and how this party speaks to all of them.

Knows who is there, and how to wait for a change of that. Does not know what comes next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from onionmpc.mesh.mesh import MeshLink
from onionmpc.mesh.runner import LinkRunner
from onionmpc.program.pump import Pump
from onionmpc.session.ledger import CircuitLedger, CircuitRecord, LinkSummary
from onionmpc.session.messages import AnyMessage, encode_message
from onionmpc.session.peer import PeerSession, Phase
from onionmpc.tasks import together


@dataclass(frozen=True, slots=True)
class ConnectedPeer:
    """Another party whose link has come up.

    Attributes:
        session: what it has said.
        pump: moves the program's bytes over its link.
        ledger: what is known of the circuit below each stream of its link.
    """

    number: int
    session: PeerSession
    link: MeshLink
    pump: Pump
    ledger: CircuitLedger

    @property
    def runner(self) -> LinkRunner:
        """Its link."""
        return self.link.runner

    @property
    def alive(self) -> bool:
        """Whether its link is up, even with no stream attached."""
        return self.runner.alive

    @property
    def counts(self) -> bool:
        """Whether it has a say in how the session ends."""
        return self.alive and self.session.phase is not Phase.ERROR

    def send(self, *messages: AnyMessage) -> None:
        """Send it control messages."""
        for message in messages:
            self.runner.send_control(encode_message(message))

    def shows(self, record: CircuitRecord) -> bool:
        """Return whether this circuit is the one of its link that a person is shown."""
        return self.ledger.shows(record, self.runner.link.best)

    def summary(self) -> LinkSummary:
        """Sum up its link."""
        link = self.runner.link
        return self.ledger.summary(link.best, compared=link.compared(), round_trip_s=self.runner.round_trip_s)


class Peers:
    """All other parties, by number; iterates over those that have connected, in the order of their numbers."""

    def __init__(self, numbers: Iterable[int]) -> None:
        self.numbers = tuple(numbers)
        self._connected: dict[int, ConnectedPeer] = {}
        self._changed = asyncio.Event()

    def add(self, peer: ConnectedPeer) -> None:
        """Note that a party's link has come up."""
        self._connected[peer.number] = peer
        self.note_change()

    def __getitem__(self, number: int) -> ConnectedPeer:
        """Return the connected party of this number."""
        return self._connected[number]

    def get(self, number: int) -> ConnectedPeer | None:
        """Return the party of this number if it has connected."""
        return self._connected.get(number)

    def __iter__(self) -> Iterator[ConnectedPeer]:
        return (self._connected[number] for number in self.numbers if number in self._connected)

    def __len__(self) -> int:
        """Return how many have connected."""
        return len(self._connected)

    def all(self, condition: Callable[[ConnectedPeer], object] = lambda _: True) -> bool:
        """Return whether all have connected and meet this condition."""
        return len(self._connected) == len(self.numbers) and all(map(condition, self))

    def note_change(self) -> None:
        """Let everyone who waits look again."""
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until this holds."""
        while not condition():
            await self._changed.wait()
            # Every waiter looks again before anyone waits anew.
            self._changed.clear()

    def broadcast(self, message: AnyMessage, *, besides: ConnectedPeer | None = None) -> None:
        """Send a message to all that have connected, except one."""
        encoded = encode_message(message)
        for peer in self:
            if peer is not besides:
                peer.runner.send_control(encoded)

    async def close_when_flushed(self, timeout_s: float) -> None:
        """Close each link once its peer has acknowledged all that was said, or after `timeout_s` seconds."""
        runners = [peer.runner for peer in self]
        await together(*(runner.close_when_flushed(timeout_s) for runner in runners))
        # A peer that does not hear the CLOSE would wait for us to come back.
        await together(*(runner.last_words() for runner in runners))
