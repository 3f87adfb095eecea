"""One of two parties of `benchmarks.recovery`: a link over a tor of its own, over which both send a tick all the time.

Usage: recovery_party.py TESTNET_DIR REGION, and on standard input a line {"seed": HEX, "peer": ONION}, then one
question per line; each is answered by one line of JSON on standard output. Knows links and tor, and nothing of what
breaks them.
"""

from __future__ import annotations

import asyncio
import bisect
import json
import struct
import sys
import time
from pathlib import Path

from benchmarks.tors import party_network
from onionmpc.errors import OnionMPCError
from onionmpc.identity import Identity, parse_onion
from onionmpc.mesh.door import Door
from onionmpc.mesh.mesh import Mesh, MeshLink
from onionmpc.mesh.redial import DialFailed
from onionmpc.mesh.runner import LinkRunner
from onionmpc.mesh.secure import SecureStream
from onionmpc.tasks import BackgroundTasks
from onionmpc.wire.handshake import NO_PSK
from onionmpc.wire.link import Event, ProgramBytes

TICK_S = 0.02
# CLOCK_MONOTONIC, which all processes of a machine share.
TICK = struct.Struct(">d")
DIAL_TIMEOUT_S = 60.0
PATIENCE_S = 600.0


class Ticks:
    """Observer of a mesh with one link: keeps when which tick arrived."""

    def __init__(self) -> None:
        self.runner: LinkRunner | None = None
        self.sent_s: list[float] = []
        self.arrived_s: list[float] = []
        self.changed = asyncio.Event()
        self._rest = b""

    def link_up(self, _party: int, link: MeshLink, _nonce: bytes) -> None:
        """Begin to tick."""
        self.runner = link.runner
        self.changed.set()

    def link_event(self, _party: int, event: Event) -> None:
        """Take ticks."""
        if isinstance(event, ProgramBytes) and self.runner is not None:
            self.runner.consume(len(event.payload))
            self._rest += event.payload
            whole = len(self._rest) // TICK.size * TICK.size
            for (sent_s,) in TICK.iter_unpack(self._rest[:whole]):
                self.sent_s.append(sent_s)
                self.arrived_s.append(time.monotonic())
            self._rest = self._rest[whole:]
            self.changed.set()

    def stream_up(self, _party: int, _secure: SecureStream, *, dialled: bool) -> None:
        """Nothing to note."""

    def stream_down(self, _party: int, _secure: SecureStream) -> None:
        """Nothing to note."""

    def link_raced(self, _party: int, streams: int) -> None:
        """Nothing to note: this link has one stream."""

    def dial_failed(self, _party: int, failure: DialFailed) -> None:
        """Say it where a person may look."""
        print(f"dial failed: {failure.reason}", file=sys.stderr)

    def link_broken(self, _party: int, reason: str) -> None:
        """Nothing to note."""

    def link_quiet(self, _party: int, seconds: float) -> None:
        """Nothing to note."""

    def link_resumed(self, _party: int, seconds: float) -> None:
        """Nothing to note."""

    def link_down(self, _party: int, error: OnionMPCError) -> None:
        """End: there is nothing to measure any more."""
        print(f"the link ended: {error.message}", file=sys.stderr)

    async def first_after(self, since_s: float) -> float:
        """Return when the first tick arrived that was sent after `since_s`."""
        while not self.sent_s or self.sent_s[-1] <= since_s:
            self.changed.clear()
            await self.changed.wait()
        return self.arrived_s[bisect.bisect_right(self.sent_s, since_s)]


async def tick(ticks: Ticks) -> None:
    """Send a tick every TICK_S, for as long as the window has room."""
    while True:
        if ticks.runner is not None and ticks.runner.link.room() > TICK.size:
            await ticks.runner.send_data(TICK.pack(time.monotonic()))
        await asyncio.sleep(TICK_S)


def say(**values: str | float) -> None:
    """Answer."""
    print(json.dumps(values), flush=True)


async def run(directory: Path, region: str) -> None:
    """Be a party until standard input ends."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    given = json.loads(await reader.readline())
    identity, peer = Identity(bytes.fromhex(given["seed"])), parse_onion(given["peer"])
    nonce = identity.public_key[:16]
    ticks = Ticks()
    async with party_network(directory, region, identity, profile=identity.onion[:16]) as network:
        mesh = Mesh(network, identity, sorted([identity.onion, peer]), NO_PSK, nonce, ticks, PATIENCE_S)
        door = Door(identity, nonce)
        door.gatekeeper = mesh
        async with mesh.running(PATIENCE_S), BackgroundTasks(network.listen(door.serve), tick(ticks)):
            while line := await reader.readline():
                question = json.loads(line)
                if question["ask"] == "dial":
                    before_s = time.monotonic()
                    try:
                        stream = await network.dial(peer, DIAL_TIMEOUT_S)
                    except OnionMPCError as error:
                        say(failed=error.message)
                    else:
                        say(seconds=time.monotonic() - before_s)
                        await stream.close()
                else:
                    say(arrived_s=await ticks.first_after(question["after"]))


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), sys.argv[2]))
