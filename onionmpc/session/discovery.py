"""Restricted discovery: the keys without which nobody can read where an onion service is reached.

Knows how two parties come to one key, by the addresses or by an invite. Does not know tor, whose client authorization
of v3 onion services these keys are for. Rules: docs/PROTOCOL.md section 4.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from onionmpc.identity import Identity, Onion, public_key_from_onion, x25519_public_from_ed25519

PAIR_LABEL = b"onionmpc/1 discovery"
SEAT_DISCOVERY_LABEL = b"onionmpc/1 seat discovery"


def pair_key(identity: Identity, peer: Onion, service: Onion, nonce: bytes = b"") -> bytes:
    """Return the key with which one of two parties finds the other; both come to the same one.

    Args:
        identity: ours.
        service: whose service it opens, ours or the peer's.
        nonce: makes it a key of one session, for a key that others receive.
    Returns:
        An X25519 private key, 32 bytes.
    """
    shared = shared_secret(identity, peer)
    client = peer if service == identity.onion else identity.onion
    return _derive(shared, PAIR_LABEL + public_key_from_onion(service) + public_key_from_onion(client) + nonce)


def shared_secret(identity: Identity, peer: Onion) -> bytes:
    """Return what both of two parties, and nobody else, can make of their addresses: 32 bytes, to derive keys from."""
    own, other = X25519PrivateKey.from_private_bytes(identity.x25519_private), public_key_from_onion(peer)
    return own.exchange(X25519PublicKey.from_public_bytes(x25519_public_from_ed25519(other)))


def seat_key(psk: bytes) -> bytes:
    """Return the key with which the holder of an invite finds the host.

    Args:
        psk: the seat's, 32 bytes.
    Returns:
        An X25519 private key, 32 bytes.
    """
    return _derive(psk, SEAT_DISCOVERY_LABEL)


def _derive(secret: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(secret)
