"""A single onion service: it connects straight to the rendezvous point, so every peer learns this party's IP address.

It needs a key directory, because ADD_ONION with NonAnonymous does not make such a service: tor 0.4.9.11 then builds
four hops, without a guard. The caller must have the user's consent.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

from onionmpc.files import private_directory, write_private
from onionmpc.identity import Identity
from onionmpc.tor.control.connection import Control
from onionmpc.tor.control.errors import CommandRefused
from onionmpc.tor.service.service import VIRTUAL_PORT, add_with_pow, base32_public

# 32 bytes. Source: tor's crypto_format.c, crypto_write_tagged_contents_to_file, and hs_service.c.
KEY_FILE_NAME = "hs_ed25519_secret_key"
CLIENTS_NAME = "authorized_clients"
KEY_FILE_TAG = b"== ed25519v1-secret: type0 ==".ljust(32, b"\0")


class SingleOnionService:
    """A service in a tor with HiddenServiceNonAnonymousMode; see `Service`.

    Args:
        directory: private, and in memory if possible. The caller removes it.
        keys: only holders of one of these can read its descriptor; without keys, everyone can.
    """

    def __init__(self, control: Control, identity: Identity, directory: Path, keys: Iterable[bytes] = ()) -> None:
        self.control = control
        self.onion = identity.onion
        self._identity = identity
        self._directory = directory
        self._clients = [base32_public(key) for key in keys]

    async def add(self, target: str) -> None:
        """See `Service.add`."""
        write_private(self._directory / KEY_FILE_NAME, KEY_FILE_TAG + self._identity.expanded_key)
        clients = private_directory(self._directory / CLIENTS_NAME)
        for path in clients.iterdir():
            path.unlink()
        for number, client in enumerate(self._clients):
            write_private(clients / f"{number}.auth", f"descriptor:x25519:{client}\n".encode())
        await add_with_pow(
            self.control,
            f'SETCONF HiddenServiceDir="{self._directory}" HiddenServicePort="{VIRTUAL_PORT} {target}"',
            "HiddenServicePoWDefensesEnabled=1",
        )

    async def remove(self) -> None:
        """See `Service.remove`. But tor cuts accepted streams (tried with tor 0.4.9.11)."""
        with contextlib.suppress(CommandRefused):
            await self.control.command("RESETCONF HiddenServiceDir")

    async def reseal(self, target: str) -> None:
        """See `Service.reseal`. At each SETCONF tor reads the folder of clients, and keeps the service."""
        await self.add(target)
