"""The filter of system calls: what the kernel asks at each call of the program.

Knows the machines, what each rule of syscalls.py means, and how to say it in the kernel's language (BPF).
A filter sees numbers and not what lies behind an address, so it cannot judge a path. Source: seccomp(2).
"""

from __future__ import annotations

import ctypes
import os
import platform
import socket
import struct
import sys
from collections.abc import Iterator
from typing import NamedTuple

from onionmpc.program.walls import linux
from onionmpc.program.walls.syscalls import NUMBERS, RISCV64_OWN, RULES, CallRule


class Machine(NamedTuple):
    """An architecture: how the kernel names it, and its number of each call."""

    audit_arch: int
    numbers: dict[str, int]


_GENERIC = {name: numbers.arm64 for name, numbers in NUMBERS.items() if numbers.arm64 is not None}
X86_64 = Machine(0xC000003E, {name: numbers.x86_64 for name, numbers in NUMBERS.items() if numbers.x86_64 is not None})
AARCH64 = Machine(0xC00000B7, _GENERIC)
RISCV64 = Machine(0xC00000F3, _GENERIC | RISCV64_OWN)
MACHINES = {"x86_64": X86_64, "aarch64": AARCH64, "riscv64": RISCV64}


class Reach(NamedTuple):
    """What the other walls, and its person, leave to the program.

    Attributes:
        alone: it is to start no process, and to signal none but itself.
        apart: the names of shared memory and messages are its own (an IPC namespace).
        frozen: it can change nothing but what it may write (mounts).
    """

    alone: bool
    apart: bool
    frozen: bool


SECCOMP_MODE_FILTER = 2
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
# EPERM, ENOSYS, EOPNOTSUPP, ENOTTY
REFUSE, NOT_THERE, NOT_SUPPORTED, NO_SUCH_REQUEST = ERRNO | 1, ERRNO | 38, ERRNO | 95, ERRNO | 25
LOAD, JUMP_IF_EQUAL, JUMP_IF_AT_LEAST, JUMP_IF_ANY_BIT, AND, RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06  # of 32 bits
# struct seccomp_data: int nr, u32 arch, u64 instruction_pointer, u64 args[6]. The kernel looks at the low half alone of
# all arguments that are judged here; a high half must not hide them from us.
AT_NUMBER, AT_ARCH, AT_FIRST, AT_SECOND, AT_THIRD = 0, 4, 16, 24, 32

NEW_NAMESPACES = 0x7E020000  # all CLONE_NEW* that clone(2) takes
CLONE_PARENT, CLONE_THREAD = 0x00008000, 0x00010000
SOCKET_TYPE = 0xF  # without SOCK_CLOEXEC and SOCK_NONBLOCK
PR_SCHED_CORE = 62  # of another process, too
O_TRUNC, O_ACCMODE = 0o1000, 0o3
PRIO_PROCESS, IOPRIO_WHO_PROCESS = 0, 1
F_SETFL, O_ASYNC = 4, 0o20000
# F_SETOWN F_SETSIG F_SETOWN_EX: a signal of ours, to whom we like, at the next byte. F_SETLEASE F_NOTIFY: what others
# do to a file waits for us, or is reported to us.
FCNTL_REFUSED = (8, 10, 15, 1024, 1026)
# Of ioctl what concerns terminals and all open files is allowed (TC*, TIOC*, FIO*: requests of type T), and a copy
# that shares its blocks (FICLONE FICLONERANGE). The rest has gaps that no list would close: any socket tells the
# addresses of the machine (SIOCGIFCONF), and file systems change what was opened for reading (FS_IOC_SETFLAGS).
IOCTL_TYPE, IOCTL_OF_TERMINALS = 0xFF00, 0x5400
IOCTL_ALLOWED = (0x40049409, 0x4020940D)
# TIOCSTI TIOCLINUX: characters come into the terminal as if they were typed there, for the shell to run. TIOCSETD:
# another driver for it. FIOASYNC: signals, as by fcntl.
IOCTL_REFUSED = (0x5412, 0x541C, 0x5423, 0x5452)

Instruction = tuple[int, int, int, int]  # code, how many to skip if true, how many if false, operand
ALLOWED, REFUSED, MISSING, UNSUPPORTED = (
    (RETURN, 0, 0, verdict) for verdict in (ALLOW, REFUSE, NOT_THERE, NOT_SUPPORTED)
)


def machine() -> Machine | None:
    """Return what this process runs on; None where we have no numbers, or where Python is of 32 bits."""
    return MACHINES.get(platform.machine()) if sys.maxsize > 2**32 and sys.byteorder == "little" else None


def refuse_calls(reach: Reach) -> bool:
    """Refuse what a program has no business with, sockets above all, from now on; tell whether that could be.

    Needs no_new_privs. A call for 32 bits on a kernel of 64 is refused, whatever it is.
    """
    on = machine()
    if on is None:
        return False
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in compose(on, os.getpid(), reach))
    instructions = ctypes.create_string_buffer(code, len(code))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(code) // 8, ctypes.addressof(instructions)))
    try:
        linux.prctl(linux.PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(program))
    except OSError:
        return False
    return True


