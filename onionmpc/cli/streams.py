"""Makes the three standard streams usable, no matter in which state a shell or a service manager leaves them.

They may be closed, full or non-blocking. Their readers may be gone, and their encodings may lack a character.
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


def prepare_streams() -> None:
    """Make the standard streams usable. Call this once, before anything is written.

    A failure to write to stdout is an error, reported once. What cannot be written to stderr is lost, and ends nothing.
    A closed stream becomes /dev/null. Otherwise the next file that we or a program opens would take its place, and get
    our messages.
    """
    for number in (STDIN, STDOUT, STDERR):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(_open_null(), True)  # `open` returns the lowest free number, which is this one
    if isinstance(sys.stdin, io.TextIOWrapper):
        # As for file names: typed bytes may not match the encoding that the terminal claims.
        sys.stdin.reconfigure(errors="surrogateescape")
    else:  # Python found it closed, or a directory
        sys.stdin = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    sys.stdout = _text(_StandardOutput, STDOUT, sys.stdout)
    sys.stderr = _text(_StandardError, STDERR, sys.stderr)


def _open_null() -> int:
    try:
        return os.open(os.devnull, os.O_RDWR)
    except OSError:  # a machine without devices
        return os.open("/", os.O_RDONLY)


def _text(kind: type[_BlockingFile], number: int, before: TextIO | None) -> io.TextIOWrapper:
    try:
        raw = kind(number, "wb", closefd=False)
    except OSError:  # a directory: a pipe without a reader fails in the same way when it is written to
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


class _BlockingFile(io.FileIO):
    """A file that waits until it can write. Another program may have made a shared terminal non-blocking."""

    def write(self, data: ReadableBuffer, /) -> int:
        while (written := super().write(data)) is None:
            select.select([], [self], [])
        return written


class _StandardOutput(_BlockingFile):
    """Standard output, which has the result: a failure to write it is reported, once."""

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
        # The failure was reported. Python would find it again when it exits, and end with its own exit code.
        return memoryview(data).nbytes


class _StandardError(_BlockingFile):
    """Standard error, which has messages: what cannot be written is lost."""

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except OSError:  # nobody reads the messages, and the session matters more
            return memoryview(data).nbytes
