"""Runs a coroutine so that Ctrl-C cleans up: the first one cancels it, the second one exits at once."""

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
LOOP_DESCRIPTORS = 5  # a selector, the two ends that wake it, and two temporary ones
UNREAD_S = 1.0
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_until_interrupted(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end, with handlers for the signals that end a process.

    Raises:
        KeyboardInterrupt: a signal arrived, and `work` has cleaned up after itself.
        SystemRefused: the process has no threads or descriptors left for an event loop.
    """

    async def guarded() -> T:
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(work)

        # nohup ignores SIGHUP: its user wants us to outlive the terminal.
        nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        handled = [number for number in SIGNALS if not (nohup and number == signal.SIGHUP)]

        def interrupt() -> None:
            for number in handled:
                # os._exit leaves no process behind: tor ends with its owning controller, the program with its lifeline.
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
        work.close()  # in case it has never started


def run_to_end(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` in any thread, without signal handlers of its own.

    Raises:
        SystemRefused: the process has no threads or descriptors left for an event loop.
    """
    try:
        _check_room()
        return asyncio.run(work)
    finally:
        work.close()  # in case it has never started


def _check_room() -> None:
    """Check that an event loop has the descriptors and the thread that it needs. asyncio fails halfway without them."""
    with refusing("cannot start"), contextlib.ExitStack() as held:
        for _ in range(LOOP_DESCRIPTORS):
            held.callback(os.close, os.open("/", os.O_RDONLY))
    # asyncio waits for a child process in a thread.
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()


async def while_read(work: Callable[[], Coroutine[Any, Any, T]], descriptor: int, every_s: float = UNREAD_S) -> T:
    """Run `work` to its end, or until the pipe at `descriptor` has no reader. For work that only shows something.

    Args:
        every_s: how often to check whether it still has one.

    Raises:
        BrokenPipeError: nobody reads the pipe any more, as after `| head`. `work` has cleaned up after itself.
    """

    async def unread() -> NoReturn:
        pipe = select.poll()
        pipe.register(descriptor, 0)  # poll always reports a missing reader
        while not pipe.poll(0):  # noqa: ASYNC110 (a pipe sets no event)
            await asyncio.sleep(every_s)
        raise BrokenPipeError

    working, watching = asyncio.create_task(work()), asyncio.create_task(unread())
    try:
        await first_of(working, watching)
        return working.result()
    finally:
        await cancel(working, watching)
