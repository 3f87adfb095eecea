"""Cuts what a program writes into lines, as they look on a terminal. Knows bytes, and not whose they are."""

from __future__ import annotations

from collections.abc import Iterator

# What is kept of a line that nobody asked to have whole: more than a screen shows of it.
SHOWN_LINE_BYTES = 4096


class Lines:
    """One stream of bytes, cut into lines. Of a line that \\r overwrites, as for progress, the last state counts.

    Args:
        whole: keep lines of any length. Otherwise their ends are cut off, so that an endless line fills no memory.

    Attributes:
        overwritten: whether the line that is being written was begun anew.
    """

    def __init__(self, *, whole: bool = False) -> None:
        self._limit_bytes = None if whole else SHOWN_LINE_BYTES
        self._state = b""  # the last text that a \r followed
        self._text = bytearray()
        self.overwritten = False

    def feed(self, chunk: bytes) -> Iterator[str]:
        """Take what was written next; yield each line that this completes."""
        *ended, rest = chunk.split(b"\n")
        for part in ended:
            self._take(part)
            yield self._finish()
        self._take(rest)

    def end(self) -> Iterator[str]:
        """Yield the last line, if it has no end."""
        if self._text or self._state:
            yield self._finish()

    @property
    def state(self) -> str:
        """What a terminal shows of the line that is being written, as far as it is shown."""
        return (bytes(self._text[:SHOWN_LINE_BYTES]) or self._state[:SHOWN_LINE_BYTES]).decode(errors="replace")

    def _take(self, part: bytes) -> None:
        first, *overwriting = part.split(b"\r")
        self._add(first)
        for text in overwriting:
            # Nothing between two: the line stands there as it was, as in the \r\n of another system.
            self._state = bytes(self._text) or self._state
            self._text.clear()
            self._add(text)
            self.overwritten = True

    def _add(self, text: bytes) -> None:
        room = len(text) if self._limit_bytes is None else self._limit_bytes - len(self._text)
        self._text += text[: max(0, room)]

    def _finish(self) -> str:
        line = (bytes(self._text) or self._state).decode(errors="replace")
        self._state = b""
        self._text.clear()
        self.overwritten = False
        return line
