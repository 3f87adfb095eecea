"""Reads TOML, and finds the line that is to blame for a mistake in it.

Knows TOML and lines. Does not know what any key means.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from onionmpc.text import printable

KeyPath = tuple[str | int, ...]
_PLACE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)\Z")


class Mistake(Exception):
    """A rule is broken at a path of the document. `line_of` finds its line."""

    def __init__(self, path: Sequence[str | int], words: str, hint: str = "") -> None:
        super().__init__(words)
        self.path = tuple(path)
        self.words = words
        self.hint = hint


class NotTOML(Exception):
    """A text that is not TOML.

    Args:
        line: the index of the line at fault; that after the last one if the text is cut short.
    """

    def __init__(self, line: int, words: str) -> None:
        super().__init__(words)
        self.line = line
        self.words = words


def read_toml(lines: Sequence[str]) -> dict[str, Any]:
    """Parse a document. Numbers with a point become Decimals, which round nothing.

    Raises:
        NotTOML: it cannot be parsed.
    """
    try:
        return _loads(lines)
    except ValueError as error:
        words = printable(str(error))
        place = _PLACE.search(words)
        if place is not None:
            words = words[: place.start()]
        line = int(place[1]) - 1 if place and place[1] else 0 if place is None else len(lines)
        raise NotTOML(line, f"{words[:1].lower()}{words[1:]}") from error


def line_of(lines: Sequence[str], path: Sequence[str | int]) -> int:
    """Return the index of the line that brings in what is at a path of the document.

    tomllib keeps no positions. But each statement ends with a line up to which the document can be parsed, so the first
    such beginning that contains the path ends with its statement.
    """
    start = 0
    for end in range(1, len(lines) + 1):
        try:
            document = _loads(lines[:end])
        except ValueError:
            continue  # within a statement of several lines
        if _contains(document, path):
            return start
        start = end
    return 0


def _loads(lines: Sequence[str]) -> dict[str, Any]:
    try:
        return tomllib.loads("\n".join(lines), parse_float=Decimal)
    except RecursionError:
        raise ValueError("its values are nested too deeply") from None


def _contains(document: Any, path: Sequence[str | int]) -> bool:  # noqa: ANN401 (TOML)
    for part in path:
        if isinstance(part, int):
            if not isinstance(document, list) or part >= len(document):
                return False
        elif not isinstance(document, dict) or part not in document:
            return False
        document = document[part]
    return True
