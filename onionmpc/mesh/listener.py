"""Accepts streams and serves each in its own task.

Does not know who dials in or what the bytes mean. A stream belongs to the `on_stream` that it was given to: it is cut
here only if `on_stream` raises, or when the listener closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

from onionmpc.files import FILE_MODE
from onionmpc.mesh.network import OnStream, Stream
from onionmpc.tasks import show_failure

# How many connections may wait in the kernel, and how many asyncio accepts in one turn of its loop. The second is
# small: an accepted connection takes a descriptor some turns before our code sees it and can cut another one.
QUEUE = 100
ACCEPTED_AT_ONCE = 8


class StreamServer:
    """Serves accepted streams until it is closed; made by `listening`."""

    def __init__(self, on_stream: OnStream) -> None:
        self._on_stream = on_stream
        self._serving: set[asyncio.Task[None]] = set()
        self._streams: set[Stream] = set()
        self._closed = False

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one connection. Not a coroutine: asyncio would run that in a task of its own, which nobody could end."""
        if self._closed:  # it was accepted while the server closed
            writer.transport.abort()
            return
        stream = Stream(reader, writer)
        # Forget streams that their owners have closed. Otherwise a long session would collect one for each redial.
        self._streams = {known for known in self._streams if not known.writer.is_closing()} | {stream}
        task = asyncio.get_running_loop().create_task(self._serve(stream))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        # One bad stream must not end the service for the others, but the bug behind it must not go unnoticed.
        task.add_done_callback(show_failure)

    async def close(self) -> None:
        """End every task and cut every stream that is still open."""
        self._closed = True
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        for stream in self._streams:
            await stream.close()

    async def _serve(self, stream: Stream) -> None:
        try:
            await self._on_stream(stream)
        except BaseException:
            await stream.close()
            raise


@contextlib.asynccontextmanager
async def listening_unix(path: Path, on_stream: OnStream) -> AsyncIterator[None]:
    """Serve streams on a unix socket. The caller makes sure that its directory is private.

    Args:
        path: of the socket, at most 107 bytes (103 on macOS).
        on_stream: see `Network.listen`.
    Raises:
        OSError: the socket cannot be made.
    """
    path.unlink(missing_ok=True)  # noqa: ASYNC240 (one system call)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        path.chmod(FILE_MODE)  # noqa: ASYNC240 (one system call)
        try:
            async with _serving(listening, on_stream):
                yield
        finally:
            path.unlink(missing_ok=True)  # noqa: ASYNC240


@contextlib.asynccontextmanager
async def listening_local(on_stream: OnStream, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[int]:
    """Serve streams on a port, by default a free one on loopback, and yield it. For tors that reach no unix socket.

    Raises:
        OSError: the port cannot be opened.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listening:
        # Connections of an earlier party on this port may still be in TIME_WAIT.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        async with _serving(listening, on_stream):
            yield listening.getsockname()[1]


@contextlib.asynccontextmanager
async def _serving(listening: socket.socket, on_stream: OnStream) -> AsyncIterator[None]:
    streams = StreamServer(on_stream)
    server = await asyncio.start_server(streams.accept, sock=listening, backlog=ACCEPTED_AT_ONCE)
    listening.listen(QUEUE)  # again: asyncio takes one number for both
    try:
        yield
    finally:
        # If the server closes between accepting a connection and making its transport, asyncio forgets the connection
        # without closing it. So stop accepting first, and let the loop hand over what it has accepted.
        asyncio.get_running_loop().remove_reader(listening)
        try:
            await asyncio.sleep(0)
        finally:
            server.close()
        await streams.close()
