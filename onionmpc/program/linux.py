"""What Linux offers to a process that walls itself in: namespaces, Landlock, seccomp, fewer capabilities.

Knows system calls, their numbers and structures. Does not know what is to be walled in, nor why. All of it acts on the
calling thread and on what that starts later, so it comes before there is a second thread. Sources: unshare(2),
landlock(7), seccomp(2), capabilities(7), prctl(2).
"""

from __future__ import annotations

import ctypes
import os
import platform
import socket
import stat
import struct
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4


def prctl(option: int, *values: int) -> None:
    """Call prctl(2).

    Raises:
        OSError: it was refused.
    """
    _checked(_libc().prctl(option, *(ctypes.c_ulong(value) for value in [*values, 0, 0, 0, 0][:4])))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def _syscall(number: int, *values: int | bytes | None) -> int:
    """Call what libc has no name for; bytes go by address."""
    given = (ctypes.c_long(value) if isinstance(value, int) else value for value in values)
    return _checked(_libc().syscall(ctypes.c_long(number), *given))


# -- namespaces

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
HOST_NAME = b"localhost"


def leave_network() -> bool:
    """Go where there is no network at all, not even a loopback that is up; tell whether that could be.

    In the namespaces that come along there is no System V shared memory of others (IPC) and no name of this machine
    (UTS), and `cover` and `freeze` work (mounts).
    """
    for flags in (0, CLONE_NEWUSER):  # root needs no user namespace, and so keeps its way to others' files
        if _can_enter(flags):
            _enter_spaces(flags)
            return True
    return False


def _can_enter(flags: int) -> bool:
    """Try it in a process of its own: some systems refuse when half of the way is gone, and there is none back."""
    child = os.fork()
    if not child:
        status = 1
        try:
            _enter_spaces(flags)
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1] == 0


def _enter_spaces(flags: int) -> None:
    user, group = os.geteuid(), os.getegid()
    _checked(_libc().unshare(CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNS | flags))
    if flags & CLONE_NEWUSER:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    _checked(_libc().sethostname(HOST_NAME, len(HOST_NAME)))
    _mount("none", "/", "", MS_REC | MS_PRIVATE)  # what is mounted here is not mounted for others


# -- mounts, in a namespace of our own

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 8, 1 << 12, 1 << 14, 1 << 18
NR_MOUNT_SETATTR = 442  # the same on all architectures
AT_FDCWD, AT_RECURSIVE, MOUNT_ATTR_RDONLY = -100, 0x8000, 1


