"""Wakes the tasks that wait until something is so.

Knows who waits, and for which condition. Does not know the state behind the conditions: its owner calls `notify`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Changes:
    """One place to wait for several conditions on the same state.

    Unlike an asyncio.Event for each condition it holds no copy of the state, which could differ from the state itself.
    """

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Future[None], Callable[[], bool]] = {}

    def notify(self) -> None:
        """Wake each task whose condition holds now.

        The conditions are looked at here, and not when the task runs: a stream that comes and breaks within one turn of
        the loop was there, and the task that waited for it has to dial again.
        """
        for waiting, condition in self._waiting.items():
            if not waiting.done() and condition():
                waiting.set_result(None)

    async def next(self) -> None:
        """Wait for the next change."""
        await self._wait(lambda: True)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds, or has held at a change."""
        if not condition():
            await self._wait(condition)

    async def _wait(self, condition: Callable[[], bool]) -> None:
        waiting = asyncio.get_running_loop().create_future()
        self._waiting[waiting] = condition
        try:
            await waiting
        finally:
            del self._waiting[waiting]
