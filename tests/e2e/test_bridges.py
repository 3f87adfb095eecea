"""Parties compute that enter their network by a plain bridge, by an obfs4 bridge, and without one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from onionmpc.tor.control.login import open_control
from tests.e2e.kit import Party, Stage
from tests.support.bridges import running_bridge
from tests.support.party_tor import find_party_tor

pytestmark = pytest.mark.tor


async def relays_of(party: Party) -> set[str]:
    """Return the relays that a party's tor is connected to, by fingerprint."""
    await party.hears("published")
    async with open_control(find_party_tor(party.process_id).control) as control:
        connections = await control.get_info("orconn-status")
    return {line.partition(" ")[0].lstrip("$").partition("~")[0] for line in connections.splitlines()}


def test_parties_behind_bridges_compute_and_nobody_learns_their_bridges(testnet_dir: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    for name in ("bridge", "stage"):
        (tmp_path / name).mkdir(mode=0o700)

    async def main() -> None:
        stage = Stage(testnet_dir, tmp_path / "stage")
        async with running_bridge(testnet_dir, tmp_path / "bridge") as bridge:
            for line in (bridge.plain, bridge.obfs4):
                (stage.folder / f"{line.transport or 'plain'}.txt").write_text(f"{line}\n")
            try:
                demo: dict[str, Any] = {"private": ["--demo"]}
                host = await stage.host("average_salary", "--bridge", "@plain.txt", **demo)
                first, second = await stage.invites(host, 2)
                by_obfs4 = await stage.start("by obfs4", "join", first, "--bridge", "@obfs4.txt", **demo)
                by_none = await stage.start("by none", "join", second, **demo)
                assert await relays_of(host) == await relays_of(by_obfs4) == {bridge.fingerprint}
                assert bridge.fingerprint not in await relays_of(by_none)
                assert await stage.ended() == [0, 0, 0]
            finally:
                await stage.close()
        assert host.output == by_obfs4.output == by_none.output != ""
        said = "".join(party.screen for party in stage.parties)
        secrets = {word for line in (bridge.plain, bridge.obfs4) for word in str(line).split()} - {"obfs4"}
        assert not [secret for secret in secrets if secret in said]

    asyncio.run(main())
