"""A Network over tor: composes the parts that restart tor, keep the level, publish our service and dial peers.

Peers notice a lost tor only by its broken streams.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

from onionmpc.errors import TorError, TorFailed
from onionmpc.files import private_directory, socket_directory, state_directory
from onionmpc.identity import Identity, Onion
from onionmpc.levels import Level
from onionmpc.mesh.network import OnStream, OwnPath, Stream
from onionmpc.tasks import BackgroundTasks
from onionmpc.tor.circuit.lengths import Lengths, circuits_of
from onionmpc.tor.circuit.level import LevelKeeper
from onionmpc.tor.circuit.pinning import LayerStore, foreign_store, profile_store
from onionmpc.tor.circuit.status import accepted_path
from onionmpc.tor.dialling.dial import NotIntroduced
from onionmpc.tor.dialling.dialler import Dialler
from onionmpc.tor.endpoint import parse_endpoint
from onionmpc.tor.instance import StartTor, TorInstance, bootstrapped, foreign_instance, own_instance, short_instance
from onionmpc.tor.options import TorOptions
from onionmpc.tor.process.profile import free_profile, named_profile
from onionmpc.tor.process.transports import bridge_torrc
from onionmpc.tor.report import OnTorReport, Reporter
from onionmpc.tor.restarter import FOREIGN_TOR, OWN_TOR, TorRestarter
from onionmpc.tor.service.publisher import Publisher


class TorNetwork:
    """One party's tor; made by `tor_network`.

    When tor or the connection to it is lost, streams over it end by themselves, and another tor starts under the same
    address.

    Args:
        start: starts a tor, waits until it has bootstrapped, and ends it.
        sockets: a private directory for our own socket.
        store: keeps the layer guards; None if this tor's settings must not be changed.
    """

    def __init__(
        self,
        identity: Identity,
        options: TorOptions,
        reporter: Reporter,
        start: StartTor,
        sockets: Path,
        store: LayerStore | None,
    ) -> None:
        self._identity = identity
        self._start = start
        self._tasks = BackgroundTasks()
        words = OWN_TOR if options.control is None else FOREIGN_TOR
        self._restarter = TorRestarter(self._start_and_set_up, options.patience_s, reporter.tor, words)
        self._lengths = Lengths(options.level, self._restarter.give_up, reporter.warn)
        self._levels = LevelKeeper(self._lengths, store, reporter, or_standard=options.or_standard)
        self._publisher = Publisher(identity, options, self._restarter, self._tasks, sockets, reporter)
        self._dialler = Dialler(self._restarter, self._lengths, self._tasks, options.timings.silent_s)

    @property
    def level(self) -> Level:
        """The length of our side of every circuit, decided when `tor_network` yields."""
        return self._lengths.level

    @property
    def instance(self) -> TorInstance | None:
        """The current tor, for questions that a Network does not ask; None during an outage."""
        return self._restarter.instance

    @property
    def died(self) -> asyncio.Future[TorError]:
        """Done, with the last cause, when an outage has lasted longer than `patience_s`.

        Wait for it with `asyncio.wait`, which does not cancel it when cancelled.
        """
        return self._restarter.died

    @property
    def failure(self) -> TorError | None:
        """Why tor was given up or, during an outage, why it is away; None while it runs."""
        return self.died.result() if self.died.done() else self._restarter.cause

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep a tor running. At the end, cut the accepted streams.

        Raises:
            OnionMPCError: the first tor did not start, or did not reach its network.
        """
        async with self._restarter.running(), self._publisher.running():
            try:
                async with self._tasks:
                    yield
            finally:
                await self._dialler.forget_keys()

    @contextlib.asynccontextmanager
    async def _start_and_set_up(self) -> AsyncIterator[TorInstance]:
        """Start an instance and set it up: the first and each later one alike."""
        async with self._start() as instance, contextlib.AsyncExitStack() as held:
            async with instance.explaining():
                await held.enter_async_context(self._levels.kept(instance, self._identity.onion))
                await self._publisher.add_to(instance)
            yield instance

    async def listen(self, on_stream: OnStream, keys: Iterable[bytes] = ()) -> None:
        """See `Network.listen`."""
        await self._publisher.listen(on_stream, keys)

    def admit(self, keys: Iterable[bytes]) -> None:
        """See `Network.admit`."""
        self._publisher.admit(keys)

    def unlock(self, onion: Onion, key: bytes) -> None:
        """See `Network.unlock`."""
        self._dialler.unlock(onion, key)

    async def dial(self, onion: Onion, timeout_s: float) -> Stream:
        """See `Network.dial`."""
        try:
            stream = await self._dialler.dial(onion, timeout_s)
        except NotIntroduced:
            self._publisher.doubt()
            raise
        self._publisher.reached()
        return stream

    async def accepted_path(self, rendezvous: str) -> OwnPath | None:
        """See `Network.accepted_path`."""
        # tor may be ending. Then the length stays unknown.
        with contextlib.suppress(TorFailed):
            if self.instance is not None:
                known = await circuits_of(self.instance.tors[-1].control)
                return accepted_path(known or (), self._identity.onion, rendezvous)
        return None

    async def restored(self) -> None:
        """See `Network.restored`."""
        await self._restarter.restored()

    async def refresh(self) -> None:
        """See `Network.refresh`; the work goes on in the background."""
        self._publisher.refresh()


@contextlib.asynccontextmanager
async def tor_network(identity: Identity, options: TorOptions, report: OnTorReport) -> AsyncIterator[TorNetwork]:
    """Run a party's tor network. It yields when tor has bootstrapped, and returns when a tor of ours has exited.

    Raises:
        TorError: tor is missing, fails, does not let us in or does not reach its network.
        UsageError: the options do not fit this machine.
    """
    reporter, question_s = Reporter(report), options.timings.question_s
    async with contextlib.AsyncExitStack() as stack:
        # Both outlive an instance: the guards, and the socket that accepts streams.
        sockets = stack.enter_context(socket_directory())
        store: LayerStore | None = None
        start: StartTor
        if options.control is not None:
            endpoint = parse_endpoint(options.control)
            start = functools.partial(foreign_instance, endpoint, reporter, question_s)
            if options.change_foreign_tor:
                store = stack.enter_context(foreign_store(private_directory(state_directory()) / "layers", endpoint))
        else:
            base = options.profiles or private_directory(state_directory()) / "tor"
            if options.profile is not None:
                profile = await stack.enter_async_context(named_profile(base, options.profile))
            else:
                profile = stack.enter_context(free_profile(base))
            store = profile_store(profile)
            own = short_instance if options.level is Level.SHORT else own_instance
            torrc = f"{options.extra_torrc}\n{bridge_torrc(options.bridges)}"
            start = functools.partial(own, profile, sockets, torrc, reporter, question_s)
        start = functools.partial(bootstrapped, start, reporter, options.bootstrap_timeout_s)
        network = TorNetwork(identity, options, reporter, start, sockets, store)
        await stack.enter_async_context(network.running())
        yield network
