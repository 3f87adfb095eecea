"""Finds the block of inline script metadata (PEP 723) in the text of a Python file.

Knows which comment lines belong to the block. Does not know what the block means: program/block_parser.py does. A block
is found by its lines alone, as the specification's regular expression does, so it may be anywhere in the file.
Source: packaging.python.org/specifications/inline-script-metadata.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from onionmpc.errors import UsageError

# A mistake is located by parsing the block once for each of its lines (program/block_parser.py).
MAX_BLOCK_CHARACTERS = 2**14
MAX_BLOCK_LINES = 400
# The specification lets tools read only the types that it defines, and it defines this one.
SCRIPT = "script"
END = "# ///"
_START = re.compile(r"# /// ([a-zA-Z0-9-]+)\Z")
# Python's own line ends. str.splitlines() would also end a line at characters that a comment can contain.
_LINE_END = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True, slots=True)
class CommentBlock:
    """The content of a block without its comment signs.

    Attributes:
        first_line: the number of its first line in the file, from 1; the opening line is the one before.
    """

    lines: tuple[str, ...]
    first_line: int


def find_script_block(text: str, file: str) -> CommentBlock | None:
    """Return the block of type "script", or None if the text has none. A block that is not closed is none.

    Args:
        file: what to call the file in messages.

    Raises:
        UsageError: there are several such blocks, or it is too long.
    """
    lines = _LINE_END.split(text)
    found: list[CommentBlock] = []
    at = 0
    while at < len(lines):
        start = _START.match(lines[at])
        at += 1
        if start is None:
            continue
        end = _end_of(lines, at)
        if end is None:
            continue
        if start[1] == SCRIPT:
            found.append(CommentBlock(tuple(line[2:] for line in lines[at:end]), at + 1))
        at = end + 1
    if len(found) > 1:
        places = " and ".join(str(block.first_line - 1) for block in found[:2])
        raise UsageError(
            f"{file} has {len(found)} blocks of script metadata (lines {places}), expected one",
            hint="merge them into one block",
        )
    if not found:
        return None
    block = found[0]
    if len(block.lines) > MAX_BLOCK_LINES or sum(map(len, block.lines)) > MAX_BLOCK_CHARACTERS:
        raise UsageError(
            f"{file}, line {block.first_line - 1}: the block of script metadata has more than "
            f"{MAX_BLOCK_CHARACTERS} characters or {MAX_BLOCK_LINES} lines"
        )
    return block


def _end_of(lines: list[str], start: int) -> int | None:
    """Return the index of the line that closes a block whose content starts at `start`; None if no line does.

    It is the last closing line before the first line that cannot be content: the content may contain such lines, too.
    """
    end = None
    for at in range(start, len(lines)):
        line = lines[at]
        if line == END and at > start:  # the specification knows no block without content
            end = at
        if line != "#" and not line.startswith("# "):
            break
    return end
