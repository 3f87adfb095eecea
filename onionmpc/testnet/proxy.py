"""Gateways that delay every byte by the latency between two regions.

A tor sends all its connections to relays through its gateway (TCPProxy haproxy, which costs one line and no round
trip). So the gateway knows the dialler's region and, from that line, the target. A proxy in front of each relay would
not know who dials: tor ignores OutboundBindAddress for loopback addresses.

Knows TCP and latencies. Does not know tor's cells, processes or files.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from types import TracebackType
from typing import Self

from onionmpc.tasks import show_failure
from onionmpc.testnet.delay_line import DelayLine

# The most that one direction of a connection holds. At 128 ms, the latency of the widest ocean, this allows 8 MB/s:
# more than the whole network carries.
HELD_LIMIT_BYTES = 2**20
# The longest line of the protocol, "PROXY UNKNOWN" with two IPv6 addresses (HAProxy's PROXY protocol, section 2.1).
MAX_HEADER_BYTES = 107
CONNECT_TIMEOUT_S = 10.0

RelayAddress = tuple[str, int]


class Side(asyncio.Protocol):
    """One socket of a connection. Its line carries the bytes that it reads to the far side.

    asyncio sets TCP_NODELAY on every TCP transport, so small messages are not delayed any further.
    """

    def __init__(self, gateway: Gateway, line: DelayLine) -> None:
        self._gateway = gateway
        self._loop = asyncio.get_running_loop()
        self._line = line
        self._far: Side | None = None
        self.transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._read_ended = False
        self.lost = False
        self._line_stopped = False
        self.far_is_full = False
        self.reading_paused = False

    @property
    def held_bytes(self) -> int:
        """How many bytes from this side are under way."""
        return self._line.held_bytes

    def join(self, far: Side) -> None:
        """Make the two sides one connection."""
        self._far, far._far = far, self
        for one, other in ((self, far), (far, self)):
            if other.lost:
                one.drop_line()
            one.arm()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 (narrows asyncio's loose type)
        self.transport = transport
        self._gateway.sides.add(self)

    def data_received(self, data: bytes) -> None:
        if self._line_stopped:
            return
        self._line.push(data, self._loop.time())
        # Back-pressure: if the far side is slow, the near side must stop, or our memory fills.
        if self._line.held_bytes > HELD_LIMIT_BYTES and self.transport and not self.reading_paused:
            self.transport.pause_reading()
            self.reading_paused = True
        self.arm()

    def eof_received(self) -> bool:
        self._read_ended = True
        self._line.end(self._loop.time())
        self.arm()
        return True  # the other direction stays open

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio's signature)
        self._gateway.sides.discard(self)
        self.lost = True
        self._line.end(self._loop.time())
        if self._far is None:
            return
        self._far.drop_line()
        if self._line_stopped:
            self._far.close()
        else:
            self.arm()

    def pause_writing(self) -> None:
        if self._far is not None:
            self._far.far_is_full = True

    def resume_writing(self) -> None:
        if self._far is not None:
            self._far.far_is_full = False
            self._far.arm()

    def close(self) -> None:
        """Send what was written, then close the socket."""
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Close the socket and drop all bytes."""
        self.drop_line()
        if self.transport is not None:
            self.transport.abort()

    def arm(self) -> None:
        """Set the timer for the next chunk, unless the far side cannot take it."""
        next_s = self._line.next_s()
        if self._timer or self._line_stopped or self.far_is_full or self._far is None or next_s is None:
            return
        self._timer = self._loop.call_at(next_s, self._release)

    def _release(self) -> None:
        self._timer = None
        if self._far is None or self._far.transport is None:
            return
        now_s = self._loop.time()
        if data := self._line.pop_due(now_s):
            self._far.transport.write(data)
        if self.reading_paused and self.transport and self._line.held_bytes <= HELD_LIMIT_BYTES // 2:
            self.reading_paused = False
            self.transport.resume_reading()
        if self._line.ended(now_s):
            self._line_stopped = True
            self._far.end_writing(lost=self.lost)
        self.arm()

    def end_writing(self, *, lost: bool) -> None:
        """Handle the end of the line into this side: the far socket is lost, or sends nothing more."""
        if self.transport is None:
            return
        if lost or self._read_ended:
            self.transport.close()
        elif self.transport.can_write_eof():
            # A reset may have arrived that the loop has not seen yet. In that case nobody is left to read the end.
            with contextlib.suppress(OSError):
                self.transport.write_eof()

    def drop_line(self) -> None:
        """Drop the bytes that are under way from this side: there is no far side to take them."""
        self._line_stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class DiallingSide(Side):
    """The side of the tor that dials. Its first line names the relay to connect to."""

    def __init__(self, gateway: Gateway) -> None:
        # The real line is set when the header has arrived: only then both regions are known.
        super().__init__(gateway, DelayLine(0.0))
        self._header: bytes | None = b""

    def data_received(self, data: bytes) -> None:
        if self._header is None:
            super().data_received(data)
            return
        self._header += data
        header, end, rest = self._header.partition(b"\r\n")
        if not end and len(header) < MAX_HEADER_BYTES:
            return
        self._header = None
        target = parse_header(header) if end else None
        # Only relays of this network: a gateway must not be an open proxy to other services of this machine.
        one_way_s = self._gateway.one_way_s(target) if target else None
        if target is None or one_way_s is None:
            self.abort()
            return
        # A real TCP connection takes a round trip to open, and bytes that tor sends at once wait for it.
        self._line = DelayLine(one_way_s, self._loop.time() + 2 * one_way_s)
        self._gateway.connect(self, target, DelayLine(one_way_s))
        if rest:
            super().data_received(rest)


