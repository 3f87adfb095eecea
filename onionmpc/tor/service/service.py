"""Publishes a party's onion service through a control connection, and sees whether it can still be found.

Knows ADD_ONION and descriptors. Does not know who dials in, nor what listens at the target; single.py has a service of
another kind.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from onionmpc.errors import OnionNotPublished, TorFailed
from onionmpc.identity import Identity, Onion
from onionmpc.tor.adapters.stem import parse_event
from onionmpc.tor.circuit.status import has_introductions, service_id
from onionmpc.tor.control.connection import Control
from onionmpc.tor.control.errors import CommandRefused
from onionmpc.tor.process.binary import may_have_pow

# The same at every party, so that an address alone says where to dial; also in torrc.d/*.torrc. Filters before a
# control port (Tails, Whonix) list ADD_ONION commands by their virtual port, so it will not change.
VIRTUAL_PORT = 9880

# A client asks a few directories of its own choice. Dialled right after the first upload, 4 of 12 dials failed in a
# private network; the other uploads ended within 0.3 s.
SETTLE_S = 3.0

# For a circuit to a directory, and its answer.
FETCH_TIMEOUT_S = 30.0
# For tor to take the question: it is put after a dial that has taken its time.
LOOK_UP_TIMEOUT_S = 1.0
# For a tor to forget all keys, a millisecond each: nobody is to wait at the end for one that hangs.
LOCK_TIMEOUT_S = 3.0

PublishProgress = Callable[[int, str], None]


class Service(Protocol):
    """An onion service in one life of a tor; it ends with that.

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
        closes its circuits to introduction points only.
        """

    async def reseal(self, target: str) -> None:
        """Have it found by our keys instead of those with which it was added; accepted streams go on.

        Raises:
            TorFailed: tor refused.
        """


class EphemeralService:
    """A service that tor knows over the control connection alone.

    Args:
        keys: who has none of these cannot read its descriptor; without any, everybody can.
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


async def unlock(control: Control, onion: Onion, key: bytes) -> None:
    """Let tor read a peer's descriptor with this key, until `lock` or its end.

    Raises:
        TorFailed: tor, or a filter before it, refused.
    """
    try:
        await control.command(f"ONION_CLIENT_AUTH_ADD {service_id(onion)} x25519:{base64.b64encode(key).decode()}")
    except CommandRefused as error:
        # Without tor's own words, which may quote the key.
        raise TorFailed(
            f"tor does not take the key to a peer ({error.code})",
            hint="a filter before the control port must let ONION_CLIENT_AUTH_ADD through",
        ) from None


async def lock(control: Control, onions: Iterable[Onion]) -> None:
    """Have a tor that goes on without us forget the keys to these peers; one that does not answer keeps them."""
    with contextlib.suppress(TorFailed, TimeoutError):
        async with asyncio.timeout(LOCK_TIMEOUT_S):
            for onion in onions:
                await control.command(f"ONION_CLIENT_AUTH_REMOVE {service_id(onion)}")


async def add_with_pow(control: Control, command: str, pow_words: str) -> None:
    """Add a service, with tor's proof-of-work defence where this tor has it, else without.

    Whoever floods the service then has to compute for it. While nobody does, no dialler computes anything: what the
    descriptor asks for is 0.

    Args:
        command: adds it.
        pow_words: ask for the defence, at the end of the command.
    Raises:
        TorFailed: tor refused either.
    """
    if may_have_pow(control.release) and pow_words not in control.refused:
        # tor refuses words that it does not know with 512 or 552, a filter before it (Tails, Whonix) with 510. For
        # whatever else may be wrong, the command alone is refused too.
        with contextlib.suppress(CommandRefused):
            await control.command(f"{command} {pow_words}")
            return
        await control.command(command)
        control.refused.add(pow_words)
    else:
        await control.command(command)


