"""Publishes a party's onion service through a control connection.

Knows ADD_ONION and descriptor uploads. Does not know who dials in, nor what listens at the target.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from onionmpc.errors import OnionNotPublished, TorFailed
from onionmpc.identity import Identity
from onionmpc.tor.control import CommandRefused, Control
from onionmpc.tor.events import parse_event

# The same at every party, so that an address alone says where to dial; also in torrc.d/*.torrc. Filters before a
# control port (Tails, Whonix) list ADD_ONION commands by their virtual port, so it will not change.
VIRTUAL_PORT = 9880

# A client asks a few directories of its own choice. Dialled right after the first upload, 4 of 12 dials failed in a
# private network; the other uploads ended within 0.3 s.
SETTLE_S = 3.0

PublishProgress = Callable[[int, str], None]


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


@contextlib.asynccontextmanager
async def published(
    control: Control, identity: Identity, target: str, progress: PublishProgress, timeout_s: float
) -> AsyncIterator[None]:
    """Keep an onion service: from when directories have taken its descriptor to the end of the block.

    Args:
        control: tor; the service also ends with this connection.
        identity: whose service.
        target: where tor connects streams to, "unix:/PATH" or "127.0.0.1:PORT".
        progress: called with percent and words.
        timeout_s: for a first directory to take the descriptor; the others get up to SETTLE_S more.
    Raises:
        OnionNotPublished: no directory took it in time.
        TorFailed: tor refused, or the identity is in use in this tor.
    """
    address = identity.onion.removesuffix(".onion")
    uploads = Uploads()
    heard: asyncio.Queue[str] = asyncio.Queue()
    try:
        async with control.on_event("HS_DESC", heard.put_nowait):
            async with asyncio.timeout(timeout_s):
                await _add(control, identity, target)
                progress(0, "tor builds circuits to its introduction points")
                while not uploads.taken:
                    if uploads.hear(address, await control.unless_closed(heard.get())):
                        progress(100 if uploads.taken else 50, str(uploads))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SETTLE_S):
                    while uploads.open:
                        if uploads.hear(address, await control.unless_closed(heard.get())):
                            progress(100, str(uploads))
    except TimeoutError:
        await _delete(control, address)
        raise OnionNotPublished(
            f"the onion service's descriptor was {uploads} in {timeout_s:g} s",
            hint="try again; if it stays so, check this machine's clock",
        ) from None
    try:
        yield
    finally:
        await _delete(control, address)


async def _add(control: Control, identity: Identity, target: str) -> None:
    key = base64.b64encode(identity.expanded_key).decode()
    try:
        # DiscardPK: tor need not send the key back. No Detach: the service ends with us.
        await control.command(f"ADD_ONION ED25519-V3:{key} Flags=DiscardPK Port={VIRTUAL_PORT},{target}")
    except CommandRefused as error:
        if "collision" in error.reason:
            raise TorFailed(
                "this identity already runs in this tor", hint="end the other party, or use another identity"
            ) from None
        raise


async def _delete(control: Control, address: str) -> None:
    with contextlib.suppress(TorFailed):
        await control.command(f"DEL_ONION {address}")
