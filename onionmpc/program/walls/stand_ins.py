"""Replacements that keep parts of the standard library working inside the walls.

Knows shutil and multiprocessing. None of this is a wall, and none of it opens one: it runs inside.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from onionmpc.program.spec import Walls
from onionmpc.program.walls import linux

ONLY_OWN_USER = 0o077
RECURSIVE = 0  # as in multiprocessing.synchronize; the other kind is 1
SEMAPHORE_BYTES = 64  # sem_t has at most 32
ACQUIRED_BY_NOBODY = 0


def install(walls: Walls, *, allow_subprocess: bool) -> None:
    """Install the replacements that these walls require."""
    if walls.sockets and not walls.frozen:
        copy_without_modes()
    if allow_subprocess and sys.platform == "linux":
        drop_our_handler_in_forks()
    if allow_subprocess and walls.sockets:
        start_by_fork()
    if allow_subprocess and walls.files and not walls.network:
        share_semaphores_by_fork()


def copy_without_modes() -> None:
    """Make shutil copy files where modes and times cannot be changed.

    A copy then has its own mode and time. Other users must not be able to read a copy of a file that they cannot read,
    so from now on this process creates files that only its own user can read.
    """
    os.umask(ONLY_OWN_USER)
    for name in ("copymode", "copystat"):
        setattr(shutil, name, _where_allowed(getattr(shutil, name)))


def _where_allowed(function: Callable[..., None]) -> Callable[..., None]:
    def work(*arguments: object, **options: object) -> None:
        with contextlib.suppress(PermissionError):
            function(*arguments, **options)

    return work


def drop_our_handler_in_forks() -> None:
    """Make SIGTERM end forked processes, as usual, unless the program has set its own handler.

    Our handler raises SystemExit. If it runs where Python ignores exceptions, the process goes on, and a pool that
    terminates its workers never finishes.
    """
    ours = signal.getsignal(signal.SIGTERM)
    # SIGTERM is blocked during the fork: in the child it could come before take_the_default(). There is one fork at a
    # time.
    masks: list[set[signal.Signals]] = []

    def hold() -> None:
        masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM}))  # type: ignore[arg-type]

    def go_on() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, masks.pop())

    def take_the_default() -> None:
        if signal.getsignal(signal.SIGTERM) is ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        go_on()

    os.register_at_fork(before=hold, after_in_parent=go_on, after_in_child=take_the_default)


def start_by_fork() -> None:
    """Make fork multiprocessing's default: Python 3.14's default, the fork server, needs a socket."""
    from multiprocessing import context, get_context  # imported here: few programs need it

    # Not set_start_method(): a second call fails, and the program may want to call it.
    default: Any = context._default_context  # noqa: SLF001
    if default._default_context.get_start_method() == "forkserver":  # noqa: SLF001
        default._default_context = get_context("fork")  # noqa: SLF001


def share_semaphores_by_fork() -> None:
    """Make multiprocessing use unnamed semaphores and memory: named ones are in /dev/shm, which other programs use."""
    import _multiprocessing  # type: ignore[import-not-found]
    from multiprocessing import heap

    _multiprocessing.SemLock = Semaphore
    # Without candidates, it uses its temporary directory.
    heap.Arena._dir_candidates = []  # type: ignore[attr-defined] # noqa: SLF001


class Semaphore:
    """A semaphore in memory that this process shares with its forks. Has the interface of _multiprocessing.SemLock.

    Attributes:
        handle: always 0; there is nothing to open.
        name: None, because there is no name to remove.
    """

    SEM_VALUE_MAX = 2**31 - 1

    def __init__(self, kind: int, value: int, maxvalue: int, name: str, unlink: bool) -> None:  # noqa: ARG002
        if not unlink:
            raise PermissionError(
                "the program is walled in: without a namespace, processes that share locks must be started by fork"
            )
        self.kind, self.maxvalue, self.name, self.handle = kind, maxvalue, None, 0
        self._memory = mmap.mmap(-1, SEMAPHORE_BYTES)
        self._libc = linux.libc()
        self._semaphore = (ctypes.c_char * SEMAPHORE_BYTES).from_buffer(self._memory)
        linux.checked(self._libc.sem_init(self._semaphore, 1, ctypes.c_uint(value)))
        self._after_fork()

    def _after_fork(self) -> None:
        self._held, self._holder = 0, ACQUIRED_BY_NOBODY

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Decrement the semaphore; wait up to `timeout` if it is 0."""
        if self.kind != RECURSIVE or not self._is_mine():
            if not self._wait(0.0 if not block else timeout):
                return False
            self._holder = threading.get_ident()
        self._held += 1
        return True

    def _wait(self, timeout: float | None) -> bool:
        until = None if timeout is None else time.time_ns() + max(0, int(timeout * 10**9))
        while True:
            try:
                if until is None:
                    linux.checked(self._libc.sem_wait(self._semaphore))
                else:
                    moment = (ctypes.c_long * 2)(*divmod(until, 10**9))
                    linux.checked(self._libc.sem_timedwait(self._semaphore, moment))
            except InterruptedError:
                continue  # a signal came, and Python has handled it
            except TimeoutError:
                return False
            return True

    def release(self) -> None:
        """Increment the semaphore."""
        if self.kind == RECURSIVE:
            if not self._is_mine():
                raise AssertionError("attempt to release recursive lock not owned by thread")
            if self._held > 1:
                self._held -= 1
                return
        elif self._get_value() >= self.maxvalue:
            raise ValueError("semaphore or lock released too many times")
        self._held -= 1
        linux.checked(self._libc.sem_post(self._semaphore))

    def _count(self) -> int:
        return self._held

    def _is_mine(self) -> bool:
        return self._held > 0 and self._holder == threading.get_ident()

    def _get_value(self) -> int:
        value = ctypes.c_int()
        linux.checked(self._libc.sem_getvalue(self._semaphore, ctypes.byref(value)))
        return value.value

    def _is_zero(self) -> bool:
        return self._get_value() == 0

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()
