"""A control connection to a tor: sends commands, listens to events, waits for the bootstrap. login.py opens it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from onionmpc.errors import BootstrapTimeout, LocalProtocolError, TorFailed
from onionmpc.tasks import first_of
from onionmpc.tor.adapters.stem import Version
from onionmpc.tor.control.bootstrap import DONE_PERCENT, Bootstrap
from onionmpc.tor.control.errors import CommandRefused, connection_gone

if TYPE_CHECKING:
    from onionmpc.tor.adapters.txtorcon import ControlConnection

# tor answers within milliseconds, or seconds on a busy machine. This is longer than instance.py needs to notice a tor
# that does not answer at all, and to end the connection.
ANSWER_TIMEOUT_S = 60.0
# How long tor may take to confirm that we stopped listening.
FAREWELL_S = 1.0

Awaited = TypeVar("Awaited")
BootstrapProgress = Callable[[int, str], None]


class Control:
    """A control connection after login; made by `open_control`.

    Attributes:
        closed: done when the connection is gone.
        version: as tor gives it, e.g. "0.4.9.11".
        refused: keywords that this tor refused. Callers note them here so that they need not try again.
    """

    def __init__(self, connection: ControlConnection, answer_timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        self._connection = connection
        self._answer_timeout_s = answer_timeout_s
        self.closed = connection.closed
        self.version = connection.version
        self.refused: set[str] = set()

    @property
    def release(self) -> Version:
        """The version alone: GETINFO may add " (git-...)"."""
        return Version(self.version.split()[0])

    def __repr__(self) -> str:
        # Without the connection: its queue of commands contains keys.
        return f"Control(closed={self.closed.done()})"

    async def command(self, line: str) -> str:
        """Send one command line and return tor's reply without its codes.

        Raises:
            CommandRefused: tor answered with an error.
            TorFailed: the connection is gone, or tor does not answer.
        """
        if "\r" in line or "\n" in line:
            # A line break in an argument would let its author send another command to tor.
            raise LocalProtocolError("a control command of more than one line")
        return await self._answered(line, self._connection.command(line))

    async def get_info(self, key: str) -> str:
        """Return the value of one GETINFO key, which may have several lines."""
        return (await self.command(f"GETINFO {key}")).removeprefix(f"{key}=").removeprefix("\n")

    async def get_lines(self, key: str) -> list[str]:
        """Return the value of one GETINFO key that has many lines."""
        lines = await self._answered("GETINFO", self._connection.command_lines(f"GETINFO {key}"))
        return lines[1:-1]  # without "key=" and "OK"

    @contextlib.asynccontextmanager
    async def on_event(self, name: str, callback: Callable[[str], None]) -> AsyncIterator[None]:
        """Call `callback` with the text of each event of this kind, without its name.

        Args:
            name: from txtorcon.EVENTS.
        Raises:
            CommandRefused: this tor does not know the event, or does not report it to us.
        """
        loop = asyncio.get_running_loop()

        def listen(text: str) -> None:
            # The loop calls it, because txtorcon would swallow what the callback raises.
            loop.call_soon(callback, text)

        try:
            await self._answered("SETEVENTS", self._connection.listen(name, listen))
            yield
        finally:
            # Even if tor refused it, see `ControlConnection.ignore`. From now on no event arrives, whether tor answers
            # or not, and a tor that hangs must not delay its successor.
            with contextlib.suppress(TorFailed, TimeoutError):
                async with asyncio.timeout(FAREWELL_S):
                    await self._connection.ignore(name, listen)

    async def bootstrap(self, progress: BootstrapProgress, timeout_s: float) -> None:
        """Wait until tor has bootstrapped, so that it can reach its network.

        Args:
            progress: called with percent and tor's own summary, whenever they change.
            timeout_s: for the whole bootstrap.
        Raises:
            BootstrapTimeout: it took longer. The message says how far tor got.
            TorFailed: the connection is gone.
        """
        state = Bootstrap()
        heard: asyncio.Queue[str] = asyncio.Queue()
        try:
            async with asyncio.timeout(timeout_s), contextlib.AsyncExitStack() as events:
                for name in ("STATUS_CLIENT", "STATUS_GENERAL"):
                    # A filter before the control port (Tails, Whonix) may hide the events, but allows the question
                    # below.
                    with contextlib.suppress(CommandRefused):
                        await events.enter_async_context(self.on_event(name, heard.put_nowait))
                heard.put_nowait(await self.get_info("status/bootstrap-phase"))
                while state.percent < DONE_PERCENT:
                    before, state = state, state.after(await self.unless_closed(heard.get()))
                    if (state.percent, state.summary) != (before.percent, before.summary):
                        progress(state.percent, state.summary)
        except TimeoutError:
            raise BootstrapTimeout(
                f"tor reached {state.percent} % ({state.seen}) in {timeout_s:g} s", hint=state.hint
            ) from None

    async def unless_closed(self, waiting: Coroutine[Any, Any, Awaited]) -> Awaited:
        """Return what `waiting` returns, or raise TorFailed as soon as the connection is gone."""
        task = asyncio.ensure_future(waiting)
        try:
            await first_of(task, self.closed)
            if task.done():
                return task.result()
            raise connection_gone()
        finally:
            task.cancel()

    async def _answered(self, line: str, answer: Awaitable[Awaited]) -> Awaited:
        try:
            async with asyncio.timeout(self._answer_timeout_s):
                return await answer
        except TimeoutError:
            command = line.split(maxsplit=1)[0]
            raise TorFailed(f"tor did not answer {command} in {self._answer_timeout_s:g} s") from None
