"""Moves bytes between one link and its streams.

It has the tasks, the sockets and the clock; every rule is in onionmpc.wire.link. The reconnector dials, and waits here
until a stream is needed.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from onionmpc.errors import LinkExpired, OnionMPCError, RemoteProtocolError
from onionmpc.mesh.carriers import EXTRA_STREAMS, Carrier, Carriers
from onionmpc.mesh.changes import Changes
from onionmpc.mesh.secure import SecureStream
from onionmpc.mesh.sender import Alarm, Sender
from onionmpc.mesh.timings import DEFAULT_MESH_TIMINGS, MeshTimings
from onionmpc.tasks import ErrorForwarder
from onionmpc.wire.frames import AbortCode
from onionmpc.wire.link import (
    DataEvent,
    EpochEnd,
    Event,
    Link,
    LinkAborted,
    ProgramBytes,
    ProgramEnd,
    ReplayBudget,
    RoundTrip,
    State,
)

# A tuple, built once: the union `DataEvent` would be built anew for each record.
DATA_EVENTS = (ProgramBytes, EpochEnd, ProgramEnd)

OnEvent = Callable[[Event], None]
OnData = Callable[[DataEvent], None]


class Health(enum.Enum):
    """The state of a link. CLOSING and OVER are final."""

    HEARD = enum.auto()
    SILENT = enum.auto()  # no stream delivers anything
    CLOSING = enum.auto()  # over, but its streams stay open until the peer knows
    OVER = enum.auto()


@dataclass(frozen=True, slots=True)
class ReplayRoom:
    """The budget for replay that all links of one party share.

    Attributes:
        freed: notified when some of the budget may be free again.
    """

    budget: ReplayBudget = field(default_factory=ReplayBudget)
    freed: Changes = field(default_factory=Changes)


class LinkRunner:
    """Runs one link over the streams that it is given.

    Args:
        on_event: called with each event of the link, in order; must not block. It gets the events of the data channel
            only while these have no sink of their own (`deliver_data_to`).
        room: shared with the other links of this party.
        rate: records that go out each second, see `Sender`.
        timings: of the link and of its end.

    Attributes:
        link: the protocol's state, and what is not delivered yet.
        carriers: the link's streams.
    """

    def __init__(
        self,
        on_event: OnEvent,
        room: ReplayRoom | None = None,
        *,
        rate: int = 0,
        timings: MeshTimings = DEFAULT_MESH_TIMINGS,
    ) -> None:
        self._room = room or ReplayRoom()
        self._timings = timings
        self.link = Link(limits=timings.link, budget=self._room.budget)
        self.carriers = Carriers(self.link, 1 if rate else 1 + EXTRA_STREAMS)
        self._on_event = on_event
        self._on_data: OnData | None = None
        self._health = Health.HEARD
        self._changes = Changes()
        self._error: BaseException | None = None
        self._alone = False
        self._forwarding_bugs = ErrorForwarder(self._note_bug)
        self._alarm = Alarm(self._look_at_clock, timings.link.ping_after_s)
        self._sender = Sender(self.link, self.carriers, self._alarm, self._forwarding_bugs, rate)

    @property
    def alive(self) -> bool:
        """True while the link exists, even if it has no stream at the moment."""
        return self._health in (Health.HEARD, Health.SILENT)

    @property
    def silent(self) -> bool:
        """True while the link exists but no stream delivers anything."""
        return self._health is Health.SILENT

    @property
    def streams(self) -> int:
        """How many streams it has, not counting those that are being closed."""
        return self.carriers.open

    @property
    def round_trip_s(self) -> float | None:
        """The round trip of urgent data, in seconds; None before it is known."""
        return self.carriers.round_trip_s

    @property
    def silent_s(self) -> float:
        """For how many seconds nothing has arrived."""
        return self.link.silent_for(time.monotonic())

    # -- its streams

    async def carry(self, secure: SecureStream, peer_offsets: tuple[int, int] = (0, 0)) -> None:
        """Move bytes over this stream, beside any others, until it breaks or the link is over; then close it."""
        carrier = Carrier(secure)
        try:
            if not self.alive:
                return
            self.link.attach(carrier.number, time.monotonic(), peer_offsets=peer_offsets)
            self.carriers.add(carrier)
            self._assess()
            await self._move(carrier)
        except RemoteProtocolError as error:
            self.fail(error)
        finally:
            self.carriers.remove(carrier)
            self.link.detach(carrier.number)
            await secure.close()
            self._room.freed.notify()
            # The other streams now send what this one had not delivered.
            self._sender.wake()
            self._assess()

    async def carry_alone(self, secure: SecureStream) -> None:
        """Move bytes over this one stream; the link ends with it.

        Raises:
            LinkExpired: the stream ended before the link was closed.
            RemoteProtocolError: the peer broke the rules, or reports that we did.
        """
        self._alone = True
        await self.carry(secure)
        self.fail(LinkExpired(self.carriers.break_reason))
        await self.run()

    async def run(self) -> None:
        """Wait until the link is over: either side has closed it, or it failed.

        Raises:
            OnionMPCError: why it failed.
        """
        try:
            await self._changes.until(lambda: not self.alive)
        finally:
            self._end()
        if self._error is not None:
            raise self._error

    def _note_bug(self, error: BaseException) -> None:
        """Have `run` raise what a callback of the loop raised. asyncio would only log it, and the link would hang."""
        self._error = error
        self._health = Health.OVER
        self._changes.notify()

    async def until_silent(self) -> None:
        """Wait until no stream delivers anything. Never returns once the link is over."""
        await self._changes.until_seen(lambda: self.silent)

    async def until_heard(self) -> None:
        """Wait until a stream delivers something, or the link is over."""
        await self._changes.until_seen(lambda: not self.silent)

    async def until_short_of_streams(self) -> None:
        """Wait until there are fewer streams than should be kept. Never returns once the link is over."""
        await self._changes.until_seen(lambda: self.alive and self.carriers.open < self.carriers.kept)

    async def until_measured(self, streams: int) -> None:
        """Wait until the speed of this many streams is known."""
        await self._changes.until_seen(lambda: self.link.measured() >= streams)

    def keep(self, streams: int) -> None:
        """Keep this many streams from now on."""
        self.carriers.kept = streams
        self._assess()

    def doubt(self) -> None:
        """Treat all streams as suspicious, because our machine was asleep."""
        self.link.doubt(time.monotonic())
        self._do_what_is_due()

    # -- sending

    def send_control(self, payload: bytes) -> None:
        """Queue a control message, unless the link has ended."""
        if self.link.state is State.OPEN:
            self.link.send_control(payload)
            self._sender.wake()

    def offer_data(self, payload: bytes) -> bytes:
        """Queue bytes of the program, and return those that do not fit into the window; none once the link is over."""
        if not self.alive:
            return b""
        room = self.link.room()
        self.link.send_data(payload[:room])
        self._sender.send_soon()
        return payload[room:]

    async def send_data(self, payload: bytes) -> None:
        """Queue bytes of the program, waiting while the window is full."""
        while payload := self.offer_data(payload):
            await self._room.freed.next()

    async def end_data(self, *, last: bool) -> None:
        """Queue the END of an epoch, or the `last` END, that of the program. Wait while there is no room for it."""
        while self.alive and not self.link.has_room_for_end():
            await self._room.freed.next()
        if self.alive:
            self.link.end_data(last=last)
            self._sender.wake()

    def consume(self, size: int) -> None:
        """Note that the program took `size` bytes."""
        if self.link.state is State.OPEN:
            self.link.consume(size, time.monotonic())
            self._sender.wake_in_time()

    def deliver_data_to(self, sink: OnData | None) -> None:
        """Call `sink` with the events of the data channel from now on; with None, call `on_event` again.

        With a sink, the program's bytes cost one call each and bypass the session. Without one, the session gets them,
        since bytes that come before a program runs may break the rules.
        """
        self._on_data = sink

    def ping(self) -> None:
        """Ping the peer over every stream."""
        if self.link.state is State.OPEN:
            self.link.ping()
            self._do_what_is_due()

    # -- ending

    def close(self, *, linger: bool = False) -> None:
        """Close the link properly.

        Args:
            linger: keep its streams until the peer ends them or closes the link too, or for `last_words_s`. For a party
                that leaves: its tor may end next, and would take along what has not left it.
        """
        self._health = Health.CLOSING if linger else Health.OVER
        self.link.close()
        self._end()

    async def close_when_flushed(self, timeout_s: float) -> None:
        """Close the link when the peer has acknowledged everything, or after `timeout_s` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._room.freed.until(lambda: not self.alive or self.link.flushed())
        self.close(linger=True)

    async def last_words(self) -> None:
        """Wait until a link that is over has said so on all its streams, for at most `last_words_s`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timings.last_words_s):
                await self._changes.until(lambda: not self.carriers)

    def abort(self, code: AbortCode) -> None:
        """End the link because the peer broke the rules."""
        self.link.abort(code)
        self._end()

    def fail(self, error: OnionMPCError) -> None:
        """End the link for this reason, unless it is over already."""
        if self.link.state is State.OPEN or isinstance(error, RemoteProtocolError):
            self._error = self._error or error
        self.link.close()
        self._end()

    def _end(self) -> None:
        """Wake every task that waits for something, because the link is over."""
        if self.alive:
            self._health = Health.OVER
        self._alarm.drop()
        self._changes.notify()
        self._room.freed.notify()
        self.carriers.end_all()

    # -- one stream

    async def _move(self, carrier: Carrier) -> None:
        number, secure = carrier.number, carrier.secure
        await secure.begin(lambda plaintext: self._receive(number, plaintext), self._sender.wake)
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(self._watch(carrier))
            watching.add_done_callback(lambda _: self._changes.notify())
            sending = tasks.create_task(self._sender.send_at_rate(carrier)) if self._sender.rate else None
            self._sender.send_soon()
            await carrier.ended.wait()
            if self.link.state is not State.OPEN:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._timings.last_words_s):
                        await self._say_last_words(secure, sending, watching)
            for task in (watching, sending):
                if task is not None:
                    task.cancel()

    async def _say_last_words(
        self, secure: SecureStream, sending: asyncio.Task[None] | None, watching: asyncio.Task[None]
    ) -> None:
        """Send the CLOSE or ABORT of a link that is over. If it is CLOSING, wait until the peer closes too."""
        await (secure.drain() if sending is None else asyncio.wait([sending]))
        self._sender.send_now()
        await secure.flush(self._timings.last_words_s)
        if self._health is Health.CLOSING:
            await self._changes.until(lambda: self.link.peer_closed or watching.done())

    async def _watch(self, carrier: Carrier) -> None:
        self.carriers.break_reason = await carrier.watch()

    def _receive(self, number: int, plaintext: bytes) -> None:
        try:
            for event in self.link.receive(number, plaintext, time.monotonic()):
                self._handle(event)
        except RemoteProtocolError as error:
            # Tell the peer which rule it broke. `run` raises the error here.
            self.link.abort(AbortCode.FRAME)
            self.fail(error)
        if self._health is Health.SILENT:
            self._assess()
        self._room.freed.notify()
        self._sender.wake_in_time()
        if self.link.state is not State.OPEN:
            self._end()

    def _handle(self, event: Event) -> None:
        if self._on_data is not None and isinstance(event, DATA_EVENTS):
            self._on_data(event)
            return
        if isinstance(event, LinkAborted):
            raise RemoteProtocolError(f"the peer reports that we broke the protocol ({event.code.name.lower()})")
        if isinstance(event, RoundTrip):
            self.carriers.note_round_trip()
            self.carriers.end_slowed()
            self._changes.notify()
        self._on_event(event)

    # -- timers

    def _look_at_clock(self) -> None:
        with self._forwarding_bugs:
            self._do_what_is_due()
            stale = self.link.stale(time.monotonic())
            # The last stream is kept: it may only be slow, and a new one may take long.
            if self._alone or len(stale) < len(self.carriers):
                self.carriers.end(stale, f"nothing came for {self._timings.link.silence_limit_s:.0f} s")

    def _do_what_is_due(self) -> None:
        """Let the link do what is due, even if no stream takes bytes."""
        self.link.do_what_is_due(time.monotonic())
        self._sender.send_soon()
        self._assess()

    def _assess(self) -> None:
        """Update the link's health, and let every waiting task check its condition."""
        if self.alive:
            self._health = Health.SILENT if self.link.suspicious(time.monotonic()) else Health.HEARD
        self._changes.notify()
