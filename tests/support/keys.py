"""Keys that only tests need."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from onionmpc.identity import Identity


def x25519_public(identity: Identity) -> bytes:
    """The Noise static public key from the private one; equals `x25519_public_from_ed25519(public_key)`."""
    return X25519PrivateKey.from_private_bytes(identity.x25519_private).public_key().public_bytes_raw()
