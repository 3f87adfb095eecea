"""Round trips of a small message over links between two parties, each link on a circuit of its own.

Knows how to put a link on a stream, have one end echo, and read how many relays each side built. Does not know levels
by name, nor print.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from dataclasses import dataclass

from benchmarks.link_cost import SMALL_BYTES, End, OpenHouse
from onionmpc.identity import Identity, Onion
from onionmpc.mesh.door import Door
from onionmpc.mesh.network import Network, Stream
from onionmpc.mesh.secure import SecureStream, dial
from onionmpc.wire.handshake import NO_PSK, Hello, Purpose

DIAL_TIMEOUT_S = 30.0
PINGS = 5


@dataclass(frozen=True, slots=True)
class RoundTrips:
    """What one circuit took.

    Attributes:
        own, accepted: relays that the dialler's and the listener's tor counted, the rendezvous point in both; None
            where there is no tor.
        median_s: of PINGS messages there and back.
    """

    own: int | None
    accepted: int | None
    median_s: float


class Echo:
    """A party that listens: keeps each link that comes, and sends back what comes over it.

    The first byte of a stream says at what rate its link is to send, as the agreement does in a session.
    """

    def __init__(self, identity: Identity, network: Network) -> None:
        self.identity = identity
        self.network = network

    async def listen(self) -> None:
        """Let others in from now on."""
        await self.network.listen(self.serve)

    async def serve(self, stream: Stream) -> None:
        """Serve one stream to its end."""
        try:
            (rate,) = await stream.reader.readexactly(1)
        except (OSError, asyncio.IncompleteReadError):
            return
        door = Door(self.identity, bytes(16))
        door.keeper = Guest(rate)
        await door.serve(stream)


class Guest(OpenHouse):
    """Keeper of a door for one stream."""

    def __init__(self, rate: int) -> None:
        self._rate = rate

    async def welcome(self, visitor: SecureStream, _hello: Hello, _psk: bytes) -> None:
        """Echo until the other end leaves."""
        end = End(self._rate)
        echoing = asyncio.create_task(_echo(end))
        try:
            # The other end closes its link, which ends this one.
            await end.runner.carry(visitor)
        finally:
            end.runner.close()
            echoing.cancel()


class Announced:
    """A network whose streams begin with the rate of their link."""

    def __init__(self, network: Network, rate: int) -> None:
        self._network = network
        self._rate = rate

    async def dial(self, onion: Onion, timeout_s: float) -> Stream:
        """Open a stream."""
        stream = await self._network.dial(onion, timeout_s)
        stream.writer.write(bytes([self._rate]))
        return stream


async def time_round_trips(dialler: Echo, listener: Echo, rate: int = 0) -> RoundTrips:
    """Dial a circuit, send PINGS messages there and back, one after the other, and hang up.

    Raises:
        OnionMPCError: there is no circuit.
        TimeoutError: it lost what was sent.
    """
    network = Announced(dialler.network, rate)
    hello = Hello(dialler.identity.public_key, Purpose.MESH, bytes(16))
    _, secure = await dial(
        network,  # type: ignore[arg-type]
        dialler.identity,
        listener.identity.onion,
        NO_PSK,
        hello,
        timeout_s=DIAL_TIMEOUT_S,
    )
    end = End(rate)
    carrying = asyncio.create_task(end.runner.carry(secure))
    try:
        path = secure.stream.path
        accepted = None if path is None else await listener.network.accepted_path(path.rendezvous)
        async with asyncio.timeout(DIAL_TIMEOUT_S):
            await _ping(end)  # what the handshake left to do
            trips_s = [await _ping(end) for _ in range(PINGS)]
    finally:
        end.runner.close()
        carrying.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await carrying
        await secure.close()
    return RoundTrips(path.relays if path else None, accepted.relays if accepted else None, statistics.median(trips_s))


async def _ping(end: End) -> float:
    back = end.received_bytes + SMALL_BYTES
    before_s = time.monotonic()
    await end.send(SMALL_BYTES)
    await end.until(back)
    return time.monotonic() - before_s


async def _echo(end: End) -> None:
    echoed = 0
    while True:
        await end.until(echoed + SMALL_BYTES)
        echoed += SMALL_BYTES
        await end.send(SMALL_BYTES)
