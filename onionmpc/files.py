"""Private directories, atomic writes and locks. All state goes to the disk through these functions."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import platformdirs

from onionmpc.errors import SystemRefused, UsageError
from onionmpc.machine import SHARED_MEMORY, refused, refusing

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600
FILE_LOCK_POLL_S = 0.02
# Leftovers with this prefix are removed if nobody holds their lock. Other directories, and those of early versions,
# which held no lock, begin with "onionmpc-".
TEMPORARY_PREFIX = "onionmpc."
# Short enough for a socket's path, and without characters that a torrc or tor's control port would need quoted.
PLAIN_RUNTIME = re.compile(r"/[A-Za-z0-9/._-]{0,38}")


def state_directory() -> Path:
    """Return the directory of profiles and key files: $ONIONMPC_STATE, else the operating system's usual place.

    Raises:
        UsageError: this user has no home directory.
    """
    if configured := os.environ.get("ONIONMPC_STATE"):
        return Path(configured)
    found = Path("~")
    with contextlib.suppress(RuntimeError):  # some releases of platformdirs raise it, others leave "~" as it is
        found = Path(platformdirs.user_state_dir("onionmpc"))
    if not found.is_absolute():
        raise UsageError(
            "this user has no home directory to keep files in", hint="set ONIONMPC_STATE to a directory that you own"
        )
    return found


def private_directory(path: Path) -> Path:
    """Create `path` and its parents with mode 0700, or check that it belongs to this user and others cannot read it.

    Raises:
        UsageError: it cannot be created, or others can read it.
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
        # Not mkdir(parents=True), which gives parents a mode that depends on the umask.
        _make_directory(path.parent)
        path.mkdir(mode=DIRECTORY_MODE, exist_ok=True)


@contextlib.contextmanager
def socket_directory() -> Iterator[Path]:
    """Yield a private directory for unix sockets, and remove it at the end. If we are killed, a later process does.

    Its path is short, since a socket's path is limited to 107 bytes on Linux and 103 on macOS.

    Raises:
        SystemRefused: it cannot be created. This also holds for the two functions below.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    usable = PLAIN_RUNTIME.fullmatch(runtime) and os.access(runtime, os.W_OK)
    with _temporary_directory(Path(runtime if usable else "/tmp")) as directory:  # noqa: S108
        yield directory


@contextlib.contextmanager
def scratch_directory() -> Iterator[Path]:
    """Yield a private directory for another program's temporary files, and remove it with its content at the end."""
    with _temporary_directory(Path("/tmp")) as directory:  # noqa: S108
        yield directory


@contextlib.contextmanager
def memory_directory(otherwise: Path) -> Iterator[Path]:
    """Yield a private directory for a key that another program reads only from a file, and remove it at the end.

    It is in memory, so that the key does not reach the disk, if this machine has a file system for that; else below
    `otherwise`.
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
            # Renamed only after it is locked: otherwise another process could take it for a leftover and remove it.
            with refusing(f"cannot make a directory in {base}"):
                directory = directory.rename(base / directory.name.removeprefix("."))
            yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _remove_leftovers(base: Path) -> None:
    """Remove the directories that killed processes of ours have left: those that no process has locked."""
    found: list[Path] = []
    with contextlib.suppress(OSError):  # creating our own directory there reports the problem
        found = list(base.glob(f"{TEMPORARY_PREFIX}*"))
    for directory in found:
        with contextlib.suppress(OSError, SystemRefused):  # another process of ours was faster
            status = directory.lstat()
            if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not is_held(directory):
                shutil.rmtree(directory, ignore_errors=True)


def open_itself(path: Path) -> BinaryIO:
    """Open a file for reading, and no link in its place, so that its own mode can be checked by its descriptor.

    Raises:
        OSError: it cannot be opened.
    """
    # O_NONBLOCK: a named pipe in its place must not make us wait.
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK), "rb")


def read_private(path: Path, most_bytes: int, what: str) -> bytes | None:
    """Read a file of our state, unless another user could have read or changed it.

    Args:
        most_bytes: read one byte more than this at most, so that the caller sees a file that is too long.
        what: what the file is, as in "the address book".
    Returns:
        Its content, or None if there is no file.

    Raises:
        UsageError: it is open to others, belongs to another user, is no file, or cannot be read.
    """
    try:
        with open_itself(path) as file:
            remedy = f"check that nobody has changed it, then chmod 600 {path}"
            check_private(f"{what} {path}", os.fstat(file.fileno()), remedy=remedy)
            return file.read(most_bytes + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", hint="it must be a file that you own") from error


def check_private(what: str, status: os.stat_result, *, remedy: str, error: type[UsageError] = UsageError) -> None:
    """Check that a file of ours belongs to this user, and that others can neither read nor write it.

    Args:
        what: the file in words, as in "the key file /a/b".
        remedy: what to do about a file that others could use.
        error: raised if a check fails.
    """
    if not stat.S_ISREG(status.st_mode):
        raise error(f"{what} is not a file", hint="move it away")
    if status.st_uid != os.geteuid():
        raise error(f"{what} belongs to another user", hint="it must belong to you")
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        raise error(f"{what} is open to others (mode {mode:o}, expected {FILE_MODE:o})", hint=remedy)


def write_private(path: Path, content: bytes) -> None:
    """Write a file of mode 0600 completely or not at all.

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
    """Write to a path that the user named: to a file as `write_private` does, or to an existing device or pipe.

    Raises:
        SystemRefused: it cannot be written.
    """
    with refusing(f"cannot write {path}"):
        if not _is_stream(path):
            write_private(Path(os.path.realpath(path)), content)  # replace the file, and not a link to it
            return
        with path.open("wb", buffering=0) as file:
            rest = memoryview(content)
            while rest:
                rest = rest[file.write(rest) :]


