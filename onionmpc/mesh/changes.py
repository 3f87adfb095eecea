"""Wakes tasks that wait for a condition on some state.

The owner of the state calls `notify` after each change.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Changes:
    """One place to wait for several conditions on the same state.

    An asyncio.Event for each condition would be a copy of the state, and could contradict it. This holds no copy.
    """

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Future[None], Callable[[], bool]] = {}

    def notify(self) -> None:
        """Wake the tasks that wait for any change, and those in `until_seen` whose condition holds now."""
        for waiting, condition in self._waiting.items():
            if not waiting.done() and condition():
                waiting.set_result(None)

    async def next(self) -> None:
        """Wait for the next change."""
        await self._wait(lambda: True)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds. It may come true after `notify`, within the same turn of the loop."""
        while not condition():
            await self.next()

    async def until_seen(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds, or did hold at some `notify`.

        A stream that comes and breaks within one turn of the loop has existed. The task that waited for it must dial
        again, although there is no stream when it runs.
        """
        if not condition():
            await self._wait(condition)

    async def _wait(self, condition: Callable[[], bool]) -> None:
        waiting = asyncio.get_running_loop().create_future()
        self._waiting[waiting] = condition
        try:
            await waiting
        finally:
            del self._waiting[waiting]
