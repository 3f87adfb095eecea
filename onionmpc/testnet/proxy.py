"""Gateways that hold every byte back by the time it would need between two regions.

A gateway is the one way out of a tor: tor sends all its connections to other relays through it (TCPProxy haproxy,
which costs one line and no round trip), so the gateway knows the region of the dialler and, by the line, the relay
that is meant. tor's OutboundBindAddress cannot tell a relay who dials: tor ignores it for loopback addresses.

Being the one way out, it is also where a party's network can be taken away: cut, as by a router without power, or
stalled, as by a path that swallows packets.

Knows TCP and latencies. Does not know tor's cells, processes or files.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
from collections.abc import Callable
from types import TracebackType
from typing import Self

from onionmpc.tasks import show_failure
from onionmpc.testnet.delay_line import DelayLine

# What one direction of one connection may hold: 1 MiB is 8 MB/s at the 128 ms of the widest ocean, above what
# the whole network carries.
HELD_LIMIT_BYTES = 2**20
# Longest line of the protocol, "PROXY UNKNOWN" with two IPv6 addresses, by the specification of haproxy, section 2.1.
MAX_HEADER_BYTES = 107
CONNECT_TIMEOUT_S = 10.0

RelayAddress = tuple[str, int]


class Traffic(enum.Enum):
    """What becomes of bytes at a gateway."""

    OPEN = "they travel"
    CUT = "connections are dropped, new ones at once"
    STALLED = "nothing arrives, nobody is told"


class _Side(asyncio.Protocol):
    """One socket of a connection; its line carries what it reads to the far side.

    asyncio sets TCP_NODELAY on every TCP transport: no small message waits for an acknowledgement here.
    """

    def __init__(self, gateway: Gateway, line: DelayLine, *, outward: bool = False) -> None:
        self._gateway = gateway
        self._outward = outward
        self._loop = asyncio.get_running_loop()
        self._line = line
        self._far: _Side | None = None
        self.transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._read_ended = False
        self.lost = False
        self._line_stopped = False
        self.far_is_full = False
        self.reading_paused = False

    @property
    def held_bytes(self) -> int:
        """How much of what this side has read is under way."""
        return self._line.held_bytes

    def join(self, far: _Side) -> None:
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
        if self._gateway.traffic is Traffic.CUT:
            self.abort()

    def data_received(self, data: bytes) -> None:
        if self._line_stopped:
            return
        self._gateway.on_bytes(len(data), self._outward)
        self._line.push(data, self._loop.time())
        # Back-pressure: what the far side cannot take must stop the near one, not fill our memory.
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
        """Close the socket once what was written to it is sent."""
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Close the socket and forget everything."""
        self.drop_line()
        if self.transport is not None:
            self.transport.abort()

    def arm(self) -> None:
        """Wake up when the next chunk arrives at the far side, unless it cannot take any."""
        next_s = self._line.next_s()
        if self._timer or self._line_stopped or self.far_is_full or self._far is None or next_s is None:
            return
        if self._gateway.traffic is Traffic.STALLED:
            return
        self._timer = self._loop.call_at(next_s, self._release)

    def arm_both(self) -> None:
        """Wake up for what is under way in either direction; the far side may be lost, with an end still to tell."""
        self.arm()
        if self._far is not None:
            self._far.arm()

    def _release(self) -> None:
        self._timer = None
        if self._far is None or self._far.transport is None or self._gateway.traffic is Traffic.STALLED:
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
        """The line into this side has ended, because the far socket is lost or because it sends no more."""
        if self.transport is None:
            return
        if lost or self._read_ended:
            self.transport.close()
        elif self.transport.can_write_eof():
            # A reset that the loop has not seen yet may have come first: then there is nobody left to tell.
            with contextlib.suppress(OSError):
                self.transport.write_eof()

    def drop_line(self) -> None:
        """Forget what is under way from here: nobody is there to take it."""
        self._line_stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class DiallingSide(_Side):
    """The side of the tor that dials: its first line says which relay it means."""

    def __init__(self, gateway: Gateway) -> None:
        # The line is set when the header is read: only then are both regions known.
        super().__init__(gateway, DelayLine(0.0), outward=True)
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
        # Relays of this network and nothing else: a gateway is no open proxy to the machine's other services.
        one_way_s = self._gateway.one_way_s(target) if target else None
        if target is None or one_way_s is None:
            self.abort()
            return
        # A connection takes a round trip to open, and what tor sends at once waits for it.
        self._line = DelayLine(one_way_s, self._loop.time() + 2 * one_way_s)
        self._gateway.connect(self, target, DelayLine(one_way_s))
        if rest:
            super().data_received(rest)


