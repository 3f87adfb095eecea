"""Wakes the tasks that wait until something is so.

Knows who waits. Does not know what they wait for: each looks again after every change.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Changes:
    """One place to wait for several conditions on the same state.

    Unlike an asyncio.Event for each condition it holds no copy of the state, which could differ from the state itself.
    """

    def __init__(self) -> None:
        self._next: asyncio.Future[None] | None = None

    def notify(self) -> None:
        """Let every task that waits look again."""
        if self._next is not None:
            self._next.set_result(None)
            self._next = None

    async def next(self) -> None:
        """Wait for the next change."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        # Several tasks share the future: one that is cancelled must not cancel it.
        await asyncio.shield(self._next)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds."""
        while not condition():
            await self.next()
