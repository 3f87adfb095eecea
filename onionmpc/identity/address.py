"""Onion addresses of version 3, as text and as the public key that they contain.

It refuses what tor refuses, and addresses that no honest party can have. Rules: docs/PROTOCOL.md section 1.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from collections.abc import Iterable
from typing import NamedTuple, NewType

from onionmpc.errors import InvalidAddress
from onionmpc.identity.curve import PUBLIC_KEY_BYTES, check_public_key, x25519_public_from_ed25519, y_coordinate

Onion = NewType("Onion", str)  # 56 base32 characters and ".onion", lower case, checked

ONION_SUFFIX = ".onion"
BASE32_CHARACTERS = "abcdefghijklmnopqrstuvwxyz234567"
V2_LENGTH = 16
V3_LENGTH = 56
V3_VERSION = 3
# More than a session has parties. A check takes milliseconds, and each stream to a peer, each key for a descriptor and
# each mark of a link needs the keys of one of them.
KEPT_KEYS = 256


class PublicKeys(NamedTuple):
    """What an address stands for: the key in it, and the Noise static key of the same party; 32 bytes each."""

    ed25519: bytes
    x25519: bytes


def onion_from_public_key(public_key: bytes) -> Onion:
    """Derive the v3 onion address of an identity. Does not check the key; see `check_public_key`.

    Args:
        public_key: ed25519 public key, 32 bytes.
    Returns:
        56 base32 characters and ".onion", lower case.
    Raises:
        ValueError: the key is not 32 bytes long.
    Source: Tor rend-spec-v3, "Encoding onion addresses".
    """
    if len(public_key) != PUBLIC_KEY_BYTES:
        raise ValueError(f"public key has {len(public_key)} bytes, expected {PUBLIC_KEY_BYTES}")
    packed = public_key + _checksum(public_key) + bytes([V3_VERSION])
    return Onion(base64.b32encode(packed).decode("ascii").lower() + ONION_SUFFIX)


def public_key_from_onion(text: str) -> bytes:
    """Parse an onion address, and check everything that can be checked without its owner.

    Surrounding white space and upper case are accepted, but no other mistake is repaired: a guess could give the
    address of someone else.

    Returns:
        The ed25519 public key, 32 bytes: canonical and of prime order.
    Raises:
        InvalidAddress: names the first thing that is wrong.
    Source: Tor rend-spec-v3, "Encoding onion addresses".
    """
    label = _base32_label(text.strip())
    packed = base64.b32decode(label.upper())
    public_key, checksum, version = packed[:32], packed[32:34], packed[34]
    if version != V3_VERSION:
        raise InvalidAddress(
            f"the address has version {version}, expected {V3_VERSION}", hint="check its last characters"
        )
    if checksum != _checksum(public_key):
        raise InvalidAddress(
            "the checksum is wrong: there is a typo somewhere in the address", hint="copy the whole address again"
        )
    try:
        check_public_key(public_key)
    except ValueError as error:
        raise InvalidAddress(
            f"the address contains no usable key: {error}",
            hint="tor never makes such an address: do not trust the person who gave it to you",
        ) from error
    return public_key


@functools.lru_cache(maxsize=KEPT_KEYS)  # of what was found: an error is not kept
def public_keys_from_onion(onion: Onion) -> PublicKeys:
    """Return the keys of a peer's address, checked as `public_key_from_onion` does.

    Not for addresses that a stranger sends: how long this takes shows which addresses were here before.
    """
    ed25519 = public_key_from_onion(onion)
    return PublicKeys(ed25519, x25519_public_from_ed25519(ed25519))


def parse_onion(text: str) -> Onion:
    """Check an address as `public_key_from_onion` does, and return its canonical form.

    Raises:
        InvalidAddress: names the first thing that is wrong.
    """
    return onion_from_public_key(public_key_from_onion(text))


def looks_like_onion(text: str) -> bool:
    """Return whether a text is meant as an address, even a mistyped one, and not as a program name or path.

    Anything that ends in ".onion" is (including v2 addresses and shortened ones, with or without a port or path), and
    so is a bare word of 50 to 60 letters and digits: nobody names a program like that, and the error for a mistyped
    address should be about the address.
    """
    return bool(re.search(r"\.onion\.?(?:[:/].*)?$|^[a-z0-9]{50,60}$", text.strip().lower(), re.DOTALL))


def check_roster(onions: Iterable[str], own: Onion | None) -> tuple[Onion, ...]:
    """Check the addresses of the other parties, each and together.

    Args:
        onions: addresses as typed or received. Errors give the position of an address, from 1.
        own: our own address, which must not be among them.
    Returns:
        The canonical addresses, sorted.
    Raises:
        InvalidAddress: an address is invalid, our own or listed twice, or two of them have the same X25519 key.
    """
    roster: list[Onion] = []
    # A and -A are two valid addresses with one y, and so with one X25519 key. The handshake could not tell them apart,
    # and the holder of one secret holds the other too.
    place_of_y = {} if own is None else {y_coordinate(public_key_from_onion(own)): 0}
    for place, text in enumerate(onions, start=1):
        try:
            public_key = public_key_from_onion(text)
        except InvalidAddress as error:
            raise InvalidAddress(f"address {place}: {error.message}", hint=error.hint) from error
        onion = onion_from_public_key(public_key)
        if onion == own:
            raise InvalidAddress(f"address {place} is your own", hint="list only the other parties")
        if onion in roster:
            raise InvalidAddress(f"addresses {roster.index(onion) + 1} and {place} are the same")
        first = place_of_y.setdefault(y_coordinate(public_key), place)
        if first != place:
            other = f"address {first}" if first else "your own address"
            raise InvalidAddress(
                f"address {place} is the mirror image of {other}: both belong to one key",
                hint="someone is trying to be two parties",
            )
        roster.append(onion)
    return tuple(sorted(roster))


def _checksum(public_key: bytes) -> bytes:
    return hashlib.sha3_256(b".onion checksum" + public_key + bytes([V3_VERSION])).digest()[:2]


def _base32_label(text: str) -> str:
    """Return the 56 base32 characters of an address, in lower case."""
    lowered = text.lower()
    if "/" in lowered or ":" in lowered:
        raise InvalidAddress(
            "this is a link, not an address",
            hint='leave out "http://", the port and everything after ".onion"',
        )
    if not lowered.endswith(ONION_SUFFIX):
        raise InvalidAddress(
            f'the address does not end in "{ONION_SUFFIX}"', hint=f'copy the whole address, with "{ONION_SUFFIX}"'
        )
    label = text[: -len(ONION_SUFFIX)]
    if "." in label:
        # Tor ignores a name before the address, so one party could appear under many names.
        raise InvalidAddress(
            'the address has a name before it ("name.address.onion")', hint="start with the 56 characters"
        )
    # Checked before lower(), which turns U+212A, the Kelvin sign, into "k".
    for position, character in enumerate(label, start=1):
        if character not in BASE32_CHARACTERS and character not in BASE32_CHARACTERS.upper():
            raise InvalidAddress(
                f"character {position} of the address is {character!a}, expected a to z or 2 to 7",
                hint="the digits 0, 1, 8 and 9 are never part of an address",
            )
    if len(label) == V2_LENGTH:
        raise InvalidAddress(
            f"this is a v2 address ({V2_LENGTH} characters), which tor no longer supports",
            hint=f"ask for a v3 address: {V3_LENGTH} characters",
        )
    if len(label) != V3_LENGTH:
        raise InvalidAddress(
            f'the address has {len(label)} characters before "{ONION_SUFFIX}", expected {V3_LENGTH}',
            hint="copy the whole address again",
        )
    return label.lower()
