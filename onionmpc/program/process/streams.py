"""The standard streams of a program."""

from __future__ import annotations

from dataclasses import dataclass
from subprocess import DEVNULL
from typing import BinaryIO


@dataclass(frozen=True, slots=True)
class Streams:
    """Where a program's standard streams lead; each is a descriptor or DEVNULL."""

    stdin: int
    stdout: int
    stderr: int


# The program shares our streams, and can prompt at our terminal.
OWN_STREAMS = Streams(0, 1, 2)


def unattended(log: BinaryIO, stdin: BinaryIO | None = None) -> Streams:
    """Return streams for a program that nobody watches: stdin from a file or empty, no stdout, and stderr to a file."""
    return Streams(DEVNULL if stdin is None else stdin.fileno(), DEVNULL, log.fileno())
