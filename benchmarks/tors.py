"""One tor per party on a private Tor network, kept for as long as a benchmark lasts: whoever plays a party uses it.

Knows how these tors are started and reached, and their onion services. Does not know what goes through them.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shlex
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from onionmpc.errors import OnionMPCError
from onionmpc.files import private_directory, socket_directory
from onionmpc.identity import SEED_BYTES, Identity, Onion
from onionmpc.testnet.place import join_testnet
from onionmpc.tor.control.connection import Control
from onionmpc.tor.control.login import open_control
from onionmpc.tor.endpoint import UNIX_PREFIX, Endpoint, parse_endpoint
from onionmpc.tor.instance import TorInstance, own_instance
from onionmpc.tor.process.own_tor import own_tor
from onionmpc.tor.report import Reporter
from onionmpc.tor.service.descriptor import publish
from onionmpc.tor.service.service import EphemeralService

BOOTSTRAP_TIMEOUT_S = 120.0
PUBLISH_TIMEOUT_S = 120.0
SOCKS_LINE = "SocksPort 127.0.0.1:auto"


@dataclass(frozen=True, slots=True)
class BenchTor:
    """One party's tor.

    Attributes:
        life: the tor, and our way to it.
        control: where its control port is, as `--control` takes it.
        socks_port: on 127.0.0.1, for programs that know no unix sockets.
        region: where it stands.
    """

    life: TorInstance
    control: str
    socks_port: int
    region: str


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
            life = await stack.enter_async_context(
                own_instance(profile, sockets, lines, Reporter(lambda _report: None))
            )
            port = (await _plain_socks(life.control)).port
            tors.append(BenchTor(life, f"{UNIX_PREFIX}{sockets / 'control'}", port, place.region))
        for tor in tors:
            await tor.life.control.bootstrap(lambda _percent, _words: None, BOOTSTRAP_TIMEOUT_S)
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
    failures: list[OnionMPCError] = []

    async def attempt(service: EphemeralService, target: str) -> None:
        try:
            await publish(service, target, lambda _percent, _words: None, PUBLISH_TIMEOUT_S)
        except OnionMPCError as error:
            failures.append(error)

    async with contextlib.AsyncExitStack() as stack:
        services = [EphemeralService(tor.life.control, Identity(secrets.token_bytes(SEED_BYTES))) for tor in tors]
        for service in services:
            stack.push_async_callback(service.remove)
        await asyncio.gather(*map(attempt, services, targets))
        if failures:
            raise failures[0]
        yield [service.onion for service in services]