def cover(directory: Path) -> bool:
    """Put an empty directory, which stays so, in the place of this one; tell whether that could be."""
    try:
        _mount("tmpfs", str(directory), "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, b"size=4k,mode=555")
    except OSError:
        return False
    return True


def freeze(directory: Path) -> bool:
    """Let nothing be changed in a directory; tell whether that could be."""
    attributes = struct.pack("=4Q", MOUNT_ATTR_RDONLY, 0, 0, 0)
    try:
        _mount(str(directory), str(directory), "", MS_BIND | MS_REC)
        _syscall(NR_MOUNT_SETATTR, AT_FDCWD, os.fsencode(directory), AT_RECURSIVE, attributes, len(attributes))
    except OSError:
        return False
    return True


def _mount(source: str, target: str, kind: str, flags: int, data: bytes | None = None) -> None:
    names = (os.fsencode(name) for name in (source, target, kind))
    _checked(_libc().mount(*names, ctypes.c_ulong(flags), data))


# -- capabilities

CAPABILITY_VERSION_3 = 0x20080522
CAP_DAC_OVERRIDE = 1
CAPABILITIES = 64


def drop_capabilities() -> None:
    """Give up for good what root may do beyond its own files, save for reaching those of others.

    The last is kept, since root runs scripts out of other users' folders; it passes no other wall.
    """
    for capability in range(CAPABILITIES):
        if capability != CAP_DAC_OVERRIDE:
            # There are fewer than 64, and who has none may drop none.
            _libc().prctl(PR_CAPBSET_DROP, ctypes.c_ulong(capability), *[ctypes.c_ulong(0)] * 3)
    _libc().prctl(PR_CAP_AMBIENT, *[ctypes.c_ulong(value) for value in (PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)])
    header = struct.pack("=Ii", CAPABILITY_VERSION_3, 0)
    had = ctypes.create_string_buffer(24)  # effective, permitted and inheritable: 32 bits of each, then 32 more
    _checked(_libc().capget(header, had))
    kept = struct.unpack_from("=II", had)[1] & 1 << CAP_DAC_OVERRIDE
    _checked(_libc().capset(header, struct.pack("=6I", kept, kept, 0, 0, 0, 0)))


# -- Landlock

# The same on all architectures.
NR_LANDLOCK_CREATE_RULESET, NR_LANDLOCK_ADD_RULE, NR_LANDLOCK_RESTRICT_SELF = 444, 445, 446
LANDLOCK_CREATE_RULESET_VERSION = 1
LANDLOCK_RULE_PATH_BENEATH = 1

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE = (1 << bit for bit in range(6))
MAKE_DIR, MAKE_REG, REFER, TRUNCATE, IOCTL_DEV = (1 << bit for bit in (7, 8, 13, 14, 15))
READ = READ_FILE | READ_DIR
# No device, socket, pipe or symbolic link can be made anywhere.
WRITE = WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | REFER | TRUNCATE
OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
# Which rights are known from which version on.
RIGHTS = {1: (1 << 13) - 1, 2: REFER, 3: TRUNCATE, 5: IOCTL_DEV}
TCP_FROM, TCP = 4, 0b11  # bind and connect
SCOPES_FROM, SCOPES = 6, 0b11  # abstract unix sockets of others, and signals to them


def landlock_version() -> int:
    """Return which version of Landlock this kernel has; 0 is none."""
    try:
        return _syscall(NR_LANDLOCK_CREATE_RULESET, None, 0, LANDLOCK_CREATE_RULESET_VERSION)
    except OSError:
        return 0


def restrict_files(rules: Iterable[tuple[Path, int]]) -> bool:
    """Let paths be opened by these rules only; tell whether that could be.

    Args:
        rules: a file, or a directory with all that is below it, and the rights there. Those of several rules add up.
    """
    version = landlock_version()
    if not version:
        return False
    known = sum(rights for since, rights in RIGHTS.items() if version >= since)
    attributes = struct.pack(
        "=QQQ", known, TCP if version >= TCP_FROM else 0, SCOPES if version >= SCOPES_FROM else 0
    )  # older kernels take a longer structure, if it ends in zeros
    ruleset = _syscall(NR_LANDLOCK_CREATE_RULESET, attributes, len(attributes), 0)
    try:
        for path, rights in rules:
            _add_rule(ruleset, path, rights & known)
        _syscall(NR_LANDLOCK_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return True


def _add_rule(ruleset: int, path: Path, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # gone meanwhile, or not there on this machine
    try:
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            rights &= OF_FILES
        if rights:
            rule = struct.pack("=Qi", rights, place)
            _syscall(NR_LANDLOCK_ADD_RULE, ruleset, LANDLOCK_RULE_PATH_BENEATH, rule, 0)
    finally:
        os.close(place)


# -- seccomp


class Machine(NamedTuple):
    """An architecture: how the kernel names it, and its numbers of the calls that are looked at.

    Attributes:
        refused: calls that are refused always; see below.
        signals: those that send a signal to a process.
        x32_from: where the numbers of another way to call begin, 0 if there is none.
    """

    audit_arch: int
    refused: tuple[int, ...]
    signals: tuple[int, ...]
    socketpair: int
    ioctl: int
    clone: int
    prlimit: int
    x32_from: int = 0


# socket bind listen accept accept4 connect: what is not inherited is not to be had.
# io_uring_setup and its kin make sockets past this filter; add_key request_key keyctl have the kernel resolve names.
# ptrace process_vm_readv process_vm_writev pidfd_getfd pidfd_send_signal: other processes.
# unshare setns bpf perf_event_open userfaultfd: a larger kernel to attack, and nothing that a program needs.
# truncate chmod fchmodat fchmodat2 chown lchown fchownat: by path, and Landlock does not see them.
_EVERYWHERE = (425, 426, 427, 438, 452, 424)  # io_uring_*, pidfd_getfd, fchmodat2, pidfd_send_signal
_OF_X86_64 = (41, 49, 50, 43, 288, 42, 248, 249, 250, 101, 310, 311, 272, 308, 321, 298, 323, 76, 90, 268, 92, 94, 260)
_GENERIC = (198, 200, 201, 202, 242, 203, 217, 218, 219, 117, 270, 271, 97, 268, 280, 241, 282, 45, 53, 54)
# signals: kill tgkill rt_sigqueueinfo rt_tgsigqueueinfo tkill.
X86_64 = Machine(
    audit_arch=0xC000003E,
    refused=(*_OF_X86_64, *_EVERYWHERE),
    signals=(62, 234, 129, 297, 200),
    socketpair=53,
    ioctl=16,
    clone=56,
    prlimit=302,
    x32_from=0x40000000,
)
AARCH64 = Machine(
    audit_arch=0xC00000B7,
    refused=(*_GENERIC, *_EVERYWHERE),
    signals=(129, 131, 138, 240, 130),
    socketpair=199,
    ioctl=29,
    clone=220,
    prlimit=261,
)
RISCV64 = AARCH64._replace(audit_arch=0xC00000F3)
MACHINES = {"x86_64": X86_64, "aarch64": AARCH64, "riscv64": RISCV64}
NR_CLONE3 = 435  # the same on all architectures

# Both put characters into the terminal as if they were typed there, for the shell to run.
TIOCSTI, TIOCLINUX = 0x5412, 0x541C
NEW_NAMESPACES = 0x7E020000  # all CLONE_NEW* that clone(2) takes

SECCOMP_MODE_FILTER = 2
ALLOW, REFUSE, NOT_THERE = 0x7FFF0000, 0x00050001, 0x00050026  # the latter two are EPERM and ENOSYS
LOAD, JUMP_IF_EQUAL, JUMP_IF_AT_LEAST, JUMP_IF_ANY_BIT, AND, RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06  # of 32 bits
# struct seccomp_data: int nr, u32 arch, u64 instruction_pointer, u64 args[6]
AT_NUMBER, AT_ARCH, AT_FIRST, AT_SECOND = 0, 4, 16, 24
SOCKET_TYPE = 0xF  # without SOCK_CLOEXEC and SOCK_NONBLOCK

Instruction = tuple[int, int, int, int]  # code, how many to skip if true, how many if false, operand


def machine() -> Machine | None:
    """Return what this process runs on; None where we have no numbers, or where Python is of 32 bits."""
    return MACHINES.get(platform.machine()) if sys.maxsize > 2**32 and sys.byteorder == "little" else None


def refuse_sockets(*, alone: bool) -> bool:
    """Let no socket be made, bound or connected, save for pairs of streams; tell whether that could be.

    Needs no_new_privs. A call for 32 bits on a kernel of 64 is refused, whatever it is.

    Args:
        alone: no other process is to get a signal of ours, one that we start neither.
    """
    on = machine()
    if on is None:
        return False
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in _filter(on, os.getpid(), alone=alone))
    instructions = ctypes.create_string_buffer(code, len(code))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(code) // 8, ctypes.addressof(instructions)))
    try:
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(program))
    except OSError:
        return False
    return True


def _filter(on: Machine, process: int, *, alone: bool) -> Iterator[Instruction]:
    """Yield what the kernel runs at each call of `process`."""
    refuse = (RETURN, 0, 0, REFUSE)
    yield LOAD, 0, 0, AT_ARCH
    yield JUMP_IF_EQUAL, 1, 0, on.audit_arch
    yield refuse
    yield LOAD, 0, 0, AT_NUMBER
    if on.x32_from:
        yield JUMP_IF_AT_LEAST, 0, 1, on.x32_from
        yield refuse
    for number in on.refused:
        yield JUMP_IF_EQUAL, 0, 1, number
        yield refuse
    # Its flags are in memory, where a filter cannot look; who is told that it is not there takes clone.
    yield JUMP_IF_EQUAL, 0, 1, NR_CLONE3
    yield RETURN, 0, 0, NOT_THERE
    yield from _of(on.clone, [(LOAD, 0, 0, AT_FIRST), (JUMP_IF_ANY_BIT, 0, 1, NEW_NAMESPACES), refuse])
    # The low half of an argument is all that the kernel looks at in these; a high half must not hide them from us.
    of_terminals = [(JUMP_IF_EQUAL, 1, 0, TIOCSTI), (JUMP_IF_EQUAL, 0, 1, TIOCLINUX), refuse]
    yield from _of(on.ioctl, [(LOAD, 0, 0, AT_SECOND), *of_terminals])
    for number in on.signals if alone else ():
        yield from _of(number, [(LOAD, 0, 0, AT_FIRST), (JUMP_IF_EQUAL, 1, 0, process), refuse])
    # The limits of another process can end it as a signal does.
    own = [(JUMP_IF_EQUAL, 2, 0, 0), (JUMP_IF_EQUAL, 1, 0, process), refuse]
    yield from _of(on.prlimit, [(LOAD, 0, 0, AT_FIRST), *own])
    # Of unix sockets, since others may be connected anew; of streams, since a datagram may go to any address.
    of_streams = [(LOAD, 0, 0, AT_SECOND), (AND, 0, 0, SOCKET_TYPE), (JUMP_IF_EQUAL, 1, 0, socket.SOCK_STREAM), refuse]
    of_unix = [(LOAD, 0, 0, AT_FIRST), (JUMP_IF_EQUAL, 1, 0, socket.AF_UNIX), refuse]
    yield from _of(on.socketpair, [*of_unix, *of_streams])
    yield RETURN, 0, 0, ALLOW


def _of(number: int, rules: list[Instruction]) -> Iterator[Instruction]:
    """Yield rules for one call, which is allowed if none of them refuses it."""
    yield JUMP_IF_EQUAL, 0, len(rules) + 1, number
    yield from rules
    yield RETURN, 0, 0, ALLOW
