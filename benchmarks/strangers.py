"""The strangers of `benchmarks.attack`: come to a party's door over its local socket, say so, and stay.

Usage: strangers.py COUNT NUMBER STATE SOCKETS: how many come to the party of this number, where the parties keep their
identities, and where they listen.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from pathlib import Path

from onionmpc.identity import Identity
from onionmpc.identity.key_file import decode_key_file
from onionmpc.mesh.secure import EPHEMERAL_BYTES
from onionmpc.wire.handshake import NO_PSK, DiallerHandshake, Hello, Purpose
from tests.support.direct import NAME_CHARACTERS
from tests.support.strangers import at, visit

EVERY_S = 0.005
NICE = 19
ALL_CAME = "all"


def first_message(dialler: Identity, listener: Identity) -> bytes:
    """Return what one party of a closed list says first to another."""
    hello = Hello(dialler.public_key, Purpose.MESH, bytes(16))
    ephemeral = secrets.token_bytes(EPHEMERAL_BYTES)
    return DiallerHandshake(dialler, listener.public_key, NO_PSK, hello, ephemeral).message()


def main(count: str, number: str, state: str, sockets: str) -> None:
    """Come to the door, and print ALL_CAME when all have come."""
    os.nice(NICE)
    keys = sorted((Path(state) / "identities").glob("party-*.key"))
    identities = [decode_key_file(key.read_bytes(), None) for key in keys]
    visited = identities.pop(int(number))
    door = Path(sockets) / f"{visited.onion[:NAME_CHARACTERS]}.sock"
    firsts = [first_message(identity, visited) for identity in identities]
    asyncio.run(visit(at(door), int(count), firsts, every_s=EVERY_S, on_all=lambda: print(ALL_CAME, flush=True)))


if __name__ == "__main__":
    main(*sys.argv[1:])
