"""Levels as tor really builds them, in a private network on loopback: counted, enforced, and caught if violated."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from onionmpc.errors import PeerUnreachable, TorFailed, UsageError
from onionmpc.files import socket_directory
from onionmpc.levels import Level
from onionmpc.machine import SHARED_MEMORY
from onionmpc.testnet.place import join_testnet
from onionmpc.tor.circuit.lengths import TOO_SHORT_LIMIT, Lengths
from onionmpc.tor.circuit.pinning import Pinning
from onionmpc.tor.circuit.status import parse_circuits
from onionmpc.tor.control.connection import Control
from onionmpc.tor.control.errors import CommandRefused
from onionmpc.tor.control.login import open_control
from onionmpc.tor.network import TorNetwork, tor_network
from onionmpc.tor.options import TorOptions
from onionmpc.tor.process.own_tor import OwnTor, Traffic, own_tor
from onionmpc.tor.process.profile import free_profile
from onionmpc.tor.report import TorReport
from onionmpc.tor.service.service import VIRTUAL_PORT
from onionmpc.tor.service.single import CLIENTS_NAME, KEY_FILE_NAME
from tests.support.network_contract import KEY, LATER_KEY, close, connect, connect_when_found
from tests.support.tor_loop import kept
from tests.support.tor_parties import DEADLINE_S, SCENE_S, Ours, Peer, a_peer, fresh, party, play, talk

pytestmark = [pytest.mark.tor, pytest.mark.usefixtures("state")]


@pytest.fixture(scope="module")
def shared(testnet_dir: Path) -> Iterator[tuple[asyncio.Runner, Peer]]:
    with kept(a_peer(testnet_dir)) as runner_and_peer:
        yield runner_and_peer


async def layer_guards(control: Control) -> str:
    return await control.command("GETCONF HSLayer2Nodes HSLayer3Nodes")


@contextlib.asynccontextmanager
async def at_level(testnet: Path, level: Level, told: list[TorReport] | None = None) -> AsyncIterator[Ours]:
    identity = fresh()
    with join_testnet(testnet) as place:
        options = TorOptions(extra_torrc=place.torrc, bootstrap_timeout_s=120, publish_timeout_s=60, level=level)
        async with tor_network(identity, options, (told if told is not None else []).append) as network:
            ours = Ours(identity, network)
            await network.listen(ours.arrived.put, [KEY])
            yield ours


# --- Long --------------------------------------------------------------------------------------------------------


def test_long_has_one_more_relay_on_each_side(shared: tuple[asyncio.Runner, Peer], testnet_dir: Path) -> None:
    async def scene(peer: Peer) -> None:
        async with at_level(testnet_dir, Level.LONG) as ours:
            assert ours.network.level is Level.LONG
            assert (await ours.dials(peer), await ours.is_dialled(peer)) == (4, 5)

    play(shared, scene)


def test_long_is_still_long_after_a_restart_of_tor(shared: tuple[asyncio.Runner, Peer], testnet_dir: Path) -> None:
    async def scene(peer: Peer) -> None:
        async with at_level(testnet_dir, Level.LONG) as ours:
            assert await ours.dials(peer) == 4
            settings, first = await layer_guards(ours.control), ours.network.instance
            restored = asyncio.create_task(ours.network.restored())
            os.kill(int(await ours.control.get_info("process/pid")), signal.SIGKILL)
            await restored
            assert await ours.dials(peer) == 4
            assert ours.network.instance is not first
            assert await layer_guards(ours.control) == settings

    play(shared, scene)


def test_layers_that_another_program_clears_are_set_again(
    shared: tuple[asyncio.Runner, Peer], testnet_dir: Path
) -> None:
    async def scene(peer: Peer) -> None:
        async with at_level(testnet_dir, Level.LONG) as ours:
            for use, expected in ((ours.dials, 4), (ours.is_dialled, 5)):
                await ours.control.command("RESETCONF HSLayer3Nodes")
                before = ours.network._lengths._too_short
                # Dial again and again, as the mesh does.
                for _ in range(3):
                    with contextlib.suppress(PeerUnreachable, TimeoutError, AssertionError):
                        async with asyncio.timeout(DEADLINE_S):
                            relays = await use(peer)
                            break
                assert relays == expected
                assert ours.network._lengths._too_short == before + 1
                assert not ours.network.died.done()

    play(shared, scene)


def test_a_tor_that_stays_short_is_given_up_after_some_tries(
    shared: tuple[asyncio.Runner, Peer], testnet_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(peer: Peer) -> None:
        set_layers, was_set = Pinning.apply, list[Pinning]()

        async def only_once(pinning: Pinning) -> None:
            if not was_set:
                was_set.append(pinning)
                await set_layers(pinning)

        monkeypatch.setattr(Pinning, "apply", only_once)
        async with at_level(testnet_dir, Level.LONG) as ours:
            await ours.control.command("RESETCONF HSLayer3Nodes")
            ours.network.unlock(peer.onion, KEY)
            reasons: list[str] = []
            while not ours.network.died.done():
                with pytest.raises(PeerUnreachable) as refused:
                    await ours.network.dial(peer.onion, DEADLINE_S)
                reasons.append(str(refused.value))
            # A dial over tor may also fail for another reason.
            assert sum("built 3 relays, but long promises 4: closed" in said for said in reasons) == TOO_SHORT_LIMIT
            assert "shorter than long promises" in ours.network.died.result().message
            with pytest.raises(TorFailed, match="shorter than long promises"):
                await ours.network.dial(peer.onion, DEADLINE_S)
            circuits = parse_circuits(await ours.control.get_info("circuit-status"))
            assert [circuit for circuit in circuits if not circuit.accepted] == []

    play(shared, scene)


# --- Short -------------------------------------------------------------------------------------------------------


def keys_of(network: TorNetwork) -> Path:
    """Return the directory that a tor reads the key of its service from."""
    assert network.instance is not None
    assert network.instance.keys is not None
    return network.instance.keys


def test_short_serves_straight_to_the_rendezvous_point_and_dials_as_standard(
    shared: tuple[asyncio.Runner, Peer], testnet_dir: Path
) -> None:
    async def scene(peer: Peer) -> None:
        seen: set[Path] = set()
        async with at_level(testnet_dir, Level.SHORT) as ours:
            with pytest.raises(PeerUnreachable, match="its descriptor is sealed"):
                await peer.network.dial(ours.onion, DEADLINE_S)
            assert (await ours.dials(peer), await ours.is_dialled(peer)) == (3, 1)
            life = ours.network.instance
            assert life is not None
            assert life.second is not None
            options = await life.second.control.command("GETCONF HiddenServiceOptions")
            assert "HiddenServicePoWDefensesEnabled=1" in options
            # The second tor cannot dial, and the first is an ordinary one.
            assert await life.second.control.get_info("net/listeners/socks") == ""
            mode = "HiddenServiceNonAnonymousMode"
            assert await life.control.command(f"GETCONF {mode}") == f"{mode}=0"
            directory = keys_of(ours.network)
            assert directory.parent == SHARED_MEMORY
            assert (directory.stat().st_mode & 0o777, (directory / KEY_FILE_NAME).stat().st_mode & 0o777) == (
                0o700,
                0o600,
            )
            # Either tor may be lost: both come back, under the same address.
            for tor in life.tors:
                restored = asyncio.create_task(ours.network.restored())
                assert ours.network.instance is not None
                seen.add(keys_of(ours.network))
                lost = ours.network.instance.tors[life.tors.index(tor)]
                os.kill(int(await lost.control.get_info("process/pid")), signal.SIGKILL)
                await restored
                assert await ours.dials(peer) == 3
            seen.add(keys_of(ours.network))
        assert len(seen) == 3
        assert not any(keys.exists() for keys in seen)

    play(shared, scene)


def test_short_admits_others_while_its_streams_continue(shared: tuple[asyncio.Runner, Peer], testnet_dir: Path) -> None:
    async def scene(peer: Peer) -> None:
        async with at_level(testnet_dir, Level.SHORT) as ours, party(testnet_dir, fresh()) as stranger:
            peer.network.unlock(ours.onion, KEY)
            streams = await connect(peer.network, ours.onion, ours.arrived, DEADLINE_S)
            clients = keys_of(ours.network) / CLIENTS_NAME
            before = {path: path.read_text() for path in clients.iterdir()}
            assert {path.stat().st_mode & 0o777 for path in (clients, *before)} == {0o700, 0o600}
            ours.network.admit([LATER_KEY])
            stranger.unlock(ours.onion, LATER_KEY)
            await close(*await connect_when_found(stranger, ours.onion, ours.arrived, DEADLINE_S))
            after = {path: path.read_text() for path in clients.iterdir()}
            assert len(before) == len(after) == 1
            assert before != after
            await talk(*streams)

    play(shared, scene)


# --- What only looks like a level --------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def exposed_tor(testnet: Path, state: Path) -> AsyncIterator[tuple[OwnTor, Control]]:
    with join_testnet(testnet) as place, free_profile(state / "exposed") as profile, socket_directory() as sockets:
        async with (
            own_tor(profile, sockets, place.torrc, traffic=Traffic.EXPOSED) as tor,
            open_control(tor.control) as control,
        ):
            await control.bootstrap(lambda percent, summary: None, SCENE_S)
            yield tor, control


def test_a_non_anonymous_service_is_caught_if_more_was_promised(
    shared: tuple[asyncio.Runner, Peer], testnet_dir: Path, state: Path
) -> None:
    """ADD_ONION with NonAnonymous builds four relays without a guard: neither short nor what long promises."""

    async def scene(peer: Peer) -> None:
        identity = fresh()
        closed: list[TorFailed] = []

        lengths = Lengths(Level.LONG, closed.append, pytest.fail)
        async with exposed_tor(testnet_dir, state) as (_, control):
            key = base64.b64encode(identity.expanded_key).decode()
            with pytest.raises(CommandRefused, match="non-anonymous"):
                await control.command(f"ADD_ONION ED25519-V3:{key} Flags=DiscardPK Port={VIRTUAL_PORT},127.0.0.1:1")
            await control.command(
                f"ADD_ONION ED25519-V3:{key} Flags=DiscardPK,NonAnonymous Port={VIRTUAL_PORT},127.0.0.1:1"
            )
            async with lengths.watching(control, identity.onion):
                for _ in range(3):
                    with contextlib.suppress(PeerUnreachable):
                        await peer.network.dial(identity.onion, DEADLINE_S)
                    if lengths._too_short:
                        break
        assert lengths._too_short > 0

    play(shared, scene)


# --- A tor that runs already -------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def running_tor(testnet: Path, state: Path, torrc: str = "") -> AsyncIterator[OwnTor]:
    with join_testnet(testnet) as place, free_profile(state / "running") as profile, socket_directory() as sockets:
        async with own_tor(profile, sockets, f"{place.torrc}\n{torrc}") as tor:
            yield tor


def foreign(tor: OwnTor, **changes: object) -> TorOptions:
    return TorOptions(control=str(tor.control), bootstrap_timeout_s=120, publish_timeout_s=60, **changes)  # type: ignore[arg-type]


def test_a_foreign_tor_is_long_while_we_use_it_and_restored_afterwards(
    shared: tuple[asyncio.Runner, Peer], testnet_dir: Path, state: Path
) -> None:
    async def scene(peer: Peer) -> None:
        async with running_tor(testnet_dir, state) as tor, open_control(tor.control) as control:
            question = "GETCONF HSLayer2Nodes HSLayer3Nodes VanguardsLiteEnabled"
            before = await control.command(question)
            identity = fresh()
            options = foreign(tor, level=Level.LONG, change_foreign_tor=True)
            async with tor_network(identity, options, lambda progress: None) as network:
                ours = Ours(identity, network)
                assert await control.command(question) != before
                assert await ours.dials(peer) == 4
            assert await control.command(question) == before

    play(shared, scene)


@pytest.mark.parametrize(
    ("torrc", "changes", "sentence"),
    [
        ("VanguardsLiteEnabled 0", {}, "VanguardsLiteEnabled is 0 in this tor"),
        ("VanguardsLiteEnabled 0", {"level": Level.LONG, "change_foreign_tor": True}, "VanguardsLiteEnabled is 0"),
    ],
)
def test_an_unsuitable_foreign_tor_is_refused(
    testnet_dir: Path, state: Path, torrc: str, changes: dict[str, object], sentence: str
) -> None:
    async def main() -> None:
        async with asyncio.timeout(SCENE_S), running_tor(testnet_dir, state, torrc) as tor:
            with pytest.raises(UsageError, match=sentence):
                async with tor_network(fresh(), foreign(tor, **changes), lambda progress: None):
                    pytest.fail("it was taken")

    asyncio.run(main())


@pytest.mark.parametrize("or_standard", [True, False])
def test_a_foreign_tor_that_refuses_changes_is_standard_only_with_or_standard(
    testnet_dir: Path, state: Path, monkeypatch: pytest.MonkeyPatch, or_standard: bool
) -> None:
    command = Control.command

    async def refuse(control: Control, line: str) -> str:
        if line.startswith("SETCONF"):
            raise CommandRefused(line, 553, "Unable to set option")
        return await command(control, line)

    async def main() -> None:
        told: list[TorReport] = []
        async with asyncio.timeout(SCENE_S), running_tor(testnet_dir, state) as tor:
            monkeypatch.setattr(Control, "command", refuse)
            options = foreign(tor, level=Level.LONG, change_foreign_tor=True, or_standard=or_standard)
            if not or_standard:
                with pytest.raises(TorFailed, match="tor refused SETCONF: 553"):
                    async with tor_network(fresh(), options, told.append):
                        pytest.fail("it was taken")
                return
            async with tor_network(fresh(), options, told.append) as network:
                assert network.level is Level.STANDARD
            assert any("continuing at standard" in step.detail for step in told)

    asyncio.run(main())
