"""The interface between the mesh and whatever carries its bytes.

A Network listens as one onion address and dials others. It promises nothing about who dials in: that is proved by
the handshake (docs/PROTOCOL.md section 2). Implementations: `direct` (plain local sockets) and `onionmpc.tor`; both
pass the same contract suite, tests/support/network_contract.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from onionmpc.identity import Onion
from onionmpc.levels import Level


@dataclass(frozen=True, slots=True)
class OwnPath:
    """The part of a circuit that this party built, as its tor reported it.

    Attributes:
        relays: relays on our side, the rendezvous point included.
        rendezvous: fingerprint of the rendezvous point, 40 hex digits; both sides see the same one.
    """

    relays: int
    rendezvous: str


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """One connection to a peer: an asyncio reader and writer.

    Attributes:
        path: our part of its circuit, if we dialled it and it is known.
    """

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    path: OwnPath | None = None

    async def close(self) -> None:
        """Close the connection; never raises and never waits for the peer."""
        self.abort()

    def abort(self) -> None:
        """Close it, where nothing can be awaited."""
        self.writer.transport.abort()


OnStream = Callable[[Stream], Awaitable[None]]


class Network(Protocol):
    """Carries streams between onion addresses."""

    @property
    def level(self) -> Level:
        """How long this party's side of each circuit is."""

    async def listen(self, on_stream: OnStream, keys: Iterable[bytes] = ()) -> None:
        """Accept streams for our address from now on; each is served by `on_stream` in a task of its own.

        Returns when peers can dial us (over tor: when the descriptor is published). Another call, for another session,
        replaces both arguments.

        Args:
            keys: only holders of one of these can find us; without keys, everybody can. See `unlock`.

        Raises:
            TorError: the service could not be published.
        """

    def admit(self, keys: Iterable[bytes]) -> None:
        """Let only holders of one of these keys find us from now on, unless everybody can.

        Done behind the caller's back: over tor it takes seconds until a new key opens anything. Streams go on.
        """

    def unlock(self, onion: Onion, key: bytes) -> None:
        """Find this peer with this key from now on: an X25519 private key, 32 bytes, which it has as well."""

    async def dial(self, onion: Onion, timeout_s: float) -> Stream:
        """Open a stream to a peer, over a fresh circuit each time, none shorter than our level promises.

        Args:
            timeout_s: for all of it, what our own tor takes included.
        Raises:
            PeerUnreachable: nobody answered within `timeout_s` seconds, or our own side cannot dial for the moment;
                the message says what was seen.
            TorError: our own side cannot dial, and never will.
        """

    async def accepted_path(self, rendezvous: str) -> OwnPath | None:
        """Return our part of the circuit that joins at this rendezvous point; None if we have no such circuit."""

    async def restored(self) -> None:
        """Return when our way to the others has come back after an outage; the caller then dials its peers at once.

        Waits for the next time, counted from the call; where there are no outages, for ever.
        """

    async def refresh(self) -> None:
        """Make sure that peers can find us; to be called when a peer seems unable to dial us.

        Cheap to call often, waits for nothing and never raises. Cuts a stream only where nothing less helps.
        """
