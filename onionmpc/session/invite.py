"""Invites: one line of text that lets one identity take one seat at a host.

Rules: docs/PROTOCOL.md section 4.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from onionmpc.errors import InvalidInvite
from onionmpc.identity import Onion, onion_from_public_key, parse_onion, public_key_from_onion
from onionmpc.names.paste import lower, squeeze

PREFIX = "onionmpc1"
SECRET_BYTES = 16
CHECK_BYTES = 4
CONTENT_CHARACTERS = 84  # 52 bytes in base32, without padding
INVITE_CHARACTERS = len(PREFIX) + CONTENT_CHARACTERS
CHECK_LABEL = b"onionmpc/1 invite"
SEAT_LABEL = b"onionmpc/1 seat"
OF_ANOTHER_VERSION = re.compile("onionmpc([02-9])[a-z2-7]{40}")
PASTE_HINT = "paste the whole line that the host sent you, or ask for a new invite"


@dataclass(frozen=True, slots=True)
class Invite:
    """A host's address and the secret of one of its seats (16 bytes)."""

    host: Onion
    secret: bytes = field(repr=False)

    @property
    def text(self) -> str:
        """The line to send to one party, over a private channel. It contains the secret."""
        return format_invite(self)

    def __str__(self) -> str:
        """Return `text`."""
        return self.text

    def psk(self) -> bytes:
        """Return the seat's pre-shared key, 32 bytes."""
        kdf = HKDF(algorithm=SHA256(), length=32, salt=public_key_from_onion(self.host), info=SEAT_LABEL)
        return kdf.derive(self.secret)


def looks_like_invite(text: str) -> bool:
    """Return whether `text` seems to hold an invite, even a damaged one."""
    plain = _plain(text)
    return PREFIX in plain or OF_ANOTHER_VERSION.search(plain) is not None


def format_invite(invite: Invite) -> str:
    """Return the invite as one line of 93 lower-case letters and digits."""
    content = public_key_from_onion(invite.host) + invite.secret
    return PREFIX + _base32(content + _check(content))


def parse_invite(text: str) -> Invite:
    """Find the invite in a text, ignoring what surrounds it, line breaks and quote marks (PROTOCOL 4).

    Raises:
        InvalidInvite: it was cut short or altered, or there are several. The message does not quote it.
    """
    plain = _plain(text)
    candidates = [part[:CONTENT_CHARACTERS] for part in plain.split(PREFIX)[1:]]
    if not candidates and (other := OF_ANOTHER_VERSION.search(plain)):
        raise InvalidInvite(
            f"the invite has version {other[1]}, expected 1", hint="install the newer release, here or at the host"
        )
    if not candidates:
        raise InvalidInvite(f"an invite starts with {PREFIX}, but this does not", hint=PASTE_HINT)
    invites, failures = set[Invite](), list[InvalidInvite]()
    for candidate in candidates:
        try:
            invites.add(_parse(candidate))
        except InvalidInvite as error:
            failures.append(error)
    if not invites:
        raise failures[0]
    if len(invites) > 1:
        raise InvalidInvite(
            f"this contains {len(invites)} different invites, expected one", hint="use the one that is meant for you"
        )
    return invites.pop()


def _parse(characters: str) -> Invite:
    if len(characters) < CONTENT_CHARACTERS:
        seen = len(PREFIX) + len(characters)
        raise InvalidInvite(f"the invite has {seen} characters, expected {INVITE_CHARACTERS}", hint=PASTE_HINT)
    try:
        content = base64.b32decode(characters.upper() + "====")
    except ValueError as error:  # binascii.Error is a ValueError; so is the error for text that is not ASCII
        raise InvalidInvite("the invite has an invalid character", hint=PASTE_HINT) from error
    body, check = content[:-CHECK_BYTES], content[-CHECK_BYTES:]
    # The last character has spare bits. Encoding again refuses all but the one form that we write.
    if _check(body) != check or _base32(content) != characters:
        raise InvalidInvite("the invite's checksum is wrong: a character was changed", hint=PASTE_HINT)
    return Invite(parse_onion(onion_from_public_key(body[:-SECRET_BYTES])), body[-SECRET_BYTES:])


def _plain(text: str) -> str:
    return lower(squeeze(text))


def _base32(content: bytes) -> str:
    return base64.b32encode(content).decode().rstrip("=").lower()


def _check(content: bytes) -> bytes:
    return hashlib.sha256(CHECK_LABEL + content).digest()[:CHECK_BYTES]
