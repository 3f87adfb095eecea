"""Tasks beside what their owner does: none of them ends unseen.

Knows who hears of a task that fails. Does not know what tasks do. Rule: docs/ARCHITECTURE.md, "Decisions".
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from onionmpc.errors import OnionMPCError

Work = Coroutine[Any, Any, Any]


class Tasks:
    """Tasks that last no longer than a block; made by `beside`."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._running: set[asyncio.Task[Any]] = set()

    def start(self, work: Work) -> asyncio.Task[Any] | None:
        """Run `work`, unless the block is ending."""
        try:
            task = self._group.create_task(work)
        except RuntimeError:  # another one has failed, and all are being cancelled
            work.close()
            return None
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    def cancel(self) -> None:
        """Cancel those that still run."""
        for task in self._running:
            task.cancel()


@contextlib.asynccontextmanager
async def beside(*works: Work) -> AsyncIterator[Tasks]:
    """Run coroutines beside a block, and cancel at its end what is left of them.

    If one fails, the block is cancelled and that error is raised: itself, not a group.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = Tasks(group)
            for work in works:
                tasks.start(work)
            yield tasks
            tasks.cancel()
    except BaseExceptionGroup as errors:
        error = first_error(errors)
        raise error from error.__cause__


async def together(*works: Work) -> None:
    """Run coroutines side by side to their ends. If one fails, the others are cancelled and its error is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(work)
    except BaseExceptionGroup as errors:
        error = first_error(errors)
        raise error from error.__cause__


async def cancel(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and wait for their end.

    Raises:
        BaseException: a bug that ended one of them. An OnionMPCError is not raised: it was told, or is moot.
    """
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
    errors = [error for task in tasks if not task.cancelled() and (error := task.exception()) is not None]
    for error in errors:
        bug = first_error(error) if isinstance(error, BaseExceptionGroup) else error
        if not isinstance(bug, OnionMPCError):
            raise bug


def first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the error that a person should see of those that a task group collected: ours before any other."""
    known, others = group.split(OnionMPCError)
    chosen = (known or others or group).exceptions[0]
    return first_error(chosen) if isinstance(chosen, BaseExceptionGroup) else chosen
