"""A Network over tor: the composition of life, keeper, onion, dial and circuits.

Knows what each life of a tor is set up with, and what peers see of its end: nothing but cut streams. Does not know who
the peers are.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path

from onionmpc.errors import (
    NotExpected,
    OnionMPCError,
    OnionNotPublished,
    PeerUnreachable,
    TorError,
    TorFailed,
    UnsafeSetting,
    UsageError,
)
from onionmpc.files import private_directory, socket_directory, state_directory
from onionmpc.identity import Identity, Onion
from onionmpc.levels import Level
from onionmpc.mesh.listener import listening_local, listening_unix
from onionmpc.mesh.network import OnStream, OwnPath, Stream
from onionmpc.tasks import Beside, Work, together
from onionmpc.tor.circuit.lengths import Lengths, circuits_of, has_joined
from onionmpc.tor.circuit.pinning import LayerStore, Pinning, check_pinning, foreign_store, pinned_layers, profile_store
from onionmpc.tor.circuit.status import accepted_path
from onionmpc.tor.control.bootstrap import DONE_PERCENT
from onionmpc.tor.dialling.dial import NotIntroduced, dial_onion
from onionmpc.tor.endpoint import LOCALHOST, UNIX_PREFIX, Endpoint, parse_endpoint, parse_listener
from onionmpc.tor.instance import OnTorReport, TorInstance, TorReport, foreign_instance, own_instance, short_instance
from onionmpc.tor.process.bridges import Bridge
from onionmpc.tor.process.profile import free_profile, named_profile
from onionmpc.tor.process.transports import bridge_torrc
from onionmpc.tor.restarter import TorRestarter
from onionmpc.tor.service.service import (
    VIRTUAL_PORT,
    EphemeralService,
    Service,
    is_lost,
    lock,
    look_up,
    publish,
    unlock,
)
from onionmpc.tor.service.single import SingleOnionService

# How often to look whether our service is lost, and how long a new one may take to have its descriptor at all
# directories; it has introduction points long before. After an outage tor can leave it without these for minutes, and
# peers' tors do not try again for two minutes what they have tried in vain: others are needed soon.
REFRESH_EVERY_S = 15.0
NEW_SERVICE_S = 60.0
# A dial that waits for so long is one that another is dialled beside (mesh.pace, NEXT_DIAL_S); those of a race begin at
# the same time, and to look a peer up takes circuits.
SILENT_S = 2.0


@dataclass(frozen=True, slots=True)
class TorOptions:
    """Which tor, and how long to wait for it.

    Attributes:
        control: "unix:PATH" or "127.0.0.1:PORT" of a tor that runs already; None for one of our own.
        listen: "ADDRESS:PORT" where that tor is to bring us its streams; None to choose a place that it can reach.
        profile: name of the directory in which our own tor keeps its guards; None for the first free one.
        profiles: where these directories are, mode 0700; None for the state directory. A private network needs its
            own: a guard drawn there is none on the public network.
        extra_torrc: lines for our own tor.
        bridges: by which our own tor enters its network, and by nothing else; none for a guard.
        bootstrap_timeout_s: from tor's start to a built circuit.
        publish_timeout_s: from then to a descriptor that a directory took.
        patience_s: how long tor may be away in one outage; the first start has no such patience.
        level: how long our side of every circuit is to be.
        or_standard: go on at that level where "long" cannot be had.
        change_foreign_tor: whether the settings of a tor that runs already may be changed, until we leave.
    """

    control: str | None = None
    listen: str | None = None
    profile: str | None = None
    profiles: Path | None = None
    extra_torrc: str = field(default="", repr=False)
    bridges: tuple[Bridge, ...] = ()
    bootstrap_timeout_s: float = 180.0
    publish_timeout_s: float = 120.0
    patience_s: float = 600.0
    level: Level = Level.STANDARD
    or_standard: bool = False
    change_foreign_tor: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be had, and what would be without effect."""
        if self.or_standard and self.level is not Level.LONG:
            raise UsageError("--or-standard needs --circuit-length long", hint="the others can always be had")
        if self.change_foreign_tor and (self.control is None or self.level is not Level.LONG):
            raise UsageError("--change-foreign-tor needs --control and --circuit-length long", hint="leave it out")
        if self.listen is not None and self.control is None:
            raise UsageError("--listen needs --control", hint="a tor of our own has a socket that nobody else reaches")
        if self.level is Level.SHORT and self.control is not None:
            raise UsageError("circuit length short needs tors of onionmpc's own", hint="leave --control out")
        if self.bridges and self.control is not None:
            raise UsageError(
                "a tor that runs already has its own bridges, or none",
                hint="its torrc has them; leave out --bridge, or --control",
            )
        if self.bridges and self.level is Level.SHORT:
            # Its second tor has no guard, hence no bridge in a guard's place.
            raise UsageError(
                "circuit length short goes past every bridge: the service connects straight to public relays",
                hint="leave out --bridge, or --circuit-length short",
            )
        if self.level is Level.LONG and self.control and not (self.change_foreign_tor or self.or_standard):
            raise UnsafeSetting(
                "long changes the circuits of everyone who uses the tor at --control, and that was not allowed",
                hint="--change-foreign-tor allows it until this party leaves; a tor of our own needs no leave",
            )


