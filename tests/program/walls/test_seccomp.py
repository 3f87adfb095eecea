"""The filter of system calls, run as the kernel would run it, also for other architectures."""

from __future__ import annotations

import itertools
import socket

import pytest

from onionmpc.program.walls import seccomp
from onionmpc.program.walls.namespaces import CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWUSER
from onionmpc.program.walls.seccomp import (
    AARCH64,
    ALLOW,
    NOT_SUPPORTED,
    NOT_THERE,
    REFUSE,
    RISCV64,
    X86_64,
    Machine,
    Reach,
)
from onionmpc.program.walls.syscalls import RULES, CallRule

MACHINES = [X86_64, AARCH64, RISCV64]
OURS = 4711  # the number of our process
CLONE_THREAD_AND_MORE = 0x3D0F00  # what pthread_create gives to clone
CLONE_LIKE_FORK = 0x01200011
X32 = 0x40000000
HIGH = 1 << 40  # a bit of an argument that the kernel ignores
FULL = Reach(alone=True, apart=True, frozen=True)
ALONE = Reach(alone=True, apart=False, frozen=False)  # there is no other wall
WITH_PROCESSES = Reach(alone=False, apart=True, frozen=True)
REACHES = [Reach(*each) for each in itertools.product((True, False), repeat=3)]


def ruling(on: Machine, call: str | int, *arguments: int, arch: int | None = None, reach: Reach = FULL) -> int:
    """Run the filter on one call. It must end, and must not be longer than the kernel accepts."""
    code = list(seccomp.compose(on, OURS, reach))
    assert len(code) <= 4096
    assert all(0 <= skip < 256 for _, *skips, _ in code for skip in skips)
    number = on.numbers[call] if isinstance(call, str) else call
    words = {seccomp.AT_NUMBER: number, seccomp.AT_ARCH: on.audit_arch if arch is None else arch}
    given = dict(enumerate(arguments))
    words |= {at: given.get(i, 0) for i, at in enumerate((seccomp.AT_FIRST, seccomp.AT_SECOND, seccomp.AT_THIRD))}
    at, accumulator = 0, 0
    while True:
        operation, if_true, if_false, operand = code[at]
        at += 1
        match operation:
            case seccomp.RETURN:
                return operand
            case seccomp.LOAD:
                accumulator = words[operand] & 0xFFFFFFFF
            case seccomp.AND:
                accumulator &= operand
            case seccomp.JUMP_IF_EQUAL:
                at += if_true if accumulator == operand else if_false
            case seccomp.JUMP_IF_AT_LEAST:
                at += if_true if accumulator >= operand else if_false
            case seccomp.JUMP_IF_ANY_BIT:
                at += if_true if accumulator & operand else if_false
            case _:
                raise AssertionError(operation)


def named(on: Machine, *rules: CallRule) -> list[str]:
    return [name for name, rule in RULES.items() if rule in rules and name in on.numbers]


# Issue 12.
@pytest.mark.parametrize("reach", REACHES)
@pytest.mark.parametrize("on", MACHINES)
def test_each_call_is_judged_by_its_rule(on: Machine, reach: Reach) -> None:
    always = {
        **dict.fromkeys((CallRule.OWN, CallRule.PATHS), ALLOW),
        **dict.fromkeys(
            (CallRule.SOCKETS, CallRule.OTHERS, CallRule.OWNERS, CallRule.WATCHES, CallRule.MACHINE, CallRule.SURFACE),
            REFUSE,
        ),
        **dict.fromkeys((CallRule.UNSEEN, CallRule.GONE), NOT_THERE),
        CallRule.LABELS: NOT_SUPPORTED,
        CallRule.ATTRIBUTES: ALLOW if reach.frozen else REFUSE,
        CallRule.NAMES: ALLOW if reach.apart else REFUSE,
        CallRule.STARTS: REFUSE if reach.alone else ALLOW,
    }
    for rule, expected in always.items():
        assert {ruling(on, name, reach=reach) for name in named(on, rule)} == {expected}, rule
    assert set(CallRule) - set(always) == {
        CallRule.FAMILY,
        CallRule.NUMBERED,
        CallRule.RANKED,
        CallRule.ARGUMENTS,
    }  # see below


# Issue 12.
@pytest.mark.parametrize("on", MACHINES)
def test_a_call_that_is_in_no_table_does_not_exist(on: Machine) -> None:
    known = set(on.numbers.values())
    unknown = [number for number in range(max(known) + 600) if number not in known]
    assert len(unknown) > 600
    for number in [*unknown, X32 + on.numbers["write"], 0xFFFFFFFF]:
        assert ruling(on, number) == NOT_THERE


@pytest.mark.parametrize("on", MACHINES)
def test_a_call_of_another_architecture_is_refused(on: Machine) -> None:
    assert ruling(on, "write", 1) == ALLOW
    assert ruling(on, "write", 1, arch=0x40000003) == REFUSE  # i386


