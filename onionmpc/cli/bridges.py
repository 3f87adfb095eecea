"""Reads the values of --bridge: bridge lines, or files of them. onionmpc.tor.process.bridges parses each line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from onionmpc.errors import InvalidBridge, UsageError
from onionmpc.text import printable
from onionmpc.tor.process.bridges import Bridge, parse_bridge

MAX_BRIDGES_FILE_BYTES = 2**16


def read_bridges(words: Sequence[str]) -> tuple[Bridge, ...]:
    """Return each bridge once, in order.

    Args:
        words: each is a bridge line, or @FILE for a file with one bridge a line. # starts a comment.
    Raises:
        UsageError: a file cannot be read, or holds no bridge: a party that wants bridges must not start without one.
        InvalidBridge: a line is not a bridge.
    """
    return tuple(dict.fromkeys(bridge for word in words for bridge in _read(word)))


def _read(word: str) -> list[Bridge]:
    if not word.startswith("@"):
        return [parse_bridge(word)]
    bridges = list(_read_file(Path(word[1:])))
    if not bridges:
        raise UsageError(f"{_name(word)} contains no bridge", hint="write one bridge per line; # starts a comment")
    return bridges


def _read_file(path: Path) -> Iterator[Bridge]:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BRIDGES_FILE_BYTES + 1)
    except OSError as error:
        raise UsageError(f"cannot read {_name(str(path))}: {error.strerror}") from error
    if len(content) > MAX_BRIDGES_FILE_BYTES:
        raise UsageError(f"{_name(str(path))} has more than {MAX_BRIDGES_FILE_BYTES} bytes, expected a list of bridges")
    # latin-1 decodes any bytes. `parse_bridge` then refuses what is not ASCII, and its error names the line.
    for number, line in enumerate(content.decode("latin-1").split("\n"), 1):
        if text := line.partition("#")[0].strip():
            try:
                yield parse_bridge(text)
            except InvalidBridge as error:
                raise InvalidBridge(f"line {number} of {_name(str(path))}: {error.message}", hint=error.hint) from None


def _name(path: str) -> str:
    return printable(path.removeprefix("@"))
