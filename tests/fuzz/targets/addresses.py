"""Addresses: InvalidAddress, or a roster that is canonical, sorted, without ourselves and with each key once.

And no address in it holds a point of small order, by itself or added to a key.
"""

from __future__ import annotations

import base64
import itertools

from hypothesis import strategies as st

from onionmpc.errors import InvalidAddress
from onionmpc.identity import check_roster, curve, onion_from_public_key
from tests.fuzz.mutations import mutated
from tests.support.identities import DEPLOYED, SMALL_ORDER, identity, key_of, mirrored, point_of

OWN = identity(9)
HONEST = [identity(number).public_key for number in range(4)]
TWISTED = [
    key_of(curve._add(point_of(key), point_of(bytes.fromhex(point))))
    for key, point in itertools.product(HONEST[:2], SMALL_ORDER[1:])
]
HOSTILE = [*TWISTED, *map(bytes.fromhex, SMALL_ORDER)]
MIRRORED = [mirrored(key) for key in [*HONEST, OWN.public_key]]
KEYS = st.sampled_from([*HONEST, *MIRRORED, OWN.public_key]) | st.sampled_from(HOSTILE)
HONEST_ADDRESSES = [onion_from_public_key(key) for key in HONEST] + DEPLOYED
ADDRESSES = st.sampled_from(HONEST_ADDRESSES) | KEYS.map(onion_from_public_key)
ROSTERS = st.lists(st.sampled_from(HONEST_ADDRESSES), unique=True, max_size=4) | st.lists(ADDRESSES, max_size=3)
TOKENS = [b"\n", b".onion", b" ", b"A", b"http://", b"www.", "\u212a".encode(), b"\xff", b"8", b"="]
INPUTS = mutated(ROSTERS.map(lambda roster: "\n".join(roster).encode()), TOKENS)
REFUSALS = (InvalidAddress,)
HOSTILE_ADDRESSES = {onion_from_public_key(key) for key in HOSTILE}


def check(data: bytes) -> int:
    """One address for each line."""
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    roster = check_roster(lines, OWN.onion)
    assert list(roster) == sorted({line.strip().lower() for line in lines})
    assert len(roster) == len(lines)
    keys = [base64.b32decode(onion[:56].upper())[:32] for onion in roster] + [OWN.public_key]
    assert len({min(key, mirrored(key)) for key in keys}) == len(keys)
    assert HOSTILE_ADDRESSES.isdisjoint(roster)
    return len(roster)
