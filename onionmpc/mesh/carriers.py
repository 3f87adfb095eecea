"""The streams of one link: how many there are, which of them go, and why the last one ended.

Knows open streams. Does not know tasks, nor when to send: the runner moves the bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

from onionmpc.mesh.secure import SecureStream
from onionmpc.wire.link import Link

# Each stream is a circuit that our tor keeps up. A link has for a while, beside the streams that were agreed, one that
# it doubts and one that came meanwhile.
EXTRA_STREAMS = 2


@dataclass(slots=True, eq=False)
class Carrier:
    """One stream of a link.

    Attributes:
        ended: set when the stream has ended, or is to be closed.
    """

    secure: SecureStream
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def number(self) -> int:
        """The stream's number, the same at both ends."""
        return self.secure.number

    async def watch(self) -> str:
        """Wait until the stream ends; return how it did."""
        try:
            await self.secure.ended()
        except OSError as error:
            return f"the stream broke ({error.strerror or type(error).__name__})"
        finally:
            self.ended.set()
        return "the stream ended"

    def send(self, link: Link, now: float) -> None:
        """Send what the link has for this stream, as much as it takes."""
        secure = self.secure
        while secure.takes_more and (record := link.transmit(secure.number, now)):
            secure.send([record])


class Carriers:
    """All streams of one link.

    Args:
        most: how many there may be at once.

    Attributes:
        kept: how many there are to be.
        break_reason: how the last stream ended.
        round_trip_s: of the fastest stream, in seconds, as last measured; None before that.
    """

    def __init__(self, link: Link, most: int) -> None:
        self.kept = 1
        self.break_reason = "the stream was closed"
        self.round_trip_s: float | None = None
        self._link = link
        self._most = most
        self._carriers: dict[int, Carrier] = {}

    def __iter__(self) -> Iterator[Carrier]:
        return iter(self._carriers.values())

    def __len__(self) -> int:
        """Return how many there are, those that are being closed included."""
        return len(self._carriers)

    @property
    def open(self) -> int:
        """How many there are, without those that are being closed."""
        return sum(not carrier.ended.is_set() for carrier in self)

    def add(self, carrier: Carrier) -> None:
        """Add a stream that the link sends over already; where that makes too many, the quietest go."""
        self._carriers[carrier.number] = carrier
        # The new one brought something just now. Those that have not for long may be dead without our knowing.
        for surplus in self._link.quietest_first()[: -self._most]:
            self._carriers[surplus].ended.set()

    def remove(self, carrier: Carrier) -> None:
        """Forget a stream that has ended."""
        self._carriers.pop(carrier.number, None)

    def allow_race_of(self, streams: int) -> None:
        """Let there be as many streams at once as are raced."""
        self._most = streams + EXTRA_STREAMS

    def end_all(self) -> None:
        """Have every stream closed."""
        for carrier in self:
            carrier.ended.set()

    def end_slowest(self) -> None:
        """Have the slowest stream closed, if there are more than are kept."""
        if self.open > self.kept:
            *_, slowest = (number for number in self._link.ranking() if not self._carriers[number].ended.is_set())
            self._carriers[slowest].ended.set()

    def end_slowed(self) -> None:
        """Have a stream closed that has become slow: the reconnector dials another one in its place."""
        # All may slow down at once: they go one after the other.
        if 1 < self.kept <= self.open and (slowed := self._link.slowed()):
            self._carriers[slowed[0]].ended.set()

    def end(self, numbers: list[int], reason: str) -> None:
        """Have these streams closed, for this reason."""
        for number in numbers:
            self.break_reason = reason
            self._carriers[number].ended.set()

    def note_round_trip(self) -> None:
        """Note how fast the fastest stream is now."""
        if (best := self._link.best) is not None:
            self.round_trip_s = self._link.round_trip_s(best)
