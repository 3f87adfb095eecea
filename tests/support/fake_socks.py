"""A scripted SOCKS port of tor."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from onionmpc.files import socket_directory
from onionmpc.mesh.listener import listening_unix
from onionmpc.mesh.network import Stream
from onionmpc.tasks import cancel
from onionmpc.tor.endpoint import Endpoint

SUCCEEDED = bytes([5, 0, 0, 1, 0, 0, 0, 0, 0, 0])
Serve = Callable[[Stream], Awaitable[None]]


class FakeSocks:
    """Answers a connection request with fixed bytes, then echoes. Records the request."""

    def __init__(self, answer: bytes, *, stays: bool = False) -> None:
        self.answer = answer
        self.stays = stays or answer == SUCCEEDED
        self.logins: list[bytes] = []
        self.requests: list[bytes] = []

    async def serve(self, stream: Stream) -> None:
        reader, writer = stream.reader, stream.writer
        _, methods = await reader.readexactly(2)
        assert 2 in await reader.readexactly(methods)
        writer.write(b"\x05\x02")
        _, length = await reader.readexactly(2)
        name = await reader.readexactly(length)
        password = await reader.readexactly((await reader.readexactly(1))[0])
        self.logins.append(name + b":" + password)
        writer.write(b"\x01\x00")
        head = await reader.readexactly(5)
        self.requests.append(head + await reader.readexactly(head[4] + 2))
        writer.write(self.answer)
        if self.stays:
            await self.carry(stream)
        await writer.drain()
        writer.close()

    async def carry(self, stream: Stream) -> None:
        """Echo."""
        while more := await stream.reader.read(100):
            stream.writer.write(more)


class CarryingSocks(FakeSocks):
    """Carries each stream to one port of this machine, whatever host it is for."""

    def __init__(self, port: int) -> None:
        super().__init__(SUCCEEDED)
        self._port = port

    async def carry(self, stream: Stream) -> None:
        """Carry the bytes of both directions, until one end closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        with contextlib.closing(writer):
            ways = [
                asyncio.create_task(_copy(stream.reader, writer)),
                asyncio.create_task(_copy(reader, stream.writer)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                await cancel(*ways)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while more := await reader.read(2**16):
            writer.write(more)
            await writer.drain()


@contextlib.asynccontextmanager
async def listening(serve: Serve) -> AsyncIterator[Endpoint]:
    with socket_directory() as directory:
        path = directory / "socks"
        async with listening_unix(path, serve):
            yield Endpoint(path=str(path))
