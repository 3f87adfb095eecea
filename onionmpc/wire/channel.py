"""The two ends of one channel: which of our bytes still have to be sent, and which of the peer's are missing.

Rules: docs/PROTOCOL.md section 3.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from operator import attrgetter

# Start and stop offset, like a Python slice.
Span = tuple[int, int]

# Small payloads share a piece, since a piece of one byte would cost far more than a byte. A single bytearray for the
# whole window would be simpler and slower: after bytes were dropped from its front, it moves to new memory whenever it
# grows. Bulk data then took 1.3 to 2 times as much processor time, depending on the allocator.
PIECE_BYTES = 64 * 2**10


@dataclass(slots=True)
class Piece:
    """Consecutive bytes of a channel."""

    start: int
    payload: bytearray

    @property
    def stop(self) -> int:
        """The offset after them."""
        return self.start + len(self.payload)


PIECE_START = attrgetter("start")


@dataclass(slots=True)
class Outbox:
    """The sending end: bytes that the peer has not acknowledged, and which of them no stream carries.

    Attributes:
        acknowledged: the peer has all bytes before this offset.
        given: the offset of the first byte that was never given to a stream.
        top: the offset after the last queued byte.
        pending_bytes: how many bytes the peer has not acknowledged.
        pieces: the bytes from `acknowledged` on, in order. The first piece may begin before it.
        ends: the offsets of the ENDs that the peer has not acknowledged, in order, and whether each is the last one. An
            END counts as one byte, so that an ACK covers it like any other; a zero byte in `pieces` holds its place.
        lost: spans before `given` that must be sent again, in order.
    """

    acknowledged: int = 0
    given: int = 0
    top: int = 0
    pending_bytes: int = 0
    pieces: list[Piece] = field(default_factory=list)
    ends: dict[int, bool] = field(default_factory=dict)
    lost: list[Span] = field(default_factory=list)

    def queue(self, payload: bytes) -> None:
        """Queue bytes."""
        if self.pieces and len(self.pieces[-1].payload) + len(payload) <= PIECE_BYTES:
            self.pieces[-1].payload += payload
        else:
            self.pieces.append(Piece(self.top, bytearray(payload)))
        self.top += len(payload)
        self.pending_bytes += len(payload)

    def queue_end(self, *, last: bool) -> None:
        """Queue an END."""
        self.ends[self.top] = last
        self.queue(b"\0")

    def unsent(self) -> int:
        """Return how many bytes wait for a stream, for the first time or again."""
        new = self.top - self.given
        return new + sum(stop - start for start, stop in self.lost) if self.lost else new

    def take(self, size: int) -> Span:
        """Return the next span for a stream, of up to `size` bytes: lost bytes before new ones."""
        # The peer delivers in order, so it is waiting for lost bytes and not for new ones.
        start, stop = self.lost.pop(0) if self.lost else (self.given, self.top)
        taken = min(start + size, stop)
        for end in self.ends:
            if end >= start:  # an END is a frame of its own
                taken = min(taken, max(end, start + 1))
                break
        if taken < stop <= self.given:
            self.lost.insert(0, (taken, stop))
        self.given = max(self.given, taken)
        return start, taken

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes of a span."""
        index = bisect_right(self.pieces, start, key=PIECE_START) - 1
        read = bytearray()
        while start < stop:
            piece = self.pieces[index]
            read += piece.payload[start - piece.start : stop - piece.start]
            start, index = piece.stop, index + 1
        return bytes(read)

    def lose(self, spans: Iterable[Span]) -> None:
        """Queue again the spans of a stream that may never deliver them, except what the peer has acknowledged."""
        lost: list[Span] = []
        for start, stop in sorted([*self.lost, *spans]):
            if lost and start <= lost[-1][1]:
                lost[-1] = lost[-1][0], max(stop, lost[-1][1])
            else:
                lost.append((start, stop))
        self.lost = unacknowledged(lost, self.acknowledged)

    def acknowledge(self, offset: int) -> None:
        """Drop the bytes before `offset`: the peer has them."""
        while self.pieces and self.pieces[0].stop <= offset:
            del self.pieces[0]
        self.pending_bytes -= offset - self.acknowledged
        self.acknowledged = offset
        if self.ends:
            self.ends = {end: last for end, last in self.ends.items() if end >= offset}
        if self.lost:
            self.lost = unacknowledged(self.lost, offset)


def unacknowledged(spans: Iterable[Span], offset: int) -> list[Span]:
    """Return the parts of these spans from `offset` on."""
    return [(max(start, offset), stop) for start, stop in spans if stop > offset]


@dataclass(slots=True)
class Inbox:
    """The receiving end: puts bytes that arrive over several streams in order.

    If bytes arrive twice, either copy may count: a peer that sends two different copies harms only itself.

    Attributes:
        received: all bytes before this offset were delivered.
        held: pieces behind a gap, in order. Two may touch, but none overlaps another.
    """

    received: int = 0
    held: list[Piece] = field(default_factory=list)

    @property
    def top(self) -> int:
        """The offset after the last byte that arrived."""
        return self.held[-1].stop if self.held else self.received

    def put(self, offset: int, payload: bytes) -> bytes:
        """Take bytes, and return all that can be delivered now."""
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
        """Hold the bytes that are not held yet."""
        start, stop = offset, offset + len(payload)
        while start < stop:
            index = bisect_right(self.held, start, key=PIECE_START)
            before = self.held[index - 1] if index else None
            if before is not None and before.stop > start:
                start = before.stop
                continue
            upto = min(stop, self.held[index].start) if index < len(self.held) else stop
            part = payload[start - offset : upto - offset]
            if before is not None and before.stop == start:
                # The usual case, since a stream delivers in order. A piece is never merged into the one after it:
                # a peer that sends from back to front would make us copy the same bytes again and again.
                before.payload += part
            else:
                self.held.insert(index, Piece(start, bytearray(part)))
            start = upto
