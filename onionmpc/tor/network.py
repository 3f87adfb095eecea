"""A Network over tor: the composition of life, keeper, onion, dial and circuits.

Knows what each life of a tor is set up with, and what peers see of its end: nothing but cut streams. Does not know who
the peers are.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import functools
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path

from onionmpc.errors import OnionNotPublished, PeerUnreachable, TorError, TorFailed
from onionmpc.files import private_directory, socket_directory, state_directory
from onionmpc.identity import Identity, Onion
from onionmpc.mesh.listener import listening_local, listening_unix
from onionmpc.mesh.network import OnStream, OwnPath, Stream
from onionmpc.tor import circuits
from onionmpc.tor.dial import dial
from onionmpc.tor.endpoint import LOCALHOST, UNIX_PREFIX, parse_endpoint
from onionmpc.tor.keeper import Keeper
from onionmpc.tor.life import Life, OnProgress, Progress, foreign_life, own_life
from onionmpc.tor.onion import VIRTUAL_PORT, add_service, is_lost, look_up, publish, remove_service
from onionmpc.tor.profile import free_profile, named_profile

# How often to look whether our service is lost, and how long a new one may take to have its descriptor at all
# directories; it has introduction points long before. After an outage tor can leave it without these for minutes, and
# peers' tors do not try again for two minutes what they have tried in vain: others are needed soon.
REFRESH_EVERY_S = 15.0
NEW_SERVICE_S = 60.0


@dataclass(frozen=True, slots=True)
class TorOptions:
    """Which tor, and how long to wait for it.

    Attributes:
        control: "unix:PATH" or "127.0.0.1:PORT" of a tor that runs already; None for one of our own.
        profile: name of the directory in which our own tor keeps its guards; None for the first free one.
        profiles: where these directories are, mode 0700; None for the state directory. A private network needs its
            own: a guard drawn there is none on the public network.
        extra_torrc: lines for our own tor.
        bootstrap_timeout_s: from tor's start to a built circuit.
        publish_timeout_s: from then to a descriptor that a directory took.
        patience_s: how long tor may be away in one outage; the first start has no such patience.
    """

    control: str | None = None
    profile: str | None = None
    profiles: Path | None = None
    extra_torrc: str = field(default="", repr=False)  # it may name bridges
    bootstrap_timeout_s: float = 180.0
    publish_timeout_s: float = 120.0
    patience_s: float = 600.0


class TorNetwork:
    """One party's tor; made by `tor_network`.

    When tor or the way to it is lost, streams over it end by themselves, and it is brought back under the same address.
    """

    def __init__(
        self,
        identity: Identity,
        options: TorOptions,
        progress: OnProgress,
        sockets: Path,
        begin: Callable[[], AbstractAsyncContextManager[Life]],
    ) -> None:
        self._identity = identity
        self._options = options
        self._progress = progress
        self._sockets = sockets
        self._begin = begin
        self._keeper = Keeper(
            self._one_life, options.patience_s, lambda percent, words: progress(Progress("tor", percent, words))
        )
        self._listening = contextlib.AsyncExitStack()
        # Where tor connects accepted streams to; None until the service was published for the first time.
        self._target: str | None = None
        self._added_s = 0.0
        self._dialling: collections.Counter[Onion] = collections.Counter()
        self._refreshing: asyncio.Task[None] | None = None
        self._refresh_again_s = 0.0
        self._usernames: weakref.WeakKeyDictionary[asyncio.StreamWriter, str] = weakref.WeakKeyDictionary()

    @property
    def life(self) -> Life | None:
        """The tor of now, to ask it more than a Network needs; None while it is away."""
        return self._keeper.life

    @property
    def died(self) -> asyncio.Future[TorError]:
        """Done, with the last reason, when tor was away for longer than patience lasts.

        Wait for it with `asyncio.wait`, which does not cancel it when cancelled.
        """
        return self._keeper.died

    @property
    def failure(self) -> TorError | None:
        """Why tor was given up or, in an outage, is away; None while it is there."""
        return self.died.result() if self.died.done() else self._keeper.cause

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep a tor, and at the end cut what was accepted.

        Raises:
            OnionMPCError: the first tor did not start, or did not reach its network.
        """
        async with self._keeper.running(), self._listening:
            try:
                yield
            finally:
                if self._refreshing is not None:
                    self._refreshing.cancel()

    async def listen(self, on_stream: OnStream) -> None:
        """See `Network.listen`."""
        life = await self._keeper.awaited()
        target = await self._listen_locally(on_stream, reaches_files=life.reaches_files)
        while True:
            try:
                async with life.telling_why():
                    await self._publish(life, target)
            except OnionNotPublished:
                await remove_service(life.control, self._identity)
                raise
            except TorFailed:
                if not life.control.closed.done():
                    raise
                life = await self._keeper.awaited(after=life)
            else:
                self._target = target
                self._note_added()
                return

    async def dial(self, onion: Onion, timeout_s: float) -> Stream:
        """See `Network.dial`."""
        life = self._keeper.here()
        if self._dialling[onion]:
            # The one before has no answer yet: its descriptor may be of a service that was made anew since.
            await look_up(life.control, onion)
        self._dialling[onion] += 1
        try:
            dialled = await dial(life.socks, onion, VIRTUAL_PORT, timeout_s)
        except PeerUnreachable:
            await look_up(life.control, onion)
            raise
        finally:
            self._dialling[onion] -= 1
        self._usernames[dialled.stream.writer] = dialled.username
        return dialled.stream

    async def dialled_path(self, stream: Stream) -> OwnPath | None:
        """See `Network.dialled_path`."""
        username = self._usernames.get(stream.writer)
        return circuits.dialled_path(await self._circuits(), username) if username else None

    async def accepted_path(self, rendezvous: str) -> OwnPath | None:
        """See `Network.accepted_path`."""
        return circuits.accepted_path(await self._circuits(), self._identity.onion, rendezvous)

    async def restored(self) -> None:
        """See `Network.restored`."""
        await self._keeper.restored()

    async def refresh(self) -> None:
        """See `Network.refresh`; what there is to do is done behind the caller's back."""
        now_s = asyncio.get_running_loop().time()
        if self.life is None or self._target is None or now_s < self._refresh_again_s:
            return
        if self._refreshing is None or self._refreshing.done():
            self._refresh_again_s = now_s + REFRESH_EVERY_S
            self._refreshing = asyncio.create_task(self._refresh(self.life, self._target))

    async def _refresh(self, life: Life, target: str) -> None:
        is_new = asyncio.get_running_loop().time() < self._added_s + NEW_SERVICE_S
        with contextlib.suppress(TorError, TimeoutError):
            if await is_lost(life.control, self._identity, is_new=is_new):
                # For a service made anew, tor draws introduction points and sends both of its descriptors. HSPOST would
                # be gentler, but tor shows us one of the two only: for half of each period, the one nobody asks for.
                await remove_service(life.control, self._identity)
                await self._add(life, target)

    @contextlib.asynccontextmanager
    async def _one_life(self) -> AsyncIterator[Life]:
        """Begin a life and set it up: the first and each later one alike."""
        async with self._begin() as life:
            async with life.telling_why():
                await life.control.bootstrap(
                    lambda percent, summary: self._progress(Progress("bootstrap", percent, summary)),
                    self._options.bootstrap_timeout_s,
                )
                if self._target is not None:
                    # Its upload is not waited for: whose tor was lost, dials.
                    await self._add(life, self._target)
            yield life

    async def _add(self, life: Life, target: str) -> None:
        """Add the service again; its upload is not waited for."""
        await add_service(life.control, self._identity, target)
        self._note_added()

    def _note_added(self) -> None:
        self._added_s = asyncio.get_running_loop().time()
        self._refresh_again_s = self._added_s + REFRESH_EVERY_S

    async def _publish(self, life: Life, target: str) -> None:
        await publish(
            life.control,
            self._identity,
            target,
            lambda percent, words: self._progress(Progress("publish", percent, words)),
            self._options.publish_timeout_s,
        )

    async def _listen_locally(self, on_stream: OnStream, *, reaches_files: bool) -> str:
        """Listen where tor can reach us, for as long as the network is there; return that place in tor's words."""
        try:
            if reaches_files:
                path = self._sockets / "party"
                await self._listening.enter_async_context(listening_unix(path, on_stream))
                return f"{UNIX_PREFIX}{path}"
            self._progress(
                Progress(
                    "publish",
                    0,
                    "this tor runs as another user: listening on 127.0.0.1, where other users of this machine can "
                    "knock too (every party is still authenticated)",
                )
            )
            return f"{LOCALHOST}:{await self._listening.enter_async_context(listening_local(on_stream))}"
        except OSError as error:
            raise TorFailed(f"cannot listen for tor's streams: {error.strerror or error}") from error

    async def _circuits(self) -> list[circuits.Circuit]:
        if self.life is None:
            return []
        try:
            return circuits.parse_circuits(await self.life.control.get_info("circuit-status"))
        # Tor is on its way out, or a filter is before the control port (Tails, Whonix): then the length stays unknown.
        except TorFailed:
            return []


@contextlib.asynccontextmanager
async def tor_network(identity: Identity, options: TorOptions, progress: OnProgress) -> AsyncIterator[TorNetwork]:
    """Run a party's tor network: from when tor can build circuits to when our tor, if it is ours, is gone.

    Raises:
        TorError: tor is missing, fails, does not let us in or does not reach its network.
        UsageError: the options cannot be.
    """
    async with contextlib.AsyncExitStack() as stack:
        # Both stay from life to life: the guards, and the socket that accepts streams.
        sockets = stack.enter_context(socket_directory())
        begin: Callable[[], AbstractAsyncContextManager[Life]]
        if options.control is not None:
            begin = functools.partial(foreign_life, parse_endpoint(options.control), progress)
        else:
            base = options.profiles or private_directory(state_directory()) / "tor"
            if options.profile is not None:
                profile = await stack.enter_async_context(named_profile(base, options.profile))
            else:
                profile = stack.enter_context(free_profile(base))
            begin = functools.partial(own_life, profile, sockets, options.extra_torrc, progress)
        network = TorNetwork(identity, options, progress, sockets, begin)
        await stack.enter_async_context(network.running())
        yield network
