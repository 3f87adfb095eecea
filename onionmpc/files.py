"""Private directories, atomic writes and locks: the only ways in which state reaches the disk.

Knows modes and where each operating system keeps state. Does not know what is in the files.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import platformdirs

from onionmpc.errors import SystemRefused, UsageError
from onionmpc.machine import SHARED_MEMORY, refused, refusing

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600
# Directories of other kinds, and those of versions that held no lock, begin with "onionmpc-".
TEMPORARY_PREFIX = "onionmpc."
# Short, and nothing in it that a torrc or tor's control port would want quoted.
PLAIN_RUNTIME = re.compile(r"/[A-Za-z0-9/._-]{0,38}")


def state_directory() -> Path:
    """Return where profiles and key files live: $ONIONMPC_STATE, else this operating system's place for it.

    Raises:
        UsageError: this user has no home.
    """
    if configured := os.environ.get("ONIONMPC_STATE"):
        return Path(configured)
    found = Path("~")
    with contextlib.suppress(RuntimeError):  # older releases of platformdirs leave the "~" where it is
        found = Path(platformdirs.user_state_dir("onionmpc"))
    if not found.is_absolute():
        raise UsageError(
            "this user has no home directory to keep files in", hint="set ONIONMPC_STATE to a directory that you own"
        )
    return found


def private_directory(path: Path) -> Path:
    """Create `path` with mode 0700, and its parents as well, or check that it is ours and closed to others.

    Raises:
        UsageError: it cannot be created, or others may look into it.
    """
    try:
        _make_directory(path)
        status = path.stat()
    except OSError as error:
        raise SystemRefused(
            f"cannot use the directory {path}: {error.strerror}",
            hint="set ONIONMPC_STATE to a directory that you own",
        ) from error
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise UsageError(
            f"the directory {path} is open to others (mode {stat.S_IMODE(status.st_mode):o}, expected 700)",
            hint=f"chmod 700 {path}",
        )
    return path


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
    except FileNotFoundError:
        if path.parent == path:
            raise
        # Not mkdir(parents=True): it leaves the mode of parents to the umask.
        _make_directory(path.parent)
        path.mkdir(mode=DIRECTORY_MODE, exist_ok=True)


@contextlib.contextmanager
def socket_directory() -> Iterator[Path]:
    """A private directory for unix sockets, removed at the end; if we are killed, by the next of us that makes one.

    Its path is short, since a socket's path is limited to 107 bytes on Linux and 103 on macOS.

    Raises:
        SystemRefused: there is no place for it; so with the other two.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    usable = PLAIN_RUNTIME.fullmatch(runtime) and os.access(runtime, os.W_OK)
    with _temporary_directory(Path(runtime if usable else "/tmp")) as directory:  # noqa: S108
        yield directory


@contextlib.contextmanager
def scratch_directory() -> Iterator[Path]:
    """A private directory for another program's temporary files; removed at the end with all that is in it."""
    with _temporary_directory(Path("/tmp")) as directory:  # noqa: S108
        yield directory


@contextlib.contextmanager
def memory_directory(otherwise: Path) -> Iterator[Path]:
    """A private directory for a key that another program insists on reading from a file; removed at the end.

    In memory where this machine has a file system for that; below `otherwise`, on the disk, where it has none.
    """
    with _temporary_directory(
        SHARED_MEMORY if SHARED_MEMORY.is_dir() and os.access(SHARED_MEMORY, os.W_OK) else otherwise
    ) as directory:
        yield directory


@contextlib.contextmanager
def _temporary_directory(base: Path) -> Iterator[Path]:
    _remove_leftovers(base)
    with refusing(f"cannot make a directory in {base}"):
        directory = Path(tempfile.mkdtemp(prefix=f".{TEMPORARY_PREFIX}", dir=base))
    try:
        with lock(directory, is_directory=True):
            # Others look at it only from now on, and find it locked.
            with refusing(f"cannot make a directory in {base}"):
                directory = directory.rename(base / directory.name.removeprefix("."))
            yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _remove_leftovers(base: Path) -> None:
    """Remove what runs of ours left that were killed: directories that nobody holds."""
    found: list[Path] = []
    with contextlib.suppress(OSError):  # what is wrong there shows when we make our own
        found = list(base.glob(f"{TEMPORARY_PREFIX}*"))
    for directory in found:
        with contextlib.suppress(OSError, SystemRefused):  # another of us was faster
            status = directory.lstat()
            if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not is_held(directory):
                shutil.rmtree(directory, ignore_errors=True)


