"""The table of regions: its format, its shares and its addresses."""

from __future__ import annotations

import ipaddress
import itertools
from collections import Counter
from pathlib import Path

import pytest

from onionmpc.errors import UsageError
from onionmpc.testnet.regions import PARTY_BLOCK, RELAY_BLOCK, load_regions, parse_regions

TWO = """
[relays]
near = 2
far = 1
[one_way_ms.near]
near = 1
far = 40.5
[one_way_ms.far]
far = 2
"""


def test_the_shipped_table_is_symmetric_and_complete() -> None:
    regions = load_regions()
    for one, other in itertools.product(regions.names, repeat=2):
        assert regions.one_way_ms[one, other] == regions.one_way_ms[other, one] > 0


def test_no_way_round_is_shorter_in_the_shipped_table() -> None:
    regions = load_regions()
    for one, via, other in itertools.product(regions.names, repeat=3):
        assert regions.one_way_s(one, other) <= regions.one_way_s(one, via) + regions.one_way_s(via, other)


def test_the_shares_of_the_shipped_table_are_whole_with_12_relays() -> None:
    regions = load_regions()
    assert Counter(itertools.islice(regions.relay_regions(), 12)) == Counter(regions.relays)


def test_latencies_are_in_seconds() -> None:
    assert parse_regions(TWO).one_way_s("far", "near") == 0.0405


def test_any_prefix_of_the_relays_follows_the_shares() -> None:
    assert list(itertools.islice(parse_regions(TWO).relay_regions(), 6)) == ["near", "far", "near"] * 2


def test_a_flat_table_has_one_latency() -> None:
    assert set(load_regions().flat(30).one_way_ms.values()) == {30}


def test_addresses_are_loopback_and_tell_region_and_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onionmpc.testnet.regions.ONE_ADDRESS", False)
    regions = load_regions()
    addresses = [
        regions.address(name, block, number)
        for name in regions.names
        for block in (RELAY_BLOCK, PARTY_BLOCK)
        for number in (1, 254)
    ]
    assert len(set(addresses)) == len(addresses)
    assert all(ipaddress.ip_address(address).is_loopback for address in addresses)
    networks = {regions.address(name, RELAY_BLOCK, 1).rsplit(".", 2)[0] for name in regions.names}
    assert len(networks) == len(regions.names)


def test_where_loopback_is_one_address_all_share_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onionmpc.testnet.regions.ONE_ADDRESS", True)
    assert load_regions().address("asia", PARTY_BLOCK, 3) == "127.0.0.1"


@pytest.mark.parametrize("number", [0, 255])
def test_an_address_beyond_its_block_is_refused(number: int) -> None:
    with pytest.raises(UsageError):
        load_regions().address("asia", RELAY_BLOCK, number)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[", "not TOML"),
        ("", "must hold the tables"),
        (TWO + "[other]", "nothing else"),
        (TWO.replace("far = 40.5", ""), "no latency from near to far"),
        (TWO + "near = 40.5", "given twice"),
        (TWO.replace("40.5", "-1"), "takes -1"),
        (TWO.replace("40.5", "501"), "takes 501"),
        (TWO.replace("40.5", "nan"), "takes nan"),
        (TWO.replace("40.5", "'x'"), "not a number"),
        (TWO.replace("far = 40.5", "moon = 3"), "not a region"),
        (TWO.replace("near = 2", "near = true"), "not a whole number"),
        (TWO.replace("near = 2", "near = -2"), "shares"),
        ("[relays]\nnear = 0\n[one_way_ms.near]\nnear = 1", "shares"),
        ("[relays]\n[one_way_ms]", "0 regions"),
        ("[relays]\nnear = 1\n[one_way_ms]\nnear = 1", "not a table"),
    ],
)
def test_a_table_that_cannot_be_is_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_regions(text)


def test_a_table_that_is_not_there_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="FileNotFoundError"):
        load_regions(tmp_path / "none.toml")
