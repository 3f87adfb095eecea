"""What Linux lets a process do to itself: prctl, fewer capabilities; and the way to call what libc has no name for.

Does not know what is to be walled in, nor why. All of it acts on the calling thread and on what that starts later, so
it comes before there is a second thread. Sources: prctl(2), capabilities(7).
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
        OSError: it was refused.
    """
    checked(libc().prctl(option, *(ctypes.c_ulong(value) for value in [*values, 0, 0, 0, 0][:4])))


def libc() -> ctypes.CDLL:
    """Return the C library that this process runs with."""
    return ctypes.CDLL(None, use_errno=True)


def checked(result: int) -> int:
    """Return what a function of the C library returned.

    Raises:
        OSError: it was negative.
    """
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def syscall(number: int, *values: int | bytes | None) -> int:
    """Call what libc has no name for; bytes go by address.

    Raises:
        OSError: it was refused.
    """
    given = (ctypes.c_long(value) if isinstance(value, int) else value for value in values)
    return checked(libc().syscall(ctypes.c_long(number), *given))


def drop_capabilities() -> None:
    """Give up for good what root may do beyond its own files, save for reaching those of others.

    The last is kept, since root runs scripts out of other users' folders; it passes no other wall.
    """
    for capability in range(CAPABILITIES):
        if capability != CAP_DAC_OVERRIDE:
            # There are fewer than 64, and who has none may drop none.
            libc().prctl(PR_CAPBSET_DROP, ctypes.c_ulong(capability), *[ctypes.c_ulong(0)] * 3)
    libc().prctl(PR_CAP_AMBIENT, *[ctypes.c_ulong(value) for value in (PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)])
    header = struct.pack("=Ii", CAPABILITY_VERSION_3, 0)
    had = ctypes.create_string_buffer(24)  # effective, permitted and inheritable: 32 bits of each, then 32 more
    checked(libc().capget(header, had))
    kept = struct.unpack_from("=II", had)[1] & 1 << CAP_DAC_OVERRIDE
    checked(libc().capset(header, struct.pack("=6I", kept, kept, 0, 0, 0, 0)))
