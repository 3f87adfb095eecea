"""Runs background tasks and callbacks so that no failure goes unnoticed. Rule: docs/ARCHITECTURE.md, "Decisions"."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self

from onionmpc.errors import OnionMPCError

Work = Coroutine[Any, Any, Any]


class BackgroundTasks:
    """Runs coroutines in the background of a block, and cancels the remaining ones at its end.

    If one fails, the block is cancelled, and its end raises that error itself, not an exception group. Unlike in a
    TaskGroup, the other coroutines continue until the block ends, which may need them, for example to send its last
    messages.
    """

    def __init__(self, *works: Work) -> None:
        self._works = works
        self._running: set[asyncio.Task[Any]] = set()
        self._failures: list[BaseException] = []
        self._ending = False
        self._cancelled_owner = False

    async def __aenter__(self) -> Self:
        """Begin the block. The task that enters is the one that a failure cancels."""
        owner = asyncio.current_task()
        assert owner is not None  # noqa: S101 (a coroutine runs in a task)
        self._owner = owner
        self._cancelling = owner.cancelling()
        for work in self._works:
            self.start(work)
        return self

    def start(self, work: Work) -> asyncio.Task[Any] | None:
        """Run a coroutine in the background, unless the block has ended."""
        if self._ending:
            work.close()
            return None
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        self._failures.append(error)
        if not self._ending and not self._cancelled_owner:
            self._cancelled_owner = True
            self._owner.cancel()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cancel the remaining coroutines, wait for their end, and raise the first failure."""
        self._ending = True
        interrupted = await self._cancel_all()
        if self._cancelled_owner:
            # Our own cancellation may not have been delivered yet. Take it here: it must not reach code after the
            # block.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
            interrupted = self._owner.uncancel() > self._cancelling
        if self._failures or isinstance(error, BaseExceptionGroup):
            by_block = [] if error is None or isinstance(error, asyncio.CancelledError) else [error]
            first = first_error(BaseExceptionGroup("", [*by_block, *self._failures]))
            raise first from first.__cause__
        if interrupted and error is None:
            raise asyncio.CancelledError

    async def _cancel_all(self) -> bool:
        """Cancel all coroutines and wait for their end; return whether the owner was cancelled meanwhile."""
        interrupted = False
        for task in self._running:
            task.cancel()
        while self._running:
            try:
                await asyncio.wait(self._running)
            except asyncio.CancelledError:
                interrupted = True
        return interrupted


class ErrorForwarder:
    """Passes on what a callback of the event loop raises: nobody awaits those, so asyncio would only log it."""

    def __init__(self, forward: Callable[[BaseException], None]) -> None:
        self._forward = forward

    def __enter__(self) -> None:
        """Begin the block."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """Pass on what the block raised."""
        if isinstance(error, Exception):
            self._forward(error)
            return True
        return False


async def together(*works: Work) -> None:
    """Run coroutines concurrently to their ends. If one fails, cancel the others and raise its error."""
    try:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(work)
    except BaseExceptionGroup as errors:
        error = first_error(errors)
        raise error from error.__cause__


async def first_of(*futures: asyncio.Future[Any]) -> Any:  # noqa: ANN401 (their results may differ in type)
    """Wait until a future is done, and return its result or raise its error. The other futures continue.

    If several are done, the first in the order of the arguments counts.
    """
    await asyncio.wait(set(futures), return_when=asyncio.FIRST_COMPLETED)
    return next(future for future in futures if future.done()).result()


async def cancel(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and wait for their end.

    Raises:
        BaseException: a bug that ended a task. An OnionMPCError is not raised: it was reported, or no longer matters.
    """
    for task in tasks:
        task.cancel()
    await ended(*tasks)


async def ended(*tasks: asyncio.Task[Any]) -> None:
    """Wait for the end of tasks. Raises as `cancel` does."""
    if tasks:
        await asyncio.wait(tasks)
    errors = [error for task in tasks if not task.cancelled() and (error := task.exception()) is not None]
    for error in errors:
        bug = first_error(error) if isinstance(error, BaseExceptionGroup) else error
        if not isinstance(bug, OnionMPCError):
            raise bug


def show_failure(task: asyncio.Task[Any]) -> None:
    """Have the event loop report the failure of a task that nobody awaits. Use it as the task's done callback."""
    if not task.cancelled() and (error := task.exception()) is not None:
        asyncio.get_running_loop().call_exception_handler(
            {"message": "a task failed that nobody waits for", "exception": error, "task": task}
        )


def first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the error of an exception group that the user should see: one of ours before any other."""
    known, others = group.split(OnionMPCError)
    chosen = (known or others or group).exceptions[0]
    return first_error(chosen) if isinstance(chosen, BaseExceptionGroup) else chosen
