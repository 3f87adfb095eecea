"""Runs a coroutine so that Ctrl-C cleans up: the first one cancels, the second one ends at once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import threading
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn, TypeVar

from onionmpc.machine import refusing
from onionmpc.tasks import cancel, first_of

T = TypeVar("T")
LOOP_DESCRIPTORS = 5  # a selector, a pipe to wake it, and two that come and go
UNREAD_S = 1.0
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_until_interrupted(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end.

    Raises:
        KeyboardInterrupt: a signal came, and `work` has cleaned up after itself.
        SystemRefused: there is no room for an event loop.
    """

    async def guarded() -> T:
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(work)

        # nohup ignores SIGHUP: its user wants us to outlive the terminal.
        nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        handled = [number for number in SIGNALS if not (nohup and number == signal.SIGHUP)]

        def interrupt() -> None:
            for number in handled:
                # Our own processes end with us: tor by its owning controller, the program by its lifeline.
                loop.add_signal_handler(number, os._exit, 128 + number)
            task.cancel()

        for number in handled:
            loop.add_signal_handler(number, interrupt)
        return await task

    try:
        return run_to_end(guarded())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    finally:
        work.close()  # in case it was never begun


def run_to_end(work: Coroutine[Any, Any, T]) -> T:
    """Run `work`, in whatever thread; a signal ends it as it ends Python.

    Raises:
        SystemRefused: there is no room for an event loop.
    """
    try:
        _check_room()
        return asyncio.run(work)
    finally:
        work.close()  # in case it was never begun


def _check_room() -> None:
    """Refuse what asyncio would begin and not end: with a part of what it needs, it leaves tracebacks behind."""
    with refusing("cannot start"), contextlib.ExitStack() as held:
        for _ in range(LOOP_DESCRIPTORS):
            held.callback(os.close, os.open("/", os.O_RDONLY))
    # It waits for a process in one.
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()


async def while_read(work: Callable[[], Coroutine[Any, Any, T]], descriptor: int) -> T:
    """Run `work` to its end, or for as long as somebody reads a pipe: what only shows something is for them.

    Raises:
        BrokenPipeError: nobody reads it any more, as behind `| head`, and `work` has cleaned up after itself.
    """

    async def unread() -> NoReturn:
        pipe = select.poll()
        pipe.register(descriptor, 0)  # poll reports a missing reader without being asked to
        while not pipe.poll(0):  # noqa: ASYNC110 (a pipe sets no event)
            await asyncio.sleep(UNREAD_S)
        raise BrokenPipeError

    working, watching = asyncio.create_task(work()), asyncio.create_task(unread())
    try:
        await first_of(working, watching)
        return working.result()
    finally:
        await cancel(working, watching)
