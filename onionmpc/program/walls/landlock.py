"""Landlock: limits which paths a process may open from now on, and how. Source: landlock(7)."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterable
from pathlib import Path

from onionmpc.program.walls import linux

# From linux/landlock.h; the call numbers are the same on all architectures.
NR_LANDLOCK_CREATE_RULESET, NR_LANDLOCK_ADD_RULE, NR_LANDLOCK_RESTRICT_SELF = 444, 445, 446
LANDLOCK_CREATE_RULESET_VERSION = 1
LANDLOCK_RULE_PATH_BENEATH = 1

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE = (1 << bit for bit in range(6))
MAKE_DIR, MAKE_REG, REFER, TRUNCATE, IOCTL_DEV = (1 << bit for bit in (7, 8, 13, 14, 15))
READ = READ_FILE | READ_DIR
# Does not include the rights to make devices, sockets, pipes and symbolic links: no program can make these anywhere.
WRITE = WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | REFER | TRUNCATE
OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
# The rights that each version of Landlock has added.
RIGHTS = {1: (1 << 13) - 1, 2: REFER, 3: TRUNCATE, 5: IOCTL_DEV}
TCP_FROM, TCP = 4, 0b11  # bind and connect
SCOPES_FROM, SCOPES = 6, 0b11  # abstract unix sockets of others, and signals to them


def version() -> int:
    """Return the version of Landlock in this kernel; 0 if it has none."""
    try:
        return linux.syscall(NR_LANDLOCK_CREATE_RULESET, None, 0, LANDLOCK_CREATE_RULESET_VERSION)
    except OSError:
        return 0


def restrict_files(rules: Iterable[tuple[Path, int]]) -> bool:
    """Allow paths to be opened only by these rules; return whether this kernel can do that.

    Args:
        rules: a file, or a directory with everything below it, and the rights there. Several rules add up.
    """
    found = version()
    if not found:
        return False
    known = sum(rights for since, rights in RIGHTS.items() if found >= since)
    attributes = struct.pack(
        "=QQQ", known, TCP if found >= TCP_FROM else 0, SCOPES if found >= SCOPES_FROM else 0
    )  # older kernels take a longer structure, if it ends in zeros
    ruleset = linux.syscall(NR_LANDLOCK_CREATE_RULESET, attributes, len(attributes), 0)
    try:
        for path, rights in rules:
            _add_rule(ruleset, path, rights & known)
        linux.syscall(NR_LANDLOCK_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return True


def _add_rule(ruleset: int, path: Path, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # it is gone, or this machine does not have it
    try:
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            rights &= OF_FILES  # the kernel refuses a rule for a file that has rights of folders
        if rights:
            rule = struct.pack("=Qi", rights, place)
            linux.syscall(NR_LANDLOCK_ADD_RULE, ruleset, LANDLOCK_RULE_PATH_BENEATH, rule, 0)
    finally:
        os.close(place)
