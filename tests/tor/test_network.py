"""Parties over tor, in a private network on loopback: the contract of a Network, and what only tor offers."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from stem.descriptor.hidden_service import HiddenServiceDescriptorV3

from onionmpc.errors import PeerUnreachable
from onionmpc.files import socket_directory
from onionmpc.identity import Onion
from onionmpc.mesh.network import Network
from onionmpc.testnet.place import join_testnet
from onionmpc.tor.circuit.status import service_id
from onionmpc.tor.control.connection import Control
from onionmpc.tor.control.login import open_control
from onionmpc.tor.dialling.dial import dial_onion
from onionmpc.tor.network import TorNetwork, tor_network
from onionmpc.tor.options import TorOptions
from onionmpc.tor.process.own_tor import own_tor
from onionmpc.tor.process.profile import free_profile
from onionmpc.tor.report import TorReport
from onionmpc.tor.service.descriptor import publish
from onionmpc.tor.service.service import VIRTUAL_PORT, EphemeralService
from tests.support.network_contract import (
    FACTS,
    KEY,
    Fact,
    Pair,
    a_later_session_has_keys_and_streams_of_its_own,
    close,
    connect,
    strangers_do_not_find_the_listener_until_it_admits_them,
)
from tests.support.tor_loop import kept
from tests.support.tor_parties import DEADLINE_S, Retrying, fresh, party

pytestmark = [pytest.mark.tor, pytest.mark.usefixtures("state")]


@contextlib.asynccontextmanager
async def two_parties(testnet: Path) -> AsyncIterator[Pair]:
    bob = fresh()
    async with party(testnet, fresh()) as dialler, party(testnet, bob) as listener:
        ends: tuple[Network, Network] = Retrying(dialler), listener
        pair = Pair(*ends, bob.onion, fresh().onion, DEADLINE_S)
        await pair.listen()
        yield pair


@pytest.fixture(scope="module")
def shared(testnet_dir: Path) -> Iterator[tuple[asyncio.Runner, Pair]]:
    with kept(two_parties(testnet_dir)) as runner_and_pair:
        yield runner_and_pair


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact.__name__)
def test_contract(shared: tuple[asyncio.Runner, Pair], fact: Fact) -> None:
    runner, pair = shared

    async def check() -> None:
        await fact(pair)

    runner.run(check())


async def introduction_points(network: TorNetwork, onion: Onion) -> int:
    """How many there are in a descriptor that a tor has fetched, for who knows the address alone.

    Raises:
        ValueError: it cannot be read so.
    """
    assert network.instance is not None
    text = await network.instance.control.get_info(f"hs/client/desc/id/{service_id(onion)}")
    return len(HiddenServiceDescriptorV3.from_str(text).decrypt(onion).introduction_points)


def test_strangers_find_neither_the_listener_nor_its_introduction_points(
    shared: tuple[asyncio.Runner, Pair], testnet_dir: Path
) -> None:
    async def main(pair: Pair) -> None:
        everyones = fresh()
        async with party(testnet_dir, fresh()) as stranger, party(testnet_dir, everyones) as open_house:
            await strangers_do_not_find_the_listener_until_it_admits_them(pair, stranger)
            with pytest.raises(ValueError, match="mac"):
                await introduction_points(stranger, pair.onion)
            # The same reader reads everything in a descriptor that needs no key.
            await open_house.listen(lambda stream: stream.close())
            await (await Retrying(stranger).dial(everyones.onion, DEADLINE_S)).close()
            assert await introduction_points(stranger, everyones.onion) == 3
            await a_later_session_has_keys_and_streams_of_its_own(pair, stranger)

    runner, pair = shared
    runner.run(main(pair))


def test_each_side_counts_its_own_relays(shared: tuple[asyncio.Runner, Pair]) -> None:
    async def main(pair: Pair) -> None:
        dialled, accepted = await pair.connect()
        ours = dialled.path
        assert ours is not None
        theirs = await pair.listener.accepted_path(ours.rendezvous)
        assert theirs is not None
        # Both keep a pinned second relay (vanguards-lite); the service adds one before the peer's rendezvous point.
        assert (ours.relays, theirs.relays) == (3, 4)
        await dialled.close()
        await accepted.close()

    runner, pair = shared
    runner.run(main(pair))


async def proof_of_work(control: Control, onion: Onion) -> str:
    """Return the effort of proof of work that the descriptor of our service asks for."""
    text = await control.get_info(f"hs/service/desc/id/{service_id(onion)}")
    inner = HiddenServiceDescriptorV3.from_str(f"{text}\n").decrypt(service_id(onion))
    asked = re.search(r"^pow-params v1 \S+ (\d+) ", str(inner), re.MULTILINE)
    assert asked is not None
    return asked[1]


def test_a_service_has_the_proof_of_work_defence_and_asks_for_no_effort_without_a_flood(
    shared: tuple[asyncio.Runner, Pair],
) -> None:
    async def main(pair: Pair) -> None:
        assert isinstance(pair.listener, TorNetwork)
        assert pair.listener.instance is not None
        # Another service without keys, since stem does not decrypt a sealed descriptor.
        service = EphemeralService(pair.listener.instance.control, fresh())
        await publish(service, "127.0.0.1:1", lambda *_: None, DEADLINE_S)
        assert await proof_of_work(service.control, service.onion) == "0"
        await service.remove()

    runner, pair = shared
    runner.run(main(pair))


def test_an_unpublished_address_is_reported_offline(shared: tuple[asyncio.Runner, Pair]) -> None:
    runner, pair = shared
    with pytest.raises(PeerUnreachable, match="tor found no descriptor of it: it is offline or has not published yet"):
        runner.run(pair.dialler.dial(pair.nobody, DEADLINE_S))


def test_another_port_of_a_party_is_refused(shared: tuple[asyncio.Runner, Pair]) -> None:
    runner, pair = shared
    assert isinstance(pair.dialler, Retrying)
    socks = pair.dialler._network._restarter.current().socks
    with pytest.raises(PeerUnreachable, match="no party is listening at its address"):
        runner.run(dial_onion(socks, pair.onion, VIRTUAL_PORT + 1, DEADLINE_S))


def test_progress_passes_through_all_phases_and_ends_at_100_percent(testnet_dir: Path) -> None:
    told: list[TorReport] = []

    async def main() -> None:
        async with party(testnet_dir, fresh(), told) as network:
            await network.listen(lambda stream: stream.close())

    asyncio.run(main())
    for phase in ("tor", "bootstrap", "publish"):
        percents = [step.percent for step in told if step.phase == phase]
        assert percents == sorted(percents)
        assert percents[-1] == 100
    assert [step.phase for step in told] == sorted(
        (step.phase for step in told), key=("tor", "bootstrap", "publish").index
    )


def free_place() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize(("same_user", "asked"), [(True, False), (False, False), (True, True)])
def test_a_tor_that_runs_already_works(
    shared: tuple[asyncio.Runner, Pair],
    testnet_dir: Path,
    state: Path,
    monkeypatch: pytest.MonkeyPatch,
    same_user: bool,
    asked: bool,
) -> None:
    """A tor of another user cannot reach our unix socket, so it connects to 127.0.0.1, or to `listen`."""
    listen = free_place() if asked else None

    async def another_user(control: object) -> bool:
        return False

    if not same_user:
        monkeypatch.setattr("onionmpc.tor.instance._reaches_our_files", another_user)
    told: list[TorReport] = []
    identity = fresh()

    async def main(pair: Pair) -> None:
        with join_testnet(testnet_dir) as place, free_profile(state / "tor") as profile, socket_directory() as sockets:
            async with own_tor(profile, sockets, place.torrc) as running:
                options = TorOptions(control=str(running.control), listen=listen, publish_timeout_s=60)
                async with tor_network(identity, options, told.append) as network:
                    await network.listen(pair.arrived.put, [KEY])
                    pair.dialler.unlock(identity.onion, KEY)
                    await close(*await connect(pair.dialler, identity.onion, pair.arrived, DEADLINE_S))
                    network.unlock(pair.onion, KEY)
                    await close(*await connect(Retrying(network), pair.onion, pair.arrived, DEADLINE_S))
                    async with open_control(running.control) as control:
                        assert "x25519:" in await control.command("ONION_CLIENT_AUTH_VIEW")
                # That tor continues without us, without our service and without the keys to our peers.
                assert not running.died.done()
                async with open_control(running.control) as control:
                    assert await control.get_info("onions/detached") == ""
                    assert "x25519:" not in await control.command("ONION_CLIENT_AUTH_VIEW")

    runner, pair = shared
    runner.run(main(pair))
    (place,) = [step.detail for step in told if "other users" in step.detail] or [""]
    assert bool(place) == (asked or not same_user)
    assert (listen or "") in place
