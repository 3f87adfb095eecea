"""Two parties of `benchmarks.recovery`, with a tor each: over their link both send a tick all the time.

Knows links and tor, and when which tick arrived. Does not know what breaks them.
"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import secrets
import struct
import time
from collections.abc import AsyncIterator
from pathlib import Path

from benchmarks.common import say
from benchmarks.tors import party_network
from onionmpc.errors import OnionMPCError, TorFailed
from onionmpc.identity import SEED_BYTES, Identity, Onion
from onionmpc.mesh.door import Door
from onionmpc.mesh.mesh import Mesh, MeshLink
from onionmpc.mesh.redial import DialFailed
from onionmpc.mesh.runner import LinkRunner
from onionmpc.mesh.secure import SecureStream
from onionmpc.tasks import BackgroundTasks
from onionmpc.tor.control.connection import Control
from onionmpc.tor.network import TorNetwork
from onionmpc.wire.handshake import NO_PSK
from onionmpc.wire.link import Event, ProgramBytes

TICK_S = 0.02
TICK = struct.Struct(">d")
PATIENCE_S = 600.0


class Party:
    """A party with one link; observer of its mesh."""

    def __init__(self, identity: Identity, network: TorNetwork) -> None:
        self.identity = identity
        self.network = network
        self._runner: LinkRunner | None = None
        self._sent_s: list[float] = []
        self._arrived_s: list[float] = []
        self._changed = asyncio.Event()
        self._rest = b""

    @property
    def control(self) -> Control:
        """The control connection of its tor.

        Raises:
            TorFailed: it has no tor now.
        """
        if self.network.instance is None:
            raise TorFailed("tor is away")
        return self.network.instance.control

    async def tick(self) -> None:
        """Send a tick every TICK_S, for as long as the window has room."""
        while True:
            if self._runner is not None and self._runner.link.room() > TICK.size:
                await self._runner.send_data(TICK.pack(time.monotonic()))
            await asyncio.sleep(TICK_S)

    async def first_after(self, since_s: float) -> float:
        """Return when the first tick arrived that was sent after `since_s`."""
        while not self._sent_s or self._sent_s[-1] <= since_s:
            self._changed.clear()
            await self._changed.wait()
        return self._arrived_s[bisect.bisect_right(self._sent_s, since_s)]

    def link_up(self, _party: int, link: MeshLink, _nonce: bytes) -> None:
        """Begin to tick."""
        self._runner = link.runner

    def link_event(self, _party: int, event: Event) -> None:
        """Take ticks."""
        if isinstance(event, ProgramBytes) and self._runner is not None:
            self._runner.consume(len(event.payload))
            self._rest += event.payload
            whole = len(self._rest) // TICK.size * TICK.size
            for (sent_s,) in TICK.iter_unpack(self._rest[:whole]):
                self._sent_s.append(sent_s)
                self._arrived_s.append(time.monotonic())
            self._rest = self._rest[whole:]
            self._changed.set()

    def dial_failed(self, _party: int, failure: DialFailed) -> None:
        """Say it where a person may look."""
        say(f"dial failed: {failure.reason}")

    def link_down(self, _party: int, error: OnionMPCError) -> None:
        """Say that there is nothing to measure any more."""
        say(f"the link ended: {error.message}")

    def stream_up(self, _party: int, _secure: SecureStream, *, dialled: bool) -> None:
        """Nothing to note."""

    def stream_down(self, _party: int, _secure: SecureStream) -> None:
        """Nothing to note."""

    def link_raced(self, _party: int, streams: int) -> None:
        """Nothing to note: this link has one stream."""

    def link_broken(self, _party: int, reason: str) -> None:
        """Nothing to note."""

    def link_quiet(self, _party: int, seconds: float) -> None:
        """Nothing to note."""

    def link_resumed(self, _party: int, seconds: float) -> None:
        """Nothing to note."""


def profile_of(identity: Identity) -> str:
    """Return the name of the profile of a party's tor."""
    return identity.onion[:16]


@contextlib.asynccontextmanager
async def ticking(directory: Path, region: str, identity: Identity, peer: Onion) -> AsyncIterator[Party]:
    """A party that begins to tick as soon as its link is up."""
    nonce = identity.public_key[:16]
    async with party_network(directory, region, identity, profile=profile_of(identity)) as network:
        party = Party(identity, network)
        mesh = Mesh(network, identity, sorted([identity.onion, peer]), NO_PSK, nonce, party, PATIENCE_S)
        door = Door(identity, nonce)
        door.gatekeeper = mesh
        async with mesh.running(PATIENCE_S), BackgroundTasks(network.listen(door.serve), party.tick()):
            yield party


@contextlib.asynccontextmanager
async def two_parties(directory: Path, regions: tuple[str, str]) -> AsyncIterator[tuple[Party, Party]]:
    """Two parties whose link is up, the one that dials first."""
    low, high = sorted((Identity(secrets.token_bytes(SEED_BYTES)) for _ in range(2)), key=lambda each: each.onion)
    async with (
        ticking(directory, regions[0], low, high.onion) as dialler,
        ticking(directory, regions[1], high, low.onion) as listener,
    ):
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(dialler.first_after(0.0), listener.first_after(0.0))
        yield dialler, listener