def _is_stream(path: Path) -> bool:
    """Return whether to write into a path instead of replacing it. Root could otherwise replace /dev/null for all."""
    return path.exists() and (not path.is_file() or path.absolute().parts[1] in ("dev", "proc"))


def open_private(path: Path) -> BinaryIO:
    """Open a file for writing, with mode 0600 if it is new.

    Raises:
        SystemRefused: it cannot be opened.
    """
    with refusing(f"cannot write {path}"):
        return open(path, "wb", opener=_private_opener)


def _private_opener(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, FILE_MODE)


def check_writable(path: Path) -> None:
    """Check, as far as possible without writing, that `write_named` will work.

    Raises:
        UsageError: it will not.
    """
    with refusing(f"cannot write {path}"):
        place = path if _is_stream(path) else Path(os.path.realpath(path)).parent
        if not os.access(place, os.W_OK):
            raise UsageError(f"cannot write {path}", hint="choose a file in a directory that you own")


def write_new(path: Path, content: bytes, *, must_be_private: bool) -> None:
    """Write a new file of mode 0600, on any file system.

    It is not written under a temporary name: only a hard link could then give it its name without replacing another
    file, and memory sticks have no hard links. If this is interrupted, the file is incomplete, which its reader
    notices.

    Args:
        must_be_private: refuse a file system on which others could read the file.

    Raises:
        UsageError: the name is taken, others could read the file, or it cannot be written.
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
    """Remove a file, so that it does not come back after a power failure. The disk may still hold its content.

    Raises:
        UsageError: it cannot be removed.
    """
    try:
        path.unlink()
    except OSError as error:
        raise refused(f"cannot remove {path}", error) from error
    _settle(path.parent)


def _settle(directory: Path) -> None:
    """Flush a directory's entries to the disk, if the file system supports that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def lock(path: Path, *, is_directory: bool = False) -> Iterator[bool]:
    """Hold an exclusive lock on `path` during the block. The kernel releases it if this process dies.

    Args:
        path: a file, created if it does not exist.
        is_directory: True if `path` is a directory.
    Yields:
        True if this process holds the lock, False if another one does.
    Raises:
        SystemRefused: it cannot be created or locked.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY if is_directory else os.O_RDWR | os.O_CREAT
    with refusing(f"cannot lock {path}"):
        descriptor = os.open(path, flags | os.O_CLOEXEC, FILE_MODE)
    try:
        yield _is_ours(path, descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def lock_in_time(path: Path, within_s: float, what: str) -> Iterator[None]:
    """Hold an exclusive lock on the file `path` during the block; wait for it if another process holds it.

    Args:
        what: what the lock is for, as in "the address book".

    Raises:
        UsageError: another process still holds it after that time.
        SystemRefused: it cannot be created or locked.
    """
    until_s = time.monotonic() + within_s
    while True:
        with lock(path) as held:
            if held:
                yield
                return
        if time.monotonic() > until_s:
            raise UsageError(f"another onionmpc process is changing {what} now", hint="try again")
        time.sleep(FILE_LOCK_POLL_S)


def _is_ours(path: Path, descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise refused(f"cannot lock {path}", error) from error
    return True


def is_held(path: Path) -> bool:
    """Return whether a process (perhaps a tor, which locks its data directory with flock too) holds the lock `path`."""
    if not path.exists():
        return False
    with lock(path, is_directory=path.is_dir()) as free:
        return not free
