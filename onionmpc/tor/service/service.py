"""A party's onion service, made by ADD_ONION. single.py has the other kind.

descriptor.py finds out whether anyone can find it.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterable
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from onionmpc.errors import TorFailed
from onionmpc.identity import Identity, Onion
from onionmpc.tor.circuit.status import service_id
from onionmpc.tor.control.connection import Control
from onionmpc.tor.control.errors import CommandRefused
from onionmpc.tor.process.binary import may_have_pow

# The same at every party, so that an address is all that a dialler needs; also in torrc.d/*.torrc. It must not change:
# filters before a control port (Tails, Whonix) allow ADD_ONION commands by their virtual port.
VIRTUAL_PORT = 9880


class Service(Protocol):
    """An onion service in one tor instance. It ends with the instance.

    Attributes:
        control: of the tor that it runs in.
        onion: its address.
    """

    control: Control
    onion: Onion

    async def add(self, target: str) -> None:
        """Add it. tor then uploads its descriptor by itself; see `publish`.

        Args:
            target: the endpoint to which tor connects streams, "unix:/PATH" or "127.0.0.1:PORT".
        Raises:
            TorFailed: tor refused.
        """

    async def remove(self) -> None:
        """Remove it, if it is there.

        Accepted streams continue (except with `SingleOnionService`), even if it is added again: tor closes only the
        circuit to each introduction point (tried with tor 0.4.9.11).
        """

    async def reseal(self, target: str) -> None:
        """Let the holders of our keys find it, and no longer those of the keys with which it was added.

        Accepted streams continue.

        Raises:
            TorFailed: tor refused.
        """


class EphemeralService:
    """A service that lives only as long as the control connection, and has no files.

    Args:
        keys: only holders of one of these can read its descriptor; without keys, everyone can.
    """

    def __init__(self, control: Control, identity: Identity, keys: Iterable[bytes] = ()) -> None:
        self.control = control
        self.onion = identity.onion
        self._identity = identity
        self._clients = [base32_public(key) for key in keys]

    async def add(self, target: str) -> None:
        """See `Service.add`. Also refused if the identity is in use in this tor."""
        key = base64.b64encode(self._identity.expanded_key).decode()
        # DiscardPK: tor must not send the key back. No Detach: the service ends with our connection.
        flags = "DiscardPK,V3Auth" if self._clients else "DiscardPK"
        clients = "".join(f" ClientAuthV3={client}" for client in self._clients)
        try:
            await add_with_pow(
                self.control,
                f"ADD_ONION ED25519-V3:{key} Flags={flags} Port={VIRTUAL_PORT},{target}{clients}",
                "PoWDefensesEnabled=1",
            )
        except CommandRefused as error:
            if "collision" in error.reason:
                raise TorFailed(
                    "this identity already runs in this tor", hint="end the other party, or use another identity"
                ) from None
            raise

    async def remove(self) -> None:
        """See `Service.remove`."""
        with contextlib.suppress(CommandRefused):
            await self.control.command(f"DEL_ONION {service_id(self.onion)}")

    async def reseal(self, target: str) -> None:
        """See `Service.reseal`. tor cannot change the clients of a service that ADD_ONION made."""
        await self.remove()
        await self.add(target)


def base32_public(key: bytes) -> str:
    """Return the public key of an X25519 private key in tor's notation, 52 characters."""
    public = X25519PrivateKey.from_private_bytes(key).public_key().public_bytes_raw()
    return base64.b32encode(public).decode().rstrip("=")


async def add_with_pow(control: Control, command: str, pow_words: str) -> None:
    """Add a service, with tor's proof-of-work defence if this tor has it.

    The defence makes a flood of the service cost its sender computing time. Without a flood, the descriptor asks for an
    effort of 0, and diallers compute nothing.

    Args:
        command: adds the service.
        pow_words: request the defence; they go to the end of the command.
    Raises:
        TorFailed: tor refused the command with and without them.
    """
    if may_have_pow(control.release) and pow_words not in control.refused:
        # tor refuses unknown keywords with 512 or 552, and a filter before it (Tails, Whonix) with 510. Codes need not
        # be told apart: if anything else is wrong, tor refuses the command without the keywords too.
        with contextlib.suppress(CommandRefused):
            await control.command(f"{command} {pow_words}")
            return
        await control.command(command)
        control.refused.add(pow_words)
    else:
        await control.command(command)
