"""The command line for tests that never start a session: a tor that only says its version, and refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from onionmpc.identity import Identity
from onionmpc.session.invite import Invite, format_invite

ERROR = "onionmpc: error: "
HINT = "onionmpc: hint: "
V2_ADDRESS = "expyuzz4wqqyqhjn.onion"
A, B, C = (Identity(bytes([number]) * 32).onion for number in range(3))
INVITE = format_invite(Invite(A, bytes(16)))
OTHER_INVITE = format_invite(Invite(A, bytes([1]) * 16))
HOST = ("host", "sort", "--parties", "3", "--yes")

# A point of order 8 (RFC 8032's curve): added to a key, it gives another address with the same shared secrets.
POINT_OF_ORDER_8 = bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a")

Refused = Callable[..., str]


def fake_tor(path: Path, version: str = "0.4.9.11", otherwise: str = "exit 1") -> str:
    path.write_text(f'#!/bin/sh\nif [ "$1" = --version ]; then echo "Tor version {version}."; exit; fi\n{otherwise}\n')
    path.chmod(0o700)
    return str(path)
