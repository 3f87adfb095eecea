"""Whatever happens to a party's tor, the party comes back under the same address. In a private network on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from onionmpc.errors import PeerUnreachable, TorFailed
from onionmpc.files import socket_directory
from onionmpc.identity import Identity
from onionmpc.mesh.network import Stream
from onionmpc.testnet.place import PartyPlace, join_testnet
from onionmpc.tor.control.connection import Control
from onionmpc.tor.control.errors import CommandRefused
from onionmpc.tor.dialling.dial import NotIntroduced
from onionmpc.tor.endpoint import Endpoint
from onionmpc.tor.network import TorNetwork, tor_network
from onionmpc.tor.options import TorOptions, TorTimings
from onionmpc.tor.process.binary import find_tor
from onionmpc.tor.process.own_tor import own_tor
from onionmpc.tor.process.profile import data_directory, free_profile
from onionmpc.tor.report import TorReport
from onionmpc.tor.service.descriptor import is_lost
from onionmpc.tor.service.service import EphemeralService, Service
from tests.support.network_contract import KEY, close, connect
from tests.support.tor_loop import kept
from tests.support.tor_parties import DEADLINE_S, Peer, Retrying, a_peer, fresh, party, play, talk

pytestmark = [pytest.mark.tor, pytest.mark.usefixtures("state")]


@pytest.fixture(scope="module")
def shared(testnet_dir: Path) -> Iterator[tuple[asyncio.Runner, Peer]]:
    with kept(a_peer(testnet_dir)) as runner_and_peer:
        yield runner_and_peer


async def process_of(network: TorNetwork) -> int:
    assert network.instance is not None
    return int(await network.instance.control.get_info("process/pid"))


def guards(profile: Path) -> set[str]:
    lines = (data_directory(profile) / "state").read_text().splitlines()
    return {
        field for line in lines if line.startswith("Guard ") for field in line.split() if field.startswith("rsa_id")
    }


async def outlives(
    peer: Peer,
    testnet: Path,
    lose: Callable[[int], None],
    cause: str,
    timings: TorTimings = TorTimings(),  # noqa: B008
) -> None:
    """Lose a party's tor, and check that everything comes back under the same address."""
    identity, arrived, told = fresh(), asyncio.Queue[Stream](), list[TorReport]()
    async with party(testnet, identity, told, timings=timings) as network:
        await network.listen(arrived.put, [KEY])
        network.unlock(peer.onion, KEY)
        peer.network.unlock(identity.onion, KEY)
        first = network.instance
        dialled = await connect(Retrying(network), peer.onion, peer.arrived, DEADLINE_S)
        accepted = await connect(peer.network, identity.onion, arrived, DEADLINE_S)
        assert dialled[0].path is not None
        restored = asyncio.create_task(network.restored())
        lose(await process_of(network))

        # Our ends of all streams end. The other ends learn it from their tor, or from missing heartbeats.
        for stream in (dialled[0], accepted[1]):
            with contextlib.suppress(ConnectionError):
                assert await stream.reader.read() == b""
        while network.instance is first:
            await asyncio.wait({restored}, timeout=0)
        if network.instance is None:
            with pytest.raises(PeerUnreachable, match="our tor is restarting"):
                await network.dial(peer.onion, DEADLINE_S)
            assert await network.accepted_path("0" * 40) is None
        await restored

        assert network.instance not in (None, first)
        assert network.failure is None
        await peer.is_dialled(network)
        await peer.dials(identity, arrived)
        await close(*dialled, *accepted)
    outage = [step.detail for step in told if step.phase == "tor"][2:]
    assert outage[0] == f"{cause}; starting again"
    assert outage[-1].startswith("tor is back after ")


def test_a_killed_tor_comes_back_with_its_guards(
    shared: tuple[asyncio.Runner, Peer], testnet_dir: Path, state: Path
) -> None:
    profile = state / "tor" / "2"  # the peer's own tor has the first

    async def scene(peer: Peer) -> None:
        async with party(testnet_dir, fresh()):
            pass
        before = guards(profile)
        await outlives(
            peer, testnet_dir, lambda process: os.kill(process, signal.SIGKILL), "tor was killed by signal 9"
        )
        assert before
        assert guards(profile) == before

    play(shared, scene)
    assert {path.name for path in (state / "tor").iterdir()} == {"1", "2"}


def test_a_tor_that_was_asked_to_end_comes_back(shared: tuple[asyncio.Runner, Peer], testnet_dir: Path) -> None:
    async def scene(peer: Peer) -> None:
        await outlives(
            peer, testnet_dir, lambda process: os.kill(process, signal.SIGTERM), "tor ended with exit code 0"
        )

    play(shared, scene)


def test_a_tor_that_hangs_is_found_and_replaced(shared: tuple[asyncio.Runner, Peer], testnet_dir: Path) -> None:
    async def scene(peer: Peer) -> None:
        await outlives(
            peer,
            testnet_dir,
            lambda process: os.kill(process, signal.SIGSTOP),
            "tor does not answer: 2 questions in a row, 0.5 s each",
            TorTimings(question_s=0.5),
        )

    play(shared, scene)


