"""The streams of one link: how many there are, which ones to close, and why the last one ended.

It has no tasks and does not decide when to send: the runner moves the bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

from onionmpc.mesh.secure import SecureStream
from onionmpc.wire.link import Link

# Each stream costs our tor a circuit. Beside the streams that were agreed, a link may have for a while one that is
# suspicious and one that the peer has just dialled.
EXTRA_STREAMS = 2


@dataclass(slots=True, eq=False)
class Carrier:
    """One stream of a link.

    Attributes:
        ended: set when the stream has ended, or should be closed.
    """

    secure: SecureStream
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def number(self) -> int:
        """The stream's number, the same at both ends."""
        return self.secure.number

    async def watch(self) -> str:
        """Wait until the stream ends, and return how it ended."""
        try:
            await self.secure.ended()
        except OSError as error:
            return f"the stream broke ({error.strerror or type(error).__name__})"
        finally:
            self.ended.set()
        return "the stream ended"

    def send(self, link: Link, now: float) -> None:
        """Send what the link has for this stream, as long as the stream takes more."""
        secure = self.secure
        while secure.takes_more and (record := link.transmit(secure.number, now)):
            secure.send([record])


class Carriers:
    """All streams of one link.

    Args:
        most: how many there may be at once.

    Attributes:
        kept: how many there should be.
        break_reason: how the last stream ended.
        round_trip_s: the latest round trip of the fastest stream, in seconds; None before it is measured.
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
        """Return how many there are, including those that are being closed."""
        return len(self._carriers)

    @property
    def open(self) -> int:
        """How many there are, without those that are being closed."""
        return sum(not carrier.ended.is_set() for carrier in self)

    def add(self, carrier: Carrier) -> None:
        """Add a stream that is attached to the link. If that makes too many, close those that were silent longest."""
        self._carriers[carrier.number] = carrier
        # The new one has just delivered something. Those that have been silent for long may be dead without our
        # knowing.
        for surplus in self._link.quietest_first()[: -self._most]:
            self._carriers[surplus].ended.set()

    def remove(self, carrier: Carrier) -> None:
        """Forget a stream that has ended."""
        self._carriers.pop(carrier.number, None)

    def allow_race_of(self, streams: int) -> None:
        """Allow as many streams at once as a race needs."""
        self._most = streams + EXTRA_STREAMS

    def end_all(self) -> None:
        """Close every stream."""
        for carrier in self:
            carrier.ended.set()

    def end_slowest(self) -> None:
        """Close the slowest stream, if there are more than are kept."""
        if self.open > self.kept:
            *_, slowest = (number for number in self._link.ranking() if not self._carriers[number].ended.is_set())
            self._carriers[slowest].ended.set()

    def end_slowed(self) -> None:
        """Close a stream that has become slow. The race dials another one in its place."""
        # One at a time, and only while all are there: if all have slowed down, the link must not lose them together.
        if 1 < self.kept <= self.open and (slowed := self._link.slowed()):
            self._carriers[slowed[0]].ended.set()

    def end(self, numbers: list[int], reason: str) -> None:
        """Close these streams, for this reason."""
        for number in numbers:
            self.break_reason = reason
            self._carriers[number].ended.set()

    def note_round_trip(self) -> None:
        """Note the current round trip of the fastest stream."""
        if (best := self._link.best) is not None:
            self.round_trip_s = self._link.round_trip_s(best)
