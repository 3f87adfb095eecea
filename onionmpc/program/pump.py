"""Moves the program's bytes between its process and the links, and checks those that come in.

Knows back-pressure in both directions. The rules that it enforces are in onionmpc.program.process.hello.
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
    """One peer's bytes, both ways; what comes from one side leaves for the other in the same turn of the loop.

    Args:
        runner: the link to the peer.
        gate: checks what comes from the peer.

    Attributes:
        emptied: set when all that the program sent has been handed to the link.
    """

    def __init__(self, runner: LinkRunner, gate: HelloGate) -> None:
        self.emptied = asyncio.Event()
        self._runner = runner
        self._gate = gate
        # Bounded by the link's window: nothing is acknowledged before it is taken out of here.
        self._arrived: collections.deque[DataEvent] = collections.deque()
        self._discarding = False
        self._transport: asyncio.Transport | None = None
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._full = False
        self._left = b""  # what the program sent and the link has no room for
        self._untaken_bytes = 0  # given to a program that does not read, and not acknowledged either
        self._program_ended = False
        self._changed = asyncio.Event()
        self._peer_over = asyncio.Event()
        self._lost = asyncio.Event()
        self._error: Exception | None = None

    def open(self) -> None:
        """Take what the link brings from now on, also before the program has started."""
        self._runner.deliver_data_to(self._take)

    def shut(self) -> None:
        """Take nothing more: what comes is an event of the link like others."""
        self._runner.deliver_data_to(None)

    def _take(self, event: DataEvent) -> None:
        self._arrived.append(event)
        self._to_program()

    def discard(self) -> None:
        """Count as taken all that comes for a program that has ended: a peer waits until its bytes are taken."""
        self._discarding = True
        self._to_program()

    async def run(self, end: socket.socket) -> None:
        """Move bytes until the program and its peer have both ended what they send.

        Args:
            end: ours of the pair that the program has the other of; closed at the end.
        Raises:
            RemoteProtocolError: the peer sent what MPyC must not see.
        """
        transport, _ = await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=end)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._send_rest(transport))
                await self._peer_over.wait()
                if self._error is not None:
                    raise self._error
            transport.close()
            await self._lost.wait()  # what the program has not read yet still reaches it
        finally:
            self._transport = None
            transport.abort()

    async def _send_rest(self, transport: asyncio.Transport) -> None:
        """Send what the link had no room for, and the end."""
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

    # -- what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Hand over what has come already."""
        self._transport = cast(asyncio.Transport, transport)
        self._to_program()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 (asyncio's words)
        """Lend it what it reads into."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Send what the program says, and read no more of it than the link has room for."""
        self._left = self._runner.offer_data(bytes(self._buffer[:nbytes]))
        if self._left and self._transport is not None:
            self._transport.pause_reading()
            self._changed.set()

    def eof_received(self) -> bool:
        """Note that the program says nothing more; it may still listen."""
        self._program_ended = True
        self._changed.set()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the program is gone."""
        if exc is not None and not isinstance(exc, OSError):  # killed: its exit status says more
            self._error = exc
            self._peer_over.set()
        self._lost.set()
        self.eof_received()
        self.resume_writing()

    def pause_writing(self) -> None:
        """Note that the program does not read."""
        self._full = True

    def resume_writing(self) -> None:
        """Hand over what has come meanwhile."""
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
        assert self._transport is not None  # noqa: S101 (the caller looks)
        if isinstance(event, ProgramEnd):
            with contextlib.suppress(OSError):
                self._transport.write_eof()
            self._peer_over.set()
            return
        try:
            checked = self._gate.let_through(event.payload)
        except RemoteProtocolError as error:
            self._error = error
            self._peer_over.set()
            return
        # A program that has closed its end wants no more; the bytes count as taken all the same.
        if not self._transport.is_closing():
            self._transport.write(checked)
