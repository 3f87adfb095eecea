"""Moves the program's bytes between its process and the links, and checks those that come in.

Knows back-pressure in both directions. The rules that it enforces are in onionmpc.program.hello.
"""

from __future__ import annotations

import asyncio
import contextlib

from onionmpc.mesh.runner import LinkRunner
from onionmpc.program.hello import HelloGate
from onionmpc.wire.link import ProgramBytes, ProgramEnd

CHUNK_BYTES = 2**16


class Pump:
    """One peer's bytes, both ways.

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
        self._arrived: asyncio.Queue[ProgramBytes | ProgramEnd] = asyncio.Queue()
        self._discarding = False

    def deliver(self, event: ProgramBytes | ProgramEnd) -> None:
        """Take what the link brought; may come before the program has started."""
        if self._discarding:
            self._runner.consume(_size(event))
        else:
            self._arrived.put_nowait(event)

    def discard(self) -> None:
        """Count as taken all that comes for a program that has ended: a peer waits until its bytes are taken."""
        self._discarding = True
        while not self._arrived.empty():
            self.deliver(self._arrived.get_nowait())

    async def run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Move bytes until the program and its peer have both ended what they send.

        Raises:
            RemoteProtocolError: the peer sent what MPyC must not see.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._from_program(reader))
            tasks.create_task(self._to_program(writer))

    async def _from_program(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(ConnectionError):  # killed: its exit status says more
            while chunk := await reader.read(CHUNK_BYTES):
                await self._runner.send_data(chunk)
        self._runner.end_data()
        self.emptied.set()

    async def _to_program(self, writer: asyncio.StreamWriter) -> None:
        while True:
            event = await self._arrived.get()
            try:
                if isinstance(event, ProgramEnd):
                    with contextlib.suppress(OSError):
                        writer.write_eof()
                    return
                checked = self._gate.let_through(event.payload)
                # A program that has closed its end wants no more; the bytes count as taken all the same.
                with contextlib.suppress(ConnectionError):
                    writer.write(checked)
                    await writer.drain()
            finally:
                self._runner.consume(_size(event))


def _size(event: ProgramBytes | ProgramEnd) -> int:
    """Return what an event takes of the data channel."""
    return 1 if isinstance(event, ProgramEnd) else len(event.payload)