class TorNetwork:
    """One party's tor; made by `tor_network`.

    When tor or the way to it is lost, streams over it end by themselves, and it is brought back under the same address.
    """

    def __init__(
        self,
        identity: Identity,
        options: TorOptions,
        progress: OnTorReport,
        sockets: Path,
        begin: Callable[[], AbstractAsyncContextManager[TorInstance]],
        layers: LayerStore | None,
    ) -> None:
        self._identity = identity
        self._options = options
        self._progress = progress
        self._sockets = sockets
        self._begin = begin
        self._store = layers
        self._pinning: Pinning | None = None
        self._may_fall_back = options.or_standard
        self._keeper = TorRestarter(
            self._one_life, options.patience_s, lambda percent, words: progress(TorReport("tor", percent, words))
        )
        self._listening = contextlib.AsyncExitStack()
        # Where tor connects accepted streams to; None until the service was published for the first time.
        self._target: str | None = None
        # Those of our own descriptor, and those of peers.
        self._keys: list[bytes] = []
        self._keys_of: dict[Onion, bytes] = {}
        # Held while the service is added, or made anew: tor knows no address twice.
        self._adding = asyncio.Lock()
        self._added_s = 0.0
        self._new_s = NEW_SERVICE_S
        self._in_doubt = False
        # When those dials began that have no answer yet.
        self._dialling: collections.defaultdict[Onion, list[float]] = collections.defaultdict(list)
        # What is done behind the callers' backs, while the network is there.
        self._tasks: Beside | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self._refresh_again_s = 0.0
        self._lengths = Lengths(options.level, self._mend, self._keeper.give_up, self._warn)

    @property
    def level(self) -> Level:
        """How long our side of every circuit is; settled when `tor_network` yields."""
        return self._lengths.level

    @property
    def life(self) -> TorInstance | None:
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
                async with Beside() as self._tasks:
                    yield
            finally:
                self._tasks = None
                if self.life is not None and self.life.own is None:
                    await lock(self.life.control, self._keys_of)

    async def listen(self, on_stream: OnStream, keys: Iterable[bytes] = ()) -> None:
        """See `Network.listen`."""
        self._keys = list(keys)
        async with self._adding:
            await self._listen(on_stream)

    async def _listen(self, on_stream: OnStream) -> None:
        life = await self._keeper.awaited()
        target = await self._listen_locally(on_stream, reaches_files=life.reaches_files)
        while True:
            try:
                async with life.telling_why():
                    await self._publish(life, target)
            except OnionNotPublished:
                await self._service(life).remove()
                raise
            except TorFailed:
                if not life.gone:
                    raise
                life = await self._keeper.awaited(after=life)
            else:
                self._target = target
                self._note_added()
                return

    def admit(self, keys: Iterable[bytes]) -> None:
        """See `Network.admit`."""
        if self._keys:
            self._keys = list(keys)
            self._in_background(self._reseal())

    def unlock(self, onion: Onion, key: bytes) -> None:
        """See `Network.unlock`."""
        self._keys_of[onion] = key

    async def dial(self, onion: Onion, timeout_s: float) -> Stream:
        """See `Network.dial`."""
        life, loop = self._keeper.here(), asyncio.get_running_loop()
        waiting, began_s = self._dialling[onion], loop.time()
        until_s = began_s + timeout_s
        async with _answering(until_s, timeout_s):
            if onion in self._keys_of:
                # Each time: another party may use the same tor, and take its key along when it leaves.
                await unlock(life.control, onion, self._keys_of[onion])
            if any(began_s - earlier_s >= SILENT_S for earlier_s in waiting):
                # The one before has no answer: its descriptor may be of a service that was made anew since.
                await look_up(life.control, onion)
        waiting.append(began_s)
        try:
            dialled = await dial_onion(
                life.socks,
                onion,
                VIRTUAL_PORT,
                until_s - loop.time(),
                lambda username: has_joined(life.control, username),
            )
        except NotExpected:
            raise  # having read nothing, tor looks it up at the next dial by itself
        except PeerUnreachable as error:
            self._in_doubt |= isinstance(error, NotIntroduced)
            self._in_background(look_up(life.control, onion))
            raise
        finally:
            waiting.remove(began_s)
        try:
            async with _answering(until_s, timeout_s):
                path = await self._lengths.check_dialled(life.control, dialled.username)
        except BaseException:  # cancelled, most often: another dial got through meanwhile
            await dialled.stream.close()
            raise
        self._new_s = NEW_SERVICE_S
        return replace(dialled.stream, path=path)

    async def accepted_path(self, rendezvous: str) -> OwnPath | None:
        """See `Network.accepted_path`."""
        # tor may be on its way out; then the length stays unknown.
        with contextlib.suppress(TorFailed):
            if self.life is not None:
                known = await circuits_of(self.life.tors[-1].control)
                return accepted_path(known or (), self._identity.onion, rendezvous)
        return None

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
            self._refreshing = self._in_background(self._refresh(self.life, self._target))

    async def _refresh(self, life: TorInstance, target: str) -> None:
        is_new = asyncio.get_running_loop().time() < self._added_s + self._new_s
        try:
            service = self._service(life)
            # A peer whose introduction points lead nowhere has most likely tried ours in vain, too: the network was
            # away for both, and tor does not try again for two minutes what it has tried in vain. Nor does it know of
            # a circuit that is gone at a relay in between.
            in_doubt, self._in_doubt = self._in_doubt and not is_new and life.second is None, False
            if in_doubt:
                self._new_s *= 2  # each time it draws introduction points: less and less often while a peer is away
            if in_doubt or await is_lost(service, is_new=is_new):
                # For a service made anew, tor draws introduction points and sends both of its descriptors. HSPOST would
                # be gentler, but tor shows us one of the two only: for half of each period, the one nobody asks for.
                async with self._adding:
                    await service.remove()
                    await self._add(self._service(life), target)
        except TimeoutError:
            pass  # the directory did not answer; another one is asked next time
        except (TorError, UsageError) as error:
            self._warn_while(life, error)

    async def _reseal(self) -> None:
        """Have the service found by the keys of now, whatever is being done to it with those of before."""
        async with self._adding:
            life: TorInstance | None = None
            try:
                life = await self._keeper.awaited()
                if self._target is not None:
                    await self._service(life).reseal(self._target)
                    self._note_added()
            except (TorError, UsageError) as error:
                self._warn_while(life, error)

    def _in_background(self, work: Work) -> asyncio.Task[None] | None:
        if self._tasks is not None:
            return self._tasks.start(work)
        work.close()
        return None

    def _warn_while(self, life: TorInstance | None, error: OnionMPCError) -> None:
        """Tell why peers may not find our service, if this life goes on: the next one adds it with the keys of now."""
        if life is not None and not life.gone:
            self._warn(f"our onion service may not be found: {error.message}")

    def _warn(self, words: str) -> None:
        self._progress(TorReport("tor", DONE_PERCENT, words))

    @contextlib.asynccontextmanager
    async def _one_life(self) -> AsyncIterator[TorInstance]:
        """Begin a life and set it up: the first and each later one alike."""

        def show(percent: int, summary: str) -> None:
            self._progress(TorReport("bootstrap", percent, summary))

        async with self._begin() as life, contextlib.AsyncExitStack() as held:
            async with life.telling_why():
                await together(*(tor.control.bootstrap(show, self._options.bootstrap_timeout_s) for tor in life.tors))
                await self._set_length(life, held)
                if self._target is not None:
                    # Its upload is not waited for: whose tor was lost, dials.
                    await self._add(self._service(life), self._target)
            yield life

    async def _set_length(self, life: TorInstance, held: contextlib.AsyncExitStack) -> None:
        """Bring our level about in this life, and see to it that it is kept."""
        if self.level is Level.LONG:
            try:
                await self._pin_layers(life, held)
            except (TorError, UsageError) as error:
                if not self._may_fall_back:
                    raise
                self._progress(TorReport("tor", 0, f"{error.message}; going on at standard, as you allowed"))
                self._lengths.level = Level.STANDARD
        if self.level is Level.STANDARD and life.own is None:
            await check_pinning(life.control)
        self._may_fall_back = False  # what was agreed with the others stays
        service = self._service(life)
        await held.enter_async_context(self._lengths.watching(service.control, service.onion))

    async def _pin_layers(self, life: TorInstance, held: contextlib.AsyncExitStack) -> None:
        if self._store is None:
            raise UnsafeSetting("this tor may not be changed")
        await self._lengths.require_measure(life.control)
        self._pinning = await held.enter_async_context(
            pinned_layers(
                life.control,
                self._store,
                self._warn,
                foreign=life.own is None,
            )
        )

    def _service(self, life: TorInstance) -> Service:
        if life.second is None or life.keys is None:
            return EphemeralService(life.control, self._identity, self._keys)
        return SingleOnionService(life.second.control, self._identity, life.keys, self._keys)

    async def _mend(self) -> None:
        if self._pinning is not None:
            await self._pinning.apply()

    async def _add(self, service: Service, target: str) -> None:
        """Add the service again; its upload is not waited for."""
        await service.add(target)
        self._note_added()

    def _note_added(self) -> None:
        self._added_s = asyncio.get_running_loop().time()
        self._refresh_again_s = self._added_s + REFRESH_EVERY_S

    async def _publish(self, life: TorInstance, target: str) -> None:
        await publish(
            self._service(life),
            target,
            lambda percent, words: self._progress(TorReport("publish", percent, words)),
            self._options.publish_timeout_s,
        )

    async def _listen_locally(self, on_stream: OnStream, *, reaches_files: bool) -> str:
        """Listen where tor can reach us, for as long as the network is there; return that place in tor's words."""
        try:
            if reaches_files and self._options.listen is None:
                path = self._sockets / "party"
                await self._listening.enter_async_context(listening_unix(path, on_stream))
                return f"{UNIX_PREFIX}{path}"
            asked = parse_listener(self._options.listen) if self._options.listen else Endpoint()
            port = await self._listening.enter_async_context(listening_local(on_stream, asked.host, asked.port))
        except OSError as error:
            raise TorFailed(
                f"cannot listen for tor's streams: {error.strerror or error}",
                hint="with --listen, choose another address or port" if self._options.listen else "",
            ) from error
        place = replace(asked, port=port)
        others = "other users of this machine" if place.host == LOCALHOST else "others who reach this address"
        words = f"listening for tor's streams at {place}, where {others} can knock too (every party is authenticated)"
        self._progress(TorReport("publish", 0, words))
        return str(place)


