"""Moves the program's bytes between its process and the links, epoch by epoch, and checks incoming ones.

Knows back-pressure in both directions, and the order of epochs. onionmpc.program.process.hello has the rules that it
enforces on MPyC's bytes. Rules for epochs: docs/PROTOCOL.md section 3.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import socket
from collections.abc import Callable
from typing import cast

from onionmpc.errors import ProgramError, RemoteProtocolError
from onionmpc.machine import READ_BYTES
from onionmpc.mesh.changes import Changes
from onionmpc.mesh.runner import LinkRunner
from onionmpc.program.process.hello import HelloGate
from onionmpc.tasks import cancel
from onionmpc.wire.link import DataEvent, EpochEnd, ProgramBytes, ProgramEnd


class UnequalEpochs(ProgramError):
    """A peer's program has ended, but this party's has started MPyC once more."""


class Pump:
    """Moves the bytes between the program and one peer, in both directions, during one computation.

    What comes from one side leaves for the other in the same turn of the loop: no task wakes up in between. Each
    direction counts its epochs: our program may begin the next one before the peer's last bytes of this one arrive.

    Args:
        runner: the link to the peer.
        make_gate: makes the check of the bytes that the peer sends in one epoch.
        changes: notified when the peer's program has ended.

    Attributes:
        peer_ended: whether the peer's program has ended, and all that it sent has arrived.
    """

    def __init__(self, runner: LinkRunner, make_gate: Callable[[], HelloGate], changes: Changes) -> None:
        self.peer_ended = False
        self._changes = changes
        self._runner = runner
        self._make_gate = make_gate
        # Bounded by the link's window: an event is acknowledged only after it has left this queue.
        self._arrived: collections.deque[DataEvent] = collections.deque()
        self._untaken_bytes = 0  # handed to a program that does not read, and not acknowledged yet
        self._epochs: dict[int, Epoch] = {}  # without those that are over
        self._begun = 0  # by our program
        self._heard = 0  # to their end, from the peer's program
        self._to_send: asyncio.Queue[Epoch | None] = asyncio.Queue()
        # One for all epochs: each read is taken out at once.
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._discarding = False
        self._error: Exception | None = None
        self._failed = asyncio.Event()

    def open(self) -> None:
        """Take the link's data from now on. It may come before the program has started."""
        self._runner.deliver_data_to(self._take)

    def shut(self) -> None:
        """Take no more data: the link delivers it as an event, like all others."""
        self._runner.deliver_data_to(None)

    def begin(self, end: socket.socket) -> Epoch:
        """Begin the next epoch. `run` connects it when all earlier ones are sent.

        Args:
            end: our end of the program's socketpair; closed when the epoch is over, or by `close`.
        """
        epoch = Epoch(self._runner, end, self._buffer, self._make_gate(), self._note_room, self._fail)
        self._epochs[self._begun] = epoch
        self._begun += 1
        self._to_send.put_nowait(epoch)
        self._compare_epochs()
        return epoch

    def finish(self) -> None:
        """Let `run` return once all is sent: the program has succeeded and begins no further epoch."""
        self._to_send.put_nowait(None)

    def discard(self) -> None:
        """Count everything as taken that arrives for a program that has ended: its sender waits until it is taken."""
        self._discarding = True
        self._to_program()

    async def run(self) -> None:
        """Move bytes until the program has ended and the link has all that it sent.

        Raises:
            RemoteProtocolError: the peer sent bytes that MPyC must not see.
            UnequalEpochs: the peer's program ended after fewer epochs than ours has begun.
        """
        sending = asyncio.create_task(self._send())
        failing = asyncio.create_task(self._failed.wait())
        try:
            await asyncio.wait([sending, failing], return_when=asyncio.FIRST_COMPLETED)
            if self._error is not None:
                raise self._error
            await sending
        finally:
            await cancel(sending, failing)

    def close(self) -> None:
        """Close our ends of all epochs. Call it after the program has ended: it would take this for its peer's end."""
        for epoch in self._epochs.values():
            epoch.abort()

    async def _send(self) -> None:
        """Send what the program writes, one epoch after the other."""
        while (epoch := await self._to_send.get()) is not None:
            await epoch.connect()
            await epoch.send_all()
            await self._runner.end_data(last=False)
        await self._runner.end_data(last=True)

    # -- what comes from the peer

    def _take(self, event: DataEvent) -> None:
        self._arrived.append(event)
        self._to_program()

    def _to_program(self) -> None:
        while self._arrived and self._error is None:
            epoch = self._epochs.get(self._heard)
            takes = epoch is not None and epoch.takes
            if not (takes or self._discarding or isinstance(self._arrived[0], ProgramEnd)):
                break
            event = self._arrived.popleft()
            self._untaken_bytes += len(event.payload) if isinstance(event, ProgramBytes) else 1
            try:
                self._pass_on(event, None if self._discarding else epoch)
            except RemoteProtocolError as error:
                self._fail(error)
        if self._untaken_bytes and (self._discarding or not any(epoch.full for epoch in self._epochs.values())):
            self._runner.consume(self._untaken_bytes)
            self._untaken_bytes = 0

    def _note_room(self) -> None:
        self._forget_epochs()
        self._to_program()

    def _forget_epochs(self) -> None:
        self._epochs = {number: epoch for number, epoch in self._epochs.items() if not epoch.is_over}

    def _pass_on(self, event: DataEvent, epoch: Epoch | None) -> None:
        """Give an event to the program, or only count it if there is no epoch to take it."""
        if self.peer_ended:
            raise RemoteProtocolError("bytes of the program came after its end")
        match event:
            case ProgramBytes(payload):
                if epoch is not None:
                    epoch.write(payload)
            case EpochEnd():
                self._heard += 1
                if epoch is not None:
                    epoch.write_eof()
                self._forget_epochs()
            case ProgramEnd():
                self.peer_ended = True
                self._changes.notify()
                self._compare_epochs()

    def _compare_epochs(self) -> None:
        if self.peer_ended and self._begun > self._heard:
            self._fail(
                UnequalEpochs(
                    f"its program ended after start {self._heard} of MPyC, and another party's has begun start"
                    f" {self._begun}"
                )
            )

    def _fail(self, error: Exception) -> None:
        self._error = error
        self._failed.set()


