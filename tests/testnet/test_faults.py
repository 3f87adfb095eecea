"""Faults of a private network, and of a party's tor in it, have an effect and can be undone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from onionmpc.errors import PeerUnreachable, TorFailed, UsageError
from onionmpc.identity import Onion
from onionmpc.mesh.listener import listening_unix
from onionmpc.mesh.network import Stream
from onionmpc.testnet.place import join_testnet
from onionmpc.testnet.state import PartySlot
from onionmpc.testnet.status import network_status, read_text
from onionmpc.tor.adapters.stem import parse_event
from onionmpc.tor.control.connection import Control
from onionmpc.tor.control.login import open_control
from onionmpc.tor.dialling.dial import dial_onion
from onionmpc.tor.endpoint import Endpoint
from onionmpc.tor.process.binary import find_tor
from tests.support.faulty_gateway import FaultyGateway
from tests.support.faulty_network import FaultyNetwork
from tests.support.party_tor import (
    INTRODUCTION,
    OpenCircuit,
    close_circuits,
    descriptor_holders,
    find_party_tor,
    open_circuits,
)
from tests.support.tor_loop import kept

pytestmark = pytest.mark.tor

DEADLINE_S = 60.0
DIAL_S = 10.0
SILENCE_S = 5.0
POLL_S = 0.05
LATENCY_MS = 1.0
PORT = 9880
# How many relays hold a descriptor: two replicas of four each.
HOLDERS = 8


@dataclass
class World:
    """A network, and one tor in it that serves onion services and also dials them."""

    network: FaultyNetwork
    folder: Path
    control: Control

    @property
    def relays(self) -> list[str]:
        assert self.network.state is not None
        return [tor.fingerprint for tor in self.network.state.tors]

    @contextlib.asynccontextmanager
    async def service(self) -> AsyncIterator[Onion]:
        """Publish a new service. tor gives up for a while on a service that has lost too much, so tests share none."""
        added = await self.control.command(f"ADD_ONION NEW:ED25519-V3 Port={PORT},unix:{self.folder}/service")
        name = added.split("ServiceID=")[1].split()[0]
        while len(await descriptor_holders(self.control, name, self.relays)) < HOLDERS:
            pass
        yield Onion(f"{name}.onion")
        await self.control.command(f"DEL_ONION {name}")

    async def dial(self, onion: Onion) -> Stream:
        """Dial a service, which echoes. Tries again: a dial over tor may fail for no reason, and so may a stream."""
        while True:
            with contextlib.suppress(PeerUnreachable):
                stream = (await dial_onion(Endpoint(path=f"{self.folder}/socks"), onion, PORT, DIAL_S)).stream
                with contextlib.suppress(TimeoutError, OSError, asyncio.IncompleteReadError):
                    async with asyncio.timeout(SILENCE_S):
                        stream.writer.write(b"?")
                        assert await stream.reader.readexactly(1) == b"?"
                        return stream
                await stream.close()

    async def dial_twice(self, onion: Onion) -> tuple[list[Stream], list[OpenCircuit]]:
        """Dial a service twice; return the streams and their circuits, the older first."""
        while True:
            streams = [await self.dial(onion), await self.dial(onion)]
            circuits = [
                c for c in await open_circuits(self.control) if c.dialled and c.joined and c.joined.onion in onion
            ]
            if len(circuits) == len(streams):
                return streams, circuits
            # If a dial was slow, tor has started others.
            await close_circuits(self.control, circuits)
            for stream in streams:
                await stream.close()

    async def build(self, *relays: str) -> str:
        """Build a circuit through these relays; return tor's word for the outcome."""
        heard: asyncio.Queue[str] = asyncio.Queue()
        async with self.control.on_event("CIRC", heard.put_nowait):
            circuit = (await self.control.command(f"EXTENDCIRCUIT 0 {','.join(relays)}")).split()[-1]
            while True:
                event = parse_event("CIRC", await heard.get())
                if event is not None and event.id == circuit and event.status in ("BUILT", "FAILED"):
                    return str(event.status)

    async def built(self, *relays: str) -> None:
        """Build a circuit through these relays, in several attempts if needed: tor has little patience on loopback."""
        while await self.build(*relays) != "BUILT":
            pass

    async def introductions(self) -> list[OpenCircuit]:
        """Return the current circuits to introduction points."""
        return [circuit for circuit in await open_circuits(self.control) if circuit.purpose == INTRODUCTION]


