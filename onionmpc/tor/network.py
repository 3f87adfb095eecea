"""A Network over tor: the composition of process, control, onion, dial and circuits.

Knows in which order they start and end, and what it means when tor is lost. Does not know who the peers are.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import weakref
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from stem.version import Version

from onionmpc.errors import TorError, TorFailed, TorTooOld, UsageError
from onionmpc.files import private_directory, socket_directory, state_directory
from onionmpc.identity import Identity, Onion
from onionmpc.mesh.listener import listening_local, listening_unix
from onionmpc.mesh.network import OnStream, OwnPath, Stream
from onionmpc.tor import circuits
from onionmpc.tor.binary import OLDEST, install_hint, version_warning
from onionmpc.tor.control import DONE_PERCENT, CommandRefused, Control, open_control
from onionmpc.tor.dial import dial
from onionmpc.tor.endpoint import LOCALHOST, UNIX_PREFIX, Endpoint, parse_endpoint
from onionmpc.tor.onion import VIRTUAL_PORT, published
from onionmpc.tor.process import OwnTor, own_tor
from onionmpc.tor.profile import free_profile, named_profile

# How long tor's last words may take after its control connection broke.
LAST_WORDS_S = 2.0


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
    """

    control: str | None = None
    profile: str | None = None
    profiles: Path | None = None
    extra_torrc: str = field(default="", repr=False)  # it may name bridges
    bootstrap_timeout_s: float = 180.0
    publish_timeout_s: float = 120.0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a tor network has come: percent of its phase, and words for it."""

    phase: Literal["tor", "bootstrap", "publish"]
    percent: int
    detail: str


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Way:
    """The way to one tor.

    Attributes:
        control: logged in.
        socks: where to dial.
        socket: path at which to take streams from tor; None if tor cannot reach our files.
        own: the process, if it is ours.
    """

    control: Control
    socks: Endpoint
    socket: Path | None = None
    own: OwnTor | None = None


class TorNetwork:
    """One party's tor; made by `tor_network`.

    Attributes:
        control: the way to ask tor more than a Network needs.
        died: done, with the reason, when tor or the way to it is lost; open streams then end by themselves. Wait
            for it with `asyncio.wait`, which does not cancel it when cancelled.
    """

    def __init__(self, identity: Identity, options: TorOptions, progress: OnProgress, way: Way) -> None:
        self.control = way.control
        self.died: asyncio.Future[TorError] = asyncio.get_running_loop().create_future()
        self._identity = identity
        self._options = options
        self._progress = progress
        self._way = way
        self._usernames: weakref.WeakKeyDictionary[asyncio.StreamWriter, str] = weakref.WeakKeyDictionary()
        self._open = contextlib.AsyncExitStack()

    async def watch(self) -> None:
        """Wait for tor's end and say so in `died`."""
        await asyncio.wait({self.control.closed})
        reason = await self._reason()
        if not self.died.done():
            self.died.set_result(reason)

    async def bootstrap(self) -> None:
        """Wait until tor can build circuits; see `Control.bootstrap`."""
        async with self._telling_why():
            await self.control.bootstrap(
                lambda percent, summary: self._progress(Progress("bootstrap", percent, summary)),
                self._options.bootstrap_timeout_s,
            )

    async def listen(self, on_stream: OnStream) -> None:
        """See `Network.listen`."""
        try:
            if (path := self._way.socket) is not None:
                await self._open.enter_async_context(listening_unix(path, on_stream))
                target = f"{UNIX_PREFIX}{path}"
            else:
                port = await self._open.enter_async_context(listening_local(on_stream))
                target = f"{LOCALHOST}:{port}"
        except OSError as error:
            raise TorFailed(f"cannot listen for tor's streams: {error.strerror or error}") from error
        async with self._telling_why():
            await self._open.enter_async_context(
                published(
                    self.control,
                    self._identity,
                    target,
                    lambda percent, words: self._progress(Progress("publish", percent, words)),
                    self._options.publish_timeout_s,
                )
            )

    async def dial(self, onion: Onion, timeout_s: float) -> Stream:
        """See `Network.dial`."""
        if self.control.closed.done():
            raise await self._reason()
        dialled = await dial(self._way.socks, onion, VIRTUAL_PORT, timeout_s)
        self._usernames[dialled.stream.writer] = dialled.username
        return dialled.stream

    async def dialled_path(self, stream: Stream) -> OwnPath | None:
        """See `Network.dialled_path`."""
        username = self._usernames.get(stream.writer)
        return circuits.dialled_path(await self._circuits(), username) if username else None

    async def accepted_path(self, rendezvous: str) -> OwnPath | None:
        """See `Network.accepted_path`."""
        return circuits.accepted_path(await self._circuits(), self._identity.onion, rendezvous)

    async def failure(self) -> TorError | None:
        """Return why tor, or the way to it, is gone; None while it is there."""
        if not self.control.closed.done():
            return None
        await asyncio.wait({self.died})
        return self.died.result()

    async def close(self) -> None:
        """Withdraw the service and cut what was accepted."""
        await self._open.aclose()

    async def _reason(self) -> TorError:
        """Return why the control connection is gone: what tor said as it ended, if it is ours and did."""
        if self._way.own is not None:
            await asyncio.wait({self._way.own.died}, timeout=LAST_WORDS_S)
            if self._way.own.died.done():
                return self._way.own.died.result()
        return TorFailed("tor closed the control connection", hint="look whether tor still runs, and at its log")

    @contextlib.asynccontextmanager
    async def _telling_why(self) -> AsyncIterator[None]:
        """Turn "the connection is gone" into tor's own last words."""
        try:
            yield
        except TorFailed as error:
            if self.control.closed.done():
                raise await self._reason() from error
            raise

    async def _circuits(self) -> list[circuits.Circuit]:
        try:
            return circuits.parse_circuits(await self.control.get_info("circuit-status"))
        except CommandRefused:  # a filter before the control port (Tails, Whonix): then the length stays unknown
            return []


