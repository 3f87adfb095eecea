"""Decides which of the files that a program could not open are shown to its user: the supervisor's side.

Knows this machine's files, and the notices of the program process, which the program may have forged. It shows only
files and folders that exist, that the user can open, that the program cannot have made, and that do not look like keys
by name or content. onionmpc.cli.reach words the hint. Rules: docs/THREATS.md.
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

MAX_NOTED_PATHS = 64  # bounds what a program that floods us can make us look at
MAX_SHOWN_PATHS = 10
MAX_PATH_BYTES = 4096
KINDS = ("read", "write", "import")
# Key files say what they are at their beginning.
HEAD_BYTES = 512
KEY_MARKS = (
    *(b"PRIVATE KEY", b"ed25519v1-secret", b"openssh-key-v1", b"PuTTY-User-Key", b"AGE-SECRET-KEY", b":x25519:"),
    b"onionmpc identity",
)
# A folder with more entries is not shown.
MAX_ENTRIES = 4096
HARMLESS = (".gitignore", ".gitattributes", ".gitkeep", ".DS_Store")
# `--with` leaves these out of a folder, so they do not matter where the hint suggests it.
NOT_WITH = (".git",)


@dataclass(frozen=True, slots=True)
class OutOfReach:
    """The files that a program asked for and must not have. They are never sent to anyone.

    Attributes:
        reads: the paths that it tried to read; that of a folder ends in a slash.
        writes: the paths that it tried to write, or the folders in which it tried to create something.
        imports: the folders in which it looked for modules.
        more: how many more there were, at least.
        not_whole: whether it asked for something in a folder that is never opened as a whole, such as a home or /tmp.
    """

    reads: tuple[str, ...]
    writes: tuple[str, ...]
    imports: tuple[str, ...]
    more: int
    not_whole: bool


class AskedFiles:
    """Collects the notices of one program process about files that it could not open; bounded.

    Args:
        spec: the program that is about to run. Without a wall around files it is refused nothing, so all notices would
            be forged, and are ignored.
    """

    def __init__(self, spec: ProgramSpec | None = None) -> None:
        self._places = places(spec) if spec is not None and spec.walls.files else None
        self._noted: dict[tuple[str, str], None] = {}

    def note(self, detail: str) -> None:
        """Take the words of a notice: a kind, and a path in hexadecimal. Anything else is forged, and dropped."""
        kind, _, digits = detail.partition(" ")
        if self._places is None or kind not in KINDS or len(self._noted) >= MAX_NOTED_PATHS:
            return
        if len(digits) > 2 * MAX_PATH_BYTES:
            return
        try:
            path = bytes.fromhex(digits)
        except ValueError:
            return
        if path.startswith(b"/") and b"\0" not in path:
            self._noted[kind, os.fsdecode(path)] = None

    def to_show(self) -> OutOfReach | None:
        """Look at the files now; return those that the user may be shown, or None."""
        found: dict[str, dict[str, None]] = {kind: {} for kind in KINDS}
        not_whole, more = False, 0
        for kind, given in self._noted:
            path = self._target(kind, given)
            if path is None:
                continue
            is_folder = path.is_dir()
            if not is_opened_whole(path if is_folder else path.parent):
                not_whole = not_whole or kind != "import"  # Python itself looks beside every script, in a home too
                if is_folder:
                    continue
            shown = f"{path}/" if is_folder else str(path)
            if shown in found[kind] or not _is_harmless(kind, path):
                continue
            if sum(map(len, found.values())) < MAX_SHOWN_PATHS:
                found[kind][shown] = None
            else:
                more += 1
        reads, writes, imports = (tuple(found[kind]) for kind in KINDS)
        out_of_reach = OutOfReach(reads, writes, imports, more, not_whole)
        return out_of_reach if out_of_reach != OutOfReach((), (), (), 0, not_whole=False) else None

    def _target(self, kind: str, given: str) -> Path | None:
        """Return the target of a path, or None if it is private, does not exist or is within reach."""
        try:
            real = Path(given).resolve()
            if any(map(has_private_name, (given, str(real)))):
                return None
            if kind == "write" and not real.exists():
                real = real.parent  # the program chose the last name, and could speak to the user in it
            return real if real.exists() and self._is_beyond(kind, real) else None
        except (OSError, RuntimeError):  # we may not look there; links in a circle
            return None

    def _is_beyond(self, kind: str, real: Path) -> bool:
        """Return whether a path is out of the program's reach, and the user could bring it into reach."""
        assert self._places is not None  # noqa: S101 (nothing is noted otherwise)
        own, read, protected, hidden = self._places
        within = [*own, *hidden, *(protected if kind == "write" else read)]
        return not any(real.is_relative_to(place) for place in within) and not any(
            place.is_relative_to(real) for place in hidden
        )


def _is_harmless(kind: str, real: Path) -> bool:
    """Return whether a path is a file or folder that the user can open and that seems to contain no key."""
    try:
        mode = real.lstat().st_mode
        if not os.access(real, os.W_OK if kind == "write" else os.R_OK):
            return False
        if stat.S_ISDIR(mode):
            return not _has_keys(real, (*HARMLESS, *(NOT_WITH if kind == "import" else ())))
        return stat.S_ISREG(mode) and not _is_key_file(real)
    except OSError:  # it is gone, or we may not read it
        return False


def _is_key_file(file: Path) -> bool:
    # Since the last look, the program may have put a link or a pipe there. A pipe must not block us.
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        head = os.read(descriptor, HEAD_BYTES)
    finally:
        os.close(descriptor)
    return any(mark in head for mark in KEY_MARKS)


def _has_keys(folder: Path, harmless: Iterable[str]) -> bool:
    """Return whether names in a folder, at any depth, suggest keys, or there are too many names to check."""
    looked, waiting = 0, [folder]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                looked += 1
                if looked > MAX_ENTRIES:
                    return True
                if entry.name in harmless:
                    continue
                if is_key(entry.name) or (is_private_part(entry.name) and entry.name != "__pycache__"):
                    return True
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(Path(entry.path))
    return False
