"""Moves bytes between one link and one stream.

Knows tasks, sockets and the clock; every rule is in onionmpc.wire.link.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

from onionmpc.errors import LinkExpired, RemoteProtocolError
from onionmpc.mesh.secure import SecureStream
from onionmpc.wire.frames import AbortCode
from onionmpc.wire.link import SILENCE_LIMIT_S, Event, Link, LinkAborted, RoundTrip, State

# How long a CLOSE or an ABORT may take to leave.
LAST_WORDS_S = 2.0
ONLY_STREAM = 0

OnEvent = Callable[[Event], None]


class LinkRunner:
    """One link, alive on one stream.

    Args:
        secure: the stream, after its handshake.
        on_event: called with each event of the link, in order; must not block.
    """

    def __init__(self, secure: SecureStream, on_event: OnEvent) -> None:
        self.secure = secure
        self.link = Link()
        self.link.attach(ONLY_STREAM, time.monotonic())
        self.round_trip_s: float | None = None
        self._on_event = on_event
        self._failure: LinkExpired | RemoteProtocolError | None = None
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._over = asyncio.Event()
        self._alarm: asyncio.TimerHandle | None = None

    @property
    def alive(self) -> bool:
        """Whether the peer may still hear us."""
        return not self._over.is_set()

    async def run(self) -> None:
        """Move bytes until the link is closed by either side.

        Raises:
            LinkExpired: the stream ended or fell silent before the link was closed.
            RemoteProtocolError: the peer broke the rules, or says that we did.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                both = [tasks.create_task(self._read()), tasks.create_task(self._write())]
                await self._over.wait()
                if self.link.state is not State.OPEN:
                    await asyncio.wait(both, timeout=LAST_WORDS_S)
                for task in both:
                    task.cancel()
        finally:
            self._drop_alarm()
            await self.secure.close()
        if self._failure is not None:
            raise self._failure

    def wake(self) -> None:
        """Send what the link has to say; writes of one turn of the loop leave together."""
        self._wake.set()

    def send_control(self, payload: bytes) -> None:
        """Queue a control message, unless the link has ended."""
        if self.link.state is State.OPEN:
            self.link.send_control(payload)
            self._wake.set()

    async def send_data(self, payload: bytes) -> None:
        """Queue bytes of the program, waiting while the window is full."""
        while payload and self.alive:
            room = self.link.room()
            if room:
                self.link.send_data(payload[:room])
                payload = payload[room:]
                self._wake.set()
            else:
                self._room.clear()
                await self._room.wait()

    def end_data(self) -> None:
        """Say that the program sends nothing more."""
        if self.link.state is State.OPEN:
            self.link.end_data()
            self._wake.set()

    def consume(self, size: int) -> None:
        """Say that the program took `size` bytes."""
        if self.link.state is State.OPEN:
            self.link.consume(size, time.monotonic())
            self._wake_in_time()

    def ping(self) -> None:
        """Ask the peer for a sign of life."""
        if self.link.state is State.OPEN:
            self.link.ping()
            self._wake.set()

    def close(self) -> None:
        """Close the link in good order."""
        self.link.close()
        self._end()

    async def close_when_flushed(self, timeout_s: float = LAST_WORDS_S) -> None:
        """Close the link once the peer has acknowledged what was said, or after `timeout_s` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self.alive and not self.link.flushed():
                    self._room.clear()
                    await self._room.wait()
        self.close()

    def abort(self, code: AbortCode) -> None:
        """End the link because the peer broke the rules."""
        self.link.abort(code)
        self._end()

    def _end(self) -> None:
        """Let everyone who waits for something see that the link is over."""
        for event in (self._over, self._wake, self._room):
            event.set()

    async def _read(self) -> None:
        try:
            async for plaintext in self.secure.receive(SILENCE_LIMIT_S):
                for event in self.link.receive(plaintext, time.monotonic()):
                    self._handle(event)
                self._room.set()
                self._wake_in_time()
                if self.link.state is not State.OPEN:
                    return
            self._lost("the stream ended")
        except TimeoutError:
            self._lost(f"nothing came for {SILENCE_LIMIT_S:.0f} s")
        except OSError as error:
            self._lost(f"the stream broke ({error.strerror or type(error).__name__})")
        except RemoteProtocolError as error:
            # Raised by `run`, when the writer has told the peer.
            self._failure = error
            self.link.abort(AbortCode.FRAME)
        finally:
            self._end()

    def _lost(self, what: str) -> None:
        # After CLOSE or ABORT the end of the stream is the expected end.
        if self.link.state is State.OPEN:
            self._failure = LinkExpired(what)

    def _handle(self, event: Event) -> None:
        if isinstance(event, LinkAborted):
            raise RemoteProtocolError(f"the peer says that we broke its rules ({event.code.name.lower()})")
        if isinstance(event, RoundTrip):
            self.round_trip_s = event.seconds
        self._on_event(event)

    async def _write(self) -> None:
        while True:
            self._wake.clear()
            outgoing = self.link.transmit(time.monotonic())
            if outgoing is not None:
                try:
                    await self.secure.send(outgoing[1])
                except OSError:
                    return  # the reader sees the same break, and knows what was still to come
            if self.link.state is not State.OPEN:
                await self.secure.flush(LAST_WORDS_S)
                return
            self._wake_in_time()
            await self._wake.wait()

    def _wake_in_time(self) -> None:
        """Wake now if the link owes an answer, else when it wants to, or before."""
        if self.link.owes():
            self._wake.set()
            return
        at = self.link.wake_at()
        # An alarm that rings too early is set again then: to put it off with each message would cost more. The link's
        # clock is time.monotonic(), as that of asyncio's loop.
        if at is not None and (self._alarm is None or at < self._alarm.when()):
            self._drop_alarm()
            self._alarm = asyncio.get_running_loop().call_at(at, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self._wake.set()

    def _drop_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
