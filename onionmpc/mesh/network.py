"""The interface between the mesh and what carries its bytes.

A Network listens as one onion address and dials others. It promises nothing about who dials in: the handshake proves
that (docs/PROTOCOL.md section 2). onionmpc.tor implements it; so does tests/support/direct.py, with plain local
sockets. Both pass the same contract suite, tests/support/network_contract.py.
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
    """The part of a circuit that this party built, as its tor reports it.

    Attributes:
        relays: how many relays are on our side, including the rendezvous point.
        rendezvous: fingerprint of the rendezvous point, 40 hex digits. Both sides see the same one.
    """

    relays: int
    rendezvous: str


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """One connection to a peer: an asyncio reader and writer.

    Attributes:
        path: our part of its circuit, if we dialled it and tor shows it.
    """

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    path: OwnPath | None = None

    async def close(self) -> None:
        """Close the connection. Never raises, and never waits for the peer."""
        self.abort()

    def abort(self) -> None:
        """Close it at once, from code that cannot await."""
        self.writer.transport.abort()


OnStream = Callable[[Stream], Awaitable[None]]


class Network(Protocol):
    """Carries streams between onion addresses."""

    @property
    def level(self) -> Level:
        """How long this party's side of each circuit is."""

    async def listen(self, on_stream: OnStream, keys: Iterable[bytes] = ()) -> None:
        """Accept streams for our address from now on. `on_stream` serves each in its own task.

        Returns when peers can dial us (over tor: when the descriptor is published). A further call, for another
        session, replaces both arguments.

        Args:
            keys: only holders of one of these can find us; without keys, everyone can. See `unlock`.

        Raises:
            TorError: the service could not be published.
        """

    def admit(self, keys: Iterable[bytes]) -> None:
        """Let only holders of one of these keys find us from now on. No effect if everyone can.

        The change happens in the background: over tor, it takes seconds until a new key works. Open streams continue.
        """

    def unlock(self, onion: Onion, key: bytes) -> None:
        """Find this peer with this key from now on: an X25519 private key, 32 bytes, which the peer has too."""

    async def dial(self, onion: Onion, timeout_s: float) -> Stream:
        """Open a stream to a peer, each time over a new circuit that is at least as long as our level promises.

        Args:
            timeout_s: for everything, including what our tor does.
        Raises:
            PeerUnreachable: nobody answered within `timeout_s` seconds, or our own side cannot dial at the moment. The
                message says what was seen.
            TorError: our own side cannot dial, and never will.
        """

    async def accepted_path(self, rendezvous: str) -> OwnPath | None:
        """Return our part of the circuit that joins at this rendezvous point; None if we have no such circuit."""

    async def restored(self) -> None:
        """Return when our connection to the network is back after an outage. The caller then dials its peers at once.

        An outage that ended before the call does not count. If there is none, never return.
        """

    async def refresh(self) -> None:
        """Make sure that peers can find us. Call it when a peer seems unable to dial us.

        Cheap to call often, does not wait and never raises. Cuts a stream only if nothing less helps.
        """