class Epoch(asyncio.BufferedProtocol):
    """One epoch of the program, at our end of its socketpair.

    Args:
        end: our end of the socketpair.
        buffer: bytes of the program are read into it.
        gate: checks the bytes from the peer.
        on_room: called when the program can take more than before, or has closed its end.
        on_error: called with an error of a callback of the loop, which nobody awaits.

    Attributes:
        connected: set when bytes begin to move.
        full: whether the program has not read what it was given.
    """

    def __init__(
        self,
        runner: LinkRunner,
        end: socket.socket,
        buffer: memoryview,
        gate: HelloGate,
        on_room: Callable[[], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        self.connected = asyncio.Event()
        self.full = False
        self._end = end
        self._runner = runner
        self._gate = gate
        self._on_room = on_room
        self._on_error = on_error
        self._transport: asyncio.Transport | None = None
        self._buffer = buffer
        self._left = b""  # sent by the program; the link has no room for it
        self._sent_all = False  # by the program
        self._peer_sent_all = False
        self._closed = False
        self._changed = asyncio.Event()

    @property
    def is_over(self) -> bool:
        """Whether both programs have ended this epoch, and ours has read all of it."""
        return self._closed and self._peer_sent_all

    @property
    def takes(self) -> bool:
        """Whether bytes of the peer may be written to the program now."""
        return self._transport is not None and not self.full

    async def connect(self) -> None:
        """Begin to move bytes."""
        await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=self._end)
        self.connected.set()

    async def send_all(self) -> None:
        """Send what the program writes in this epoch, up to its end."""
        while not self._sent_all or self._left:
            await self._changed.wait()
            self._changed.clear()
            if self._left:
                await self._runner.send_data(self._left)
                self._left = b""
                if self._transport is not None:
                    self._transport.resume_reading()

    def write(self, payload: bytes) -> None:
        """Give the program bytes of the peer.

        Raises:
            RemoteProtocolError: MPyC must not see these.
        """
        assert self._transport is not None  # noqa: S101 (the caller checks)
        checked = self._gate.let_through(payload)
        # A program that has closed its end wants no more bytes. They count as taken all the same.
        if not self._transport.is_closing():
            self._transport.write(checked)

    def write_eof(self) -> None:
        """Let the program see that the peer sends nothing more in this epoch."""
        assert self._transport is not None  # noqa: S101 (the caller checks)
        self._peer_sent_all = True
        with contextlib.suppress(OSError):  # the program is gone, and connection_lost() is still to come
            self._transport.write_eof()
        self._close_if_over()

    def abort(self) -> None:
        """Close our end at once."""
        if self._transport is None:
            self._end.close()
        else:
            self._transport.abort()

    # -- what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Hand over what has arrived already."""
        self._transport = cast(asyncio.Transport, transport)
        self._on_room()

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
        """Note that the program sends nothing more in this epoch."""
        self._sent_all = True
        self._changed.set()
        self._close_if_over()
        return True  # keep the other direction open: the program may still read

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the program has closed its end, or is gone."""
        if exc is not None and not isinstance(exc, OSError):  # OSError: it was killed; its exit status says more
            self._on_error(exc)
        self._closed = True
        self.eof_received()
        self.resume_writing()

    def pause_writing(self) -> None:
        """Note that the program does not read."""
        self.full = True

    def resume_writing(self) -> None:
        """Hand over what has arrived since."""
        self.full = False
        self._on_room()

    def _close_if_over(self) -> None:
        if self._sent_all and self._peer_sent_all and self._transport is not None:
            self._transport.close()  # it first writes what the program has not read yet
