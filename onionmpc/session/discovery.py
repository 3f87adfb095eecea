"""Derives the keys for tor's restricted discovery (client authorization of v3 onion services).

Only a client with such a key can decrypt an onion service's descriptor. Two parties derive the same key from their
addresses or from an invite. Rules: docs/PROTOCOL.md section 4.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from onionmpc.identity import Identity, Onion, public_keys_from_onion

PAIR_LABEL = b"onionmpc/1 discovery"
SEAT_DISCOVERY_LABEL = b"onionmpc/1 seat discovery"


def pair_key(identity: Identity, peer: Onion, service: Onion, nonce: bytes = b"") -> bytes:
    """Return the key with which one of two parties finds the other. Both derive the same key.

    Args:
        identity: this party's identity.
        service: the address whose descriptor the key decrypts, ours or the peer's.
        nonce: limits the key to one session. Needed if the key is sent to other parties.
    Returns:
        An X25519 private key, 32 bytes.
    """
    shared = shared_secret(identity, peer)
    client = peer if service == identity.onion else identity.onion
    keys = public_keys_from_onion(service).ed25519 + public_keys_from_onion(client).ed25519
    return _derive(shared, PAIR_LABEL + keys + nonce)


def shared_secret(identity: Identity, peer: Onion) -> bytes:
    """Return the X25519 shared secret of two parties, 32 bytes, to derive keys from."""
    own = X25519PrivateKey.from_private_bytes(identity.x25519_private)
    return own.exchange(X25519PublicKey.from_public_bytes(public_keys_from_onion(peer).x25519))


def seat_key(psk: bytes) -> bytes:
    """Return the key with which the holder of an invite finds the host.

    Args:
        psk: the seat's pre-shared key, 32 bytes.
    Returns:
        An X25519 private key, 32 bytes.
    """
    return _derive(psk, SEAT_DISCOVERY_LABEL)


def _derive(secret: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(secret)