def parse_header(header: bytes) -> RelayAddress | None:
    """Return the target of a line of the PROXY protocol, version 1; None if it is not such a line."""
    match header.split(b" "):
        case [b"PROXY", b"TCP4", _, address, _, port] if port.isdigit():
            return address.decode("ascii", "replace"), int(port)
    return None


class Gateway:
    """The way out of one tor, or of all tors in one place.

    Args:
        address: the loopback address to listen on, and to dial from: relays see it as the dialler's address.
        one_way_s: returns the latency to a relay, in seconds; None if the target is not a relay of this network.
    """

    def __init__(self, address: str, one_way_s: Callable[[RelayAddress], float | None]) -> None:
        self.address = address
        self.port = 0
        self.one_way_s = one_way_s
        self.sides: set[Side] = set()
        self._server: asyncio.Server | None = None
        self._dials: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        """Listen, on a port that the kernel picks."""
        self._server = await asyncio.get_running_loop().create_server(lambda: DiallingSide(self), self.address, 0)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening and cut all connections."""
        if self._server is not None:
            self._server.close()
        self.drop_all()
        if self._dials:
            await asyncio.wait(self._dials)
        # In this turn of the loop, the transports close their sockets.
        await asyncio.sleep(0)

    def drop_all(self) -> None:
        """Drop all connections."""
        for task in self._dials:
            task.cancel()
        for side in tuple(self.sides):
            side.abort()

    def connect(self, dialler: Side, target: RelayAddress, back: DelayLine) -> None:
        """Dial a relay for a dialler."""
        task = asyncio.create_task(self._connect(dialler, target, back))
        self._dials.add(task)
        task.add_done_callback(self._dials.discard)
        task.add_done_callback(show_failure)

    async def _connect(self, dialler: Side, target: RelayAddress, back: DelayLine) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, relay = await loop.create_connection(lambda: Side(self, back), *target, local_addr=(self.address, 0))
        except (OSError, TimeoutError):
            # The relay is gone. Close the dialler's connection, as the relay's machine would.
            dialler.abort()
            return
        dialler.join(relay)
