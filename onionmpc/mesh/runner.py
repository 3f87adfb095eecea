"""Moves bytes between one link and its streams.

Knows tasks, sockets and the clock; every rule is in onionmpc.wire.link. Does not dial: it says when a stream is wanted.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from onionmpc.errors import LinkExpired, OnionMPCError, RemoteProtocolError
from onionmpc.mesh.pace import Ticks
from onionmpc.mesh.secure import SecureStream
from onionmpc.tasks import ErrorForwarder
from onionmpc.wire.frames import AbortCode
from onionmpc.wire.link import (
    PING_AFTER_S,
    SILENCE_LIMIT_S,
    DataEvent,
    Event,
    Link,
    LinkAborted,
    ProgramBytes,
    ProgramEnd,
    ReplayBudget,
    RoundTrip,
    State,
)
from onionmpc.wire.records import FILLED_PLAINTEXT_BYTES

# How long a CLOSE or an ABORT may take to leave, and to be answered.
LAST_WORDS_S = 2.0
# An alarm that is due already, since a stream takes no more bytes, rings no sooner than this.
ALARM_FLOOR_S = 0.01
# Each stream is a circuit that our tor keeps up. Beside those that were agreed: one that is doubted, and one that came
# meanwhile.
EXTRA_STREAMS = 2

OnEvent = Callable[[Event], None]
OnData = Callable[[DataEvent], None]


class Room:
    """What all links of one party may hold for replay, and who waits for some of it to come free."""

    def __init__(self) -> None:
        self.budget = ReplayBudget()
        self._waiting: asyncio.Future[None] | None = None

    def free(self) -> None:
        """Let everyone who waits look again."""
        if self._waiting is not None:
            self._waiting.set_result(None)
            self._waiting = None

    async def change(self) -> None:
        """Wait until somebody may have let go of something, or a link is over."""
        if self._waiting is None:
            self._waiting = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._waiting)  # others may wait for the same


@dataclass(slots=True, eq=False)
class _Carrier:
    """One stream of a link; `ended` makes it stop."""

    secure: SecureStream
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class LinkRunner:
    """One link, over whatever streams it is given.

    Args:
        on_event: called with each event of the link, in order; must not block. Data comes here only while it has no
            sink of its own (`deliver_data_to`).
        room: shared with the other links of this party.
        rate: records that go out each second, all of one size, whatever there is to say, over one stream at a time;
            0 says what there is to say when there is.

    Attributes:
        wanting: set while no stream brings anything, and the link is not over.
        kept: how many streams it is to have.
        lacking: set while it has fewer, and is not over.
        max_streams: how many it may have for a while.
        break_reason: how the last stream ended.
        round_trip_s: of what is urgent, in seconds, as far as it is known.
    """

    def __init__(self, on_event: OnEvent, room: Room | None = None, *, rate: int = 0) -> None:
        self.wanting = asyncio.Event()
        self.lacking = asyncio.Event()
        self.kept = 1
        self.max_streams = 1 if rate else 1 + EXTRA_STREAMS
        self.break_reason = "the stream was closed"
        self.round_trip_s: float | None = None
        self._room = room or Room()
        self.link = Link(budget=self._room.budget)
        self._on_event = on_event
        self._on_data: OnData | None = None
        self._rate = rate
        self._alone = False
        self._stays = False
        self._failure: OnionMPCError | None = None
        self._bug: BaseException | None = None
        self._forwarding_bugs = ErrorForwarder(self._note_bug)
        self._over = asyncio.Event()
        self._content = asyncio.Event()
        self._measured = asyncio.Event()
        self._parted = asyncio.Event()
        self._carriers: dict[int, _Carrier] = {}
        self._alarm: asyncio.TimerHandle | None = None
        self._sending: asyncio.Handle | None = None

    @property
    def alive(self) -> bool:
        """Whether the peer may still hear us, be it over a stream to come."""
        return not self._over.is_set()

    @property
    def streams(self) -> int:
        """How many streams it has, besides those that are being closed."""
        return sum(not carrier.ended.is_set() for carrier in self._carriers.values())

    @property
    def silent_s(self) -> float:
        """For how many seconds nothing has come."""
        return self.link.silent_for(time.monotonic())

    # -- its streams

    async def carry(self, secure: SecureStream, peer_offsets: tuple[int, int] = (0, 0)) -> None:
        """Move bytes over this stream, beside any others, until it breaks or the link is over; close it."""
        carrier = _Carrier(secure)
        number = secure.number
        try:
            if not self.alive:
                return
            self.link.attach(number, time.monotonic(), peer_offsets=peer_offsets)
            self._carriers[number] = carrier
            # The new one brought something just now. Those that have not for long may be dead without our knowing.
            for surplus in self.link.quietest_first()[: -self.max_streams]:
                self._carriers[surplus].ended.set()
            self._assess()
            await self._move(number, carrier)
        except RemoteProtocolError as error:
            self.fail(error)
        finally:
            self._carriers.pop(number, None)
            self.link.detach(number)
            await secure.close()
            self._room.free()
            # The others send now what this one had not delivered.
            self.wake()
            self._assess()

    async def carry_alone(self, secure: SecureStream) -> None:
        """Move bytes over this one stream; the link ends with it.

        Raises:
            LinkExpired: the stream ended before the link was closed.
            RemoteProtocolError: the peer broke the rules, or says that we did.
        """
        self._alone = True
        await self.carry(secure)
        self.fail(LinkExpired(self.break_reason))
        await self.run()

    async def run(self) -> None:
        """Wait until the link is over: closed by either side, or failed.

        Raises:
            OnionMPCError: why it failed.
        """
        try:
            await self._over.wait()
        finally:
            self._end()
        if self._bug is not None:
            raise self._bug
        if self._failure is not None:
            raise self._failure

    def _note_bug(self, error: BaseException) -> None:
        """Take what the loop's calls of us raised: it would be written down, and the link would wait for ever."""
        self._bug = error
        self._over.set()

    async def contentment(self) -> None:
        """Wait until a stream brings something, or the link is over."""
        await self._content.wait()

    def keep(self, streams: int) -> None:
        """Say how many streams there are to be from now on."""
        self.kept = streams
        self._assess()

    async def compare(self, streams: int) -> None:
        """Wait until it is known of so many streams how fast they are."""
        while self.link.compared() < streams:
            self._measured.clear()
            await self._measured.wait()

    def let_go(self) -> None:
        """Close the slowest stream, if there are more than are kept."""
        if self.streams > self.kept:
            *_, slowest = (number for number in self.link.ranking() if not self._carriers[number].ended.is_set())
            self._carriers[slowest].ended.set()

    def doubt(self) -> None:
        """Doubt all streams: our machine was asleep, or the way to the others was lost."""
        self.link.doubt(time.monotonic())
        self._heed_time()

    # -- what is said

    def wake(self) -> None:
        """Send what the link has to say, if not at its rate; writes of one turn of the loop leave together."""
        if self._sending is None and self.link.speaks():
            self._send_soon()

    def send_control(self, payload: bytes) -> None:
        """Queue a control message, unless the link has ended."""
        if self.link.state is State.OPEN:
            self.link.send_control(payload)
            self.wake()

    def offer_data(self, payload: bytes) -> bytes:
        """Queue bytes of the program; return those for which the window has no room, nothing once the link is over."""
        if not self.alive:
            return b""
        room = self.link.room()
        self.link.send_data(payload[:room])
        self._send_soon()
        return payload[room:]

    async def send_data(self, payload: bytes) -> None:
        """Queue bytes of the program, waiting while the window is full."""
        while payload := self.offer_data(payload):
            await self._room.change()

    def end_data(self) -> None:
        """Say that the program sends nothing more."""
        if self.link.state is State.OPEN:
            self.link.end_data()
            self.wake()

    def consume(self, size: int) -> None:
        """Say that the program took `size` bytes."""
        if self.link.state is State.OPEN:
            self.link.consume(size, time.monotonic())
            self._wake_in_time()

    def deliver_data_to(self, sink: OnData | None) -> None:
        """Call `sink` with the events of the data channel from now on; None sends them to `on_event` again.

        The program's bytes thus do not pass through those who watch the link, and each costs one call. Bytes that come
        before anyone asked for them are for the watchers to judge.
        """
        self._on_data = sink

    def ping(self) -> None:
        """Ask the peer for a sign of life."""
        if self.link.state is State.OPEN:
            self.link.ping()
            self._heed_time()

    # -- how it ends

    def close(self, *, heard: bool = False) -> None:
        """Close the link in good order.

        Args:
            heard: keep its streams until the peer ends them or closes the link too, or for LAST_WORDS_S. For who closes
                since it leaves: its tor may end next, and would take along what has not left it.
        """
        self._stays = heard
        self.link.close()
        self._end()

    async def close_when_flushed(self, timeout_s: float = LAST_WORDS_S) -> None:
        """Close the link once the peer has acknowledged what was said, or after `timeout_s` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self.alive and not self.link.flushed():
                    await self._room.change()
        self.close(heard=True)

    async def last_words(self) -> None:
        """Wait until a link that is over has said so on all its streams, for at most LAST_WORDS_S."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_S):
                while self._carriers:
                    await self._room.change()

    def abort(self, code: AbortCode) -> None:
        """End the link because the peer broke the rules."""
        self.link.abort(code)
        self._end()

    def fail(self, error: OnionMPCError) -> None:
        """End the link for this reason, unless it is over."""
        if self.link.state is State.OPEN or isinstance(error, RemoteProtocolError):
            self._failure = self._failure or error
        self.link.close()
        self._end()

    def _end(self) -> None:
        """Let everyone who waits for something see that the link is over."""
        self._over.set()
        self._drop_alarm()
        self._assess()
        self._room.free()
        for carrier in self._carriers.values():
            carrier.ended.set()

    # -- one stream

    async def _move(self, number: int, carrier: _Carrier) -> None:
        secure = carrier.secure
        await secure.begin(lambda plaintext: self._receive(number, plaintext), self.wake)
        async with asyncio.TaskGroup() as tasks:
            moving = [tasks.create_task(self._note_end(carrier))]
            if self._rate:
                moving.append(tasks.create_task(self._send_at_rate(number, secure)))
            else:
                self._send_soon()
            await carrier.ended.wait()
            if self.link.state is not State.OPEN:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LAST_WORDS_S):
                        await (asyncio.wait(moving[1:]) if self._rate else secure.drain())
                        self._send()
                        await secure.flush(LAST_WORDS_S)
                        if self._stays:
                            moving.append(tasks.create_task(self._note_parting()))
                            await asyncio.wait([moving[0], moving[-1]], return_when=asyncio.FIRST_COMPLETED)
            for task in moving:
                task.cancel()

    async def _note_parting(self) -> None:
        await self._parted.wait()

    async def _note_end(self, carrier: _Carrier) -> None:
        try:
            await carrier.secure.ended()
            self.break_reason = "the stream ended"
        except OSError as error:
            self.break_reason = f"the stream broke ({error.strerror or type(error).__name__})"
        finally:
            carrier.ended.set()

    def _receive(self, number: int, plaintext: bytes) -> None:
        try:
            for event in self.link.receive(number, plaintext, time.monotonic()):
                self._handle(event)
        except RemoteProtocolError as error:
            # Raised by `run`, when the peer has been told.
            self.link.abort(AbortCode.FRAME)
            self.fail(error)
        if self.link.parted:
            self._parted.set()
        if self.wanting.is_set():
            self._assess()
        self._room.free()
        self._wake_in_time()
        if self.link.state is not State.OPEN:
            self._end()

    def _handle(self, event: Event) -> None:
        if self._on_data is not None and isinstance(event, ProgramBytes | ProgramEnd):
            self._on_data(event)
            return
        if isinstance(event, LinkAborted):
            raise RemoteProtocolError(f"the peer says that we broke its rules ({event.code.name.lower()})")
        if isinstance(event, RoundTrip):
            best = self.link.best
            self.round_trip_s = self.round_trip_s if best is None else self.link.round_trip_s(best)
            self._measured.set()
            # Another one comes in its place. All may slow down at once: they go one after the other.
            if 1 < self.kept <= self.streams and (slowed := self.link.slowed()):
                self._carriers[slowed[0]].ended.set()
        self._on_event(event)

    def _send_soon(self) -> None:
        if self._sending is None and not self._rate:
            self._sending = asyncio.get_running_loop().call_soon(self._send_now)

    def _send_now(self) -> None:
        with self._forwarding_bugs:
            self._send()

    def _send(self) -> None:
        """Send all that there is to say, each stream as much as it takes."""
        self._sending = None
        if self._rate:
            return
        now = time.monotonic()
        for number, carrier in self._carriers.items():
            secure = carrier.secure
            while secure.takes_more and (record := self.link.transmit(number, now)):
                secure.send([record])
        self._set_alarm_in_time()

    async def _send_at_rate(self, number: int, secure: SecureStream) -> None:
        """Send a record at each tick and at no other time."""
        ticks = Ticks(self._rate, time.monotonic())
        while True:
            over = self.link.state is not State.OPEN
            now = time.monotonic()
            if records := [self.link.fill(number, now, FILLED_PLAINTEXT_BYTES) for _ in range(ticks.take(now))]:
                secure.send(records)
                if over:
                    return
                await secure.drain()
            self._set_alarm_in_time()
            await asyncio.sleep(ticks.next_at - time.monotonic())

    # -- when to do what

    def _wake_in_time(self) -> None:
        """Wake now if the link has something to say, and when it is to heed the time, or before."""
        self.wake()
        self._set_alarm_in_time()

    def _set_alarm_in_time(self) -> None:
        at = self.link.wake_at()
        # An alarm that rings too early is set again then: to put it off with each message would cost more. The link's
        # clock is time.monotonic(), as that of asyncio's loop.
        if at is not None and (self._alarm is None or at < self._alarm.when()):
            self._drop_alarm()
            self._set_alarm(max(at, time.monotonic() + ALARM_FLOOR_S))

    def _set_alarm(self, at: float) -> None:
        self._alarm = asyncio.get_running_loop().call_at(at, self._ring)

    def _ring(self) -> None:
        # At the latest then again: a stream that takes no bytes and brings nothing has to be doubted all the same.
        self._set_alarm(time.monotonic() + PING_AFTER_S)
        with self._forwarding_bugs:
            self._heed_time()
            stale = self.link.stale(time.monotonic())
            # The last one is kept: what it lost may only be late, and the next may be long in coming.
            if self._alone or len(stale) < len(self._carriers):
                for number in stale:
                    self.break_reason = f"nothing came for {SILENCE_LIMIT_S:.0f} s"
                    self._carriers[number].ended.set()

    def _heed_time(self) -> None:
        """Let the link do what has fallen due, also where no stream takes bytes."""
        self.link.heed_time(time.monotonic())
        self._send_soon()
        self._assess()

    def _assess(self) -> None:
        """Say whether a stream is wanted."""
        if self.alive and self.streams < self.kept:
            self.lacking.set()
        else:
            self.lacking.clear()
        if self.alive and self.link.suspicious(time.monotonic()):
            self._content.clear()
            self.wanting.set()
        else:
            self.wanting.clear()
            self._content.set()

    def _drop_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
