"""Finds tors that run on this machine, and programs that use one, by their command lines.

Reads Linux's /proc and shows no command line, which may hold secrets. Without /proc it finds nothing.
"""

from __future__ import annotations

import contextlib
import pwd
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
SHOWN = 6  # one private network alone runs about twenty tors
# By the name of the program or, under an interpreter, of its script. Firefox itself starts no tor: Tor Browser does.
NEIGHBOUR_PROGRAMS = {
    "firefox": "Tor Browser",
    "firefox.real": "Tor Browser",
    "onionmpc": "onionmpc",
    "onionmpc.cli": "onionmpc",
    "onionshare": "OnionShare",
    "onionshare-cli": "OnionShare",
}
TOR_BROWSER_FOLDER = "TorBrowser"
# The users under which distributions run tor.
SYSTEM_USERS = {"debian-tor", "tor", "_tor", "toranon"}


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Programs of one kind.

    Attributes:
        what: the kind of program.
        processes: their process ids in ascending order, most often the oldest first.
    """

    what: str
    processes: tuple[int, ...]

    def __str__(self) -> str:
        count = len(self.processes)
        if count > SHOWN:
            return f"{self.what} ({count} processes)"
        return f"{self.what} (process{'es' if count > 1 else ''} {', '.join(map(str, self.processes))})"


def neighbours() -> list[Neighbours]:
    """Return the programs that run. Processes that the system hides from this user are not found."""
    found: dict[str, list[int]] = {}
    for process in sorted(int(entry.name) for entry in PROC.glob("[0-9]*")):
        with contextlib.suppress(OSError):  # it has just ended
            if what := _what(process):
                found.setdefault(what, []).append(process)
    return [Neighbours(what, tuple(processes)) for what, processes in sorted(found.items())]


def _what(process: int) -> str:
    """Return the kind of a process, or the empty string if it is of no interest here."""
    words = _words(process)
    if Path(words[0]).name == "tor":
        return f"tor of {_owner(process, words)}"
    program = _program(words)
    # The command follows the program, or an interpreter, its options and a script. A later "host" is an argument.
    if program == "onionmpc" and {"host", "join"} & set(words[:6]):
        return "a party of onionmpc"
    return program if program == "OnionShare" else ""


def _owner(process: int, words: list[str]) -> str:
    """Return the program or system that a tor belongs to."""
    # The program's name comes first, in brackets, and may contain brackets itself.
    parent = int((PROC / str(process) / "stat").read_bytes().rpartition(b")")[2].split()[1])
    if program := _program(_words(parent)):
        return program
    if any(TOR_BROWSER_FOLDER in word for word in words):
        return "Tor Browser"
    with contextlib.suppress(KeyError):
        if pwd.getpwuid((PROC / str(process)).stat().st_uid).pw_name in SYSTEM_USERS:
            return "the system"
    return "someone else"


def _program(words: list[str]) -> str:
    return next((NEIGHBOUR_PROGRAMS[name] for word in words[:4] if (name := Path(word).name) in NEIGHBOUR_PROGRAMS), "")


def _words(process: int) -> list[str]:
    return (PROC / str(process) / "cmdline").read_bytes().decode(errors="replace").split("\0")