def compose(on: Machine, process: int, reach: Reach) -> Iterator[Instruction]:
    """Yield what the kernel runs at each call of `process`."""
    yield LOAD, 0, 0, AT_ARCH
    yield JUMP_IF_EQUAL, 1, 0, on.audit_arch
    yield REFUSED
    yield LOAD, 0, 0, AT_NUMBER
    # What is in no table is newer than this one, or of x32: libraries take ENOSYS for an older kernel and do without,
    # while EPERM would end them.
    judged = {number: _judge(name, process, reach) for name, number in on.numbers.items()}
    before: list[Instruction] = [MISSING]
    for number in range(max(judged) + 2):
        judge = judged.get(number, [MISSING])
        if judge != before:
            yield JUMP_IF_AT_LEAST, len(before), 0, number
            yield from before
            before = judge
    yield from before


def _judge(name: str, process: int, reach: Reach) -> list[Instruction]:
    """Return the instructions for one call, which end in a verdict."""
    itself = [(LOAD, 0, 0, AT_FIRST), (JUMP_IF_EQUAL, 0, 1, process), ALLOWED, REFUSED]
    match RULES.get(name, CallRule.OWN):
        case CallRule.OWN | CallRule.PATHS:
            return [ALLOWED]
        case CallRule.FAMILY:
            return itself if reach.alone else [ALLOWED]
        case CallRule.NUMBERED:
            return [(LOAD, 0, 0, AT_FIRST), (JUMP_IF_EQUAL, 1, 0, 0), (JUMP_IF_EQUAL, 0, 1, process), ALLOWED, REFUSED]
        case CallRule.RANKED:
            return _judge_rank(PRIO_PROCESS if name == "setpriority" else IOPRIO_WHO_PROCESS, process)
        case CallRule.STARTS:
            return [REFUSED if reach.alone else ALLOWED]
        case CallRule.ATTRIBUTES:
            return [ALLOWED if reach.frozen else REFUSED]
        case CallRule.NAMES:
            return [ALLOWED if reach.apart else REFUSED]
        case CallRule.LABELS:
            return [UNSUPPORTED]
        case CallRule.UNSEEN | CallRule.GONE:
            return [MISSING]
        case CallRule.ARGUMENTS:
            return _judge_arguments(name, reach)
        case _:
            return [REFUSED]


def _judge_rank(of_processes: int, process: int) -> list[Instruction]:
    """Return the rules for calls whose arguments are a kind of number, and a number."""
    kind = [(LOAD, 0, 0, AT_FIRST), (JUMP_IF_EQUAL, 1, 0, of_processes), REFUSED]
    return [*kind, (LOAD, 0, 0, AT_SECOND), (JUMP_IF_EQUAL, 1, 0, 0), (JUMP_IF_EQUAL, 0, 1, process), ALLOWED, REFUSED]


def _judge_arguments(name: str, reach: Reach) -> list[Instruction]:
    """Return the rules for the calls that have rules to themselves."""
    match name:
        case "clone":
            bits = NEW_NAMESPACES | CLONE_PARENT
            thread = [(JUMP_IF_ANY_BIT, 1, 0, CLONE_THREAD), REFUSED] if reach.alone else []
            return [(LOAD, 0, 0, AT_FIRST), (JUMP_IF_ANY_BIT, 0, 1, bits), REFUSED, *thread, ALLOWED]
        case "socketpair":
            # Of unix sockets, since others may be connected anew; of streams, since a datagram may go to any address.
            unix = [(LOAD, 0, 0, AT_FIRST), (JUMP_IF_EQUAL, 1, 0, socket.AF_UNIX), REFUSED]
            kind = [
                (LOAD, 0, 0, AT_SECOND),
                (AND, 0, 0, SOCKET_TYPE),
                (JUMP_IF_EQUAL, 1, 0, socket.SOCK_STREAM),
                REFUSED,
            ]
            return [*unix, *kind, ALLOWED]
        case "ioctl":
            copies = [each for value in IOCTL_ALLOWED for each in ((JUMP_IF_EQUAL, 0, 1, value), ALLOWED)]
            type_t = [(AND, 0, 0, IOCTL_TYPE), (JUMP_IF_EQUAL, 0, 1, IOCTL_OF_TERMINALS), ALLOWED]
            unknown = (RETURN, 0, 0, NO_SUCH_REQUEST)
            return [(LOAD, 0, 0, AT_SECOND), *_none_of(IOCTL_REFUSED), *copies, *type_t, unknown]
        case "fcntl":
            # Of a terminal O_ASYNC alone is enough: its driver takes the foreground's group for the owner.
            flags = [(JUMP_IF_EQUAL, 0, 3, F_SETFL), (LOAD, 0, 0, AT_THIRD), (JUMP_IF_ANY_BIT, 0, 1, O_ASYNC), REFUSED]
            return [(LOAD, 0, 0, AT_SECOND), *_none_of(FCNTL_REFUSED), *flags, ALLOWED]
        case "prctl":
            # A process that may start others may want these to end with it.
            refused = (PR_SCHED_CORE, linux.PR_SET_PDEATHSIG) if reach.alone else (PR_SCHED_CORE,)
            return [(LOAD, 0, 0, AT_FIRST), *_none_of(refused), ALLOWED]
        case "open" | "openat":
            # With O_TRUNC a file that is opened to read it is emptied, and so is one opened for neither (3); Landlock
            # does not see that before its version 3.
            at = AT_SECOND if name == "open" else AT_THIRD
            return [(LOAD, 0, 0, at), (AND, 0, 0, O_TRUNC | O_ACCMODE), *_none_of((O_TRUNC, O_TRUNC | 3)), ALLOWED]
    raise LookupError(name)


def _none_of(values: tuple[int, ...]) -> Iterator[Instruction]:
    """Refuse these values of what is loaded."""
    for value in values:
        yield JUMP_IF_EQUAL, 0, 1, value
        yield REFUSED
