"""A party's onion service, as ADD_ONION makes it; single.py has one of another kind.

Does not know who dials in, what listens at the target, nor whether anyone can find it (descriptor.py).
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

# The same at every party, so that an address alone says where to dial; also in torrc.d/*.torrc. Filters before a
# control port (Tails, Whonix) list ADD_ONION commands by their virtual port, so it will not change.
VIRTUAL_PORT = 9880


class Service(Protocol):
    """An onion service in one tor instance; it ends with that.

    Attributes:
        control: of the tor that it runs in.
        onion: its address.
    """

    control: Control
    onion: Onion

    async def add(self, target: str) -> None:
        """Add it; its descriptor goes out by itself. See `publish`.

        Args:
            target: where tor connects streams to, "unix:/PATH" or "127.0.0.1:PORT".
        Raises:
            TorFailed: tor refused.
        """

    async def remove(self) -> None:
        """End it, if it is there.

        With most kinds, streams that it has accepted go on, also if it is added again (tried with tor 0.4.9.11): tor
        closes nothing but its paths to introduction points.
        """

    async def reseal(self, target: str) -> None:
        """Have it found by our keys instead of those with which it was added; accepted streams go on.

        Raises:
            TorFailed: tor refused.
        """


class EphemeralService:
    """A service that tor knows over the control connection alone.

    Args:
        keys: only holders of one of these can read its descriptor; without keys, everybody can.
    """

    def __init__(self, control: Control, identity: Identity, keys: Iterable[bytes] = ()) -> None:
        self.control = control
        self.onion = identity.onion
        self._identity = identity
        self._clients = [base32_public(key) for key in keys]

    async def add(self, target: str) -> None:
        """See `Service.add`; refused too if the identity runs in this tor already."""
        key = base64.b64encode(self._identity.expanded_key).decode()
        # DiscardPK: tor need not send the key back. No Detach: the service ends with us.
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
        """See `Service.reseal`; ADD_ONION has no gentler way."""
        await self.remove()
        await self.add(target)


def base32_public(key: bytes) -> str:
    """Return the public half of an X25519 private key as tor reads it, 52 characters."""
    public = X25519PrivateKey.from_private_bytes(key).public_key().public_bytes_raw()
    return base64.b32encode(public).decode().rstrip("=")


async def add_with_pow(control: Control, command: str, pow_words: str) -> None:
    """Add a service, with tor's proof-of-work defence where this tor has it, else without.

    A flood of the service then costs its sender computing time. Without a flood, the descriptor asks for an effort of
    0, and no dialler computes anything.

    Args:
        command: adds it.
        pow_words: ask for the defence, at the end of the command.
    Raises:
        TorFailed: tor refused either.
    """
    if may_have_pow(control.release) and pow_words not in control.refused:
        # tor refuses words that it does not know with 512 or 552, a filter before it (Tails, Whonix) with 510. If
        # anything else is wrong, tor refuses the command alone too.
        with contextlib.suppress(CommandRefused):
            await control.command(f"{command} {pow_words}")
            return
        await control.command(command)
        control.refused.add(pow_words)
    else:
        await control.command(command)
