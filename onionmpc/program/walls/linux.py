"""Calls by which a Linux process restricts itself: prctl, dropping capabilities, and system calls without a libc name.

Does not know what is walled in, or why. All of this acts on the calling thread and its later children, so it must
happen before a second thread starts. Sources: prctl(2), capabilities(7).
"""

from __future__ import annotations

import ctypes
import os
import struct

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4

CAPABILITY_VERSION_3 = 0x20080522
CAP_DAC_OVERRIDE = 1
CAPABILITIES = 64


def prctl(option: int, *values: int) -> None:
    """Call prctl(2).

    Raises:
        OSError: the kernel refused it.
    """
    # The kernel refuses some options unless all unused arguments are 0, as unsigned long.
    checked(libc().prctl(option, *(ctypes.c_ulong(value) for value in [*values, 0, 0, 0, 0][:4])))


def libc() -> ctypes.CDLL:
    """Return the C library of this process."""
    return ctypes.CDLL(None, use_errno=True)


def checked(result: int) -> int:
    """Return the result of a function of the C library.

    Raises:
        OSError: the result is negative.
    """
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def syscall(number: int, *values: int | bytes | None) -> int:
    """Make a system call that has no libc function. Bytes are passed by address.

    Raises:
        OSError: the kernel refused it.
    """
    given = (ctypes.c_long(value) if isinstance(value, int) else value for value in values)
    return checked(libc().syscall(ctypes.c_long(number), *given))


def drop_capabilities() -> None:
    """Drop all capabilities of root for good, except the one that opens other users' files.

    Root runs scripts from other users' folders, so it needs that one. It bypasses no other wall.
    """
    for capability in range(CAPABILITIES):
        if capability != CAP_DAC_OVERRIDE:
            # Errors do not matter: kernels have fewer than 64, and a process without any may not drop any.
            libc().prctl(PR_CAPBSET_DROP, ctypes.c_ulong(capability), *[ctypes.c_ulong(0)] * 3)
    libc().prctl(PR_CAP_AMBIENT, *[ctypes.c_ulong(value) for value in (PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)])
    header = struct.pack("=Ii", CAPABILITY_VERSION_3, 0)
    had = ctypes.create_string_buffer(24)  # the low 32 bits of effective, permitted and inheritable, then the high ones
    checked(libc().capget(header, had))
    kept = struct.unpack_from("=II", had)[1] & 1 << CAP_DAC_OVERRIDE
    checked(libc().capset(header, struct.pack("=6I", kept, kept, 0, 0, 0, 0)))
