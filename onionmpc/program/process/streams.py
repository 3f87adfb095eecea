"""Where a program's standard streams lead."""

from __future__ import annotations

from dataclasses import dataclass
from subprocess import DEVNULL
from typing import BinaryIO


@dataclass(frozen=True, slots=True)
class Streams:
    """Descriptors, or DEVNULL."""

    stdin: int
    stdout: int
    stderr: int


# The program shares them with us, and may ask at our terminal.
OWN_STREAMS = Streams(0, 1, 2)


def unattended(log: BinaryIO) -> Streams:
    """Return the streams of a program that nobody watches: an empty stdin, no stdout, and stderr into a file."""
    return Streams(DEVNULL, DEVNULL, log.fileno())
