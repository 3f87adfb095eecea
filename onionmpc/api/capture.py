"""A program's standard streams, held by this process: what it reads comes from memory, what it writes goes there."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from typing import BinaryIO, Literal, cast

from onionmpc.machine import READ_BYTES, refusing
from onionmpc.program.process.streams import Streams
from onionmpc.tasks import cancel

StreamName = Literal["stdout", "stderr"]
OnOutput = Callable[[StreamName, bytes], None]

MAX_OUTPUT_BYTES = 2**26
# When the program has ended, all that it wrote is in its pipes. A process that it left behind may hold them open.
LAST_OUTPUT_S = 2.0


class Capture:
    """What one program reads and writes.

    Args:
        text: what the program reads from its standard input.
        on_output: called with each piece that it writes.

    Attributes:
        streams: the program's ends.
    """

    streams: Streams

    def __init__(self, text: bytes, on_output: OnOutput | None) -> None:
        self._text = text
        self._on_output = on_output
        self._kept: dict[StreamName, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}

    def written(self, name: StreamName) -> bytes:
        """Return what the program has written there so far, up to MAX_OUTPUT_BYTES."""
        return bytes(self._kept[name])

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Carry bytes; at the end take what is still on its way, and close everything."""
        async with contextlib.AsyncExitStack() as stack:
            with refusing("cannot start the program process"):
                stdin, stdout, stderr = (_pipe(stack) for _ in range(3))
            ours, theirs = stdin[1], [stdin[0], stdout[1], stderr[1]]
            self.streams = Streams(*(end.fileno() for end in theirs))
            feeding, feed = await asyncio.get_running_loop().connect_write_pipe(_Feed, ours)
            stack.callback(feed.end)
            feeding.write(self._text)
            feeding.close()  # when all of it is written; a program need not read it
            reading = [
                asyncio.create_task(self._read("stdout", stdout[0])),
                asyncio.create_task(self._read("stderr", stderr[0])),
            ]
            stack.push_async_callback(cancel, *reading)
            try:
                yield
            finally:
                for end in theirs:
                    end.close()
                await asyncio.wait(reading, timeout=LAST_OUTPUT_S)

    async def _read(self, name: StreamName, pipe: BinaryIO) -> None:
        kept = self._kept[name]
        async for chunk in _chunks(pipe):
            kept += chunk[: MAX_OUTPUT_BYTES - len(kept)]
            if self._on_output is not None:
                self._on_output(name, chunk)


class _Feed(asyncio.BaseProtocol):
    """Ends what is still being written: asyncio's own transport fails at that if it has ended by itself."""

    _transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (a program need not read its input)
        self._transport = None

    def end(self) -> None:
        if self._transport is not None:
            self._transport.abort()


def _pipe(stack: contextlib.AsyncExitStack) -> tuple[BinaryIO, BinaryIO]:
    """Return the reading and the writing end of a pipe."""
    near, far = os.pipe()
    reading, writing = os.fdopen(near, "rb", 0), os.fdopen(far, "wb", 0)
    stack.callback(reading.close)
    stack.callback(writing.close)
    return cast("BinaryIO", reading), cast("BinaryIO", writing)


async def _chunks(pipe: BinaryIO) -> AsyncIterator[bytes]:
    """Yield what comes through a pipe."""
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), pipe
    )
    try:
        while chunk := await reader.read(READ_BYTES):
            yield chunk
    finally:
        transport.close()
