"""Private directories, atomic writes and locks: the only ways in which state reaches the disk.

Knows modes and where each operating system keeps state. Does not know what is in the files.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import platformdirs

from onionmpc.errors import UsageError

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600
# Directories of other kinds, and those of versions that held no lock, begin with "onionmpc-".
TEMPORARY_PREFIX = "onionmpc."
# A tmpfs on every Linux.
MEMORY = Path("/dev/shm")  # noqa: S108


def state_directory() -> Path:
    """Return where profiles and key files live: $ONIONMPC_STATE, else this operating system's place for it."""
    configured = os.environ.get("ONIONMPC_STATE")
    return Path(configured) if configured else Path(platformdirs.user_state_dir("onionmpc"))


def private_directory(path: Path) -> Path:
    """Create `path` with mode 0700, or check that it is ours and closed to others.

    Raises:
        UsageError: it cannot be created, or others may look into it.
    """
    try:
        path.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        status = path.stat()
    except OSError as error:
        raise UsageError(
            f"cannot use the directory {path}: {error.strerror}",
            hint="set ONIONMPC_STATE to a directory of yours",
        ) from error
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise UsageError(
            f"the directory {path} is open to others (mode {stat.S_IMODE(status.st_mode):o}, expected 700)",
            hint=f"chmod 700 {path}",
        )
    return path


@contextlib.contextmanager
def socket_directory() -> Iterator[Path]:
    """A private directory for unix sockets, removed at the end; if we are killed, by the next of us that makes one.

    Its path is short, since a socket's path is limited to 107 bytes on Linux and 103 on macOS.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    usable = runtime and len(runtime) < 40 and os.access(runtime, os.W_OK)
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
    with _temporary_directory(MEMORY if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) else otherwise) as directory:
        yield directory


@contextlib.contextmanager
def _temporary_directory(base: Path) -> Iterator[Path]:
    _remove_leftovers(base)
    made = Path(tempfile.mkdtemp(prefix=f".{TEMPORARY_PREFIX}", dir=base))
    with lock(made, is_directory=True):
        # Others look at it only from now on, and find it locked.
        directory = made.rename(base / made.name.removeprefix("."))
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)


def _remove_leftovers(base: Path) -> None:
    """Remove what runs of ours left that were killed: directories that nobody holds."""
    for directory in base.glob(f"{TEMPORARY_PREFIX}*"):
        with contextlib.suppress(OSError):  # another of us was faster
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
        raise _cannot_write(path, error) from error
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise _cannot_write(path, error) from error
    _settle(path.parent)


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
        raise UsageError(f"there is a file {path} already", hint="choose another name: it is not replaced") from error
    except OSError as error:
        raise _cannot_write(path, error) from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            if must_be_private:
                _check_closed(path, os.fstat(descriptor))
            file.write(content)
            file.flush()
            os.fsync(descriptor)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise _cannot_write(path, error) from error
    except UsageError:
        path.unlink(missing_ok=True)
        raise
    _settle(path.parent)


def _check_closed(path: Path, status: os.stat_result) -> None:
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        raise UsageError(
            f"where {path} lies, files are open to others (mode {mode:o}, expected {FILE_MODE:o})",
            hint="choose another place, or seal what is in it",
        )


def remove(path: Path) -> None:
    """Remove a file, for good also if the power fails now. What was in it, a disk may keep.

    Raises:
        UsageError: it cannot be removed.
    """
    try:
        path.unlink()
    except OSError as error:
        raise UsageError(f"cannot remove {path}: {error.strerror}") from error
    _settle(path.parent)


def _settle(directory: Path) -> None:
    """Have the disk keep what was done to a directory's names; some file systems do not offer that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _cannot_write(path: Path, error: OSError) -> UsageError:
    return UsageError(
        f"cannot write {path}: {error.strerror}", hint=f"free some space in {path.parent}, or mend its mode"
    )


@contextlib.contextmanager
def lock(path: Path, *, is_directory: bool = False) -> Iterator[bool]:
    """Hold an exclusive lock on `path` for as long as this process wants it; the kernel frees it if we die.

    Args:
        path: a file, made if it is not there.
        is_directory: it is a directory instead.
    Yields:
        True if we hold it, False if another process does.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY if is_directory else os.O_RDWR | os.O_CREAT
    descriptor = os.open(path, flags | os.O_CLOEXEC, FILE_MODE)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Tell whether a process holds the lock `path`; tor holds that of its data directory as we do ours, by flock."""
    if not path.exists():
        return False
    with lock(path, is_directory=path.is_dir()) as free:
        return not free
