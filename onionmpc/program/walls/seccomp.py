"""The filter of system calls, which the kernel runs at each call of the program.

Knows the architectures, the meaning of each rule of syscalls.py, and how to write it in the kernel's language (BPF).
A filter sees only numbers. It cannot look behind an address, so it cannot judge a path. Source: seccomp(2).
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
    """An architecture: the kernel's number for it (AUDIT_ARCH_* of linux/audit.h), and its number for each call."""

    audit_arch: int
    numbers: dict[str, int]


_GENERIC = {name: numbers.arm64 for name, numbers in NUMBERS.items() if numbers.arm64 is not None}
X86_64 = Machine(0xC000003E, {name: numbers.x86_64 for name, numbers in NUMBERS.items() if numbers.x86_64 is not None})
AARCH64 = Machine(0xC00000B7, _GENERIC)
RISCV64 = Machine(0xC00000F3, _GENERIC | RISCV64_OWN)
MACHINES = {"x86_64": X86_64, "aarch64": AARCH64, "riscv64": RISCV64}


class Reach(NamedTuple):
    """What the user and the other walls leave to the program.

    Attributes:
        alone: it must not start processes, and may signal only itself.
        apart: it has its own names of shared memory and messages (an IPC namespace).
        frozen: it can change only files that it may write (mounts).
    """

    alone: bool
    apart: bool
    frozen: bool


# From linux/seccomp.h and linux/bpf_common.h.
SECCOMP_MODE_FILTER = 2
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
# EPERM, ENOSYS, EOPNOTSUPP, ENOTTY
REFUSE, NOT_THERE, NOT_SUPPORTED, NO_SUCH_REQUEST = ERRNO | 1, ERRNO | 38, ERRNO | 95, ERRNO | 25
LOAD, JUMP_IF_EQUAL, JUMP_IF_AT_LEAST, JUMP_IF_ANY_BIT, AND, RETURN = (
    0x20,
    0x15,
    0x35,
    0x45,
    0x54,
    0x06,
)  # all of 32 bits
# struct seccomp_data: int nr, u32 arch, u64 instruction_pointer, u64 args[6]. The kernel uses only the low half of the
# arguments that are judged here, and so does the filter: bits in the high half must not hide a value from it.
AT_NUMBER, AT_ARCH, AT_FIRST, AT_SECOND, AT_THIRD = 0, 4, 16, 24, 32

NEW_NAMESPACES = 0x7E020000  # every CLONE_NEW* flag of clone(2)
CLONE_PARENT, CLONE_THREAD = 0x00008000, 0x00010000
SOCKET_TYPE = 0xF  # without SOCK_CLOEXEC and SOCK_NONBLOCK
PR_SCHED_CORE = 62  # acts on other processes, too
O_TRUNC, O_ACCMODE = 0o1000, 0o3
PRIO_PROCESS, IOPRIO_WHO_PROCESS = 0, 1
F_SETFL, O_ASYNC = 4, 0o20000
# F_SETOWN F_SETSIG F_SETOWN_EX: the kernel sends a chosen signal to a chosen process when the next byte arrives, past
# the rule for kill(). F_SETLEASE F_NOTIFY: other processes that open a file have to wait, or are reported.
FCNTL_REFUSED = (8, 10, 15, 1024, 1026)
# Requests about terminals and about any open file (TC*, TIOC*, FIO*: type T) are allowed, and so are copies that share
# blocks (FICLONE FICLONERANGE). A list of the dangerous ones would have gaps: any socket reveals the machine's
# addresses (SIOCGIFCONF), and file systems change files that were opened for reading (FS_IOC_SETFLAGS).
IOCTL_TYPE, IOCTL_OF_TERMINALS = 0xFF00, 0x5400
IOCTL_ALLOWED = (0x40049409, 0x4020940D)
# TIOCSTI TIOCLINUX: put characters into the terminal's input, which the shell then runs as if they were typed.
# TIOCSETD: changes the terminal's driver. FIOASYNC: brings signals, like F_SETFL with O_ASYNC.
IOCTL_REFUSED = (0x5412, 0x541C, 0x5423, 0x5452)

