"""An invite, and other text with the right check."""

from __future__ import annotations

import base64
import hashlib

from onionmpc.identity import Identity
from onionmpc.session.invite import Invite, format_invite

HOST = Identity(bytes(range(32))).onion
SECRET = bytes(range(100, 116))
TEXT = format_invite(Invite(HOST, SECRET))


def as_invite(content: bytes) -> str:
    """What a host would write that has this content and its check."""
    check = hashlib.sha256(b"onionmpc/1 invite" + content).digest()[:4]
    return "onionmpc1" + base64.b32encode(content + check).decode().rstrip("=").lower()
