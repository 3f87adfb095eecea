"""Decides which files and folders a program can read and write.

Knows what a program needs: Python, libraries, its own folder and the paths that the user gives it; and what it never
gets. Does not know how a wall is built (build.py). It lists what is allowed, because a list of what is forbidden would
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

from onionmpc.machine import working_directory
from onionmpc.program.spec import ProgramSpec
from onionmpc.resources import PACKAGE

# What libraries read. Only these files of /etc: the others identify the machine, or only root may read them.
SYSTEM_FOLDERS = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/nix/store", "/gnu/store")
LIBRARIES_READ = (
    *("ld.so.cache", "localtime", "timezone", "locale.alias", "nsswitch.conf", "passwd", "group", "mime.types"),
    *("inputrc", "alternatives", "fonts"),
)
# Never opened, even if the user gives them, except the devices and files that build.py lists.
HIDDEN = ("/proc", "/sys", "/dev", "/run", "/boot")
# Shared folders. The user can give a file in one, but not the whole folder.
SHARED = ("/tmp", "/var/tmp", "/home", "/root")  # noqa: S108


def readable(spec: ProgramSpec, mounted: Sequence[Path] = ()) -> Iterator[Path]:
    """Yield the paths that the program may read, with everything below them.

    Args:
        mounted: the places that mounts hide already.
    """
    own = _folders([Path(spec.folder)])
    if not own:
        own = list(Path(spec.folder).glob("*.py"))  # the script lies in a home folder: open only its modules
    etc = (Path("/etc") / name for name in LIBRARIES_READ)
    libraries = [*map(Path, SYSTEM_FOLDERS), *python_folders(), *etc]
    hidden = _hidden(spec)
    for path in [*libraries, *own, *map(Path, spec.reads), *granted(spec)]:
        yield from _without(path, hidden, mounted)


def writable(spec: ProgramSpec, mounted: Sequence[Path] = ()) -> Iterator[Path]:
    """Yield the paths that the program may write: the working directory and what the user gives, but neither Python
    nor agreed files.

    Args:
        mounted: the places that mounts protect already.
    """
    protected = _protected(spec)
    for path in _own(spec):
        yield from _without(path, protected, mounted)


class Places(NamedTuple):
    """The folders of this machine by what a program may do there, each with everything below it.

    Attributes:
        own: it may have made files here, and chosen their names.
        read: it may read here as well.
        protected: it never writes here, even if the user gives it.
        hidden: it never gets these.
    """

    own: list[Path]
    read: list[Path]
    protected: list[Path]
    hidden: list[Path]


def places(spec: ProgramSpec) -> Places:
    """Return the places of one program, before it starts."""
    hidden = _hidden(spec)
    return Places(_own(spec), list(readable(spec, hidden)), _protected(spec), hidden)


def _own(spec: ProgramSpec) -> list[Path]:
    return [*granted(spec), *([Path(spec.scratch)] if spec.scratch else [])]


def _protected(spec: ProgramSpec) -> list[Path]:
    return [*_hidden(spec), *map(resolved, map(Path, (*SYSTEM_FOLDERS, "/etc"))), *python_folders(), *read_only(spec)]


def python_folders() -> list[Path]:
    """Return Python's folders and everything that it imports from, including onionmpc."""
    package = PACKAGE.resolve()
    names = (sys.prefix, sys.base_prefix, sys.exec_prefix, *sys.path)
    return [package, *_folders({resolved(Path(name)) for name in names if name})]


def read_only(spec: ProgramSpec) -> list[Path]:
    """Return the agreed files and folders: after the comparison they must not change."""
    return [resolved(Path(name)) for name in spec.reads]


def paths_in(word: str) -> list[str]:
    """Return each part of an argument that may be a path: all of it, or what follows --option= or a short option."""
    return [text for text in (word, word.partition("=")[2], word[2:] if re.match("-[^-]", word) else "") if text]


def granted(spec: ProgramSpec) -> Iterator[Path]:
    """Yield what the user gives the program: the working directory, and the files and folders among its arguments.

    For a file that does not exist yet, this is its folder.
    """
    if here := working_directory():
        yield from _folders([here])
    for word in spec.named:
        for text in paths_in(word):
            with contextlib.suppress(OSError, ValueError):  # the name is too long, or has a null byte
                path = resolved(Path(text))
                if path.exists():
                    yield from _folders([path])
                elif "/" in text and path.parent.is_dir():
                    yield from _folders([path.parent])


def _folders(paths: Iterable[Path]) -> list[Path]:
    # Path.is_dir() raises an error if we may not look there.
    return [path for path in paths if not os.path.isdir(path) or is_opened_whole(path)]  # noqa: PTH112


def is_opened_whole(folder: Path) -> bool:
    """Return whether a folder may be opened: not a home, and no other folder that contains much more than was meant."""
    home = resolved(Path(os.path.expanduser("~")))  # noqa: PTH111 (Path.home() fails if there is no home)
    return not (home.is_relative_to(folder) or folder.parent in (folder, Path("/home")) or str(folder) in SHARED)


def _hidden(spec: ProgramSpec) -> list[Path]:
    return [resolved(Path(name)) for name in (*HIDDEN, *spec.hidden)]


def resolved(path: Path) -> Path:
    """Return a path without symbolic links, or raise OSError."""
    try:
        return path.resolve()
    except RuntimeError as error:  # links in a circle
        raise OSError(str(error)) from error


def _without(path: Path, hidden: Sequence[Path], mounted: Sequence[Path]) -> Iterator[Path]:
    """Yield a path, or everything in it except what is hidden: Landlock cannot take a part away again."""
    if any(path.is_relative_to(place) for place in hidden):
        return
    if any(place.is_relative_to(path) and place not in mounted for place in hidden):
        for child in path.iterdir() if os.access(path, os.R_OK) else ():
            if not child.is_symlink():  # a rule for it would open its target
                yield from _without(child, hidden, mounted)
    else:
        yield path
