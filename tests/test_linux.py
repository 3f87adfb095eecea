"""What the filter of system calls does, run here as the kernel would run it: also for machines that this one is not."""

from __future__ import annotations

import socket

import pytest

from onionmpc.program import linux
from onionmpc.program.linux import AARCH64, ALLOW, NOT_THERE, REFUSE, RISCV64, X86_64, Machine

MACHINES = [X86_64, AARCH64, RISCV64]
OURS = 4711  # a process
CLONE_THREAD_AND_MORE = 0x3D0F00  # what pthread_create gives to clone
HIGH = 1 << 40  # bits of an argument that the kernel does not look at
SOCKET = {X86_64: 41, AARCH64: 198, RISCV64: 198}
WRITE = {X86_64: 1, AARCH64: 64, RISCV64: 64}


def ruling(on: Machine, number: int, *arguments: int, arch: int | None = None, alone: bool = True) -> int:
    """Run the filter on one call; it must end, and fit into what the kernel takes."""
    code = list(linux._filter(on, OURS, alone=alone))
    assert len(code) <= 4096
    given = dict(enumerate(arguments))
    words = {linux.AT_NUMBER: number, linux.AT_ARCH: on.audit_arch if arch is None else arch}
    words |= {linux.AT_FIRST: given.get(0, 0), linux.AT_SECOND: given.get(1, 0)}
    at, accumulator = 0, 0
    while True:
        operation, if_true, if_false, operand = code[at]
        at += 1
        match operation:
            case linux.RETURN:
                return operand
            case linux.LOAD:
                accumulator = words[operand] & 0xFFFFFFFF
            case linux.AND:
                accumulator &= operand
            case linux.JUMP_IF_EQUAL:
                at += if_true if accumulator == operand else if_false
            case linux.JUMP_IF_AT_LEAST:
                at += if_true if accumulator >= operand else if_false
            case linux.JUMP_IF_ANY_BIT:
                at += if_true if accumulator & operand else if_false
            case _:
                raise AssertionError(operation)


@pytest.mark.parametrize("on", MACHINES)
def test_calls_that_make_or_connect_sockets_are_refused_and_others_not(on: Machine) -> None:
    assert ruling(on, SOCKET[on], socket.AF_UNIX, socket.SOCK_STREAM) == REFUSE
    assert all(ruling(on, number) == REFUSE for number in on.refused)
    assert ruling(on, WRITE[on], 1) == ALLOW


@pytest.mark.parametrize("on", MACHINES)
def test_a_call_of_another_architecture_is_refused(on: Machine) -> None:
    assert ruling(on, WRITE[on], 1, arch=0x40000003) == REFUSE  # i386
    if on.x32_from:
        assert ruling(on, on.x32_from + WRITE[on], 1) == REFUSE


@pytest.mark.parametrize("on", MACHINES)
def test_only_pairs_of_unix_streams_are_made(on: Machine) -> None:
    flags = socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK if hasattr(socket, "SOCK_CLOEXEC") else 0
    assert ruling(on, on.socketpair, socket.AF_UNIX, socket.SOCK_STREAM | flags) == ALLOW
    assert ruling(on, on.socketpair, socket.AF_UNIX, socket.SOCK_DGRAM | flags) == REFUSE
    assert ruling(on, on.socketpair, socket.AF_UNIX, socket.SOCK_SEQPACKET) == REFUSE
    assert ruling(on, on.socketpair, socket.AF_INET, socket.SOCK_STREAM) == REFUSE


@pytest.mark.parametrize("on", MACHINES)
def test_nothing_is_typed_into_terminals_whatever_the_high_bits_are(on: Machine) -> None:
    tcgets = 0x5401
    assert ruling(on, on.ioctl, 0, tcgets) == ALLOW
    for request in (linux.TIOCSTI, linux.TIOCLINUX):
        assert ruling(on, on.ioctl, 0, request) == ruling(on, on.ioctl, 0, request | HIGH) == REFUSE


@pytest.mark.parametrize("on", MACHINES)
def test_threads_are_made_and_namespaces_not(on: Machine) -> None:
    assert ruling(on, on.clone, CLONE_THREAD_AND_MORE) == ALLOW
    assert ruling(on, linux.NR_CLONE3) == NOT_THERE
    for flag in (linux.CLONE_NEWUSER, linux.CLONE_NEWNET, linux.CLONE_NEWNS):
        assert ruling(on, on.clone, CLONE_THREAD_AND_MORE | flag | HIGH) == REFUSE


@pytest.mark.parametrize("on", MACHINES)
def test_signals_and_limits_are_for_the_process_itself(on: Machine) -> None:
    for number in on.signals:
        assert ruling(on, number, OURS) == ALLOW
        assert ruling(on, number, OURS + 1) == ruling(on, number, 0) == ruling(on, number, 0xFFFFFFFF) == REFUSE
        # Who may start processes may end them.
        assert ruling(on, number, OURS + 1, alone=False) == ALLOW
    for alone in (True, False):
        assert ruling(on, on.prlimit, 0, alone=alone) == ruling(on, on.prlimit, OURS, alone=alone) == ALLOW
        assert ruling(on, on.prlimit, OURS + 1, alone=alone) == REFUSE
