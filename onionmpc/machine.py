"""Translates errors of the operating system into messages with hints.

It lists the errors that are the machine's fault. Any other one counts as a bug of ours until someone shows otherwise.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from onionmpc.errors import OnionMPCError, SystemRefused
from onionmpc.text import printable

READ_BYTES = 2**16  # the capacity of a pipe on Linux; larger reads from a pipe or socket gain nothing
# A file system in memory, on every Linux.
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108

SHOWN_PATH = 1000
ROOM = "free some space there (df -h shows it), or some files (df -i)"
ELSEWHERE = "look at its owner and mode, or choose another place"
FILES_HINT = "raise the limit of open files (ulimit -n), or end other programs"
MEMORY_HINT = "free some memory, or raise the limit (ulimit -v)"
PROCESSES_HINT = "raise the process limit (ulimit -u), or close other programs"
HINTS = {
    errno.EACCES: ELSEWHERE,
    errno.EPERM: ELSEWHERE,
    errno.EROFS: "it is mounted read-only: choose another place",
    errno.ENOSPC: ROOM,
    errno.EDQUOT: ROOM,
    errno.EFBIG: "raise the limit of a file's size (ulimit -f)",
    errno.EMFILE: FILES_HINT,
    errno.ENFILE: FILES_HINT,
    errno.ENOMEM: MEMORY_HINT,
    errno.EAGAIN: PROCESSES_HINT,
    errno.EIO: "the disk or the terminal may be failing or gone; dmesg may say more",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOENT: "",
    errno.ENOTDIR: "",
    errno.EISDIR: "",
    errno.ELOOP: "links lead in a circle there",
    errno.ENXIO: "",
    errno.ENODEV: "",
    errno.ESTALE: "mount that network's file system again",
    errno.ENOLCK: "its file system takes no locks: choose another place",
    errno.ENOTSUP: "its file system cannot do that: choose another place",
    errno.ENOSYS: "",
    errno.ETXTBSY: "",
    errno.ENOEXEC: "",
}
NOT_OF_A_FILE = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN}
GONE = "the current folder was removed"
NO_THREAD = "can't start new thread"  # CPython's words for EAGAIN
NO_MEMORY = "failed to map segment"  # glibc's, for a library in C


def refused(what: str, error: OSError) -> SystemRefused:
    """Return the error for an action that the operating system refused.

    Args:
        what: the action, such as "cannot write FILE".
    """
    words = f"{what}: {error.strerror or error}"
    if isinstance(error.filename, str | bytes) and error.errno not in NOT_OF_A_FILE:
        name = os.fsdecode(error.filename)
        if name not in what and str(Path(name).parent) not in what:
            words += f" ({printable(name, SHOWN_PATH)})"
    return SystemRefused(words, hint=HINTS.get(error.errno or 0, ""))


@contextlib.contextmanager
def refusing(what: str) -> Iterator[None]:
    """Translate an OSError of the block into `SystemRefused`; see `refused`."""
    try:
        yield
    except OSError as error:
        raise refused(what, error) from error


def explained(error: BaseException) -> OnionMPCError | None:
    """Return our error for one that no layer has translated; None if it is a bug of ours."""
    if isinstance(error, OnionMPCError):
        return error
    if isinstance(error, BaseExceptionGroup):  # from several tasks: if one error is a bug, the whole is
        each = [explained(one) for one in error.exceptions]
        return None if None in each else each[0]
    if isinstance(error, MemoryError) or (isinstance(error, ImportError) and NO_MEMORY in str(error)):
        return SystemRefused("out of memory", hint=MEMORY_HINT)
    if isinstance(error, RuntimeError) and NO_THREAD in str(error):
        return SystemRefused("cannot start a thread", hint=PROCESSES_HINT)
    if not isinstance(error, OSError) or error.errno not in HINTS:
        return None
    if error.errno == errno.ENOENT and not error.filename and working_directory() is None:
        return SystemRefused(GONE, hint="change to another folder (cd)")
    if isinstance(error.filename, str | bytes):
        name = printable(os.fsdecode(error.filename), SHOWN_PATH)
        return SystemRefused(f"cannot use {name}: {error.strerror}", hint=HINTS[error.errno])
    return refused("the operating system refuses a request", error)


@contextlib.contextmanager
def explaining() -> Iterator[None]:
    """Translate the errors of a block that are the machine's fault; see `explained`."""
    try:
        yield
    except (OSError, MemoryError, RuntimeError) as error:
        if (known := explained(error)) is None:
            raise
        raise known from error


def working_directory() -> Path | None:
    """Return the working directory of this process; None if it was removed."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return None
