"""One channel at its two ends: which of our bytes are still to be sent, and which of the peer's are still missing.

Knows offsets. Does not know frames, streams or the time. Rules: docs/PROTOCOL.md section 3.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field

# From the first byte to behind the last one.
Span = tuple[int, int]


@dataclass(slots=True)
class Outbox:
    """Bytes that the peer has not acknowledged, and which of them no stream has.

    Attributes:
        acknowledged: the peer has all that is before it.
        given: the first byte that no stream was ever given.
        top: the offset behind all that was said.
        pending: the bytes from `acknowledged` on.
        end: the offset at which the channel ends; END itself counts as one byte.
        lost: what is before `given` and to be sent again, in order.
    """

    acknowledged: int = 0
    given: int = 0
    top: int = 0
    pending: bytearray = field(default_factory=bytearray)
    end: int | None = None
    lost: list[Span] = field(default_factory=list)

    def say(self, payload: bytes) -> None:
        """Add bytes."""
        self.pending += payload
        self.top += len(payload)

    def say_end(self) -> None:
        """Add the end, once."""
        if self.end is None:
            self.end = self.top
            self.top += 1

    def unsent(self) -> int:
        """Return how many bytes are to be sent, for the first time or again."""
        new = self.top - self.given
        return new + sum(stop - start for start, stop in self.lost) if self.lost else new

    def take(self, size: int) -> Span:
        """Give a stream what comes next, up to `size` bytes of it: what was lost before what is new."""
        start, stop = self.lost.pop(0) if self.lost else (self.given, self.top)
        taken = min(start + size, stop)
        if self.end is not None and start < self.end:
            taken = min(taken, self.end)  # END is a frame of its own
        if taken < stop <= self.given:
            self.lost.insert(0, (taken, stop))
        self.given = max(self.given, taken)
        return start, taken

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes of a span; END has none."""
        return bytes(self.pending[start - self.acknowledged : stop - self.acknowledged])

    def lose(self, spans: Iterable[Span]) -> None:
        """Send again what a stream was given and may not deliver, but for what the peer has acknowledged."""
        lost: list[Span] = []
        for start, stop in sorted([*self.lost, *spans]):
            if lost and start <= lost[-1][1]:
                lost[-1] = lost[-1][0], max(stop, lost[-1][1])
            else:
                lost.append((start, stop))
        self.lost = unacknowledged(lost, self.acknowledged)

    def acknowledge(self, offset: int) -> None:
        """Forget what the peer has, now that it has more."""
        del self.pending[: offset - self.acknowledged]
        self.acknowledged = offset
        if self.lost:
            self.lost = unacknowledged(self.lost, offset)


def unacknowledged(spans: Iterable[Span], offset: int) -> list[Span]:
    """Return what of these spans is not before `offset`."""
    return [(max(start, offset), stop) for start, stop in spans if stop > offset]


@dataclass(slots=True)
class Piece:
    """Bytes that came before those in front of them."""

    start: int
    payload: bytearray

    @property
    def stop(self) -> int:
        """The offset behind them."""
        return self.start + len(self.payload)


@dataclass(slots=True)
class Inbox:
    """Bytes as they come, whatever streams they come over.

    Of bytes that come twice one copy counts, and it does not matter which: only a peer that harms itself sends two
    different ones.

    Attributes:
        received: all before it was handed on.
        held: what is after a gap, in order; two pieces may touch, none overlaps another.
    """

    received: int = 0
    held: list[Piece] = field(default_factory=list)

    @property
    def top(self) -> int:
        """The offset behind all that has come."""
        return self.held[-1].stop if self.held else self.received

    def put(self, offset: int, payload: bytes) -> bytes:
        """Take bytes, and return all that can be handed on now."""
        if offset > self.received:
            self._hold(offset, payload)
            return b""
        fresh = payload[self.received - offset :]
        self.received += len(fresh)
        if not self.held or self.held[0].start > self.received:
            return fresh
        parts = [fresh]
        while self.held and self.held[0].start <= self.received:
            piece = self.held.pop(0)
            parts.append(bytes(piece.payload[self.received - piece.start :]))
            self.received = max(self.received, piece.stop)
        return b"".join(parts)

    def _hold(self, offset: int, payload: bytes) -> None:
        """Keep what is not there yet."""
        start, stop = offset, offset + len(payload)
        while start < stop:
            index = bisect_right(self.held, start, key=lambda piece: piece.start)
            before = self.held[index - 1] if index else None
            if before is not None and before.stop > start:
                start = before.stop
                continue
            upto = min(stop, self.held[index].start) if index < len(self.held) else stop
            part = payload[start - offset : upto - offset]
            if before is not None and before.stop == start:
                # Most often: a stream brings its bytes in order. Never the other way round, or bytes that come from
                # back to front would be copied again and again.
                before.payload += part
            else:
                self.held.insert(index, Piece(start, bytearray(part)))
            start = upto
