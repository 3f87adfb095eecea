"""Private directories, atomic writes and locks: the only ways in which state reaches the disk.

Knows modes and where each operating system keeps state. Does not know what is in the files.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import platformdirs

from onionmpc.errors import UsageError

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600


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
    """A private directory for unix sockets, removed at the end.

    Its path is short, since a socket's path is limited to 107 bytes on Linux and 103 on macOS.
    """
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    usable = base and len(base) < 40 and os.access(base, os.W_OK)
    with tempfile.TemporaryDirectory(prefix="onionmpc-", dir=base if usable else "/tmp") as name:  # noqa: S108
        yield Path(name)


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


def _cannot_write(path: Path, error: OSError) -> UsageError:
    return UsageError(
        f"cannot write {path}: {error.strerror}", hint=f"free some space in {path.parent}, or mend its mode"
    )


@contextlib.contextmanager
def lock(path: Path) -> Iterator[bool]:
    """Hold an exclusive lock on `path` for as long as this process wants it; the kernel frees it if we die.

    Yields:
        True if we hold it, False if another process does.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)
