"""Namespaces and mounts, which hide things from a process and make others read-only for it.

Knows unshare, mounts and inherited descriptors. Does not know which places are hidden or read-only. Sources:
unshare(2), user_namespaces(7), open_tree(2), mount_setattr(2).
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import stat
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

from onionmpc.machine import SHARED_MEMORY, working_directory
from onionmpc.program.walls import linux

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
HOST_NAME = b"localhost"

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 8, 1 << 12, 1 << 14, 1 << 18
# These call numbers are the same on all architectures.
NR_OPEN_TREE, NR_MOVE_MOUNT, NR_MOUNT_SETATTR = 428, 429, 442
AT_FDCWD, AT_RECURSIVE, MOUNT_ATTR_RDONLY = -100, 0x8000, 1
OPEN_TREE_CLONE, MOVE_MOUNT_F_EMPTY_PATH = 1, 4
STREAMS = (0, 1, 2)


def leave_network() -> bool:
    """Move to namespaces without any network, not even a loopback that is up; return whether this machine allows it.

    The other new namespaces hide System V shared memory of other processes (IPC) and this machine's name (UTS), and
    make the mounts below possible.
    """
    # Root needs no user namespace. In one, it could not open other users' files any more.
    for flags in (0, CLONE_NEWUSER):
        if _works(lambda flags=flags: _enter_spaces(flags)):  # type: ignore[misc]
            _enter_spaces(flags)
            return True
    return False


def _works(steps: Callable[[], None]) -> bool:
    """Try steps in a child process. Some systems refuse a later one, and no step can be undone.

    For example, Ubuntu 24.04's AppArmor allows a user namespace, and then denies every capability in it.
    """
    child = os.fork()
    if not child:
        status = 1
        try:
            steps()
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1] == 0


def _enter_spaces(flags: int) -> None:
    user, group = os.geteuid(), os.getegid()
    _unshare(CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNS | flags)
    if flags & CLONE_NEWUSER:
        Path("/proc/self/setgroups").write_text("deny")  # else the kernel lets no plain user write gid_map
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    linux.checked(linux.libc().sethostname(HOST_NAME, len(HOST_NAME)))
    _mount("none", "/", "", MS_REC | MS_PRIVATE)  # mounts made here do not propagate to the rest of the system


def _unshare(flags: int) -> None:
    linux.checked(linux.libc().unshare(flags))


# -- mounts, in our own namespace


def cover(directory: Path) -> bool:
    """Mount an empty read-only directory over this one; return whether that was possible."""
    try:
        _mount("tmpfs", str(directory), "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, b"size=4k,mode=555")
    except OSError:
        return False
    return True


def freeze(path: Path) -> bool:
    """Make a file, or a directory with all that is in it, read-only; return whether that was possible."""
    try:
        _bind(path)
        _make_read_only(path)
    except OSError:
        return False
    return True


def pin(directory: Path) -> None:
    """Keep a directory from being renamed or removed here, if possible: a mount cannot be."""
    with contextlib.suppress(OSError):
        _bind(directory)


def freeze_all_but(places: Sequence[Path]) -> bool:
    """Make everything except these places read-only; return whether that was possible.

    Descriptors that are open already are not bound by it: see `reopen_streams`.
    """

    def try_it() -> None:
        _unshare(CLONE_NEWNS)
        _freeze_all_but(places)

    if not _works(try_it):
        return False
    _freeze_all_but(places)
    return True


def _freeze_all_but(places: Sequence[Path]) -> None:
    here = working_directory() or Path("/")
    # Copies of the mounts as they are now, including parts that are read-only already. So no read-only flag has to be
    # removed later.
    copies = [_copy_of(place) for place in places]
    _make_read_only(Path("/"))
    for place, copy in zip(places, copies, strict=True):
        linux.syscall(NR_MOVE_MOUNT, copy, b"", AT_FDCWD, os.fsencode(place), MOVE_MOUNT_F_EMPTY_PATH)
        os.close(copy)
    os.chdir(here)  # the working directory was still the one below the new mount, which is read-only


def _copy_of(place: Path) -> int:
    flags = OPEN_TREE_CLONE | AT_RECURSIVE | os.O_CLOEXEC
    return linux.syscall(NR_OPEN_TREE, AT_FDCWD, os.fsencode(place), flags)


def own_shared_memory() -> bool:
    """Give this process its own place for named shared memory and semaphores; return whether that was possible."""
    try:
        _mount("tmpfs", str(SHARED_MEMORY), "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, b"mode=1777")
    except OSError:
        return False
    return True


def _bind(path: Path) -> None:
    _mount(str(path), str(path), "", MS_BIND | MS_REC)


def _make_read_only(path: Path) -> None:
    attributes = struct.pack("=4Q", MOUNT_ATTR_RDONLY, 0, 0, 0)
    linux.syscall(NR_MOUNT_SETATTR, AT_FDCWD, os.fsencode(path), AT_RECURSIVE, attributes, len(attributes))


def _mount(source: str, target: str, kind: str, flags: int, data: bytes | None = None) -> None:
    names = (os.fsencode(name) for name in (source, target, kind))
    linux.checked(linux.libc().mount(*names, ctypes.c_ulong(flags), data))


# -- inherited descriptors


def reopen_streams() -> None:
    """Open stdin, stdout and stderr again, through the mounts of this namespace.

    They were opened outside, where nothing is read-only. Through fchmod or /proc/self/fd, a program could change the
    mode of the file that is its stdin, of the terminal (so that others can read it), or of /dev/null if it runs as
    root. A file that is open for writing is left alone: the program may change it, and opened again it would keep its
    mount from becoming read-only.
    """
    for number in STREAMS:
        try:
            _reopen(number)
        except OSError:
            continue  # closed, removed, or we may not open it; in that case, we may not change it either


def _reopen(number: int) -> None:
    status, flags = os.fstat(number), fcntl.fcntl(number, fcntl.F_GETFL)
    device = stat.S_ISCHR(status.st_mode)
    only_read = flags & os.O_ACCMODE == os.O_RDONLY and stat.S_IFMT(status.st_mode) in (stat.S_IFREG, stat.S_IFDIR)
    if not (device or only_read):
        return
    path = Path(f"/proc/self/fd/{number}").readlink()
    again = os.open(path, flags & os.O_ACCMODE | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if os.path.samestat(os.fstat(again), status):  # otherwise the path leads to another file by now
            if not device:
                os.lseek(again, os.lseek(number, 0, os.SEEK_CUR), os.SEEK_SET)
            fcntl.fcntl(again, fcntl.F_SETFL, flags & (os.O_APPEND | os.O_NONBLOCK))
            os.dup2(again, number)
    finally:
        os.close(again)
