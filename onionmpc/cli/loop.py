"""Runs a coroutine so that Ctrl-C cleans up: the first one cancels, the second one ends at once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_until_interrupted(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end.

    Raises:
        KeyboardInterrupt: a signal came, and `work` has cleaned up after itself.
    """

    async def guarded() -> T:
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(work)

        # nohup ignores SIGHUP: whoever asked for that wants us to outlive the terminal.
        nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        heeded = [number for number in SIGNALS if not (nohup and number == signal.SIGHUP)]

        def interrupt() -> None:
            for number in heeded:
                # Our own processes end with us: tor by its owning controller, the program by its lifeline.
                loop.add_signal_handler(number, os._exit, 128 + number)
            task.cancel()

        for number in heeded:
            loop.add_signal_handler(number, interrupt)
        return await task

    try:
        return asyncio.run(guarded())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
