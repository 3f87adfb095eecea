"""Publishes our service in one tor instance after the other, and publishes it again when peers cannot find it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

from onionmpc.errors import OnionMPCError, OnionNotPublished, TorError, TorFailed, UsageError
from onionmpc.identity import Identity
from onionmpc.mesh.network import OnStream, Stream
from onionmpc.tasks import BackgroundTasks
from onionmpc.tor.instance import TorInstance
from onionmpc.tor.options import TorOptions
from onionmpc.tor.report import Reporter
from onionmpc.tor.restarter import TorRestarter
from onionmpc.tor.service.descriptor import is_lost, publish
from onionmpc.tor.service.reception import reception
from onionmpc.tor.service.refresh import RefreshSchedule
from onionmpc.tor.service.service import EphemeralService, Service
from onionmpc.tor.service.single import SingleOnionService


class Publisher:
    """Publishes the service of one identity.

    Args:
        identity: whose service it is.
        options: where to listen, and how long to wait.
        restarter: knows the current tor.
        tasks: run what no caller waits for.
        sockets: a private directory for our socket.
        reporter: gets the progress of publishing.
    """

    def __init__(
        self,
        identity: Identity,
        options: TorOptions,
        restarter: TorRestarter,
        tasks: BackgroundTasks,
        sockets: Path,
        reporter: Reporter,
    ) -> None:
        self._identity = identity
        self._options = options
        self._restarter = restarter
        self._tasks = tasks
        self._sockets = sockets
        self._reporter = reporter
        self._schedule = RefreshSchedule(options.timings.refresh_every_s, options.timings.new_service_s)
        self._listening = contextlib.AsyncExitStack()
        self._on_stream: OnStream | None = None
        self._keys: list[bytes] = []
        # The endpoint to which tor connects accepted streams; None before the first session.
        self._place: str | None = None
        # The same while the service is published; None before.
        self._target: str | None = None
        # Held while the service is added, or added again: tor takes no address twice.
        self._adding = asyncio.Lock()
        self._refreshing: asyncio.Task[None] | None = None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Cut all accepted streams at the end."""
        async with self._listening:
            yield

    def service_in(self, instance: TorInstance) -> Service:
        """Return our service in this instance, whether it is added or not."""
        if instance.second is None or instance.keys is None:
            return EphemeralService(instance.control, self._identity, self._keys)
        return SingleOnionService(instance.second.control, self._identity, instance.keys, self._keys)

    async def listen(self, on_stream: OnStream, keys: Iterable[bytes]) -> None:
        """See `Network.listen`."""
        self._keys = list(keys)
        self._on_stream = on_stream
        async with self._adding:
            instance = await self._restarter.available()
            # So that a new instance does not add the service before it is published: `_publish` does.
            self._target = None
            if self._place is None:
                self._place = await self._listening.enter_async_context(
                    reception(
                        self._serve,
                        self._sockets,
                        self._options.listen,
                        self._reporter,
                        reaches_files=instance.reaches_files,
                    )
                )
            else:
                # The service of an earlier session, or one whose publishing was cancelled, may still be there.
                await self.service_in(instance).remove()
            await self._publish(instance, self._place)
            self._target = self._place
            self._note_added()

    async def _serve(self, stream: Stream) -> None:
        assert self._on_stream is not None  # noqa: S101 (we listen)
        await self._on_stream(stream)

    async def _publish(self, instance: TorInstance, target: str) -> None:
        """Publish in this instance, or in the next one if this one is lost."""
        while True:
            service = self.service_in(instance)
            try:
                async with instance.explaining():
                    await publish(service, target, self._reporter.publish, self._options.publish_timeout_s)
            except OnionNotPublished:
                await service.remove()
                raise
            except TorFailed:
                if not instance.gone:
                    raise
                instance = await self._restarter.available(after=instance)
            else:
                return

    async def add_to(self, instance: TorInstance) -> None:
        """Add the service to another instance, if it was published before.

        Does not wait for the upload: a party that has lost its tor dials its peers itself.
        """
        if self._target is not None:
            await self._add(instance, self._target)

    def admit(self, keys: Iterable[bytes]) -> None:
        """See `Network.admit`."""
        if self._keys:
            self._keys = list(keys)
            self._tasks.start(self._reseal())

    async def _reseal(self) -> None:
        """Make the service readable with the current keys, when nobody else is changing it."""
        async with self._adding:
            instance: TorInstance | None = None
            try:
                instance = await self._restarter.available()
                if self._target is not None:
                    await self.service_in(instance).reseal(self._target)
                    self._note_added()
            except (TorError, UsageError) as error:
                self._warn_while(instance, error)

    def doubt(self) -> None:
        """Note that a peer's introduction points did not work, so that ours may not work either."""
        self._schedule.doubt()

    def reached(self) -> None:
        """Note that a peer was reached."""
        self._schedule.reached()

    def refresh(self) -> None:
        """See `Network.refresh`."""
        instance = self._restarter.instance
        if instance is None or self._target is None or (self._refreshing and not self._refreshing.done()):
            return
        if self._schedule.begin(asyncio.get_running_loop().time()):
            self._refreshing = self._tasks.start(self._refresh(instance, self._target))

    async def _refresh(self, instance: TorInstance, target: str) -> None:
        now_s = asyncio.get_running_loop().time()
        is_new = self._schedule.is_new(now_s)
        # The service of a second tor loses its streams when it is removed, and doubt alone does not justify that.
        in_doubt = self._schedule.take_doubt(now_s, may_act=instance.second is None)
        try:
            service = self.service_in(instance)
            if in_doubt or await is_lost(service, is_new=is_new):
                # When a service is added again, tor picks new introduction points and uploads both of its descriptors.
                # HSPOST would be gentler, but tor shows us only one of the two: half of the time, the one that clients
                # do not ask for.
                async with self._adding:
                    await service.remove()
                    await self._add(instance, target)
        except TimeoutError:
            pass  # the directory did not answer; the next check asks another one
        except (TorError, UsageError) as error:
            self._warn_while(instance, error)

    async def _add(self, instance: TorInstance, target: str) -> None:
        await self.service_in(instance).add(target)
        self._note_added()

    def _note_added(self) -> None:
        self._schedule.added(asyncio.get_running_loop().time())

    def _warn_while(self, instance: TorInstance | None, error: OnionMPCError) -> None:
        """Warn that peers may not find our service, unless this instance is lost: the next one adds it again."""
        if instance is not None and not instance.gone:
            self._reporter.warn(f"our onion service may not be found: {error.message}")
