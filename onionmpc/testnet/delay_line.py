"""One direction of a delayed connection. Pure: times come in as arguments."""

from __future__ import annotations

from collections import deque


class DelayLine:
    """Delays bytes: what goes in at t comes out at t + one_way_s, in order.

    As on a real line, any number of chunks can be under way at once. All times are in seconds of one clock.
    """

    def __init__(self, one_way_s: float, open_at_s: float = 0.0) -> None:
        """Create a line on which nothing travels before `open_at_s`."""
        self._one_way_s = one_way_s
        self._open_at_s = open_at_s
        self._chunks: deque[tuple[float, bytes]] = deque()
        self._end_s: float | None = None
        self.held_bytes = 0

    def push(self, chunk: bytes, now_s: float) -> None:
        """Put a chunk on its way."""
        self._chunks.append((max(now_s, self._open_at_s) + self._one_way_s, chunk))
        self.held_bytes += len(chunk)

    def end(self, now_s: float) -> None:
        """Put the end of the stream on its way, behind all chunks."""
        if self._end_s is None:
            self._end_s = max(now_s, self._open_at_s) + self._one_way_s

    def pop_due(self, now_s: float) -> bytes:
        """Remove and return all bytes that have arrived by now."""
        due = []
        while self._chunks and self._chunks[0][0] <= now_s:
            due.append(self._chunks.popleft()[1])
        data = b"".join(due)
        self.held_bytes -= len(data)
        return data

    def ended(self, now_s: float) -> bool:
        """Return whether the end of the stream has arrived."""
        return self._end_s is not None and not self._chunks and self._end_s <= now_s

    def next_s(self) -> float | None:
        """Return the time at which the next chunk, or the end, arrives; None if nothing is under way."""
        return self._chunks[0][0] if self._chunks else self._end_s