@dataclass
class Uploads:
    """Which directories were sent our descriptor, and what they said."""

    sent: set[str] = field(default_factory=set)
    taken: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)

    def hear(self, address: str, text: str) -> bool:
        """Take an HS_DESC event; return whether it told us anything new. Source: control-spec, "HS_DESC"."""
        event = parse_event("HS_DESC", text)
        if event is None:
            return False
        directories = {"UPLOAD": self.sent, "UPLOADED": self.taken, "FAILED": self.refused}.get(event.action)
        if event.address != address or directories is None:
            return False
        before = len(directories)
        directories.add(event.directory_fingerprint or event.directory)
        return len(directories) > before

    @property
    def open(self) -> set[str]:
        """Directories that have not answered yet."""
        return self.sent - self.taken - self.refused

    def __str__(self) -> str:
        refused = f", refused by {len(self.refused)}" if self.refused else ""
        return f"taken by {len(self.taken)} of {len(self.sent)} directories{refused}"


async def publish(service: Service, target: str, progress: PublishProgress, timeout_s: float) -> None:
    """Add an onion service and wait until directories have taken its descriptor.

    Args:
        target: see `Service.add`.
        progress: called with percent and words.
        timeout_s: for a first directory to take the descriptor; the others get up to SETTLE_S more.
    Raises:
        OnionNotPublished: no directory took it in time; tor goes on trying.
        TorFailed: tor refused, or the identity is in use in this tor.
    """
    control, address = service.control, service_id(service.onion)
    uploads = Uploads()
    heard: asyncio.Queue[str] = asyncio.Queue()
    try:
        async with asyncio.timeout(timeout_s) as deadline, control.on_event("HS_DESC", heard.put_nowait):
            await service.add(target)
            progress(0, "tor builds circuits to its introduction points")
            while uploads.open or not uploads.taken:
                taken_before = bool(uploads.taken)
                if uploads.hear(address, await control.unless_closed(heard.get())):
                    progress(100 if uploads.taken else 50, str(uploads))
                if uploads.taken and not taken_before:
                    deadline.reschedule(asyncio.get_running_loop().time() + SETTLE_S)
    except TimeoutError:
        if uploads.taken:
            return
        raise OnionNotPublished(
            f"the onion service's descriptor was {uploads} in {timeout_s:g} s",
            hint="try again; if it stays so, check this machine's clock",
        ) from None


async def look_up(control: Control, onion: Onion) -> None:
    """Have tor ask for a peer's descriptor anew, and replace the one that it knows; does not wait for it.

    tor goes on with a descriptor whose introduction points say that they passed us on. Those of a peer whose tor was
    killed do, for a minute and more: of 8 dials in 80 s none got through, of those after this each.
    """
    with contextlib.suppress(TorFailed, TimeoutError):
        async with asyncio.timeout(LOOK_UP_TIMEOUT_S):
            await control.command(f"HSFETCH {service_id(onion)}")


async def is_lost(service: Service, *, is_new: bool = False) -> bool:
    """Tell whether peers cannot find our service, though tor has published it.

    Two things are looked at. Our circuits to introduction points: after four losses in a row, tor leaves a service
    without any for five minutes. And one of the directories that clients ask, another one each time: they forget when
    they restart, and tor sends them the descriptor again only after an hour or two.

    Args:
        is_new: its descriptor may still be on its way, so the directories are not asked.
    Raises:
        TorFailed: tor cannot be asked.
        TimeoutError: the directory did not answer.
    """
    control, address = service.control, service_id(service.onion)
    if not has_introductions(await control.get_info("circuit-status"), service.onion):
        return True
    if is_new:
        return False
    heard: asyncio.Queue[str] = asyncio.Queue()
    async with control.on_event("HS_DESC", heard.put_nowait), asyncio.timeout(FETCH_TIMEOUT_S):
        await control.command(f"HSFETCH {address}")
        while True:
            event = parse_event("HS_DESC", await control.unless_closed(heard.get()))
            if event is None or event.address != address:
                continue
            if event.action == "RECEIVED":
                return False
            if event.action == "FAILED" and event.reason == "NOT_FOUND":
                return True
