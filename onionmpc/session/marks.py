"""Replaces counts of bytes by marks that all parties can compare, but only the two parties of a link can interpret.

All parties must see whether the counts at both ends of a link agree. How much two parties have sent each other is
nobody else's business. Rules: docs/PROTOCOL.md section 3.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence

import msgspec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from onionmpc.identity import Identity, Onion
from onionmpc.program.spec import NOT_CONNECTED, Wait
from onionmpc.session.discovery import shared_secret

MARK_LABEL = b"onionmpc/1 waiting"
MARK_BYTES = 8  # two different counts have the same mark by chance once in 2**64


class Marks:
    """Makes the marks of one session.

    Args:
        roster: all addresses, in party order.
        session: the session id, so that marks of two sessions cannot be compared.
    """

    def __init__(self, identity: Identity, roster: Sequence[Onion], session: bytes) -> None:
        self._own = roster.index(identity.onion)
        self._keys = [
            b"" if onion == identity.onion else _derive(shared_secret(identity, onion), session) for onion in roster
        ]

    def of(self, wait: Wait) -> Wait:
        """Return a copy of our program's wait with marks in place of its counts."""
        numbers = range(len(self._keys))
        return msgspec.structs.replace(
            wait,
            sent=tuple(self._mark(self._own, other, wait.sent[other]) for other in numbers),
            received=tuple(self._mark(other, other, wait.received[other]) for other in numbers),
        )

    def _mark(self, sender: int, other: int, count: str) -> str:
        """Return the mark for the count of bytes that `sender` sent on the link between us and `other`."""
        if other == self._own or count == NOT_CONNECTED:
            return count
        message = sender.to_bytes(2) + int(count, 16).to_bytes(8)
        return hmac.digest(self._keys[other], message, "sha256")[:MARK_BYTES].hex()


def _derive(secret: bytes, session: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=MARK_LABEL + session).derive(secret)
