"""An identity: an ed25519 key pair. Its seed determines tor's key, the Noise key and the address."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from onionmpc.identity.address import Onion, onion_from_public_key, public_key_from_onion

SEED_BYTES = 32
SIGNATURE_BYTES = 64


@dataclass(frozen=True, slots=True, repr=False)
class Identity:
    """A party's long-term key. Everything else is derived from the seed.

    Args:
        seed: 32 random bytes.
    Attributes:
        public_key: ed25519 public key, 32 bytes.

    Raises:
        ValueError: the seed is not 32 bytes long.
    """

    seed: bytes
    public_key: bytes = field(init=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.seed) != SEED_BYTES:
            raise ValueError(f"seed has {len(self.seed)} bytes, expected {SEED_BYTES}")
        public_key = Ed25519PrivateKey.from_private_bytes(self.seed).public_key().public_bytes_raw()
        object.__setattr__(self, "public_key", public_key)

    def __repr__(self) -> str:
        # Not even the address: a repr ends up in logs, and logs name parties only by number.
        return "Identity(<hidden>)"

    @property
    def onion(self) -> Onion:
        """The onion address of this identity."""
        return onion_from_public_key(self.public_key)

    @property
    def expanded_key(self) -> bytes:
        """The 64 bytes that tor calls ED25519-V3: the clamped scalar, then the nonce prefix."""
        digest = bytearray(hashlib.sha512(self.seed).digest())
        digest[0] &= 248
        digest[31] = digest[31] & 63 | 64
        return bytes(digest)

    @property
    def x25519_private(self) -> bytes:
        """The Noise static private key: the same scalar, 32 bytes."""
        return self.expanded_key[:32]

    def sign(self, message: bytes) -> bytes:
        """Sign with the onion key itself; return 64 bytes.

        The message must begin with a label that says what it is. Then no signature can be mistaken for another kind:
        tor signs only with keys that it derives from this one, and Noise makes no signatures.
        """
        return Ed25519PrivateKey.from_private_bytes(self.seed).sign(message)


def check_signature(onion: Onion, message: bytes, signature: bytes) -> None:
    """Check that the holder of this address's key has signed this message.

    Raises:
        ValueError: it is not a signature of this message by that key.
    """
    try:
        Ed25519PublicKey.from_public_bytes(public_key_from_onion(onion)).verify(signature, message)
    except InvalidSignature as error:
        raise ValueError("the signature is not that of the key and the message") from error