async def echo(stream: Stream) -> None:
    while data := await stream.reader.read(1000):
        stream.writer.write(data)


@contextlib.asynccontextmanager
async def client(folder: Path, torrc: str) -> AsyncIterator[Control]:
    """Run a tor as a party does, with its sockets in a folder."""
    lines = [f"DataDirectory {folder}/data", f'ControlSocket "{folder}/control"', f'SocksPort unix:"{folder}/socks"']
    lines += ["CookieAuthentication 1", f"Log notice file {folder}/log", f"__OwningControllerProcess {os.getpid()}"]
    (folder / "torrc").write_text("\n".join([torrc, *lines, ""]))
    tor = await asyncio.create_subprocess_exec(find_tor().path, "-f", folder / "torrc", "--quiet")
    try:
        async with asyncio.timeout(DEADLINE_S):
            # Nothing reports when a socket appears.
            while "Opened Control listener" not in read_text(folder / "log"):  # noqa: ASYNC110
                await asyncio.sleep(POLL_S)
        async with open_control(Endpoint(path=f"{folder}/control")) as control:
            yield control
    finally:
        tor.kill()
        await tor.wait()


@contextlib.asynccontextmanager
async def world() -> AsyncIterator[World]:
    # Not tmp_path: a socket's path is limited to 107 bytes.
    with tempfile.TemporaryDirectory(prefix="onionmpc-faults-") as name:
        folder = Path(name)
        async with FaultyNetwork(folder / "net", latency=LATENCY_MS) as network:
            with join_testnet(network.directory) as place:
                async with client(folder, place.torrc) as control, listening_unix(folder / "service", echo):
                    await control.bootstrap(lambda *_: None, DEADLINE_S)
                    yield World(network, folder, control)


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[asyncio.Runner, World]]:
    with kept(world()) as runner_and_world:
        yield runner_and_world


Fact = Callable[[World], Awaitable[None]]


def run(shared: tuple[asyncio.Runner, World], fact: Fact) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(DEADLINE_S):
            await fact(shared[1])

    shared[0].run(bounded())


def test_a_killed_relay_carries_nothing_until_it_is_restarted(shared: tuple[asyncio.Runner, World]) -> None:
    async def fact(world: World) -> None:
        first, second, killed, *_ = world.relays
        await world.built(first, second, killed)
        await world.network.kill_relay(killed)
        assert [tor.fingerprint for tor in network_status(world.network.directory).tors if not tor.up] == [killed]
        assert await world.build(first, second, killed) == "FAILED"
        await world.network.revive_relay(killed)
        await world.built(first, second, killed)
        found = network_status(world.network.directory).tors
        assert all(tor.up for tor in found)
        for tor in found:
            os.kill(tor.process, 0)

    run(shared, fact)


def test_an_authority_can_be_killed_and_restarted_too(shared: tuple[asyncio.Runner, World]) -> None:
    async def fact(world: World) -> None:
        await world.network.kill_relay("authority1")
        await world.network.revive_relay("authority1")

    run(shared, fact)


def test_a_stopped_relay_carries_nothing_until_it_continues(shared: tuple[asyncio.Runner, World]) -> None:
    async def fact(world: World) -> None:
        first, second, stopped, other, *_ = world.relays
        await world.built(first, second, stopped)
        world.network.stop_relay(stopped)
        building = asyncio.create_task(world.built(first, second, stopped))
        # A circuit around that relay, started later, is complete. So this one had enough time.
        await world.built(first, second, other)
        assert not building.done()
        world.network.continue_relay(stopped)
        await building

    run(shared, fact)


def test_a_relay_is_found_by_nickname_or_fingerprint_only(shared: tuple[asyncio.Runner, World]) -> None:
    async def fact(world: World) -> None:
        world.network.continue_relay("relay00")
        world.network.continue_relay(world.relays[0])
        with pytest.raises(UsageError, match="no relay relay99"):
            world.network.stop_relay("relay99")

    run(shared, fact)