@pytest.mark.parametrize("on", MACHINES)
def test_only_pairs_of_unix_stream_sockets_can_be_made(on: Machine) -> None:
    flags = socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK if hasattr(socket, "SOCK_CLOEXEC") else 0
    assert ruling(on, "socketpair", socket.AF_UNIX, socket.SOCK_STREAM | flags) == ALLOW
    assert ruling(on, "socketpair", socket.AF_UNIX, socket.SOCK_DGRAM | flags) == REFUSE
    assert ruling(on, "socketpair", socket.AF_UNIX, socket.SOCK_SEQPACKET) == REFUSE
    assert ruling(on, "socketpair", socket.AF_INET, socket.SOCK_STREAM) == REFUSE
    assert ruling(on, "socket", socket.AF_UNIX, socket.SOCK_STREAM) == REFUSE


@pytest.mark.parametrize("on", MACHINES)
def test_dangerous_ioctl_requests_are_refused_whatever_their_high_bits_are(
    on: Machine,
) -> None:
    tcgets, fionbio = 0x5401, 0x5421
    assert ruling(on, "ioctl", 0, tcgets) == ruling(on, "ioctl", 0, fionbio) == ALLOW
    for request in seccomp.IOCTL_REFUSED:
        assert ruling(on, "ioctl", 0, request) == ruling(on, "ioctl", 0, request | HIGH) == REFUSE


# Issue 12.
@pytest.mark.parametrize("on", MACHINES)
def test_fcntl_cannot_request_signals(on: Machine) -> None:
    f_setfd, nonblocking = 2, 0o4000
    assert ruling(on, "fcntl", 0, f_setfd, 1) == ALLOW
    assert ruling(on, "fcntl", 0, seccomp.F_SETFL, nonblocking) == ALLOW
    assert ruling(on, "fcntl", 0, seccomp.F_SETFL, nonblocking | seccomp.O_ASYNC) == REFUSE
    for command in seccomp.FCNTL_REFUSED:
        assert ruling(on, "fcntl", 0, command) == ruling(on, "fcntl", 0, command | HIGH) == REFUSE


# Issue 12.
@pytest.mark.parametrize("on", MACHINES)
def test_a_file_that_is_opened_for_reading_cannot_be_emptied(on: Machine) -> None:
    read, write, both, neither = 0, 1, 2, 3
    for name, before in (("open", (0,)), ("openat", (0, 0))):
        if name in on.numbers:
            for mode in (read, neither):
                assert ruling(on, name, *before, mode | seccomp.O_TRUNC) == REFUSE
                assert ruling(on, name, *before, mode) == ALLOW
            for mode in (write, both):
                assert ruling(on, name, *before, mode | seccomp.O_TRUNC) == ALLOW


@pytest.mark.parametrize("on", MACHINES)
def test_threads_can_be_made_but_namespaces_cannot(on: Machine) -> None:
    assert ruling(on, "clone", CLONE_THREAD_AND_MORE) == ALLOW
    for flag in (CLONE_NEWUSER, CLONE_NEWNET, CLONE_NEWNS, seccomp.CLONE_PARENT):
        for reach in (FULL, WITH_PROCESSES):
            assert ruling(on, "clone", CLONE_THREAD_AND_MORE | flag | HIGH, reach=reach) == REFUSE


# Issue 12.
@pytest.mark.parametrize("on", MACHINES)
def test_processes_can_be_started_only_if_the_user_allows_it(on: Machine) -> None:
    assert ruling(on, "clone", CLONE_LIKE_FORK) == ruling(on, "execve") == REFUSE
    assert ruling(on, "clone", CLONE_LIKE_FORK, reach=WITH_PROCESSES) == ALLOW
    assert ruling(on, "execve", reach=WITH_PROCESSES) == ALLOW


@pytest.mark.parametrize("on", MACHINES)
def test_a_process_can_signal_only_itself(on: Machine) -> None:
    for name in named(on, CallRule.FAMILY):
        assert ruling(on, name, OURS) == ALLOW
        for other in (OURS + 1, 0, 0xFFFFFFFF, -OURS & 0xFFFFFFFF):
            assert ruling(on, name, other) == REFUSE
        # A program that may start processes may end them.
        assert ruling(on, name, OURS + 1, reach=WITH_PROCESSES) == ALLOW


# Issue 12.
@pytest.mark.parametrize("reach", REACHES)
@pytest.mark.parametrize("on", MACHINES)
def test_a_process_can_set_limits_priorities_and_processors_only_for_itself(on: Machine, reach: Reach) -> None:
    for name in named(on, CallRule.NUMBERED):
        assert ruling(on, name, 0, reach=reach) == ruling(on, name, OURS, reach=reach) == ALLOW
        assert ruling(on, name, OURS + 1, reach=reach) == REFUSE
    for name, of_processes, others in (("setpriority", 0, (1, 2)), ("ioprio_set", 1, (2, 3))):
        assert ruling(on, name, of_processes, 0, reach=reach) == ALLOW
        assert ruling(on, name, of_processes, OURS, reach=reach) == ALLOW
        assert ruling(on, name, of_processes, OURS + 1, reach=reach) == REFUSE
        for kind in others:  # a group, a user
            assert ruling(on, name, kind, 0, reach=reach) == ruling(on, name, kind, OURS, reach=reach) == REFUSE
