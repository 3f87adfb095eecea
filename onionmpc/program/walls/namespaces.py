"""Namespaces and mounts: what a process no longer sees, and what it cannot change, whatever it is allowed to.

Knows unshare, mounts and the descriptors that a process was given. Does not know which places they are. Sources:
unshare(2), user_namespaces(7), open_tree(2), mount_setattr(2).
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import stat
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

from onionmpc.machine import SHARED_MEMORY, standing_in
from onionmpc.program.walls import linux

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
HOST_NAME = b"localhost"

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 8, 1 << 12, 1 << 14, 1 << 18
# The same on all architectures.
NR_OPEN_TREE, NR_MOVE_MOUNT, NR_MOUNT_SETATTR = 428, 429, 442
AT_FDCWD, AT_RECURSIVE, MOUNT_ATTR_RDONLY = -100, 0x8000, 1
OPEN_TREE_CLONE, MOVE_MOUNT_F_EMPTY_PATH = 1, 4
STREAMS = (0, 1, 2)


def leave_network() -> bool:
    """Go where there is no network at all, not even a loopback that is up; tell whether that could be.

    In the namespaces that come along there is no System V shared memory of others (IPC) and no name of this machine
    (UTS), and what else is here works (mounts).
    """
    for flags in (0, CLONE_NEWUSER):  # root needs no user namespace, and so keeps its way to others' files
        if _works(lambda flags=flags: _enter_spaces(flags)):  # type: ignore[misc]
            _enter_spaces(flags)
            return True
    return False


def _works(way: Callable[[], None]) -> bool:
    """Try it in a process of its own: some systems refuse when half of the way is gone, and there is none back."""
    child = os.fork()
    if not child:
        status = 1
        try:
            way()
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1] == 0


def _enter_spaces(flags: int) -> None:
    user, group = os.geteuid(), os.getegid()
    _unshare(CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNS | flags)
    if flags & CLONE_NEWUSER:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    linux.checked(linux.libc().sethostname(HOST_NAME, len(HOST_NAME)))
    _mount("none", "/", "", MS_REC | MS_PRIVATE)  # what is mounted here is not mounted for others


def _unshare(flags: int) -> None:
    linux.checked(linux.libc().unshare(flags))


# -- mounts, in a namespace of our own


def cover(directory: Path) -> bool:
    """Put an empty directory, which stays so, in the place of this one; tell whether that could be."""
    try:
        _mount("tmpfs", str(directory), "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, b"size=4k,mode=555")
    except OSError:
        return False
    return True


def freeze(directory: Path) -> bool:
    """Let nothing be changed in a directory; tell whether that could be."""
    try:
        _mount(str(directory), str(directory), "", MS_BIND | MS_REC)
        _make_read_only(directory)
    except OSError:
        return False
    return True


def freeze_all_but(places: Sequence[Path]) -> bool:
    """Let nothing be changed anywhere but in these places; tell whether that could be.

    What was opened before is not held by it: see `reopen_streams`.
    """

    def try_it() -> None:
        _unshare(CLONE_NEWNS)
        _freeze_all_but(places)

    if not _works(try_it):
        return False
    _freeze_all_but(places)
    return True


def _freeze_all_but(places: Sequence[Path]) -> None:
    here = standing_in() or Path("/")
    # Copies of the mounts as they are, with what is read-only in them already: no flag has to be taken back.
    copies = [_copy_of(place) for place in places]
    _make_read_only(Path("/"))
    for place, copy in zip(places, copies, strict=True):
        linux.syscall(NR_MOVE_MOUNT, copy, b"", AT_FDCWD, os.fsencode(place), MOVE_MOUNT_F_EMPTY_PATH)
        os.close(copy)
    os.chdir(here)  # from what is below the mount that is there now


def _copy_of(place: Path) -> int:
    flags = OPEN_TREE_CLONE | AT_RECURSIVE | os.O_CLOEXEC
    return linux.syscall(NR_OPEN_TREE, AT_FDCWD, os.fsencode(place), flags)


def own_shared_memory() -> bool:
    """Give this process a place of its own for shared memory and semaphores with names; tell whether that could be."""
    try:
        _mount("tmpfs", str(SHARED_MEMORY), "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, b"mode=1777")
    except OSError:
        return False
    return True


def _make_read_only(directory: Path) -> None:
    attributes = struct.pack("=4Q", MOUNT_ATTR_RDONLY, 0, 0, 0)
    linux.syscall(NR_MOUNT_SETATTR, AT_FDCWD, os.fsencode(directory), AT_RECURSIVE, attributes, len(attributes))


def _mount(source: str, target: str, kind: str, flags: int, data: bytes | None = None) -> None:
    names = (os.fsencode(name) for name in (source, target, kind))
    linux.checked(linux.libc().mount(*names, ctypes.c_ulong(flags), data))


# -- what a process was given


def reopen_streams() -> None:
    """Open stdin, stdout and stderr again, from the mounts that are here.

    They were opened outside, where nothing is read-only: by fchmod, or by way of /proc/self/fd, the mode of a file that
    is our stdin could be changed, or that of the terminal (which others could read from then on), or root's /dev/null.
    A file that is open for writing is left as it is: it is the program's to change, and would keep its mount from
    being made read-only.
    """
    for number in STREAMS:
        try:
            _reopen(number)
        except OSError:
            continue  # closed, removed meanwhile, or not ours to open; and then not ours to change


def _reopen(number: int) -> None:
    status, flags = os.fstat(number), fcntl.fcntl(number, fcntl.F_GETFL)
    device = stat.S_ISCHR(status.st_mode)
    only_read = flags & os.O_ACCMODE == os.O_RDONLY and stat.S_IFMT(status.st_mode) in (stat.S_IFREG, stat.S_IFDIR)
    if not (device or only_read):
        return
    path = Path(f"/proc/self/fd/{number}").readlink()
    again = os.open(path, flags & os.O_ACCMODE | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if os.path.samestat(os.fstat(again), status):
            if not device:
                os.lseek(again, os.lseek(number, 0, os.SEEK_CUR), os.SEEK_SET)
            fcntl.fcntl(again, fcntl.F_SETFL, flags & (os.O_APPEND | os.O_NONBLOCK))
            os.dup2(again, number)
    finally:
        os.close(again)
