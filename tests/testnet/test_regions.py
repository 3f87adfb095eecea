"""The table of regions: its format, its shares and its addresses."""

from __future__ import annotations

import ipaddress
import itertools
from collections import Counter
from pathlib import Path

import pytest

from onionmpc.errors import UsageError
from onionmpc.testnet.network import AUTHORITIES, MAX_RELAYS, PARTY_SLOTS_PER_REGION
from onionmpc.testnet.regions import MAX_REGIONS, Regions, load_regions, parse_regions, relay_address

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


def test_no_detour_is_shorter_in_the_shipped_table() -> None:
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


def test_each_relay_and_each_region_of_parties_has_its_own_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onionmpc.testnet.regions.ONE_ADDRESS", False)
    names = tuple(f"region{number}" for number in range(MAX_REGIONS))
    regions = Regions(names, dict.fromkeys(names, 1), dict.fromkeys(itertools.product(names, names), 1.0))
    relays = [relay_address(number) for number in range(MAX_RELAYS + AUTHORITIES)]
    parties = [regions.party_address(name, PARTY_SLOTS_PER_REGION) for name in names]
    networks = {ipaddress.ip_network(f"{address}/16", strict=False) for address in relays + parties}
    assert len(networks) == len(relays) + len(parties)
    # tor makes up addresses in the first network, and everything else on this machine listens in the second.
    for taken in ("127.192.0.0/10", "127.0.0.0/16"):
        assert not any(network.overlaps(ipaddress.ip_network(taken)) for network in networks)
    assert all(network.is_loopback for network in networks)
    rows = range(1, PARTY_SLOTS_PER_REGION + 1)
    assert len({regions.party_address(names[0], row) for row in rows}) == PARTY_SLOTS_PER_REGION


def test_with_a_single_loopback_address_all_share_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onionmpc.testnet.regions.ONE_ADDRESS", True)
    assert load_regions().party_address("asia", 3) == relay_address(7) == "127.0.0.1"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[", "not TOML"),
        ("a = " + "[" * 10_000, "not TOML"),
        (TWO.replace("40.5", "9" * 5000), "not TOML"),
        (TWO.replace("40.5", "9" * 400), "takes 9999"),
        ("", "must contain the tables"),
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
def test_an_invalid_table_is_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_regions(text)


def test_a_missing_table_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="FileNotFoundError"):
        load_regions(tmp_path / "none.toml")
