"""Keeps a tor running: when it is lost, starts another, with backoff, until patience ends."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager

from onionmpc.errors import PeerUnreachable, TorError, TorFailed, UsageError
from onionmpc.mesh.redial import backoff_s
from onionmpc.tasks import cancel, first_of
from onionmpc.tor.control.bootstrap import DONE_PERCENT
from onionmpc.tor.instance import TorInstance

# A tor that is lost sooner than this does not end the outage: a tor that crashes after each start must not be started
# for ever.
SETTLED_S = 60.0


def waits_s() -> Iterator[float]:
    """Yield how long to wait before each try in an outage: first not at all, then as between dials."""
    yield 0.0
    yield from map(backoff_s, itertools.count(1))


class TorRestarter:
    """Runs one tor after the other.

    Args:
        start: starts an instance, ready to be used, and ends it.
        patience_s: how long an outage may last.
        report: called with percent and words about an outage.
        waits: how long to wait before each try of an outage.
    Attributes:
        instance: the current tor; None in an outage.
        cause: why it is away, in an outage.
        died: done, with the last cause, when an outage has lasted too long.
    """

    def __init__(
        self,
        start: Callable[[], AbstractAsyncContextManager[TorInstance]],
        patience_s: float,
        report: Callable[[int, str], None],
        waits: Callable[[], Iterator[float]] = waits_s,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.instance: TorInstance | None = None
        self.cause: TorError | None = None
        self.died: asyncio.Future[TorError] = loop.create_future()
        self._start = start
        self._patience_s = patience_s
        self._report = report
        self._waits = waits
        self._back: asyncio.Future[None] = loop.create_future()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep a tor running during the block, which begins when the first tor is ready.

        Raises:
            OnionMPCError: the first one could not start.
        """
        keeping = asyncio.create_task(self._keep())
        try:
            await first_of(keeping, self._back)
            keeping.add_done_callback(self._ended)
            yield
        finally:
            await cancel(keeping)

    def give_up(self, error: TorError) -> None:
        """Stop offering a tor, because this one fails at what it must do."""
        if not self.died.done():
            self.died.set_result(error)

    def current(self) -> TorInstance:
        """Return the current tor.

        Raises:
            PeerUnreachable: there is none now.
            TorError: there will be none.
        """
        if self.died.done():
            raise self.died.result()
        if self.instance is not None:
            return self.instance
        raise PeerUnreachable("our tor is restarting")

    async def available(self, after: TorInstance | None = None) -> TorInstance:
        """Return the current tor, or wait for the next one; never `after`, which was found to be lost.

        Raises:
            TorError: there will be none.
        """
        while self.instance is None or self.instance is after:
            await first_of(self.died, self._back)
            if self.died.done():
                raise self.died.result()
        return self.instance

    async def restored(self) -> None:
        """Return when the next outage is over."""
        # Not awaited itself: a caller that is cancelled would cancel it for all.
        await asyncio.wait({self._back})

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        async with contextlib.AsyncExitStack() as held:
            cause = await self._offer(await held.enter_async_context(self._start()))
        lost_s, waits = loop.time(), self._waits()
        while not self.died.done():
            async with contextlib.AsyncExitStack() as held:
                if instance := await self._start_again(held, cause, lost_s, waits):
                    back_s = loop.time()
                    cause = await self._offer(instance)
                    if loop.time() - back_s >= SETTLED_S:
                        lost_s, waits = loop.time(), self._waits()

    async def _offer(self, instance: TorInstance) -> TorError:
        """Offer this tor to all until it is lost; return why it was."""
        self.instance, self.cause = instance, None
        back, self._back = self._back, asyncio.get_running_loop().create_future()
        back.set_result(None)
        try:
            self.cause = await instance.lost()
            return self.cause
        finally:
            self.instance = None

    async def _start_again(
        self, held: contextlib.AsyncExitStack, cause: TorError, lost_s: float, waits: Iterator[float]
    ) -> TorInstance | None:
        """Start another instance; None, and `died`, when patience, counted from the loss, ends."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(lost_s + self._patience_s):
                for wait_s in waits:
                    again = f"trying again in {wait_s:.0f} s" if wait_s else "starting again"
                    self._report(0, f"{cause.message.splitlines()[0]}; {again}")
                    await asyncio.sleep(wait_s)
                    try:
                        instance = await held.enter_async_context(self._start())
                    except TorError as error:
                        cause = self.cause = error
                    except UsageError as error:  # the disk is full, say
                        cause = self.cause = TorFailed(error.message, hint=error.hint)
                    else:
                        self._report(DONE_PERCENT, f"tor is back after {loop.time() - lost_s:.0f} s")
                        return instance
        except TimeoutError:
            self.give_up(
                TorFailed(f"our tor was down for {self._patience_s:g} s; giving up: {cause.message}", hint=cause.hint)
            )
        return None

    def _ended(self, keeping: asyncio.Task[None]) -> None:
        """Wake all waiters if a bug of ours has ended the restarts. Otherwise they would wait for ever."""
        if not self.died.done() and not keeping.cancelled() and (error := keeping.exception()) is not None:
            self.died.set_exception(error)
            self.died.exception()  # seen: `running` raises it as well, where nobody asks
