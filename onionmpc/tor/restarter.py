"""Keeps a tor: when it is lost, begins another life, again and again until patience ends.

Knows backoff and how long is too long. Does not know what a life consists of: it is handed the way to begin one.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

from onionmpc.errors import PeerUnreachable, TorError, TorFailed, UsageError
from onionmpc.mesh.redial import backoff_s
from onionmpc.tasks import cancel
from onionmpc.tor.control.bootstrap import DONE_PERCENT
from onionmpc.tor.instance import TorInstance

# A tor that is lost sooner than this was not back: one that crashes after each start is not to be started for ever.
SETTLED_S = 60.0


def waits_s() -> Iterator[float]:
    """Yield how long to wait before each try of an outage: not at all, then as between dials."""
    yield 0.0
    yield from map(backoff_s, itertools.count(1))


class TorRestarter:
    """Keeps one tor after the other.

    Args:
        begin: begins a life, ready to be used.
        patience_s: how long an outage may last.
        tell: called with percent and words about an outage.
    Attributes:
        life: the tor of now; None in an outage.
        cause: why it is away, in an outage.
        died: done, with the last cause, when an outage has lasted too long.
    """

    def __init__(
        self,
        begin: Callable[[], AbstractAsyncContextManager[TorInstance]],
        patience_s: float,
        tell: Callable[[int, str], None],
    ) -> None:
        loop = asyncio.get_running_loop()
        self.life: TorInstance | None = None
        self.cause: TorError | None = None
        self.died: asyncio.Future[TorError] = loop.create_future()
        self._begin = begin
        self._patience_s = patience_s
        self._tell = tell
        self._back: asyncio.Future[None] = loop.create_future()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep a tor: from when the first is ready to when the last is gone.

        Raises:
            OnionMPCError: the first one could not begin.
        """
        keeping = asyncio.create_task(self._keep())
        try:
            await asyncio.wait({keeping, self._back}, return_when=asyncio.FIRST_COMPLETED)
            if keeping.done():
                keeping.result()
            keeping.add_done_callback(self._ended)
            yield
        finally:
            await cancel(keeping)

    def give_up(self, error: TorError) -> None:
        """Offer no tor any more: this one does not do what it is to do."""
        if not self.died.done():
            self.died.set_result(error)

    def here(self) -> TorInstance:
        """Return the tor of now.

        Raises:
            PeerUnreachable: there is none now.
            TorError: there will be none.
        """
        if self.died.done():
            raise self.died.result()
        if self.life is not None:
            return self.life
        raise PeerUnreachable("our own tor is starting again")

    async def awaited(self, after: TorInstance | None = None) -> TorInstance:
        """Return the tor of now, or the next; in any case none that was found to be lost (`after`).

        Raises:
            TorError: there will be none.
        """
        while self.life is None or self.life is after:
            either: set[asyncio.Future[Any]] = {self._back, self.died}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if self.died.done():
                raise self.died.result()
        return self.life

    async def restored(self) -> None:
        """Return when the next outage is over."""
        # Not awaited itself: whoever cancels us would cancel it for all.
        await asyncio.wait({self._back})

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        async with contextlib.AsyncExitStack() as held:
            cause = await self._live(await held.enter_async_context(self._begin()))
        lost_s, waits = loop.time(), waits_s()
        while not self.died.done():
            async with contextlib.AsyncExitStack() as held:
                if life := await self._again(held, cause, lost_s, waits):
                    back_s = loop.time()
                    cause = await self._live(life)
                    if loop.time() - back_s >= SETTLED_S:
                        lost_s, waits = loop.time(), waits_s()

    async def _live(self, life: TorInstance) -> TorError:
        """Offer this tor to all until it is lost; return why it was."""
        self.life, self.cause = life, None
        back, self._back = self._back, asyncio.get_running_loop().create_future()
        back.set_result(None)
        try:
            self.cause = await life.lost()
            return self.cause
        finally:
            self.life = None

    async def _again(
        self, held: contextlib.AsyncExitStack, cause: TorError, lost_s: float, waits: Iterator[float]
    ) -> TorInstance | None:
        """Begin another life; None, and `died`, when patience, counted from the loss, ends."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(lost_s + self._patience_s):
                for wait_s in waits:
                    again = f"trying again in {wait_s:.0f} s" if wait_s else "starting again"
                    self._tell(0, f"{cause.message.splitlines()[0]}; {again}")
                    await asyncio.sleep(wait_s)
                    try:
                        life = await held.enter_async_context(self._begin())
                    except TorError as error:
                        cause = self.cause = error
                    except UsageError as error:  # the disk is full, say
                        cause = self.cause = TorFailed(error.message, hint=error.hint)
                    else:
                        self._tell(DONE_PERCENT, f"tor is back after {loop.time() - lost_s:.0f} s")
                        return life
        except TimeoutError:
            self.give_up(
                TorFailed(
                    f"our tor was away for {self._patience_s:g} s, and is given up: {cause.message}", hint=cause.hint
                )
            )
        return None

    def _ended(self, keeping: asyncio.Task[None]) -> None:
        """See to it that a bug of ours does not leave all waiting for a tor that nobody keeps."""
        if not self.died.done() and not keeping.cancelled() and (error := keeping.exception()) is not None:
            self.died.set_exception(error)
            self.died.exception()  # seen: `running` raises it as well, where nobody asks
