"""Decides which files that a program could not open its user is shown: the supervisor's side.

Knows what the program process says, which the program may have forged, and this machine's files. Whatever is told names
a file or folder that is there, that this person can open and the program cannot have made, and that neither its name
nor its content says to be a key. How it is worded is onionmpc.cli.reach's to know. Rules: docs/THREATS.md.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from onionmpc.program.spec import ProgramSpec
from onionmpc.program.walls.naming import has_private_name, is_key, is_private_part
from onionmpc.program.walls.reachable import is_opened_whole, places

MOST_HEARD = 64  # paths: what a program that floods us can make us look at
MOST_TOLD = 10
MAX_PATH_BYTES = 4096
KINDS = ("read", "write", "import")
# Of a key file the kind stands at its beginning.
HEAD_BYTES = 512
KEY_MARKS = (
    *(b"PRIVATE KEY", b"ed25519v1-secret", b"openssh-key-v1", b"PuTTY-User-Key", b"AGE-SECRET-KEY", b":x25519:"),
    b"onionmpc identity",
)
# How many entries of a folder are looked at; a folder with more is not shown.
MOST_ENTRIES = 4096
HARMLESS = (".gitignore", ".gitattributes", ".gitkeep", ".DS_Store")
# What `--with` leaves out of a folder.
NOT_WITH = (".git",)


@dataclass(frozen=True, slots=True)
class OutOfReach:
    """What a program asked for and may not have; never sent to anybody.

    Attributes:
        reads: what it asked to read; the path of a folder ends in a slash.
        writes: what it asked to write, or the folders in which it asked to make something.
        imports: the folders in which it looked for modules.
        more: how many there were beside these, at least.
        not_whole: whether it asked for something in a folder that is never opened as a whole: a home, /tmp or the like.
    """

    reads: tuple[str, ...]
    writes: tuple[str, ...]
    imports: tuple[str, ...]
    more: int
    not_whole: bool


class Asked:
    """Collects what one program process says of this; bounded.

    Args:
        spec: what is about to run; where that has no wall around its files it is refused nothing, and nothing is heard.
    """

    def __init__(self, spec: ProgramSpec | None = None) -> None:
        self._places = places(spec) if spec is not None and spec.walls.files else None
        self._heard: dict[tuple[str, str], None] = {}

    def note(self, detail: str) -> None:
        """Take a notice's words: what was asked for, and the path in hexadecimal. Others are forged, and dropped."""
        kind, _, digits = detail.partition(" ")
        if self._places is None or kind not in KINDS or len(self._heard) >= MOST_HEARD:
            return
        if len(digits) > 2 * MAX_PATH_BYTES:
            return
        try:
            path = bytes.fromhex(digits)
        except ValueError:
            return
        if path.startswith(b"/") and b"\0" not in path:
            self._heard[kind, os.fsdecode(path)] = None

    def told(self) -> OutOfReach | None:
        """Return what may be shown, or None. Looks at the files now."""
        found: dict[str, dict[str, None]] = {kind: {} for kind in KINDS}
        not_whole, more = False, 0
        for kind, given in self._heard:
            path = self._target(kind, given)
            if path is None:
                continue
            is_folder = path.is_dir()
            if not is_opened_whole(path if is_folder else path.parent):
                not_whole = not_whole or kind != "import"  # Python itself looks beside a script, wherever it lies
                if is_folder:
                    continue
            shown = f"{path}/" if is_folder else str(path)
            if shown in found[kind] or not _is_harmless(kind, path):
                continue
            if sum(map(len, found.values())) < MOST_TOLD:
                found[kind][shown] = None
            else:
                more += 1
        reads, writes, imports = (tuple(found[kind]) for kind in KINDS)
        told = OutOfReach(reads, writes, imports, more, not_whole)
        return told if told != OutOfReach((), (), (), 0, not_whole=False) else None

    def _target(self, kind: str, given: str) -> Path | None:
        """Return what a path leads to, or None if that is private, is not there or is within reach."""
        try:
            real = Path(given).resolve()
            if any(map(has_private_name, (given, str(real)))):
                return None
            if kind == "write" and not real.exists():
                real = real.parent  # the last name would be of the program's own choice
            return real if real.exists() and self._is_beyond(kind, real) else None
        except (OSError, RuntimeError):  # not ours to look at; links in a circle
            return None

    def _is_beyond(self, kind: str, real: Path) -> bool:
        """Tell whether a path is out of the program's reach, and could be brought into it."""
        assert self._places is not None  # noqa: S101 (nothing is heard otherwise)
        own, read, kept, hidden = self._places
        within = [*own, *hidden, *(kept if kind == "write" else read)]
        return not any(real.is_relative_to(place) for place in within) and not any(
            place.is_relative_to(real) for place in hidden
        )


def _is_harmless(kind: str, real: Path) -> bool:
    """Tell whether a path is a file or folder that this person can open and that seems to hold no key."""
    try:
        mode = real.lstat().st_mode
        if not os.access(real, os.W_OK if kind == "write" else os.R_OK):
            return False
        if stat.S_ISDIR(mode):
            return not _has_keys(real, (*HARMLESS, *(NOT_WITH if kind == "import" else ())))
        return stat.S_ISREG(mode) and not _is_key_file(real)
    except OSError:  # gone meanwhile, or not for us to read
        return False


def _is_key_file(file: Path) -> bool:
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        head = os.read(descriptor, HEAD_BYTES)
    finally:
        os.close(descriptor)
    return any(mark in head for mark in KEY_MARKS)


def _has_keys(folder: Path, harmless: Iterable[str]) -> bool:
    """Tell whether the names in a folder, and in those below it, say that there are keys, or are too many to tell."""
    looked, waiting = 0, [folder]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                looked += 1
                if looked > MOST_ENTRIES:
                    return True
                if entry.name in harmless:
                    continue
                if is_key(entry.name) or (is_private_part(entry.name) and entry.name != "__pycache__"):
                    return True
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(Path(entry.path))
    return False
