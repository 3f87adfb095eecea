"""Two parties derive the same key for each of their services, and nobody else can."""

from __future__ import annotations

import hashlib
import hmac

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from onionmpc.identity import Identity, Onion
from onionmpc.session.discovery import pair_key, seat_key
from tests.support.keys import x25519_public

ALICE, BOB, CAROL = (Identity(bytes([number] * 32)) for number in (1, 2, 3))
PSK = bytes(range(32))


def hkdf(secret: bytes, info: bytes) -> bytes:
    """RFC 5869 with SHA-256, without salt, one block."""
    extracted = hmac.digest(bytes(32), secret, hashlib.sha256)
    return hmac.digest(extracted, info + bytes([1]), hashlib.sha256)


def test_both_parties_derive_the_same_key_for_each_service() -> None:
    for service in (ALICE.onion, BOB.onion):
        assert pair_key(ALICE, BOB.onion, service) == pair_key(BOB, ALICE.onion, service)


def test_each_service_and_each_pair_has_a_different_key() -> None:
    pairs: list[tuple[Identity, Onion, Onion]] = [
        (ALICE, BOB.onion, ALICE.onion), (ALICE, BOB.onion, BOB.onion), (ALICE, CAROL.onion, ALICE.onion),
        (ALICE, CAROL.onion, CAROL.onion), (BOB, CAROL.onion, BOB.onion),
    ]  # fmt: skip
    assert len({pair_key(*pair) for pair in pairs}) == len(pairs)


def test_the_key_of_a_pair_follows_the_protocol() -> None:
    shared = X25519PrivateKey.from_private_bytes(ALICE.x25519_private).exchange(
        X25519PublicKey.from_public_bytes(x25519_public(BOB))
    )
    info = b"onionmpc/1 discovery" + BOB.public_key + ALICE.public_key  # Bob's service, Alice finds it
    assert pair_key(ALICE, BOB.onion, BOB.onion) == hkdf(shared, info)


def test_a_nonce_gives_another_key_at_both_parties() -> None:
    nonce = bytes(range(16))
    shared = X25519PrivateKey.from_private_bytes(BOB.x25519_private).exchange(
        X25519PublicKey.from_public_bytes(x25519_public(ALICE))
    )
    expected = hkdf(shared, b"onionmpc/1 discovery" + BOB.public_key + ALICE.public_key + nonce)
    assert pair_key(ALICE, BOB.onion, BOB.onion, nonce) == pair_key(BOB, ALICE.onion, BOB.onion, nonce) == expected
    assert expected != pair_key(ALICE, BOB.onion, BOB.onion)


def test_the_key_of_a_seat_follows_the_protocol_and_is_not_its_psk() -> None:
    assert seat_key(PSK) == hkdf(PSK, b"onionmpc/1 seat discovery") != PSK