def parse_header(header: bytes) -> RelayAddress | None:
    """Return the address and port that a line of the PROXY protocol, version 1, asks for; None if it is none."""
    match header.split(b" "):
        case [b"PROXY", b"TCP4", _, address, _, port] if port.isdigit():
            return address.decode("ascii", "replace"), int(port)
    return None


class Gateway:
    """The way out of one tor, or of all that stand in one place.

    Args:
        address: loopback address to listen on, and to dial from: relays see it as the dialler's.
        one_way_s: the latency from here to a relay, in seconds; None for what is no relay of this network.

    Attributes:
        traffic: what becomes of bytes now.
        on_bytes: called with the size of each piece that comes by, and whether it is on its way out; sees what
            somebody at this place's provider would.
    """

    def __init__(self, address: str, one_way_s: Callable[[RelayAddress], float | None]) -> None:
        self.address = address
        self.port = 0
        self.one_way_s = one_way_s
        self.traffic = Traffic.OPEN
        self.on_bytes: Callable[[int, bool], None] = lambda _size, _outward: None
        self.sides: set[_Side] = set()
        self._server: asyncio.Server | None = None
        self._dials: set[asyncio.Task[None]] = set()
        self._may_dial = asyncio.Event()
        self._may_dial.set()

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
        self.cut()
        if self._dials:
            await asyncio.wait(self._dials)
        # One turn of the loop, in which the transports close their sockets.
        await asyncio.sleep(0)

    def cut(self) -> None:
        """Drop all connections, and each new one as soon as it is made, until `mend`."""
        self._go(Traffic.CUT)
        for task in self._dials:
            task.cancel()
        for side in tuple(self.sides):
            side.abort()

    def stall(self) -> None:
        """Deliver nothing, neither bytes nor ends, until `mend`; new connections are taken, and lead nowhere yet.

        What comes meanwhile is held, as much as one direction may hold, and arrives late: TCP would send it again.
        """
        self._go(Traffic.STALLED)

    def mend(self) -> None:
        """Let bytes travel again."""
        self._go(Traffic.OPEN)
        for side in self.sides:
            side.arm_both()

    def _go(self, traffic: Traffic) -> None:
        self.traffic = traffic
        if traffic is Traffic.STALLED:
            self._may_dial.clear()
        else:
            self._may_dial.set()

    def connect(self, dialler: _Side, target: RelayAddress, back: DelayLine) -> None:
        """Dial a relay for a dialler."""
        task = asyncio.create_task(self._connect(dialler, target, back))
        self._dials.add(task)
        task.add_done_callback(self._dials.discard)
        task.add_done_callback(show_failure)

    async def _connect(self, dialler: _Side, target: RelayAddress, back: DelayLine) -> None:
        loop = asyncio.get_running_loop()
        await self._may_dial.wait()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, relay = await loop.create_connection(
                    lambda: _Side(self, back), *target, local_addr=(self.address, 0)
                )
        except (OSError, TimeoutError):
            # The relay is gone: the dialler sees its connection closed, as it would without us.
            dialler.abort()
            return
        dialler.join(relay)