def write_private(path: Path, content: bytes) -> None:
    """Write a file of mode 0600 whole or not at all.

    Raises:
        UsageError: the disk is full, or the directory cannot be written.
    """
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise refused(f"cannot write {path}", error) from error
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise refused(f"cannot write {path}", error) from error
    _settle(path.parent)


def write_named(path: Path, content: bytes) -> None:
    """Write to what a person has named: a file as `write_private` does, or a device or pipe that is there already.

    Raises:
        SystemRefused: it cannot be written.
    """
    with refusing(f"cannot write {path}"):
        if not _is_stream(path):
            write_private(Path(os.path.realpath(path)), content)  # a link stays one
            return
        with path.open("wb", buffering=0) as file:
            rest = memoryview(content)
            while rest:
                rest = rest[file.write(rest) :]


def _is_stream(path: Path) -> bool:
    """Tell what is written to from what is replaced: root could replace /dev/null for all."""
    return path.exists() and (not path.is_file() or path.absolute().parts[1] in ("dev", "proc"))


def open_private(path: Path) -> BinaryIO:
    """Open a file to write, of mode 0600 if it is new.

    Raises:
        SystemRefused: it cannot be opened.
    """
    with refusing(f"cannot write {path}"):
        return open(path, "wb", opener=_private_opener)


def _private_opener(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, FILE_MODE)


def check_writable(path: Path) -> None:
    """Check, as far as that can be told without writing, that `write_named` will work.

    Raises:
        UsageError: it will not.
    """
    with refusing(f"cannot write {path}"):
        place = path if _is_stream(path) else Path(os.path.realpath(path)).parent
        if not os.access(place, os.W_OK):
            raise UsageError(f"cannot write {path}", hint="choose a file in a directory that you own")


def write_new(path: Path, content: bytes, *, must_be_private: bool) -> None:
    """Write a file of mode 0600 where there is none, on whatever file system.

    Not by way of a temporary file: what takes its place without replacing anything is a hard link, and a memory stick
    has none. Whoever is interrupted here leaves a file cut short, which its reader notices.

    Args:
        must_be_private: whether a file system that cannot close it to others is refused.

    Raises:
        UsageError: there is something of that name, it would be open to others, or it cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    except FileExistsError as error:
        raise UsageError(
            f"{path} already exists", hint="choose another name: an existing file is never replaced"
        ) from error
    except OSError as error:
        raise refused(f"cannot write {path}", error) from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            if must_be_private:
                _check_closed(path, os.fstat(descriptor))
            file.write(content)
            file.flush()
            os.fsync(descriptor)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise refused(f"cannot write {path}", error) from error
    except UsageError:
        path.unlink(missing_ok=True)
        raise
    _settle(path.parent)


def _check_closed(path: Path, status: os.stat_result) -> None:
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        raise UsageError(
            f"files in the folder of {path} are open to others (mode {mode:o}, expected {FILE_MODE:o})",
            hint="choose another folder, or protect the file with a passphrase",
        )


def remove(path: Path) -> None:
    """Remove a file, for good also if the power fails now. What was in it, a disk may keep.

    Raises:
        UsageError: it cannot be removed.
    """
    try:
        path.unlink()
    except OSError as error:
        raise refused(f"cannot remove {path}", error) from error
    _settle(path.parent)


def _settle(directory: Path) -> None:
    """Have the disk keep what was done to a directory's names; some file systems do not offer that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def lock(path: Path, *, is_directory: bool = False) -> Iterator[bool]:
    """Hold an exclusive lock on `path` for as long as this process wants it; the kernel frees it if we die.

    Args:
        path: a file, made if it is not there.
        is_directory: it is a directory instead.
    Yields:
        True if we hold it, False if another process does.
    Raises:
        SystemRefused: it cannot be made or locked.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY if is_directory else os.O_RDWR | os.O_CREAT
    with refusing(f"cannot lock {path}"):
        descriptor = os.open(path, flags | os.O_CLOEXEC, FILE_MODE)
    try:
        yield _is_ours(path, descriptor)
    finally:
        os.close(descriptor)


def _is_ours(path: Path, descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise refused(f"cannot lock {path}", error) from error
    return True


def is_held(path: Path) -> bool:
    """Tell whether a process holds the lock `path`; tor holds that of its data directory as we do ours, by flock."""
    if not path.exists():
        return False
    with lock(path, is_directory=path.is_dir()) as free:
        return not free
