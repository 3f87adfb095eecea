"""Files of a test network: UsageError, or a state that reads the same once written again, and a table that is whole.

Of testnet.json, regions.toml and owner.lock.
"""

from __future__ import annotations

import ipaddress
import itertools
import tempfile
from pathlib import Path

import msgspec
from hypothesis import strategies as st

from onionmpc.errors import UsageError
from onionmpc.testnet.regions import MAX_ONE_WAY_MS, SHIPPED_TABLE, TABLE_NAME, load_regions
from onionmpc.testnet.state import (
    OWNER_LOCK_NAME,
    STATE_NAME,
    STATE_VERSION,
    NetworkState,
    PartySlot,
    TorRecord,
    owner_of,
    ownership,
    read_state,
    write_state,
)
from tests.fuzz.mutations import mutated
from tests.fuzz.targets.messages import JSON_TOKENS

STATE = NetworkState(
    version=STATE_VERSION,
    owner=1,
    started_at=1.5,
    latency="regions",
    one_way_ms={"near": {"far": 40.5}},
    directory_authorities=("DirAuthority auth0 orport=5000 127.10.0.1:7000 " + "A" * 40,),
    tors=(TorRecord("auth0", "near", "127.10.0.1", 5000, "A" * 40, 7, authority=True),),
    slots=(PartySlot(0, "near", "127.80.0.1", 9050),),
)
SMALL_TABLE = b"[relays]\nnear = 2\nfar = 1\n[one_way_ms.near]\nnear = 1\nfar = 40.5\n[one_way_ms.far]\nfar = 3\n"
TOML_TOKENS = [
    *(b"[", b"]", b"{", b"}", b"=", b"\n", b'"', b"'", b".", b"#", b"nan", b"inf", b"-1", b"0", b"true", b"[relays]\n"),
    *(b"[one_way_ms.near]\n", b"9" * 5000, b"[" * 2000, b"a={" * 1500, b"1979-05-27", b"\xff", b"\0", b'"\\uD800"'),
]
TABLES = st.sampled_from([SMALL_TABLE, SHIPPED_TABLE.read_bytes()])
OTHER_VALUES = st.builds(SMALL_TABLE.replace, st.sampled_from([b"2", b"40.5"]), st.sampled_from(TOML_TOKENS))
INPUTS = (
    mutated(st.just(msgspec.json.encode(STATE)), JSON_TOKENS).map(lambda data: b"\0" + data)
    | mutated(TABLES | OTHER_VALUES, TOML_TOKENS).map(lambda data: b"\1" + data)
    | mutated(st.just(b"12345\n"), [b"9" * 5000, b"-", b"\xb2", b"\xd9\xa3"]).map(lambda data: b"\2" + data)
)
REFUSALS = (UsageError,)


def check(data: bytes) -> str:
    """The first byte says which file the others are."""
    with tempfile.TemporaryDirectory(prefix="onionmpc-fuzz-") as name:
        directory, content = Path(name), data[1:]
        if data[:1] == b"\1":
            check_regions(directory / TABLE_NAME, content)
            return TABLE_NAME
        with ownership(directory):
            if data[:1] == b"\2":
                (directory / OWNER_LOCK_NAME).write_bytes(content)
                owner = owner_of(directory)
                assert owner is None or owner >= 0
                return OWNER_LOCK_NAME
            (directory / STATE_NAME).write_bytes(content)
            state = read_state(directory)
            assert state.version == STATE_VERSION
            write_state(directory, state)
            assert read_state(directory) == state
            return STATE_NAME


def check_regions(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    regions = load_regions(path)
    for one, other in itertools.product(regions.names, repeat=2):
        assert regions.one_way_s(one, other) == regions.one_way_s(other, one)
        assert 0 <= regions.one_way_s(one, other) <= MAX_ONE_WAY_MS / 1000
    assert all(regions.relays[name] > 0 for name in itertools.islice(regions.relay_regions(), 20))
    assert all(ipaddress.ip_address(regions.party_address(name, 1)).is_loopback for name in regions.names)
