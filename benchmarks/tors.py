"""A private Tor network, the tors of a benchmark in it, their onion services, and raw streams to these.

Does not know what goes through them.
"""

from __future__ import annotations

import contextlib
import secrets
import shlex
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common import say
from onionmpc.errors import PeerUnreachable
from onionmpc.files import private_directory, socket_directory
from onionmpc.identity import SEED_BYTES, Identity, Onion
from onionmpc.levels import Level
from onionmpc.mesh.listener import listening_unix
from onionmpc.mesh.network import OnStream, Stream
from onionmpc.tasks import together
from onionmpc.testnet.place import join_testnet
from onionmpc.tor.control.connection import Control
from onionmpc.tor.control.login import open_control
from onionmpc.tor.dialling.dial import dial_onion
from onionmpc.tor.endpoint import UNIX_PREFIX, Endpoint, parse_endpoint
from onionmpc.tor.instance import TorInstance, own_instance
from onionmpc.tor.network import TorNetwork, tor_network
from onionmpc.tor.options import TorOptions
from onionmpc.tor.process.own_tor import own_tor
from onionmpc.tor.report import Reporter
from onionmpc.tor.service.descriptor import publish
from onionmpc.tor.service.service import VIRTUAL_PORT, EphemeralService
from tests.support.faulty_network import FaultyNetwork

BOOTSTRAP_TIMEOUT_S = 120.0
PUBLISH_TIMEOUT_S = 120.0
DIAL_TIMEOUT_S = 30.0
DIALS = 5
SOCKS_LINE = "SocksPort 127.0.0.1:auto"


@contextlib.asynccontextmanager
async def private_network() -> AsyncIterator[Path]:
    """A private Tor network with the delays of a world of regions; its directory."""
    with tempfile.TemporaryDirectory(prefix="onionmpc-bench-") as name:
        directory = Path(name) / "net"
        say("starting a private Tor network")
        async with FaultyNetwork(directory, latency="regions"):
            yield directory


@contextlib.asynccontextmanager
async def party_network(
    directory: Path, region: str, identity: Identity, *, profile: str | None = None, level: Level = Level.STANDARD
) -> AsyncIterator[TorNetwork]:
    """A party's network as sessions have it, with a tor of its own in the private network of `directory`."""
    with join_testnet(directory, region) as place:
        options = TorOptions(extra_torrc=place.torrc, profiles=place.profiles, profile=profile, level=level)
        async with tor_network(identity, options, lambda _progress: None) as network:
            yield network


@dataclass(frozen=True, slots=True)
class BenchTor:
    """One party's tor.

    Attributes:
        instance: the tor, and our way to it.
        control: where its control port is, as `--control` takes it.
        socks_port: on 127.0.0.1, for programs that know no unix sockets.
    """

    instance: TorInstance
    control: str
    socks_port: int


@contextlib.asynccontextmanager
async def bench_tors(directory: Path, parties: int) -> AsyncIterator[list[BenchTor]]:
    """Run a tor for each party, the regions in turn, in the private network of `directory`."""
    async with contextlib.AsyncExitStack() as stack:
        tors = []
        for number in range(parties):
            place = stack.enter_context(join_testnet(directory))
            sockets = stack.enter_context(socket_directory())
            profile = private_directory(place.profiles / f"bench-{number}")
            lines = f"{place.torrc}\n{SOCKS_LINE}"
            instance = await stack.enter_async_context(
                own_instance(profile, sockets, lines, Reporter(lambda _report: None))
            )
            port = (await _plain_socks(instance.control)).port
            tors.append(BenchTor(instance, f"{UNIX_PREFIX}{sockets / 'control'}", port))
        for tor in tors:
            await tor.instance.control.bootstrap(lambda _percent, _words: None, BOOTSTRAP_TIMEOUT_S)
        yield tors


@contextlib.asynccontextmanager
async def plain_tor(directory: Path) -> AsyncIterator[tuple[Control, Endpoint]]:
    """Run a tor that has kept nothing, in the private network of `directory`, and log in, as one does by hand.

    Yields:
        Its control connection, and a SOCKS port; it may not have bootstrapped yet.
    """
    with join_testnet(directory) as place, socket_directory() as sockets:
        profile = private_directory(place.profiles / f"plain-{secrets.token_hex(8)}")
        async with (
            own_tor(profile, sockets, f"{place.torrc}\n{SOCKS_LINE}") as tor,
            open_control(tor.control) as control,
        ):
            yield control, await _plain_socks(control)


async def _plain_socks(control: Control) -> Endpoint:
    """Return a SOCKS port with tor's defaults, on 127.0.0.1."""
    listeners = shlex.split(await control.get_info("net/listeners/socks"))
    return next(parse_endpoint(text) for text in listeners if not text.startswith(UNIX_PREFIX))


@contextlib.asynccontextmanager
async def fresh_services(tors: Sequence[BenchTor], targets: Sequence[str]) -> AsyncIterator[list[Onion]]:
    """Publish a new onion service by each tor.

    New ones each time, since tor would go on using the circuits that it has to an old one.

    Args:
        targets: where each leads, "unix:/PATH" or "127.0.0.1:PORT".
    Yields:
        Their addresses.
    Raises:
        OnionMPCError: one was not published.
    """
    async with contextlib.AsyncExitStack() as stack:
        services = [EphemeralService(tor.instance.control, Identity(secrets.token_bytes(SEED_BYTES))) for tor in tors]
        for service in services:
            stack.push_async_callback(service.remove)
        await together(
            *(
                publish(service, target, lambda _percent, _words: None, PUBLISH_TIMEOUT_S)
                for service, target in zip(services, targets, strict=True)
            )
        )
        yield [service.onion for service in services]


@contextlib.asynccontextmanager
async def serving(tors: Sequence[BenchTor], serve: OnStream) -> AsyncIterator[list[Onion]]:
    """Publish a new onion service by each tor, whose streams `serve` gets."""
    async with contextlib.AsyncExitStack() as stack:
        directory = stack.enter_context(socket_directory())
        paths = [directory / str(number) for number in range(len(tors))]
        for path in paths:
            await stack.enter_async_context(listening_unix(path, serve))
        yield await stack.enter_async_context(fresh_services(tors, [f"{UNIX_PREFIX}{path}" for path in paths]))


async def dial_raw(socks: Endpoint, onion: Onion) -> Stream:
    """Open a stream to an onion service.

    Raises:
        PeerUnreachable: none of DIALS led there.
    """
    for _ in range(DIALS - 1):
        with contextlib.suppress(PeerUnreachable):
            return (await dial_onion(socks, onion, VIRTUAL_PORT, DIAL_TIMEOUT_S)).stream
    return (await dial_onion(socks, onion, VIRTUAL_PORT, DIAL_TIMEOUT_S)).stream
