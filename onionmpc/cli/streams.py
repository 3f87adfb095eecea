"""Makes the three standard streams usable, in whatever state a shell, a terminal or a service manager leaves them.

They may be closed, full or non-blocking, their readers may be gone, and their encodings may lack a letter.
"""

from __future__ import annotations

import io
import os
import select
import sys
from typing import TYPE_CHECKING, TextIO

from onionmpc.machine import refused

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

STDIN, STDOUT, STDERR = 0, 1, 2


def mend_streams() -> None:
    """Make the three usable, whatever they are; to be called once, before anything is written.

    A failure to write to stdout is an error, reported once. What cannot be written to stderr is lost, and ends nothing.
    One that is closed is /dev/null: the next file that we or a program opens would be taken for it otherwise.
    """
    for number in (STDIN, STDOUT, STDERR):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(_nothing(), True)  # the lowest that is free
    if isinstance(sys.stdin, io.TextIOWrapper):
        # As for file names: typed bytes may not match the encoding that the terminal claims.
        sys.stdin.reconfigure(errors="surrogateescape")
    else:  # closed, or a directory
        sys.stdin = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    sys.stdout = _text(_Result, STDOUT, sys.stdout)
    sys.stderr = _text(_Words, STDERR, sys.stderr)


def _nothing() -> int:
    try:
        return os.open(os.devnull, os.O_RDWR)
    except OSError:  # a machine without devices
        return os.open("/", os.O_RDONLY)


def _text(kind: type[_Waiting], number: int, before: TextIO | None) -> io.TextIOWrapper:
    try:
        raw = kind(number, "wb", closefd=False)
    except OSError:  # a directory
        reader, writer = os.pipe()
        os.close(reader)
        raw = kind(writer, "wb")
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=getattr(before, "encoding", "utf-8"),
        errors="backslashreplace",  # a letter that the encoding lacks must not end a session
        line_buffering=True,
    )


def shows_blocks() -> bool:
    """Return whether stderr's encoding has the characters that a QR code is drawn with."""
    try:
        "\u2580\u2584\u2588".encode(sys.stderr.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


class _Waiting(io.FileIO):
    """A file that waits until it can write. Another program may have made a shared terminal non-blocking."""

    def write(self, data: ReadableBuffer, /) -> int:
        while (written := super().write(data)) is None:
            select.select([], [self], [])
        return written


class _Result(_Waiting):
    """Standard output."""

    _lost = False

    def write(self, data: ReadableBuffer, /) -> int:
        if not self._lost:
            try:
                return super().write(data)
            except BrokenPipeError:
                self._lost = True
                raise
            except OSError as error:
                self._lost = True
                raise refused("cannot write to standard output", error) from error
        # It was reported. Python would find it again at its end, and exit with a code of its own.
        return memoryview(data).nbytes


class _Words(_Waiting):
    """Standard error."""

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except OSError:  # nobody reads the messages, and the session may matter more
            return memoryview(data).nbytes
