"""Which files and folders a program can read and write.

Knows what a program needs: Python, libraries, its own folder and what its person names; and what it never gets. Does
not know how a wall is built (build.py). What is not said to be reachable is not: a list of what is forbidden would
have gaps.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from onionmpc.machine import standing_in
from onionmpc.program.spec import ProgramSpec
from onionmpc.resources import PACKAGE

# What libraries read. Of /etc only this: what else is there tells which machine it is, or is root's alone.
SYSTEM_FOLDERS = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/nix/store", "/gnu/store")
LIBRARIES_READ = (
    *("ld.so.cache", "localtime", "timezone", "locale.alias", "nsswitch.conf", "passwd", "group", "mime.types"),
    *("inputrc", "alternatives"),
)
# Never more of these than the devices and files that build.py opens, whatever is named.
HIDDEN = ("/proc", "/sys", "/dev", "/run", "/boot")
# Everybody's: a file there may be named, the whole folder not.
SHARED = ("/tmp", "/var/tmp", "/home", "/root")  # noqa: S108


def readable(spec: ProgramSpec, mounted: Sequence[Path] = ()) -> Iterator[Path]:
    """Yield what the program may read, with all that is below it.

    Args:
        mounted: what was taken out of it already.
    """
    own = _folders([Path(spec.folder)])
    if not own:
        own = list(Path(spec.folder).glob("*.py"))  # a script among all else that a person has
    etc = (Path("/etc") / name for name in LIBRARIES_READ)
    libraries = [*map(Path, SYSTEM_FOLDERS), *python_folders(), *etc]
    hidden = _hidden(spec)
    for path in [*libraries, *own, *map(Path, spec.reads), *wanted(spec)]:
        yield from _without(path, hidden, mounted)


def writable(spec: ProgramSpec, mounted: Sequence[Path] = ()) -> Iterator[Path]:
    """Yield where the program may write: where it stands, and what was named to it; but not in Python
    or what was agreed.

    Args:
        mounted: what was taken out of it already.
    """
    kept = _kept(spec)
    for path in _own(spec):
        yield from _without(path, kept, mounted)


class Places(NamedTuple):
    """Where a program stands to the folders of this machine; each with all that is below it.

    Attributes:
        own: where it may have made files, whose names are its own then.
        read: what it may read beside that.
        kept: where it never writes, whatever it is given.
        hidden: what it is never given.
    """

    own: list[Path]
    read: list[Path]
    kept: list[Path]
    hidden: list[Path]


def places(spec: ProgramSpec) -> Places:
    """Say it for one program, before it has started."""
    hidden = _hidden(spec)
    return Places(_own(spec), list(readable(spec, hidden)), _kept(spec), hidden)


def _own(spec: ProgramSpec) -> list[Path]:
    return [*wanted(spec), *([Path(spec.scratch)] if spec.scratch else [])]


def _kept(spec: ProgramSpec) -> list[Path]:
    return [*_hidden(spec), *map(resolved, map(Path, (*SYSTEM_FOLDERS, "/etc"))), *python_folders(), *read_only(spec)]


def python_folders() -> list[Path]:
    """Return Python's folders, and all that it imports from, onionmpc among it."""
    package = PACKAGE.resolve()
    names = (sys.prefix, sys.base_prefix, sys.exec_prefix, *sys.path)
    return [package, *_folders({resolved(Path(name)) for name in names if name})]


def read_only(spec: ProgramSpec) -> list[Path]:
    """Return the files and folders of the agreement: what was compared is to stay so, wherever it lies."""
    return [resolved(Path(name)) for name in spec.reads]


def wanted(spec: ProgramSpec) -> Iterator[Path]:
    """Yield where it stands, files and folders among the words, and the folder of a file that is yet to be written."""
    if here := standing_in():
        yield from _folders([here])
    for word in spec.named:
        # As an argument, after --option= and glued to a short option, as in -i/path.
        for text in (word, word.partition("=")[2], word[2:] if re.match("-[^-]", word) else ""):
            with contextlib.suppress(OSError, ValueError):  # too long, or a null byte
                path = resolved(Path(text))
                if text and path.exists():
                    yield from _folders([path])
                elif "/" in text and path.parent.is_dir():
                    yield from _folders([path.parent])


def _folders(paths: Iterable[Path]) -> list[Path]:
    return [path for path in paths if not os.path.isdir(path) or is_opened_whole(path)]  # noqa: PTH112 (may be closed)


def is_opened_whole(folder: Path) -> bool:
    """Tell whether a folder may be opened: it is no home, and nothing else that holds much that was not meant."""
    home = resolved(Path(os.path.expanduser("~")))  # noqa: PTH111 (which fails where there is none)
    return not (home.is_relative_to(folder) or folder.parent in (folder, Path("/home")) or str(folder) in SHARED)


def _hidden(spec: ProgramSpec) -> list[Path]:
    return [resolved(Path(name)) for name in (*HIDDEN, *spec.hidden)]


def resolved(path: Path) -> Path:
    """Return a path without links, or raise OSError."""
    try:
        return path.resolve()
    except RuntimeError as error:  # links in a circle
        raise OSError(str(error)) from error


def _without(path: Path, hidden: Sequence[Path], mounted: Sequence[Path]) -> Iterator[Path]:
    """Yield a path; or all that is in it but what is hidden, as Landlock has no way to take a part away again."""
    if any(path.is_relative_to(place) for place in hidden):
        return
    if any(place.is_relative_to(path) and place not in mounted for place in hidden):
        for child in path.iterdir() if os.access(path, os.R_OK) else ():
            if not child.is_symlink():  # it may lead anywhere
                yield from _without(child, hidden, mounted)
    else:
        yield path
