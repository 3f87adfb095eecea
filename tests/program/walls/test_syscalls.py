"""The table of system calls agrees with the kernel's headers, if this machine has them."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from onionmpc.program.walls.syscalls import _TABLE, NUMBERS, RULES, CallRule

# ARM64 selects calls in this way that not all newer architectures have (arch/arm64/include/uapi/asm/unistd.h).
ARM64 = """
#define __ARCH_WANT_RENAMEAT
#define __ARCH_WANT_NEW_STAT
#define __ARCH_WANT_SET_GET_RLIMIT
#define __ARCH_WANT_TIME32_SYSCALLS
#define __ARCH_WANT_SYS_CLONE3
#define __ARCH_WANT_MEMFD_SECRET
#include <asm-generic/unistd.h>
"""
# Not calls: their number, and where those of one architecture begin. The last name belongs to another architecture.
NOT_CALLS = {"syscalls", "arch_specific_syscall", "sync_file_range2"}


def header(source: str) -> dict[str, int]:
    """Return the number of each call, as the preprocessor finds it in a header."""
    if shutil.which("cpp") is None:
        pytest.skip("no C preprocessor")
    ran = subprocess.run(["cpp", "-dM", "-D__LP64__"], input=source, capture_output=True, text=True)
    if ran.returncode:
        pytest.skip("no headers of the kernel")
    defined = dict(re.findall(r"#define (__NR\w+) (\w+)", ran.stdout))
    found = {}
    for name, value in defined.items():
        while value in defined:
            value = defined[value]
        if name.startswith("__NR_"):
            found[name.removeprefix("__NR_")] = int(value)
    return {name: number for name, number in found.items() if name not in NOT_CALLS}


# Issue 12.
def test_every_call_has_one_rule_and_every_number_one_call() -> None:
    names = [row.split()[0] for rows in _TABLE.values() for row in rows.split(",")]
    assert len(names) == len(set(names)) == len(NUMBERS)
    assert set(RULES.values()) == set(_TABLE) == set(CallRule)
    for column in (0, 1):
        numbers = [number for both in NUMBERS.values() if (number := both[column]) is not None]
        assert len(numbers) == len(set(numbers))
        assert set(range(424, max(numbers) + 1)) <= set(numbers)  # since Linux 5.0 all have the same, without a gap
    assert all(both.x86_64 == both.arm64 for both in NUMBERS.values() if max(both.x86_64 or 0, both.arm64 or 0) >= 424)


# Issue 12.
def test_every_call_in_the_kernels_headers_for_x86_64_has_a_rule() -> None:
    if platform.machine() != "x86_64" and not Path("/usr/include/x86_64-linux-gnu").exists():
        pytest.skip("the headers are for another architecture")
    kernel = header("#include <asm/unistd_64.h>")
    assert {name: NUMBERS[name].x86_64 for name in kernel if name in NUMBERS} == kernel


# Issue 12.
def test_every_call_in_the_kernels_headers_for_arm64_has_a_rule() -> None:
    kernel = header(ARM64)
    assert {name: NUMBERS[name].arm64 for name in kernel if name in NUMBERS} == kernel
