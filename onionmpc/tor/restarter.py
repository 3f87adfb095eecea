"""Keeps a tor available: when it is lost, starts another or connects again, with backoff, until patience ends."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from onionmpc.errors import PeerUnreachable, TorError, TorFailed, UsageError
from onionmpc.mesh.redial import backoff_s
from onionmpc.tasks import cancel, first_of
from onionmpc.tor.control.bootstrap import DONE_PERCENT
from onionmpc.tor.instance import TorInstance

# A tor that is lost again sooner than this does not end the outage. Otherwise a tor that crashes after each start would
# be started for ever.
SETTLED_S = 60.0


@dataclass(frozen=True, slots=True)
class OutageWords:
    """How to report an outage.

    Attributes:
        now: what happens during it.
        first_try: what the first try does.
        given_up: what was wrong all the time.
    """

    now: str
    first_try: str
    given_up: str


OWN_TOR = OutageWords("our tor is restarting", "starting again", "our tor was down")
# We cannot restart somebody else's tor, and it may run all the time while only our connection is lost.
FOREIGN_TOR = OutageWords("our connection to tor is lost", "connecting again", "tor could not be reached")


def waits_s() -> Iterator[float]:
    """Yield how long to wait before each try of an outage: first not at all, then as between dials."""
    yield 0.0
    yield from map(backoff_s, itertools.count(1))


class TorRestarter:
    """Runs one tor instance after the other.

    Args:
        start: starts an instance, ready to be used, and ends it.
        patience_s: how long an outage may last.
        report: called with percent and words about an outage.
        words: how to report an outage of this tor.
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
        words: OutageWords = OWN_TOR,
        waits: Callable[[], Iterator[float]] = waits_s,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.instance: TorInstance | None = None
        self.cause: TorError | None = None
        self.died: asyncio.Future[TorError] = loop.create_future()
        self._start = start
        self._patience_s = patience_s
        self._report = report
        self._words = words
        self._waits = waits
        self._back: asyncio.Future[None] = loop.create_future()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep a tor available during the block, which begins when the first one is ready.

        Raises:
            OnionMPCError: the first one did not start.
        """
        keeping = asyncio.create_task(self._keep())
        try:
            await first_of(keeping, self._back)
            keeping.add_done_callback(self._ended)
            yield
        finally:
            await cancel(keeping)

    def give_up(self, error: TorError) -> None:
        """Offer no tor any more, because this one does not do what it must."""
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
        raise PeerUnreachable(self._words.now)

    async def available(self, after: TorInstance | None = None) -> TorInstance:
        """Return the current tor, or wait for the next one; never return `after`, which the caller knows to be lost.

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
        # Do not await the future itself: a caller that is cancelled would cancel it for everyone.
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
        """Offer this tor to all callers until it is lost, and return why."""
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
        """Start another instance. When patience, counted from the loss, ends, give up and return None."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(lost_s + self._patience_s):
                for wait_s in waits:
                    again = f"trying again in {wait_s:.0f} s" if wait_s else self._words.first_try
                    self._report(0, f"{cause.message.splitlines()[0]}; {again}")
                    await asyncio.sleep(wait_s)
                    try:
                        instance = await held.enter_async_context(self._start())
                    except TorError as error:
                        cause = self.cause = error
                    except UsageError as error:  # for example, the disk is full
                        cause = self.cause = TorFailed(error.message, hint=error.hint)
                    else:
                        self._report(DONE_PERCENT, f"tor is back after {loop.time() - lost_s:.0f} s")
                        return instance
        except TimeoutError:
            down = f"{self._words.given_up} for {self._patience_s:g} s"
            self.give_up(TorFailed(f"{down}; giving up: {cause.message}", hint=cause.hint))
        return None

    def _ended(self, keeping: asyncio.Task[None]) -> None:
        """Wake all waiters if a bug of ours has ended the restarts. Otherwise they would wait for ever."""
        if not self.died.done() and not keeping.cancelled() and (error := keeping.exception()) is not None:
            self.died.set_exception(error)
            self.died.exception()  # mark it as retrieved: if nobody asks for it, `running` still raises it
