"""Captures a program's standard streams: it reads its input from memory, and its output is kept in memory."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from typing import BinaryIO, Literal, cast

from onionmpc.machine import READ_BYTES, refusing
from onionmpc.program.process.streams import Streams
from onionmpc.tasks import BackgroundTasks

StreamName = Literal["stdout", "stderr"]
OnOutput = Callable[[StreamName, bytes], None]

# A program that prints without end must not fill this process's memory. `on_output` still gets the rest.
MAX_OUTPUT_BYTES = 2**26
# When the program has ended, all that it wrote is in its pipes. A process that it left behind may hold them open, so
# the end of file may never come.
LAST_OUTPUT_S = 2.0


class InputPipe:
    """A program's standard input, which gets its content once. A program that reads none of it is no error."""

    def __init__(self) -> None:
        self._feeding: asyncio.WriteTransport | None = None
        self.descriptor = -1

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Keep the pipe open during the block."""
        with contextlib.ExitStack() as stack:
            with refusing("cannot start the program process"):
                reading, writing = _pipe(stack)
            self.descriptor = reading.fileno()
            self._feeding, feed = await asyncio.get_running_loop().connect_write_pipe(_Feed, writing)
            stack.callback(feed.end)
            yield

    def give(self, content: bytes) -> None:
        """Write the content in the background, and then close the writing end."""
        assert self._feeding is not None  # noqa: S101 (it is open)
        self._feeding.write(content)
        self._feeding.close()


class Capture:
    """The standard streams of one program.

    Args:
        on_output: called with each piece of its output.

    Attributes:
        streams: the program's ends of the pipes.
        input: its standard input.
    """

    streams: Streams

    def __init__(self, on_output: OnOutput | None) -> None:
        self.input = InputPipe()
        self._on_output = on_output
        self._kept: dict[StreamName, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}

    def written(self, name: StreamName) -> bytes:
        """Return what the program has written to this stream so far, up to MAX_OUTPUT_BYTES."""
        return bytes(self._kept[name])

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Move bytes during the block. At its end, read what is still in the pipes, and close them."""
        async with contextlib.AsyncExitStack() as stack:
            with refusing("cannot start the program process"):
                stdout, stderr = _pipe(stack), _pipe(stack)
            await stack.enter_async_context(self.input.open())
            theirs = [stdout[1], stderr[1]]
            self.streams = Streams(self.input.descriptor, *(end.fileno() for end in theirs))
            tasks = await stack.enter_async_context(BackgroundTasks())  # what `on_output` raises ends the block
            reading = [tasks.start(self._read("stdout", stdout[0])), tasks.start(self._read("stderr", stderr[0]))]
            try:
                yield
            finally:
                # While we hold the program's ends ourselves, no pipe reaches its end of file.
                for end in theirs:
                    end.close()
                await asyncio.wait([task for task in reading if task], timeout=LAST_OUTPUT_S)

    async def _read(self, name: StreamName, pipe: BinaryIO) -> None:
        kept = self._kept[name]
        async for chunk in _chunks(pipe):
            kept += chunk[: MAX_OUTPUT_BYTES - len(kept)]
            if self._on_output is not None:
                self._on_output(name, chunk)


class _Feed(asyncio.BaseProtocol):
    """Can abort its transport at any time. asyncio's write pipe itself fails if it is aborted after it was lost."""

    _transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (no error: a program may ignore its input)
        self._transport = None

    def end(self) -> None:
        if self._transport is not None:
            self._transport.abort()


def _pipe(stack: contextlib.AsyncExitStack | contextlib.ExitStack) -> tuple[BinaryIO, BinaryIO]:
    """Return the reading and the writing end of a pipe."""
    near, far = os.pipe()
    reading, writing = os.fdopen(near, "rb", 0), os.fdopen(far, "wb", 0)
    stack.callback(reading.close)
    stack.callback(writing.close)
    return cast("BinaryIO", reading), cast("BinaryIO", writing)


async def _chunks(pipe: BinaryIO) -> AsyncIterator[bytes]:
    """Yield the bytes of a pipe as they arrive, until it ends."""
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), pipe
    )
    try:
        while chunk := await reader.read(READ_BYTES):
            yield chunk
    finally:
        transport.close()
