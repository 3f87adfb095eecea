"""The peers whose links have come up: send to one or all of them, and wait until they change."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from onionmpc.mesh.changes import Changes
from onionmpc.mesh.mesh import MeshLink
from onionmpc.mesh.runner import LinkRunner
from onionmpc.program.pump import Pump
from onionmpc.session.ledger import CircuitLedger, CircuitRecord, LinkSummary
from onionmpc.session.messages import AnyMessage, encode_message
from onionmpc.session.peer import PeerSession, Phase
from onionmpc.tasks import together


@dataclass(frozen=True, slots=True)
class ConnectedPeer:
    """A peer whose link has come up.

    Attributes:
        session: the state of the session with it.
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
        """The runner of its link."""
        return self.link.runner

    @property
    def alive(self) -> bool:
        """True while its link exists, even with no stream attached."""
        return self.runner.alive

    @property
    def counts(self) -> bool:
        """True if it takes part in how the session ends."""
        return self.alive and self.session.phase is not Phase.ERROR

    def send(self, *messages: AnyMessage) -> None:
        """Send it control messages."""
        for message in messages:
            self.runner.send_control(encode_message(message))

    def shows(self, record: CircuitRecord) -> bool:
        """Return whether to show this circuit as that of its link."""
        return self.ledger.shows(record, self.runner.link.best)

    def summary(self) -> LinkSummary:
        """Sum up its link."""
        link = self.runner.link
        return self.ledger.summary(link.best, compared=link.measured(), round_trip_s=self.runner.round_trip_s)


class Peers:
    """All peers, by number. Iterates over those that have connected, in the order of their numbers.

    Attributes:
        changes: notified when something of a peer, or of the session with it, has changed.
    """

    def __init__(self, numbers: Iterable[int]) -> None:
        self.numbers = tuple(numbers)
        self.changes = Changes()
        self._connected: dict[int, ConnectedPeer] = {}

    def add(self, peer: ConnectedPeer) -> None:
        """Add a peer whose link has come up."""
        self._connected[peer.number] = peer
        self.changes.notify()

    def __getitem__(self, number: int) -> ConnectedPeer:
        """Return the connected peer of this number."""
        return self._connected[number]

    def get(self, number: int) -> ConnectedPeer | None:
        """Return the peer of this number, or None if it has not connected."""
        return self._connected.get(number)

    def __iter__(self) -> Iterator[ConnectedPeer]:
        return (self._connected[number] for number in self.numbers if number in self._connected)

    def __len__(self) -> int:
        """Return how many have connected."""
        return len(self._connected)

    def all(self, condition: Callable[[ConnectedPeer], object] = lambda _: True) -> bool:
        """Return whether all peers have connected and meet the condition."""
        return len(self._connected) == len(self.numbers) and all(map(condition, self))

    def broadcast(self, message: AnyMessage, *, besides: ConnectedPeer | None = None) -> None:
        """Send a message to all connected peers, except `besides`."""
        encoded = encode_message(message)
        for peer in self:
            if peer is not besides:
                peer.runner.send_control(encoded)

    async def close_when_flushed(self, timeout_s: float) -> None:
        """Close each link when its peer has acknowledged all that was sent, or after `timeout_s` seconds."""
        runners = [peer.runner for peer in self]
        await together(*(runner.close_when_flushed(timeout_s) for runner in runners))
        # A peer that misses the CLOSE would wait for this party to come back.
        await together(*(runner.last_words() for runner in runners))