@contextlib.asynccontextmanager
async def tor_network(identity: Identity, options: TorOptions, progress: OnProgress) -> AsyncIterator[TorNetwork]:
    """Run a party's tor network: from when tor can build circuits to when our tor, if it is ours, is gone.

    Raises:
        TorError: tor is missing, fails, does not let us in or does not reach its network.
        UsageError: the options cannot be.
    """
    async with contextlib.AsyncExitStack() as stack:
        if options.control is None:
            way = await stack.enter_async_context(_own_way(options, progress))
        else:
            way = await stack.enter_async_context(_foreign_way(parse_endpoint(options.control), progress))
        network = TorNetwork(identity, options, progress, way)
        watching = asyncio.create_task(network.watch())
        stack.callback(watching.cancel)
        stack.push_async_callback(network.close)
        await network.bootstrap()
        yield network


@contextlib.asynccontextmanager
async def _own_way(options: TorOptions, progress: OnProgress) -> AsyncIterator[Way]:
    progress(Progress("tor", 0, "starting tor"))
    base = options.profiles or private_directory(state_directory()) / "tor"
    profile = named_profile(base, options.profile) if options.profile else free_profile(base)
    with profile as directory:
        async with own_tor(directory, options.extra_torrc) as tor, open_control(tor.control) as control:
            # tor ends the moment this connection does, should we be killed.
            await control.command("TAKEOWNERSHIP")
            progress(Progress("tor", DONE_PERCENT, _describe(tor.binary.version)))
            yield Way(control, tor.socks, tor.directory / "party", tor)


@contextlib.asynccontextmanager
async def _foreign_way(endpoint: Endpoint, progress: OnProgress) -> AsyncIterator[Way]:
    progress(Progress("tor", 0, f"logging in at {endpoint}"))
    async with open_control(endpoint) as control:
        # GETINFO version may add " (git-...)".
        version = Version(control.version.split()[0])
        if version < OLDEST:
            raise TorTooOld(f"the tor at {endpoint} is {version}, expected {OLDEST} or newer", hint=install_hint())
        progress(Progress("tor", DONE_PERCENT, _describe(version)))
        socks = await _foreign_socks(control)
        if await _may_reach_our_files(control):
            with socket_directory() as directory:
                yield Way(control, socks, directory / "party")
        else:
            progress(
                Progress(
                    "tor",
                    DONE_PERCENT,
                    "this tor runs as another user: listening on 127.0.0.1, where other users of this machine can "
                    "knock too (every party is still authenticated)",
                )
            )
            yield Way(control, socks)


async def _foreign_socks(control: Control) -> Endpoint:
    """Return a SOCKS port of a running tor that takes our connection, unix sockets first."""
    listed = shlex.split(await control.get_info("net/listeners/socks"))
    for text in sorted(listed, key=lambda text: not text.startswith(UNIX_PREFIX)):
        with contextlib.suppress(OSError, UsageError):  # not for us; the next may be
            endpoint = parse_endpoint(text)
            (await endpoint.connect()).close()
            return endpoint
    raise TorFailed(
        f"this tor has {len(listed)} SOCKS ports, and none that we can reach",
        hint="torrc.d/system-service.torrc has a line for one",
    )


async def _may_reach_our_files(control: Control) -> bool:
    """Whether tor runs as our user: only then can it connect to a socket in a directory of mode 0700."""
    try:
        return int(await control.get_info("process/uid")) == os.geteuid()
    except (CommandRefused, ValueError):
        return False


def _describe(version: Version) -> str:
    return "; ".join(filter(None, [f"tor {version}", version_warning(version)]))