def test_a_tor_whose_program_was_removed_is_given_up_when_patience_ends(
    shared: tuple[asyncio.Runner, Peer], testnet_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "tor"
    program.symlink_to(find_tor().path)
    monkeypatch.setenv("ONIONMPC_TOR", str(program))

    async def scene(peer: Peer) -> None:
        async with party(testnet_dir, fresh(), patience_s=2) as network:
            assert network.failure is None
            program.unlink()
            os.kill(await process_of(network), signal.SIGKILL)
            await asyncio.wait({network.died})
            with pytest.raises(TorFailed, match="our tor was down for 2 s; giving up: ONIONMPC_TOR names "):
                await network.dial(peer.onion, DEADLINE_S)
            assert network.failure is network.died.result()

    play(shared, scene)


def test_a_tor_that_is_lost_while_publishing_publishes_after_its_return(
    shared: tuple[asyncio.Runner, Peer], testnet_dir: Path
) -> None:
    identity, arrived, killed = fresh(), asyncio.Queue[Stream](), asyncio.Event()

    async def scene(peer: Peer) -> None:
        def progress(step: TorReport) -> None:
            if step.phase == "publish" and not killed.is_set():
                killed.set()
                os.kill(process, signal.SIGKILL)

        with join_testnet(testnet_dir) as place:
            async with tor_network(identity, TorOptions(extra_torrc=place.torrc), progress) as network:
                process = await process_of(network)
                await network.listen(arrived.put)
                assert killed.is_set()
                await peer.dials(identity, arrived)

    play(shared, scene)


# --- A tor that runs already -----------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def a_tor(place: PartyPlace, profile: Path, sockets: Path) -> AsyncIterator[Endpoint]:
    """A tor that is not ours, always at the same endpoint."""
    async with own_tor(profile, sockets, place.torrc) as running:
        yield running.control


def test_a_tor_that_runs_already_is_waited_for(
    shared: tuple[asyncio.Runner, Peer], testnet_dir: Path, state: Path
) -> None:
    identity, arrived = fresh(), asyncio.Queue[Stream]()

    async def scene(peer: Peer) -> None:
        lost = asyncio.Event()

        def progress(step: TorReport) -> None:
            if "tor closed the control connection; connecting again" in step.detail:
                lost.set()

        with contextlib.ExitStack() as stack:
            where = (
                stack.enter_context(join_testnet(testnet_dir)),
                stack.enter_context(free_profile(state / "tor")),
                stack.enter_context(socket_directory()),
            )
            async with contextlib.AsyncExitStack() as networks:
                async with a_tor(*where) as control:
                    options = TorOptions(control=str(control), publish_timeout_s=60)
                    network = await networks.enter_async_context(tor_network(identity, options, progress))
                    await network.listen(arrived.put)
                    restored = asyncio.create_task(network.restored())
                await lost.wait()
                with pytest.raises(PeerUnreachable, match="our connection to tor is lost"):
                    await network.dial(peer.onion, DEADLINE_S)
                async with a_tor(*where):
                    await restored
                    await peer.is_dialled(network)
                    await peer.dials(identity, arrived)
                    await networks.aclose()

    play(shared, scene)


def test_a_tor_that_runs_already_and_hangs_is_asked_again_until_it_answers(
    shared: tuple[asyncio.Runner, Peer], testnet_dir: Path, state: Path
) -> None:
    identity, arrived = fresh(), asyncio.Queue[Stream]()

    async def scene(peer: Peer) -> None:
        hanging = asyncio.Event()

        def progress(step: TorReport) -> None:
            if "tor does not answer" in step.detail:
                hanging.set()

        with join_testnet(testnet_dir) as place, free_profile(state / "tor") as profile, socket_directory() as sockets:
            async with (
                a_tor(place, profile, sockets) as control,
                tor_network(
                    identity, TorOptions(control=str(control), timings=TorTimings(question_s=0.5)), progress
                ) as network,
            ):
                await network.listen(arrived.put)
                restored = asyncio.create_task(network.restored())
                process = await process_of(network)
                os.kill(process, signal.SIGSTOP)
                try:
                    await hanging.wait()
                finally:
                    os.kill(process, signal.SIGCONT)
                await restored
                assert await process_of(network) == process
                await peer.is_dialled(network)
                await peer.dials(identity, arrived)

    play(shared, scene)


# --- A service that peers cannot find --------------------------------------------------------------------------


REFRESHES_AT_ONCE = TorTimings(refresh_every_s=0, new_service_s=0)


async def refreshed(network: TorNetwork) -> None:
    await network.refresh()
    assert network._publisher._refreshing is not None
    await network._publisher._refreshing


async def until_found(network: TorNetwork, identity: Identity) -> None:
    """Wait until the service that was added again can be found."""
    assert network.instance is not None
    while await is_lost(EphemeralService(network.instance.control, identity)):
        await asyncio.wait({network.died}, timeout=0.1)


def test_a_service_that_the_directories_forgot_is_published_again(
    shared: tuple[asyncio.Runner, Peer], testnet_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity, arrived = fresh(), asyncio.Queue[Stream]()

    async def scene(peer: Peer) -> None:
        async def pretend(service: Service, target: str, *_: object) -> None:
            # tor remembers that it has published, and does not upload again by itself.
            control = service.control
            await control.command("SETCONF PublishHidServDescriptors=0")
            await service.add(target)
            # Each upload has a new revision, and nothing else shows that there was one.
            key = f"hs/service/desc/id/{identity.onion.removesuffix('.onion')}"
            while "revision-counter 0" in await control.get_info(key):
                await asyncio.wait({network.died}, timeout=0.05)

        async with party(testnet_dir, identity, timings=REFRESHES_AT_ONCE) as network:
            with monkeypatch.context() as patch:
                patch.setattr("onionmpc.tor.service.publisher.publish", pretend)
                await network.listen(arrived.put)
            assert network.instance is not None
            await network.instance.control.command("SETCONF PublishHidServDescriptors=1")
            with pytest.raises(PeerUnreachable, match="tor found no descriptor of it"):
                await peer.network.dial(identity.onion, DEADLINE_S)
            assert await is_lost(EphemeralService(network.instance.control, identity))
            await refreshed(network)
            await until_found(network, identity)
            await peer.dials(identity, arrived)

    play(shared, scene)


def test_a_service_that_lost_its_introduction_points_gets_new_ones_and_keeps_its_streams(
    shared: tuple[asyncio.Runner, Peer], testnet_dir: Path
) -> None:
    identity, arrived = fresh(), asyncio.Queue[Stream]()

    async def scene(peer: Peer) -> None:
        async with party(testnet_dir, identity, timings=REFRESHES_AT_ONCE) as network:
            await network.listen(arrived.put, [KEY])
            peer.network.unlock(identity.onion, KEY)
            streams = await connect(peer.network, identity.onion, arrived, DEADLINE_S)
            assert network.instance is not None
            await lose_introductions(network.instance.control, identity)
            assert await is_lost(EphemeralService(network.instance.control, identity))
            await refreshed(network)
            await until_found(network, identity)
            await peer.dials(identity, arrived)
            await talk(*streams)

    play(shared, scene)


async def lose_introductions(control: Control, identity: Identity) -> None:
    """Close all circuits to introduction points, as often as tor builds them again."""
    changed = asyncio.Event()
    async with (
        control.on_event("CIRC", lambda text: changed.set()),
        control.on_event("CIRC_MINOR", lambda text: changed.set()),
    ):
        for _ in range(4):
            while len(circuits := await introductions(control)) < 6:
                changed.clear()
                await changed.wait()
            for number in circuits:
                with contextlib.suppress(CommandRefused):
                    await control.command(f"CLOSECIRCUIT {number}")
        while await introductions(control):
            changed.clear()
            await changed.wait()


async def introductions(control: Control) -> list[str]:
    lines = (await control.get_info("circuit-status")).splitlines()
    return [line.split()[0] for line in lines if "HSSI_ESTABLISHED" in line]


def test_a_service_that_can_be_found_is_left_alone_and_checked_once_a_minute(
    shared: tuple[asyncio.Runner, Peer], testnet_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity, arrived, told = fresh(), asyncio.Queue[Stream](), list[TorReport]()

    async def scene(peer: Peer) -> None:
        async with party(testnet_dir, identity, told) as network:
            await network.refresh()
            assert network._publisher._refreshing is None  # nothing is published yet
            await network.listen(arrived.put)
            await network.refresh()
            assert network._publisher._refreshing is None  # and now it was published just before
            network._publisher._schedule._next_s = 0.0
            before = len(told)
            await refreshed(network)
            first = network._publisher._refreshing
            await network.refresh()
            assert network._publisher._refreshing is first
            assert len(told) == before
            await peer.dials(identity, arrived)

    play(shared, scene)


def test_a_service_is_added_again_when_a_peer_is_silent(shared: tuple[asyncio.Runner, Peer], testnet_dir: Path) -> None:
    identity, arrived = fresh(), asyncio.Queue[Stream]()

    async def scene(peer: Peer) -> None:
        async with party(testnet_dir, identity, timings=REFRESHES_AT_ONCE) as network, a_peer(testnet_dir) as silent:
            await network.listen(arrived.put, [KEY])
            await silent.is_dialled(network)
            added_s = network._publisher._schedule._added_s
            await refreshed(network)
            assert network._publisher._schedule._added_s == added_s
            process = await process_of(silent.own)
            os.kill(process, signal.SIGSTOP)
            try:
                with pytest.raises(NotIntroduced, match="no answer within 3 s"):
                    await network.dial(silent.onion, 3.0)
            finally:
                os.kill(process, signal.SIGCONT)
            await refreshed(network)
            assert network._publisher._schedule._added_s > added_s
            await until_found(network, identity)
            await peer.dials(identity, arrived)

    play(shared, scene)
