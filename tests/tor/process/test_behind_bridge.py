"""Parties behind a bridge, plain and with obfs4, in a private network: they connect to nothing else in it."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from onionmpc.cli.bridges import read_bridges
from onionmpc.levels import Level
from onionmpc.testnet.place import join_testnet
from onionmpc.tor.network import tor_network
from onionmpc.tor.options import TorOptions
from onionmpc.tor.process.bridges import Bridge
from onionmpc.tor.report import TorReport
from tests.support.bridges import running_bridge
from tests.support.network_contract import close, connect
from tests.support.party_tor import _children, ended, open_circuits
from tests.support.tor_parties import DEADLINE_S, SCENE_S, Ours, Retrying, fresh

pytestmark = [pytest.mark.tor, pytest.mark.usefixtures("state")]

# tor's debug log has a line for each connection that it opens, with the address of the relay even if a transport is in
# between.
CONNECTING = re.compile(r'Connecting to "?([0-9.]+)"?:(\d+)\.')


class Hidden(Ours):
    """A party behind a bridge, and the log of its tor."""

    bridge: Bridge
    log: Path
    told: list[TorReport]

    async def reaches(self, other: Hidden) -> tuple[int, int]:
        """Dial the other party; return how many relays each has on its side."""
        streams = await connect(Retrying(self.network), other.onion, other.arrived, DEADLINE_S)
        path = streams[0].path
        assert path is not None
        accepted = await other.network.accepted_path(path.rendezvous)
        assert accepted is not None
        await close(*streams)
        return path.relays, accepted.relays

    async def check_entered_by_the_bridge_alone(self) -> None:
        firsts = {circuit.relays[0] for circuit in await open_circuits(self.control) if circuit.relays}
        assert firsts == {self.bridge.fingerprint}
        connections = (await self.control.get_info("orconn-status")).split("\n")
        assert connections
        assert all(line.startswith(f"${self.bridge.fingerprint}") for line in connections)
        opened = set(CONNECTING.findall(self.log.read_text()))
        assert {address for address, _ in opened} == {str(self.bridge.host)}
        if not self.bridge.transport:
            assert {int(port) for _, port in opened} == {self.bridge.port}

    def check_told_nobody(self) -> list[int]:
        """Return the process of its transport, if it has one."""
        assert self.network.instance is not None
        assert self.network.instance.own is not None
        process = self.network.instance.own.process.pid
        transports = _children(process)
        assert len(transports) == bool(self.bridge.transport)
        command_lines = [Path(f"/proc/{each}/cmdline").read_text() for each in (process, *transports)]
        said = " ".join([*command_lines, *(step.detail for step in self.told)])
        assert not any(secret in said for secret in str(self.bridge).split() if secret != self.bridge.transport)
        return transports


@contextlib.asynccontextmanager
async def behind(testnet: Path, bridge: Bridge, files: Path, level: Level = Level.STANDARD) -> AsyncIterator[Hidden]:
    lines = files / f"bridges-{level.value}.txt"
    lines.write_text(f"# of a friend\nBridge {bridge}\n")
    identity, told, log = fresh(), list[TorReport](), files / f"net-{level.value}.log"
    with join_testnet(testnet) as place:
        options = TorOptions(
            extra_torrc=f"{place.torrc}\nSafeLogging 0\nLog [net]debug file {log}",
            bridges=read_bridges([f"@{lines}"]),
            bootstrap_timeout_s=120,
            publish_timeout_s=60,
            level=level,
        )
        async with tor_network(identity, options, told.append) as network:
            hidden = Hidden(identity, network)
            hidden.bridge, hidden.log, hidden.told = bridge, log, told
            yield hidden


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A directory that only we can read, as tor requires."""
    tmp_path.chmod(0o700)
    return tmp_path


def test_parties_behind_a_bridge_reach_each_other_and_connect_to_nothing_else(testnet_dir: Path, files: Path) -> None:
    """One uses obfs4. The other is plain, at long: layers are drawn from the consensus, which has no bridges."""

    async def main() -> list[int]:
        (files / "bridge").mkdir(mode=0o700)
        async with (
            asyncio.timeout(SCENE_S),
            running_bridge(testnet_dir, files / "bridge") as bridge,
            behind(testnet_dir, bridge.plain, files, Level.LONG) as plain,
            behind(testnet_dir, bridge.obfs4, files) as obfs4,
        ):
            await asyncio.gather(*(party.network.listen(party.arrived.put) for party in (plain, obfs4)))
            assert await plain.reaches(obfs4) == (4, 4)
            assert await obfs4.reaches(plain) == (3, 5)
            for party in (plain, obfs4):
                await party.check_entered_by_the_bridge_alone()
            assert bridge.fingerprint not in await plain.control.get_info("ns/all")
            return [process for party in (plain, obfs4) for process in party.check_told_nobody()]

    (transport,) = asyncio.run(main())
    assert ended(transport)
