"""Splits the output of a program into lines, as they look on a terminal."""

from __future__ import annotations

from collections.abc import Iterator

# How much of a line is kept, unless the caller wants whole lines. It is more than a screen shows.
SHOWN_LINE_BYTES = 4096


class Lines:
    """Splits one stream of bytes into lines. A line that \\r overwrites, such as progress, counts with its last state.

    Args:
        whole: keep lines of any length. Otherwise long lines are truncated, so that an endless line fills no memory.

    Attributes:
        overwritten: whether a \\r has restarted the line that is being written.
    """

    def __init__(self, *, whole: bool = False) -> None:
        self._limit_bytes = None if whole else SHOWN_LINE_BYTES
        self._state = b""  # the last text before a \r
        self._text = bytearray()
        self.overwritten = False

    def feed(self, chunk: bytes) -> Iterator[str]:
        """Take the next bytes; yield each line that they complete."""
        *ended, rest = chunk.split(b"\n")
        for part in ended:
            self._take(part)
            yield self._finish()
        self._take(rest)

    def end(self) -> Iterator[str]:
        """Yield the last line, if it is incomplete."""
        if self._text or self._state:
            yield self._finish()

    @property
    def state(self) -> str:
        """What a terminal shows of the incomplete line, truncated to SHOWN_LINE_BYTES."""
        return (bytes(self._text[:SHOWN_LINE_BYTES]) or self._state[:SHOWN_LINE_BYTES]).decode(errors="replace")

    def _take(self, part: bytes) -> None:
        first, *overwriting = part.split(b"\r")
        self._add(first)
        for text in overwriting:
            # A \r after nothing, as in \r\r\n, leaves the text on the terminal as it was.
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