Instruction = tuple[int, int, int, int]  # code, instructions to skip if true, and if false, operand
ALLOWED, REFUSED, MISSING, UNSUPPORTED = (
    (RETURN, 0, 0, verdict) for verdict in (ALLOW, REFUSE, NOT_THERE, NOT_SUPPORTED)
)


def machine() -> Machine | None:
    """Return this process's architecture; None if we lack its numbers, or if Python is a 32-bit build."""
    return MACHINES.get(platform.machine()) if sys.maxsize > 2**32 and sys.byteorder == "little" else None


def refuse_calls(reach: Reach) -> bool:
    """Refuse calls that a program does not need, sockets above all, from now on; return whether that was possible.

    Needs no_new_privs. Every 32-bit call on a 64-bit kernel is refused: it has other numbers.
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
    """Yield the filter that the kernel runs at each call of `process`."""
    yield LOAD, 0, 0, AT_ARCH
    yield JUMP_IF_EQUAL, 1, 0, on.audit_arch
    yield REFUSED
    yield LOAD, 0, 0, AT_NUMBER
    # A number that is in no table is newer than ours, or of x32. Libraries take ENOSYS for an older kernel and use
    # another call; at EPERM they would fail. Neighbouring numbers with equal rules share one comparison.
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
    """Return the instructions for one call. They end with a verdict."""
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
    """Return the instructions for calls that take a kind (process, group or user) and a number."""
    kind = [(LOAD, 0, 0, AT_FIRST), (JUMP_IF_EQUAL, 1, 0, of_processes), REFUSED]
    return [*kind, (LOAD, 0, 0, AT_SECOND), (JUMP_IF_EQUAL, 1, 0, 0), (JUMP_IF_EQUAL, 0, 1, process), ALLOWED, REFUSED]


def _judge_arguments(name: str, reach: Reach) -> list[Instruction]:
    """Return the instructions for calls that are judged by their arguments."""
    match name:
        case "clone":
            # CLONE_PARENT would make the new process a child of the supervisor.
            bits = NEW_NAMESPACES | CLONE_PARENT
            thread = [(JUMP_IF_ANY_BIT, 1, 0, CLONE_THREAD), REFUSED] if reach.alone else []
            return [(LOAD, 0, 0, AT_FIRST), (JUMP_IF_ANY_BIT, 0, 1, bits), REFUSED, *thread, ALLOWED]
        case "socketpair":
            # Only unix sockets: others can be connected again. Only streams: a datagram can go to any address.
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
            # For a terminal, O_ASYNC is enough: the driver makes the foreground process group the owner.
            flags = [(JUMP_IF_EQUAL, 0, 3, F_SETFL), (LOAD, 0, 0, AT_THIRD), (JUMP_IF_ANY_BIT, 0, 1, O_ASYNC), REFUSED]
            return [(LOAD, 0, 0, AT_SECOND), *_none_of(FCNTL_REFUSED), *flags, ALLOWED]
        case "prctl":
            # Without PR_SET_PDEATHSIG the program cannot undo that it ends with its supervisor. If it may start
            # processes, it may want these to end with it.
            refused = (PR_SCHED_CORE, linux.PR_SET_PDEATHSIG) if reach.alone else (PR_SCHED_CORE,)
            return [(LOAD, 0, 0, AT_FIRST), *_none_of(refused), ALLOWED]
        case "open" | "openat":
            # O_TRUNC empties a file even if it is opened only for reading, or for neither (mode 3). Landlock does not
            # see that before its version 3.
            at = AT_SECOND if name == "open" else AT_THIRD
            return [(LOAD, 0, 0, at), (AND, 0, 0, O_TRUNC | O_ACCMODE), *_none_of((O_TRUNC, O_TRUNC | 3)), ALLOWED]
    raise LookupError(name)


def _none_of(values: tuple[int, ...]) -> Iterator[Instruction]:
    """Refuse these values of the loaded argument."""
    for value in values:
        yield JUMP_IF_EQUAL, 0, 1, value
        yield REFUSED
