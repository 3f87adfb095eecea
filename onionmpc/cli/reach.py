"""Says which files a program could not open, and how to give it access."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from onionmpc.text import printable

LONGEST_PATH = 500


def reach_lines(
    *, reads: Iterable[str], writes: Iterable[str], imports: Iterable[str], more: int, not_whole: bool
) -> list[str]:
    """Return the lines that describe an `OutOfReach`."""
    lines = [f"the program asked for {_shown(path)}, which it may not read" for path in reads]
    lines += [f"the program asked to write {_place(path)}, which it may not" for path in writes]
    lines += [f"the program looked for modules in {_shown(path)}, which it may not read" for path in imports]
    if more:
        lines.append(f"and for at least {more} more")
    if not (reads or writes or imports):
        lines.append("the program asked for files in a folder that is never opened as a whole")
    if reads or writes:
        lines.append(
            "  to allow one of these: pass its path after --, or start onionmpc in that folder; "
            "the program can then read and write that file, or everything in the folder"
        )
    if reads or imports:
        lines.append("  for modules, and for files that are the same at all parties: --with PATH makes them readable")
    if not_whole:
        lines.append(
            "  a home folder is never opened as a whole, because it contains keys and passwords, and neither is /tmp: "
            "start onionmpc in a separate folder"
        )
    return lines


def _place(path: str) -> str:
    return f"in {_shown(path)}" if path.endswith("/") else _shown(path)


def _shown(path: str) -> str:
    # Quoted, since a hostile file name could run a command if the user pastes it into a shell.
    return shlex.quote(printable(path, LONGEST_PATH))
