"""Manages what tor has of a peer's descriptor: the key that decrypts it, and a cached copy.

Source: control-spec, "ONION_CLIENT_AUTH_ADD", "HSFETCH".
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import Iterable

from onionmpc.errors import TorFailed
from onionmpc.identity import Onion
from onionmpc.tor.circuit.status import service_id
from onionmpc.tor.control.connection import Control
from onionmpc.tor.control.errors import CommandRefused

# For tor to accept the command. Short, because a dial may be waiting for this.
REFETCH_TIMEOUT_S = 1.0
# For tor to forget all keys, at a millisecond each. A tor that hangs must not delay our end.
FORGET_TIMEOUT_S = 3.0


async def add_client_key(control: Control, onion: Onion, key: bytes) -> None:
    """Let tor read a peer's descriptor with this key, until `remove_client_keys` or tor's end.

    Raises:
        TorFailed: tor, or a filter before it, refused.
    """
    try:
        await control.command(f"ONION_CLIENT_AUTH_ADD {service_id(onion)} x25519:{base64.b64encode(key).decode()}")
    except CommandRefused as error:
        # Without tor's own message, which may quote the key.
        raise TorFailed(
            f"tor does not accept the key to a peer's descriptor ({error.code})",
            hint="a filter before the control port must let ONION_CLIENT_AUTH_ADD through",
        ) from None


async def remove_client_keys(control: Control, onions: Iterable[Onion], timeout_s: float = FORGET_TIMEOUT_S) -> None:
    """Have a tor that continues without us forget the keys to these peers, if it answers."""
    with contextlib.suppress(TorFailed, TimeoutError):
        async with asyncio.timeout(timeout_s):
            for onion in onions:
                await control.command(f"ONION_CLIENT_AUTH_REMOVE {service_id(onion)}")


async def refetch_descriptor(control: Control, onion: Onion) -> None:
    """Have tor fetch a peer's descriptor again in place of its cached copy; do not wait for the result.

    tor keeps a descriptor as long as the introduction points acknowledge our introductions. Those of a peer whose tor
    was killed do so for more than a minute: of 8 dials in 80 s none succeeded, and after a fetch all did.
    """
    with contextlib.suppress(TorFailed, TimeoutError):
        async with asyncio.timeout(REFETCH_TIMEOUT_S):
            await control.command(f"HSFETCH {service_id(onion)}")
