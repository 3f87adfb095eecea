"""Identities: an ed25519 key pair (key_pair), its onion address (address), and the file that keeps it (key_file).

curve checks public keys and converts them for Noise. The names that most of the package needs can be imported from
here; those for key files are in key_file.
"""

from onionmpc.identity.address import (
    Onion,
    check_roster,
    looks_like_onion,
    onion_from_public_key,
    parse_onion,
    public_key_from_onion,
    public_keys_from_onion,
)
from onionmpc.identity.curve import check_public_key, x25519_public_from_ed25519
from onionmpc.identity.key_pair import SEED_BYTES, SIGNATURE_BYTES, Identity, check_signature

__all__ = [
    "SEED_BYTES",
    "SIGNATURE_BYTES",
    "Identity",
    "Onion",
    "check_public_key",
    "check_roster",
    "check_signature",
    "looks_like_onion",
    "onion_from_public_key",
    "parse_onion",
    "public_key_from_onion",
    "public_keys_from_onion",
    "x25519_public_from_ed25519",
]
