"""What all tables of one party share: its identity, the network that carries its sessions, and its event listener."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from onionmpc.api.events import EventQueue
from onionmpc.errors import PeerError, TorError, UsageError
from onionmpc.identity import Identity
from onionmpc.mesh.network import Network
from onionmpc.session.events import Event, TorProgress
from onionmpc.tasks import ErrorForwarder, cancel, first_of
from onionmpc.tor.report import TorReport

OnSessionEvent = Callable[[Event], None]
Returned = TypeVar("Returned")


class LiveNetwork(Network, Protocol):
    """A network that can be lost for good."""

    @property
    def died(self) -> asyncio.Future[TorError]:
        """Done when the network is given up. The result is the last error."""

    @property
    def failure(self) -> TorError | None:
        """Why the network is away or was given up, None while it is up."""


class PartyRuntime:
    """Keeps a party's network, and passes on events.

    Args:
        network: opens the network.
        on_event: called with each event.
        hidden: files to hide from the program, besides onionmpc's own state.
    """

    def __init__(
        self,
        identity: Identity,
        network: AbstractAsyncContextManager[LiveNetwork],
        on_event: OnSessionEvent | None = None,
        hidden: tuple[Path, ...] = (),
    ) -> None:
        self.identity = identity
        self.hidden = hidden
        self._opening = network
        self._on_event = on_event
        self._events: EventQueue | None = None
        loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[LiveNetwork] = loop.create_future()
        self._ended: asyncio.Future[None] = loop.create_future()
        self._failed_listener: asyncio.Future[None] = loop.create_future()
        self._running: asyncio.Task[None] | None = None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Open the network in the background, and keep it until the end of the block."""
        self._running = asyncio.create_task(self._keep_network())
        try:
            yield
        finally:
            self._ended.set_result(None)
            # `run_over_network` has raised the network's failure, if anyone was waiting for the network.
            await cancel(self._running)

    async def _keep_network(self) -> None:
        async with self._opening as network:
            self._ready.set_result(network)
            await asyncio.get_running_loop().create_future()  # until we are cancelled

    async def run_over_network(self, work: Callable[[Network], Awaitable[Returned]]) -> Returned:
        """Run `work` once the network is up. Fail if the network is lost for good, or the party ends.

        Raises:
            TorError: the network did not come up, or was away for too long.
            UsageError: the party has ended.
            Exception: what `on_event` raised.
        """
        self._check_running()
        assert self._running is not None  # noqa: S101 (checked)
        ends: set[asyncio.Future[Any]] = {self._running, self._ended, self._failed_listener}
        await asyncio.wait({*ends, self._ready}, return_when=asyncio.FIRST_COMPLETED)
        self._check_running()
        network: LiveNetwork = await first_of(self._failed_listener, self._running, self._ready)
        computing = asyncio.ensure_future(work(network))
        try:
            await asyncio.wait({*ends, computing, network.died}, return_when=asyncio.FIRST_COMPLETED)
            if self._failed_listener.done():
                self._failed_listener.result()
            # A lost tor takes all links with it. So if a peer seems lost while tor is away, tor is the cause.
            without_peers = not computing.done() or isinstance(computing.exception(), PeerError)
            if without_peers and (error := network.failure):
                raise error
            if not computing.done():
                self._check_running()
                self._running.result()
            return computing.result()
        finally:
            await cancel(computing)

    def tell(self, event: Event) -> None:
        """Pass on an event. What the listener raises ends the session: it must not unwind the session's own tasks."""
        if self._on_event is not None:
            with ErrorForwarder(self._note_failure):
                self._on_event(event)

    def _note_failure(self, error: BaseException) -> None:
        if not self._failed_listener.done():
            self._failed_listener.set_exception(error)

    def tell_progress(self, report: TorReport) -> None:
        """Pass on a report from tor."""
        event = TorProgress(report.phase, report.percent, report.detail)
        if self._events is not None:
            self._events.put(event)
        self.tell(event)

    def subscribe(self, events: EventQueue) -> None:
        """Put the events of tor into this queue too.

        Raises:
            UsageError: the party has ended, or has another table.
        """
        self._check_running()
        if self._events is not None:
            raise UsageError(
                "this party is already at another table", hint="leave that table first, or use another party"
            )
        self._events = events

    def unsubscribe(self, events: EventQueue) -> None:
        """Undo `subscribe`."""
        if self._events is events:
            self._events = None

    def _check_running(self) -> None:
        if self._running is None or self._ended.done():
            raise UsageError(
                "this party has ended", hint="use its tables inside the block: async with onionmpc.party(...) as me"
            )
