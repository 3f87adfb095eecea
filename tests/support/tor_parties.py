"""Parties over tor, in a private network."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from onionmpc.errors import PeerUnreachable
from onionmpc.identity import Identity, Onion
from onionmpc.mesh.network import Stream
from onionmpc.testnet.place import join_testnet
from onionmpc.tor.control.connection import Control
from onionmpc.tor.network import TorNetwork, tor_network
from onionmpc.tor.options import TorOptions, TorTimings
from onionmpc.tor.report import TorReport
from tests.support.network_contract import ATTEMPTS, KEY, close, connect

DEADLINE_S = 30.0


def fresh() -> Identity:
    return Identity(os.urandom(32))


@contextlib.asynccontextmanager
async def party(
    testnet: Path,
    identity: Identity,
    told: list[TorReport] | None = None,
    *,
    patience_s: float = 60,
    timings: TorTimings = TorTimings(),  # noqa: B008 (frozen)
) -> AsyncIterator[TorNetwork]:
    with join_testnet(testnet) as place:
        options = TorOptions(
            extra_torrc=place.torrc,
            bootstrap_timeout_s=120,
            publish_timeout_s=60,
            patience_s=patience_s,
            timings=timings,
        )
        async with tor_network(identity, options, (told if told is not None else []).append) as network:
            yield network


class Retrying:
    """A Network that repeats failed dials a few times, as the mesh does: a first dial over tor may just fail."""

    def __init__(self, network: TorNetwork) -> None:
        self.level = network.level
        self.listen, self.accepted_path = network.listen, network.accepted_path
        self.restored, self.refresh = network.restored, network.refresh
        self.admit, self.unlock = network.admit, network.unlock
        self._network = network

    async def dial(self, onion: Onion, timeout_s: float) -> Stream:
        for _ in range(ATTEMPTS - 1):
            with contextlib.suppress(PeerUnreachable):
                return await self._network.dial(onion, timeout_s / ATTEMPTS)
        return await self._network.dial(onion, timeout_s / ATTEMPTS)


SCENE_S = 120.0


class Peer:
    """Another party that listens and dials."""

    def __init__(self, identity: Identity, network: TorNetwork) -> None:
        self.onion = identity.onion
        self.own = network
        self.arrived: asyncio.Queue[Stream] = asyncio.Queue()
        self.network = Retrying(network)

    async def dials(self, identity: Identity, ours: asyncio.Queue[Stream]) -> None:
        """Dial a party until it answers, and check that it is the right one."""
        self.network.unlock(identity.onion, KEY)
        await talk(*await connect(self.network, identity.onion, ours, DEADLINE_S))

    async def is_dialled(self, network: TorNetwork) -> None:
        network.unlock(self.onion, KEY)
        await talk(*await connect(Retrying(network), self.onion, self.arrived, DEADLINE_S))


async def talk(one: Stream, other: Stream) -> None:
    one.writer.write(b"there")
    other.writer.write(b"back")
    assert await other.reader.readexactly(5) == b"there"
    assert await one.reader.readexactly(4) == b"back"
    await close(one, other)


@contextlib.asynccontextmanager
async def a_peer(testnet: Path) -> AsyncIterator[Peer]:
    identity = fresh()
    async with party(testnet, identity) as network:
        peer = Peer(identity, network)
        await network.listen(peer.arrived.put, [KEY])
        yield peer


Scene = Callable[[Peer], Awaitable[None]]


def play(shared: tuple[asyncio.Runner, Peer], scene: Scene) -> None:
    async def main(peer: Peer) -> None:
        async with asyncio.timeout(SCENE_S):
            await scene(peer)

    runner, peer = shared
    runner.run(main(peer))


class Ours:
    """The party of a test, which listens."""

    def __init__(self, identity: Identity, network: TorNetwork) -> None:
        self.onion = identity.onion
        self.network = network
        self.arrived: asyncio.Queue[Stream] = asyncio.Queue()

    @property
    def control(self) -> Control:
        assert self.network.instance is not None
        return self.network.instance.control

    async def dials(self, peer: Peer) -> int:
        """Dial the peer; return how many relays we have on our side."""
        self.network.unlock(peer.onion, KEY)
        streams = await connect(Retrying(self.network), peer.onion, peer.arrived, DEADLINE_S)
        path = streams[0].path
        assert path is not None
        await close(*streams)
        return path.relays

    async def is_dialled(self, peer: Peer) -> int:
        """Let the peer dial us; return how many relays we have on our side."""
        peer.network.unlock(self.onion, KEY)
        streams = await connect(peer.network, self.onion, self.arrived, DEADLINE_S)
        theirs = streams[0].path
        assert theirs is not None
        own = await self.network.accepted_path(theirs.rendezvous)
        assert own is not None
        assert own.rendezvous == theirs.rendezvous
        await close(*streams)
        return own.relays
