"""Links and raw streams side by side: ends that send and receive bytes, and how long that takes.

Knows how to put a link on a stream. Does not know levels, sessions or what is compared.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from unittest.mock import patch

from onionmpc.identity import Identity, Onion
from onionmpc.mesh.door import Door
from onionmpc.mesh.network import Network, Stream
from onionmpc.mesh.runner import LinkRunner
from onionmpc.mesh.secure import SecureStream, dial
from onionmpc.wire.handshake import NO_PSK, Answer, Hello, Purpose
from onionmpc.wire.link import Event, ProgramBytes

CHUNK_BYTES = 2**16
SMALL_BYTES = 64  # a message of a few shares
DIAL_TIMEOUT_S = 30.0
# The first byte of a stream says that what follows is raw, or at what rate the link on it sends.
RAW = 255


class End(Protocol):
    """One end of what carries bytes both ways."""

    async def send(self, size: int) -> None:
        """Send so many bytes."""

    async def receive(self, size: int) -> None:
        """Wait until so many more bytes have come."""


async def time_bulk(near: End, far: End, size: int) -> float:
    """Return the seconds until one end has all of these bytes, and the other knows."""

    async def answer() -> None:
        await far.receive(size)
        await far.send(1)

    before_s = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(answer())
        await near.send(size)
        await near.receive(1)
    return time.monotonic() - before_s


async def time_small(near: End, far: End, turns: int) -> float:
    """Return the seconds that small messages take there and back, one after the other."""

    async def answer() -> None:
        for _ in range(turns):
            await far.receive(SMALL_BYTES)
            await far.send(SMALL_BYTES)

    before_s = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(answer())
        for _ in range(turns):
            await ping(near)
    return time.monotonic() - before_s


async def ping(end: End) -> float:
    """Send a small message to an end that echoes; return the seconds until it is back."""
    before_s = time.monotonic()
    await end.send(SMALL_BYTES)
    await end.receive(SMALL_BYTES)
    return time.monotonic() - before_s


async def echo(end: End) -> None:
    """Send small messages back."""
    while True:
        await end.receive(SMALL_BYTES)
        await end.send(SMALL_BYTES)


@dataclass(frozen=True, slots=True)
class RawEnd:
    """A stream as it is."""

    stream: Stream

    async def send(self, size: int) -> None:
        """See `End`."""
        for _ in range(size // CHUNK_BYTES or 1):
            self.stream.writer.write(bytes(min(size, CHUNK_BYTES)))
            await self.stream.writer.drain()

    async def receive(self, size: int) -> None:
        """See `End`."""
        for _ in range(size // CHUNK_BYTES or 1):
            await self.stream.reader.readexactly(min(size, CHUNK_BYTES))


class LinkEnd:
    """An end of a link, and how much was written to its stream.

    Args:
        rate: records a second, padded; 0 to send when there is something to send.
    """

    def __init__(self, stream: Stream, rate: int = 0) -> None:
        self.written_bytes = 0
        self.runner = LinkRunner(self._take, rate=rate)
        self._received_bytes = 0
        self._wanted_bytes = 0
        self._changed = asyncio.Event()
        write = stream.writer.write

        def counted(data: bytes) -> None:
            self.written_bytes += len(data)
            write(data)

        stream.writer.write = counted  # type: ignore[method-assign,assignment]

    def _take(self, event: Event) -> None:
        if isinstance(event, ProgramBytes):
            self._received_bytes += len(event.payload)
            self.runner.consume(len(event.payload))
            self._changed.set()

    async def send(self, size: int) -> None:
        """See `End`."""
        for _ in range(size // CHUNK_BYTES or 1):
            await self.runner.send_data(bytes(min(size, CHUNK_BYTES)))

    async def receive(self, size: int) -> None:
        """See `End`."""
        self._wanted_bytes += size
        while self._received_bytes < self._wanted_bytes:
            self._changed.clear()
            await self._changed.wait()


@contextlib.asynccontextmanager
async def carried(end: LinkEnd, secure: SecureStream) -> AsyncIterator[None]:
    """Let a stream carry a link meanwhile; both end with the context."""
    carrying = asyncio.create_task(end.runner.carry(secure))
    try:
        yield
    finally:
        end.runner.close()
        carrying.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await carrying
        await secure.close()


@dataclass(frozen=True, slots=True)
class Announced:
    """A network whose streams say with their first byte what they are.

    Attributes:
        user: of tor's SOCKS port: streams of one user are on one circuit. None for a circuit each.
    """

    network: Network
    first: int = 0
    user: str | None = None

    async def dial(self, onion: Onion, timeout_s: float) -> Stream:
        """Open a stream."""
        with contextlib.ExitStack() as stack:
            if (user := self.user) is not None:
                stack.enter_context(patch("onionmpc.tor.dialling.dial.secrets.token_hex", lambda _size: user))
            stream = await self.network.dial(onion, timeout_s)
        stream.writer.write(bytes([self.first]))
        return stream

    @contextlib.asynccontextmanager
    async def link(self, identity: Identity, onion: Onion) -> AsyncIterator[tuple[LinkEnd, Stream]]:
        """A link to a party that listens; its end, and the stream that carries it.

        Raises:
            OnionMPCError: there is no circuit.
        """
        hello = Hello(identity.public_key, Purpose.MESH, bytes(16))
        _, secure = await dial(
            self,  # type: ignore[arg-type]
            identity,
            onion,
            NO_PSK,
            hello,
            timeout_s=DIAL_TIMEOUT_S,
        )
        end = LinkEnd(secure.stream, self.first)
        async with carried(end, secure):
            yield end, secure.stream


@dataclass(slots=True)
class Listener:
    """A party that lets everyone in.

    Attributes:
        serve_link: called with the end of each link that comes, and cancelled when the other end leaves.
        raws: the streams that come raw.
    """

    identity: Identity
    network: Network
    serve_link: Callable[[LinkEnd], Awaitable[None]]
    raws: asyncio.Queue[Stream] = field(default_factory=asyncio.Queue)

    async def listen(self) -> None:
        """Let others in from now on."""
        await self.network.listen(self._serve)

    async def _serve(self, stream: Stream) -> None:
        try:
            (first,) = await stream.reader.readexactly(1)
        except (OSError, asyncio.IncompleteReadError):
            return
        if first == RAW:
            self.raws.put_nowait(stream)
            await asyncio.Event().wait()
            return
        door = Door(self.identity, bytes(16))
        door.gatekeeper = Guest(LinkEnd(stream, first), self.serve_link)
        await door.serve(stream)


@dataclass(frozen=True, slots=True)
class Guest:
    """Gatekeeper of a door for one stream, which lets everyone in."""

    end: LinkEnd
    serve_link: Callable[[LinkEnd], Awaitable[None]]

    def psks_for(self, _static_key: bytes) -> Sequence[bytes]:
        """Anyone may come."""
        return [NO_PSK]

    def judge(self, _hello: Hello, _psk: bytes) -> Answer:
        """Anyone may come."""
        return Answer.ACCEPTED

    def offsets_for(self, _hello: Hello) -> tuple[int, int]:
        """Nothing has come."""
        return 0, 0

    async def welcome(self, visitor: SecureStream, _hello: Hello, _psk: bytes) -> None:
        """Carry the link until the other end closes it."""
        serving = asyncio.ensure_future(self.serve_link(self.end))
        try:
            await self.end.runner.carry(visitor)
        finally:
            self.end.runner.close()
            serving.cancel()
