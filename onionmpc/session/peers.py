"""What this party knows of the others in a session, and how it speaks to all of them.

Knows who is there, who has said what, and how to wait for a change of that. Does not know what comes next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from onionmpc.mesh.network import OwnPath
from onionmpc.mesh.runner import LinkRunner
from onionmpc.program.pump import Pump
from onionmpc.session.messages import AnyMessage, MessageDecoder, Offer, Signed, encode_message
from onionmpc.tasks import together


@dataclass(slots=True)
class Circuit:
    """What is known of the circuit below one stream.

    Attributes:
        path: our side of it; None where it is not known.
        named: whether the listener knows where the two sides join.
        claimed_relays: what the peer says of its side.
        measured: whether a round trip has come back.
    """

    path: OwnPath | None = None
    named: bool = False
    claimed_relays: int | None = None
    measured: bool = False


@dataclass(slots=True)
class Peer:
    """One other party.

    Attributes:
        nonce: its contribution to the session id, 16 bytes; empty before its link is up.
        circuits: below its streams, by the streams' numbers.
        last: the one below the stream that broke last.
        racing: whether it is being found out which of them is the fastest.
        raced: how many were compared.
        heard: since something failed, whether anything came from it.
        answered: since something failed, whether it answered, and so knows.
        broke_rules: it is told how the session ends, and not listened to any more.
        gaps: how often nothing could be said to it for a while, and for how many seconds in all, `gap_s`.
    """

    number: int
    decoder: MessageDecoder = field(default_factory=MessageDecoder)
    runner: LinkRunner | None = None
    nonce: bytes = b""
    pump: Pump | None = None
    offer: Offer | None = None
    committed: str | None = None
    done: bool = False
    signed: Signed | None = None
    circuits: dict[int, Circuit] = field(default_factory=dict)
    last: Circuit = field(default_factory=Circuit)
    racing: bool = False
    raced: int = 1
    heard: bool = False
    answered: bool = False
    broke_rules: bool = False
    gaps: int = 0
    gap_s: float = 0.0

    @property
    def alive(self) -> bool:
        """Whether its link is up, be it without a stream for now."""
        return self.runner is not None and self.runner.alive

    @property
    def has_stream(self) -> bool:
        """Whether its link has a stream now."""
        return self.runner is not None and self.runner.streams > 0

    @property
    def circuit(self) -> Circuit:
        """The one that what is urgent goes over; the last one while there is none."""
        best = self.runner.link.best if self.runner is not None else None
        return self.last if best is None else self.circuits.get(best, self.last)

    @property
    def counts(self) -> bool:
        """Whether it has a say in how the session ends."""
        return self.alive and not self.broke_rules


class Peers:
    """All other parties, by number."""

    def __init__(self, numbers: Iterable[int]) -> None:
        self._peers = {number: Peer(number) for number in numbers}
        self._changed = asyncio.Event()

    def __getitem__(self, number: int) -> Peer:
        """Return the party of this number."""
        return self._peers[number]

    def __iter__(self) -> Iterator[Peer]:
        """Go through them in the order of their numbers."""
        return iter(self._peers.values())

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._peers)

    def change(self) -> None:
        """Let everyone who waits look again."""
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until this holds."""
        while not condition():
            await self._changed.wait()
            # Every waiter looks again before anyone waits anew.
            self._changed.clear()

    def broadcast(self, message: AnyMessage, *, besides: Peer | None = None) -> None:
        """Say something to all whose links have come up, but for one."""
        encoded = encode_message(message)
        for peer in self:
            if peer.runner is not None and peer is not besides:
                peer.runner.send_control(encoded)

    async def close_when_flushed(self, timeout_s: float) -> None:
        """Close each link once its peer has acknowledged all that was said, or after `timeout_s` seconds."""
        runners = [peer.runner for peer in self if peer.runner is not None]
        await together(*(runner.close_when_flushed(timeout_s) for runner in runners))
        # A peer that does not hear the CLOSE would wait for us to come back.
        await together(*(runner.last_words() for runner in runners))
