"""What `--with` names: files and folders that must be the same at all parties.

Knows what is in them and whether it has changed. Does not know what the program does with it. Python files are kept
as bytes for the program process to run. Other files stay on disk. Rules: docs/PROTOCOL.md section 4.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from onionmpc.errors import AgreementError, UsageError
from onionmpc.program.code.sources import read
from onionmpc.text import printable

SKIPPED_FOLDERS = (".git", "__pycache__")
# 5000 digests and short paths fit into an Offer. Hashing 16 GiB takes about 20 s, and happens twice: when the program
# is found and before it starts.
MAX_FILES = 5000
MAX_ATTACHED_BYTES = 2**34
BOUNDS_HINT = "put related files into one archive"


@dataclass(frozen=True, slots=True, order=True)
class AttachedFile:
    """One file.

    Attributes:
        name: its name for all parties; starts with "with/".
        path: its path on this machine.
        source: its bytes if it is Python, None if it stays on disk.
    """

    name: str
    path: Path
    sha256: bytes
    source: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Attachments:
    """Everything that one party attaches.

    Attributes:
        places: the files and folders as given, made absolute.
        skipped: the folders inside them that were left out.
    """

    places: tuple[Path, ...] = ()
    files: tuple[AttachedFile, ...] = ()
    skipped: tuple[Path, ...] = ()

    def on_disk(self) -> dict[str, str]:
        """Return the SHA-256 in hex of each file that is not Python, by its path."""
        return {str(file.path): file.sha256.hex() for file in self.files if file.source is None}

    def check_unchanged(self) -> None:
        """Read and hash all files again.

        Raises:
            AgreementError: a file has changed; it is called by the name that all parties know.
        """
        now: dict[str, bytes] = {}
        for place in self.places:
            try:
                now |= {file.name: file.sha256 for file in attach([place]).files}
            except UsageError:  # its message has a path of this machine, and ours goes to the other parties
                raise _changed(f"with/{place.name}") from None
        before = {file.name: file.sha256 for file in self.files}
        for name in sorted(before.keys() | now.keys()):
            if before.get(name) != now.get(name):
                raise _changed(name)


def _changed(name: str) -> AgreementError:
    return AgreementError(
        f"{printable(name)} changed after the parties had agreed on it",
        hint="do not change such files until the session has ended",
    )


NOTHING = Attachments()


def attach(named: Iterable[Path], max_files: int = MAX_FILES) -> Attachments:
    """Read files and folders.

    Raises:
        UsageError: a file cannot be read or compared, there are too many, or they are too large.
    """
    # A link keeps its own name, by which the program opens it.
    places = tuple(Path(os.path.abspath(path)) for path in named)  # noqa: PTH100 (resolve() would follow links)
    found: dict[str, Path] = {}
    skipped: list[Path] = []
    total = 0
    for place in places:
        for name, path, size in _walk(place, skipped):
            if name in found:
                raise UsageError(f"two files are called {printable(name[5:])}", hint="rename one of them")
            found[name] = path
            total += size
            if len(found) > max_files:
                raise UsageError(f"--with names more than {max_files} files", hint=BOUNDS_HINT)
            if total > MAX_ATTACHED_BYTES:
                raise UsageError(
                    f"--with names more than {MAX_ATTACHED_BYTES // 2**30} GiB", hint="leave out what is not needed"
                )
    return Attachments(places, tuple(_read(name, path) for name, path in sorted(found.items())), tuple(skipped))


def _walk(place: Path, skipped: list[Path]) -> Iterator[tuple[str, Path, int]]:
    """Yield the name, path and size of each file at a place."""
    try:
        if not place.is_dir():
            yield f"with/{place.name}", place, _size(place)
            return
        root = place.resolve()
        waiting = [place]
        while waiting:
            folder = waiting.pop()
            for path in sorted(folder.iterdir()):
                if path.name in SKIPPED_FOLDERS:
                    skipped.append(path)
                elif path.is_symlink():
                    _check_link(path, root)
                    yield f"with/{root.name}/{path.relative_to(place).as_posix()}", path, _size(path)
                elif path.is_dir():
                    waiting.append(path)
                else:
                    yield f"with/{root.name}/{path.relative_to(place).as_posix()}", path, _size(path)
    except (OSError, RuntimeError) as error:  # RuntimeError: resolve() found links in a circle
        words = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"cannot read {printable(str(place))}: {words}") from error


def _check_link(path: Path, root: Path) -> None:
    target = path.resolve()
    if not target.is_relative_to(root):
        raise UsageError(
            f"{printable(str(path))} is a symbolic link that points outside {printable(root.name)}",
            hint="replace it with a copy, or add its target with another --with",
        )
    if target.is_dir():
        raise UsageError(f"{printable(str(path))} is a symbolic link to a folder", hint="replace it with a copy")


def _size(path: Path) -> int:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise UsageError(f"{printable(str(path))} is neither a file nor a folder", hint="leave it out")
    return status.st_size


def _read(name: str, path: Path) -> AttachedFile:
    if path.suffix == ".py":
        source = read(path)
        return AttachedFile(name, path, hashlib.sha256(source).digest(), source)
    return AttachedFile(name, path, _digest(path))


def _digest(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise UsageError(f"cannot read {printable(str(path))}: {error.strerror}") from error
