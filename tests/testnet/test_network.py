"""A whole network of real tors starts, serves a client, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from onionmpc.cli.main import cli
from onionmpc.errors import UsageError
from onionmpc.testnet.network import MAX_RELAYS, PrivateNetwork
from onionmpc.testnet.place import PartyPlace, join_testnet
from onionmpc.testnet.regions import MAX_ONE_WAY_MS, load_regions
from onionmpc.testnet.relay import READY_FLAGS
from onionmpc.testnet.state import OWNER_LOCK_NAME, STATE_NAME, owner_of, ownership
from onionmpc.tor.process.binary import find_tor
from tests.support.testnet import running_testnet


def status_of(directory: Path) -> dict[str, Any]:
    result = CliRunner().invoke(cli, ["testnet", "status", "--json", str(directory)], catch_exceptions=False)
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def bootstrap(place: PartyPlace, directory: Path) -> bool:
    """Start a client in a place; return whether it reaches the network before it ends."""
    torrc = directory / "torrc"
    torrc.write_text(f"{place.torrc}\nDataDirectory {directory}\nSocksPort unix:{directory}/socks\n")
    options = ["--Log", "notice stdout", "--__OwningControllerProcess", str(os.getpid())]
    with subprocess.Popen([find_tor().path, "-f", torrc, *options], stdout=subprocess.PIPE, text=True) as tor:
        assert tor.stdout is not None
        try:
            return any("Bootstrapped 100%" in line for line in tor.stdout)
        finally:
            tor.kill()


@pytest.fixture
def client_directory() -> Iterator[Path]:
    # Not tmp_path: a socket's path is limited to 107 bytes.
    with tempfile.TemporaryDirectory(prefix="onionmpc-client-") as name:
        yield Path(name)


# Without tor.


@pytest.mark.parametrize("relays", [11, MAX_RELAYS + 1])
def test_too_few_or_too_many_relays_are_refused(tmp_path: Path, relays: int) -> None:
    with pytest.raises(UsageError, match=f"{relays} relays"):
        PrivateNetwork(tmp_path, relays=relays)


@pytest.mark.parametrize("latency_ms", [-1.0, MAX_ONE_WAY_MS + 1, float("nan")])
def test_a_latency_out_of_range_is_refused(tmp_path: Path, latency_ms: float) -> None:
    with pytest.raises(UsageError, match="latency"):
        PrivateNetwork(tmp_path, latency=latency_ms)


def test_joining_without_a_network_brings_the_command_that_starts_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no test network") as caught, join_testnet(tmp_path):
        pass
    assert "testnet up" in caught.value.hint


def test_joining_the_remains_of_a_killed_owner_is_refused(tmp_path: Path) -> None:
    (tmp_path / OWNER_LOCK_NAME).write_text("1\n")
    (tmp_path / STATE_NAME).write_text("{}")
    with pytest.raises(UsageError, match="no test network"), join_testnet(tmp_path):
        pass


def test_joining_a_network_that_is_not_ready_is_refused(tmp_path: Path) -> None:
    with ownership(tmp_path), pytest.raises(UsageError, match="not ready"), join_testnet(tmp_path):
        pass


@pytest.mark.parametrize("content", [b"{}", b"", b'{"version":1,"latency":"\xff"}', b"\xff"])
def test_joining_with_an_invalid_state_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / STATE_NAME).write_bytes(content)
    with ownership(tmp_path), pytest.raises(UsageError, match="cannot read"), join_testnet(tmp_path):
        pass


@pytest.mark.parametrize("content", [b"", b"0\n", b"-1\n", b"9" * 10, b"9" * 5000, b"\xd9\xa3", b"one"])
def test_an_invalid_process_id_means_no_owner(tmp_path: Path, content: bytes) -> None:
    with ownership(tmp_path):
        assert owner_of(tmp_path) == os.getpid()
        (tmp_path / OWNER_LOCK_NAME).write_bytes(content)
        assert owner_of(tmp_path) is None


def test_a_directory_has_one_owner(tmp_path: Path) -> None:
    with ownership(tmp_path), pytest.raises(UsageError, match="runs in"), ownership(tmp_path):
        pass


def test_ending_a_network_that_does_not_run_succeeds(tmp_path: Path) -> None:
    assert CliRunner().invoke(cli, ["testnet", "down", str(tmp_path)]).exit_code == 0


# With the network of this run.


@pytest.mark.tor
def test_all_tors_are_up_with_the_flags_they_need(testnet_dir: Path) -> None:
    tors = status_of(testnet_dir)["tors"]
    assert len(tors) >= 15
    assert all(tor["up"] for tor in tors)
    assert all(set(tor["flags"].split()) >= READY_FLAGS for tor in tors)


@pytest.mark.tor
def test_parties_spread_over_the_regions_and_return_their_places(testnet_dir: Path) -> None:
    with join_testnet(testnet_dir) as first, join_testnet(testnet_dir) as second:
        assert first.region != second.region
        assert (first.address, first.torrc) != (second.address, second.torrc)
        standing = {party["region"] for party in status_of(testnet_dir)["parties"]}
        assert {first.region, second.region} <= standing
    with join_testnet(testnet_dir) as third:
        assert third.region == first.region


@pytest.mark.tor
def test_a_party_can_choose_only_an_existing_region(testnet_dir: Path) -> None:
    with join_testnet(testnet_dir, "asia") as place:
        assert place.region == "asia"
    with pytest.raises(UsageError, match="no region atlantis"), join_testnet(testnet_dir, "atlantis"):
        pass


@pytest.mark.tor
def test_a_second_network_in_the_same_directory_is_refused(testnet_dir: Path) -> None:
    result = CliRunner().invoke(cli, ["testnet", "up", str(testnet_dir)])
    assert isinstance(result.exception, UsageError)


# With another network beside that of this run.


@pytest.mark.tor
def test_a_client_reaches_a_network_with_latency_and_the_network_leaves_nothing_behind(
    tmp_path: Path, client_directory: Path
) -> None:
    directory = tmp_path / "net"
    with running_testnet(directory, "--latency", "regions") as owner:
        found = status_of(directory)
        regions = load_regions()
        assert found["owner"] == owner.pid
        assert found["one_way_ms"]["asia"]["europe-north"] == regions.one_way_ms["asia", "europe-north"]
        with join_testnet(directory, "asia") as place:
            assert re.search("^TCPProxy haproxy ", place.torrc, re.MULTILINE)
            assert bootstrap(place, client_directory)
        assert CliRunner().invoke(cli, ["testnet", "down", str(directory)]).exit_code == 0
        assert owner.wait(20) == 0
    assert not (directory / STATE_NAME).exists()
    for tor in found["tors"]:
        with pytest.raises(ProcessLookupError):
            os.kill(tor["process"], 0)