def gateway_of(world: World) -> FaultyGateway:
    """Find the gateway of our tor as a test does that knows only its process."""
    found = find_party_tor(os.getpid())
    assert world.network.state is not None
    (slot,) = (slot for slot in world.network.state.slots if (slot.address, slot.gateway_port) == found.gateway)
    return world.network.gateway(slot)


def test_the_tor_of_a_process_is_found_with_its_control_port_and_gateway(
    shared: tuple[asyncio.Runner, World],
) -> None:
    async def fact(world: World) -> None:
        found = find_party_tor(os.getpid())
        assert found.control == Endpoint(path=f"{world.folder}/control")
        async with open_control(found.control) as control:
            assert await control.get_info("process/pid") == str(found.process)

    run(shared, fact)


def test_a_process_without_a_tor_is_reported(shared: tuple[asyncio.Runner, World]) -> None:
    with pytest.raises(TorFailed, match="runs no tor now"):
        find_party_tor(find_party_tor(os.getpid()).process)


def test_a_party_whose_network_is_cut_builds_no_circuits_until_it_is_restored(
    shared: tuple[asyncio.Runner, World],
) -> None:
    async def fact(world: World) -> None:
        gateway, relays = gateway_of(world), world.relays[:3]
        async with world.service() as onion:
            stream = await world.dial(onion)
            gateway.cut()
            assert await stream.reader.read(-1) == b""
            assert await world.build(*relays) == "FAILED"
            gateway.restore()
            await world.built(*relays)
            await stream.close()

    run(shared, fact)


def test_bytes_sent_into_a_stalled_network_arrive_when_it_is_restored(shared: tuple[asyncio.Runner, World]) -> None:
    async def fact(world: World) -> None:
        gateway = gateway_of(world)
        async with world.service() as onion:
            stream = await world.dial(onion)
            gateway.stall()
            stream.writer.write(b"late")
            while not any(side.held_bytes for side in gateway.sides):  # noqa: ASYNC110 (a turn of the loop)
                await asyncio.sleep(0)
            gateway.restore()
            assert await stream.reader.readexactly(4) == b"late"
            await stream.close()

    run(shared, fact)


def test_closing_a_joined_circuit_ends_its_stream_and_no_other(shared: tuple[asyncio.Runner, World]) -> None:
    async def fact(world: World) -> None:
        async with world.service() as onion:
            (first, second), circuits = await world.dial_twice(onion)
            assert {circuit.relays[0] for circuit in circuits} <= set(world.relays)
            assert await close_circuits(world.control, [circuits[0], circuits[0]]) == 1
            assert await first.reader.read(-1) == b""
            second.writer.write(b"!")
            assert await second.reader.readexactly(1) == b"!"
            assert await close_circuits(world.control, await open_circuits(world.control)) > 1
            assert await second.reader.read(-1) == b""
            await first.close()
            await second.close()

    run(shared, fact)


def test_closed_introduction_circuits_are_built_again(shared: tuple[asyncio.Runner, World]) -> None:
    async def fact(world: World) -> None:
        async with world.service():
            before = await world.introductions()
            assert await close_circuits(world.control, before) == len(before) >= 3
            old = {circuit.id for circuit in before}
            while {circuit.id for circuit in await world.introductions()} <= old:
                pass

    run(shared, fact)


def test_a_descriptor_is_lost_with_the_relays_that_hold_it(shared: tuple[asyncio.Runner, World]) -> None:
    async def fact(world: World) -> None:
        # A withdrawn service is not published again, but the directories keep its descriptor.
        async with world.service() as onion:
            pass
        while len(holders := await descriptor_holders(world.control, onion, world.relays)) < HOLDERS:
            pass
        for some in (sorted(holders)[::2], sorted(holders)[1::2]):
            for holder in some:
                await world.network.kill_relay(holder)
            await asyncio.gather(*map(world.network.revive_relay, some))
        assert await descriptor_holders(world.control, onion, world.relays) == set()

    run(shared, fact)


def test_a_network_without_latency_has_no_gateway_to_cut(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="without latency"):
        FaultyNetwork(tmp_path, latency="none").gateway(PartySlot(0, "asia", "127.0.0.1", 0))
