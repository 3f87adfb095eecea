"""Moves the program's bytes between its process and the links, and checks incoming ones.

Knows back-pressure in both directions. onionmpc.program.process.hello has the rules that it enforces.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import socket
from typing import cast

from onionmpc.errors import RemoteProtocolError
from onionmpc.machine import READ_BYTES
from onionmpc.mesh.runner import LinkRunner
from onionmpc.program.process.hello import HelloGate
from onionmpc.wire.link import DataEvent, ProgramEnd


class Pump(asyncio.BufferedProtocol):
    """Moves the bytes between the program and one peer, in both directions.

    What comes from one side leaves for the other in the same turn of the loop: no task wakes up in between.

    Args:
        runner: the link to the peer.
        gate: checks the bytes from the peer.

    Attributes:
        emptied: set when the link has all that the program sent.
    """

    def __init__(self, runner: LinkRunner, gate: HelloGate) -> None:
        self.emptied = asyncio.Event()
        self._runner = runner
        self._gate = gate
        # Bounded by the link's window: an event is acknowledged only after it has left this queue.
        self._arrived: collections.deque[DataEvent] = collections.deque()
        self._discarding = False
        self._transport: asyncio.Transport | None = None
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._full = False
        self._left = b""  # sent by the program; the link has no room for it
        self._untaken_bytes = 0  # handed to a program that does not read, and not acknowledged yet
        self._program_ended = False
        self._changed = asyncio.Event()
        self._peer_over = asyncio.Event()
        self._lost = asyncio.Event()
        self._error: Exception | None = None

    def open(self) -> None:
        """Take the link's data from now on. It may come before the program has started."""
        self._runner.deliver_data_to(self._take)

    def shut(self) -> None:
        """Take no more data: the link delivers it as an event, like all others."""
        self._runner.deliver_data_to(None)

    def _take(self, event: DataEvent) -> None:
        self._arrived.append(event)
        self._to_program()

    def discard(self) -> None:
        """Count everything as taken that arrives for a program that has ended: its sender waits until it is taken."""
        self._discarding = True
        self._to_program()

    async def run(self, end: socket.socket) -> None:
        """Move bytes until both the program and its peer have sent everything.

        Args:
            end: our end of the program's socketpair; closed when this returns.

        Raises:
            RemoteProtocolError: the peer sent bytes that MPyC must not see.
        """
        transport, _ = await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=end)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._send_rest(transport))
                await self._peer_over.wait()
                if self._error is not None:
                    raise self._error
            transport.close()
            await self._lost.wait()  # close() first writes what the program has not read yet
        finally:
            self._transport = None
            transport.abort()

    async def _send_rest(self, transport: asyncio.Transport) -> None:
        """Send bytes that the link had no room for, then the end."""
        while not self.emptied.is_set():
            await self._changed.wait()
            self._changed.clear()
            if self._left:
                await self._runner.send_data(self._left)
                self._left = b""
                transport.resume_reading()
            if self._program_ended:
                self._runner.end_data()
                self.emptied.set()

    # -- called by the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Hand over what has arrived already."""
        self._transport = cast(asyncio.Transport, transport)
        self._to_program()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 (asyncio's signature)
        """Return the buffer to read into."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Send the program's bytes, and stop reading when the link has no room."""
        self._left = self._runner.offer_data(bytes(self._buffer[:nbytes]))
        if self._left and self._transport is not None:
            self._transport.pause_reading()
            self._changed.set()

    def eof_received(self) -> bool:
        """Note that the program sends nothing more."""
        self._program_ended = True
        self._changed.set()
        return True  # keep the other direction open: the program may still read

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the program is gone."""
        if exc is not None and not isinstance(exc, OSError):  # OSError: it was killed; its exit status says more
            self._error = exc
            self._peer_over.set()
        self._lost.set()
        self.eof_received()
        self.resume_writing()

    def pause_writing(self) -> None:
        """Note that the program does not read."""
        self._full = True

    def resume_writing(self) -> None:
        """Hand over what has arrived since."""
        self._full = False
        self._to_program()

    def _to_program(self) -> None:
        while self._arrived and (self._discarding or (self._transport is not None and not self._full)):
            event = self._arrived.popleft()
            if not self._discarding:
                self._write(event)
            self._untaken_bytes += 1 if isinstance(event, ProgramEnd) else len(event.payload)
        if self._untaken_bytes and (self._discarding or not self._full):
            self._runner.consume(self._untaken_bytes)
            self._untaken_bytes = 0

    def _write(self, event: DataEvent) -> None:
        assert self._transport is not None  # noqa: S101 (the caller checks)
        if isinstance(event, ProgramEnd):
            with contextlib.suppress(OSError):  # the program is gone, and connection_lost() is still to come
                self._transport.write_eof()
            self._peer_over.set()
            return
        try:
            checked = self._gate.let_through(event.payload)
        except RemoteProtocolError as error:
            self._error = error
            self._peer_over.set()
            return
        # A program that has closed its end wants no more bytes. They count as taken all the same.
        if not self._transport.is_closing():
            self._transport.write(checked)
