"""A stranger that knows an open host's address dials it a thousand times through tor: the result does not change."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from python_socks import ProxyError, ProxyTimeoutError
from python_socks.async_.asyncio import Proxy

from benchmarks.common import memory_of
from onionmpc.files import private_directory, socket_directory
from onionmpc.identity import Onion, public_key_from_onion
from onionmpc.mesh.network import Stream
from onionmpc.mesh.secure import EPHEMERAL_BYTES
from onionmpc.testnet.place import join_testnet
from onionmpc.tor.control.login import open_control
from onionmpc.tor.process.own_tor import own_tor
from onionmpc.tor.service.service import VIRTUAL_PORT
from onionmpc.wire.handshake import NO_PSK, DiallerHandshake, Hello, Purpose
from tests.e2e.kit import ADD_WHEN_TOLD, Party, Stage, keep_identity, new_identity
from tests.support.strangers import Knock, visit

pytestmark = [pytest.mark.tor, pytest.mark.usefixtures("enough_descriptors")]

STREAMS = 1000
# tor puts streams of one SOCKS user on one circuit: a circuit costs the stranger as much as the host, a stream nothing.
CIRCUITS = 8
ADDED_BYTES = 20 * 10**6
CONNECT_S = 40.0
SCENE_S = 150.0


@contextlib.asynccontextmanager
async def stranger(testnet: Path, folder: Path, onion: Onion) -> AsyncIterator[Knock]:
    """Run a stranger's tor; yield a function that dials the host through it."""
    profile = private_directory(folder / "stranger")
    with join_testnet(testnet) as place, socket_directory() as sockets:
        async with (
            own_tor(profile, sockets, f"{place.torrc}\nSocksPort 127.0.0.1:auto") as tor,
            open_control(tor.control) as control,
        ):
            await control.bootstrap(lambda percent, words: None, CONNECT_S)
            listed = (await control.get_info("net/listeners/socks")).replace('"', "").split()
            (place_of_socks,) = [each for each in listed if not each.startswith("unix:")]

            async def knock(number: int) -> Stream:
                proxy = Proxy.from_url(f"socks5://{number % CIRCUITS}:.@{place_of_socks}", rdns=True)
                for last in (False, False, True):
                    try:
                        sock = await proxy.connect(onion, VIRTUAL_PORT, timeout=CONNECT_S)
                        break
                    except (ProxyError, ProxyTimeoutError):  # a circuit may be lost: tor then builds another
                        if last:
                            raise
                return Stream(*await asyncio.open_connection(sock=sock))

            yield knock


def first_messages(onion: Onion) -> list[bytes]:
    """Return first messages of parties of other sessions."""
    messages = []
    for purpose in Purpose:
        identity, ephemeral = new_identity(), secrets.token_bytes(EPHEMERAL_BYTES)
        hello = Hello(identity.public_key, purpose, secrets.token_bytes(16))
        messages.append(DiallerHandshake(identity, public_key_from_onion(onion), NO_PSK, hello, ephemeral).message())
    return messages


def test_a_thousand_streams_through_tor_change_no_result_and_fill_no_memory(testnet_dir: Path, tmp_path: Path) -> None:
    async def main() -> tuple[list[Party], int]:
        stage = Stage(testnet_dir, private_directory(tmp_path / "stage"))
        script = stage.script("add.py", ADD_WHEN_TOLD)
        onion = Onion(keep_identity(stage, "host"))
        try:
            hosting = ("--open", "--strangers-may-read-everything", "--identity", "me")
            host = await stage.host(script, *hosting, private=["1"], state="host")
            await host.hears("published")
            joiners = [await stage.start(f"joiner {n}", "join", onion, script, private=[f"{n}0"]) for n in (1, 2)]
            parties = [host, *joiners]
            await asyncio.gather(*(party.hears("agreed") for party in parties))
            before = memory_of(host.process_id)
            async with stranger(testnet_dir, tmp_path, onion) as knock:
                came = asyncio.Event()
                strangers = asyncio.create_task(visit(knock, STREAMS, first_messages(onion), on_all=came.set))
                await asyncio.wait([strangers, asyncio.create_task(came.wait())], return_when=asyncio.FIRST_COMPLETED)
                assert came.is_set(), strangers.exception()
                after = memory_of(host.process_id)
                stage.tell_to_go()
                assert await stage.ended(parties) == [0, 0, 0]
                strangers.cancel()  # their tor hears late that the host's is gone
                await asyncio.wait([strangers])
            return parties, after["peak_bytes"] - before["rss_bytes"]
        finally:
            await stage.close()

    async def bounded() -> tuple[list[Party], int]:
        async with asyncio.timeout(SCENE_S):
            return await main()

    parties, added = asyncio.run(bounded())
    assert [party.output for party in parties] == ["sum: 31\n"] * 3
    assert added < ADDED_BYTES