@contextlib.asynccontextmanager
async def _answering(until_s: float, timeout_s: float) -> AsyncIterator[None]:
    """Bound tor's answers to commands by the dial that they are part of: each alone may take a minute."""
    try:
        async with asyncio.timeout_at(until_s):
            yield
    except TimeoutError:
        raise PeerUnreachable(f"our own tor did not answer within {timeout_s:.3g} s") from None


@contextlib.asynccontextmanager
async def tor_network(identity: Identity, options: TorOptions, progress: OnTorReport) -> AsyncIterator[TorNetwork]:
    """Run a party's tor network: from when tor can build circuits to when our tor, if it is ours, is gone.

    Raises:
        TorError: tor is missing, fails, does not let us in or does not reach its network.
        UsageError: the options cannot be.
    """
    async with contextlib.AsyncExitStack() as stack:
        # Both stay from life to life: the guards, and the socket that accepts streams.
        sockets = stack.enter_context(socket_directory())
        layers: LayerStore | None = None
        begin: Callable[[], AbstractAsyncContextManager[TorInstance]]
        if options.control is not None:
            endpoint = parse_endpoint(options.control)
            begin = functools.partial(foreign_instance, endpoint, progress)
            if options.change_foreign_tor:
                layers = stack.enter_context(foreign_store(private_directory(state_directory()) / "layers", endpoint))
        else:
            base = options.profiles or private_directory(state_directory()) / "tor"
            if options.profile is not None:
                profile = await stack.enter_async_context(named_profile(base, options.profile))
            else:
                profile = stack.enter_context(free_profile(base))
            layers = profile_store(profile)
            life = short_instance if options.level is Level.SHORT else own_instance
            torrc = f"{options.extra_torrc}\n{bridge_torrc(options.bridges)}"
            begin = functools.partial(life, profile, sockets, torrc, progress)
        network = TorNetwork(identity, options, progress, sockets, begin, layers)
        await stack.enter_async_context(network.running())
        yield network
