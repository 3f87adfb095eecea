"""A resumable link: two ordered byte channels between two parties, across broken streams.

It acknowledges, replays, sends heartbeats and detects silent streams. onionmpc.wire.paths picks the fastest stream. No
sockets and no clock: bytes and the time come in as arguments, and streams are numbers that the caller picks. Rules:
docs/PROTOCOL.md section 3.
"""

from __future__ import annotations

import contextlib
import enum
import math
from dataclasses import dataclass, field

from onionmpc.errors import LocalProtocolError, RemoteProtocolError
from onionmpc.wire.channel import Inbox, Outbox, Span, unacknowledged
from onionmpc.wire.frames import (
    ACK_FRAME,
    DATA_OVERHEAD_BYTES,
    MAX_RECORD_BYTES,
    Abort,
    AbortCode,
    Ack,
    Channel,
    Close,
    Data,
    End,
    Frame,
    Padding,
    Ping,
    Pong,
    decode_frames,
    encode_ack,
    encode_data,
    encode_frame,
)
from onionmpc.wire.paths import CHUNK_BYTES, Path, PathSelector

# Five rounds of 10**5 shares of 8 bytes, per link and channel. Also what a receiver is ready to hold: the data channel
# is acknowledged as the program takes it, so a sender that keeps to it bounds the memory of both sides.
WINDOW_BYTES = 4 * 2**20
# The limit for all links of a party together: eight full windows. Beyond it each link keeps a share of its own.
# Otherwise a peer that is away could block the data to all others.
REPLAY_LIMIT_BYTES = 32 * 2**20
OWN_SHARE_BYTES = 64 * 2**10
ACK_DELAY_S = 0.2
ACK_AFTER_BYTES = 64 * 2**10
# A heartbeat, and three missed heartbeats. The slowest round trips through tor that we have seen are below ten seconds.
PING_AFTER_S = 5.0
SUSPECT_AFTER_S = 3 * PING_AFTER_S
# A stream that brings nothing for this long is given up, unless it is the only one.
SILENCE_LIMIT_S = 3 * SUSPECT_AFTER_S
# With several streams, one that leaves a ping unanswered for this long, and for this many of its round trips, yields to
# the others before it is suspicious: they are there, and using them costs nothing.
LATE_AFTER_S = 3.0
LATE_ROUND_TRIPS = 4
# A stream whose round trip is known gets one ping each 30 s to measure it again, even if it is never silent.
MEASURE_EVERY_S = 30.0
# How many pieces may wait behind gaps. An honest sender gives whole chunks, 256 to a window, to all streams but the
# fastest. A hostile one could send pieces of one byte, each of which costs us far more than a byte of memory.
MAX_PIECES = 1024


class State(enum.Enum):
    """The state of a link."""

    OPEN = enum.auto()
    CLOSED = enum.auto()
    ERROR = enum.auto()


@dataclass(frozen=True, slots=True)
class ControlBytes:
    """The next bytes of the control channel."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class ProgramBytes:
    """The next bytes of the data channel."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class ProgramEnd:
    """The peer's program sends nothing more."""


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """A ping came back over this stream after `seconds`."""

    seconds: float
    stream: int


@dataclass(frozen=True, slots=True)
class LinkClosed:
    """The peer closed the link in good order."""


@dataclass(frozen=True, slots=True)
class LinkAborted:
    """The peer reports that this party broke the rules."""

    code: AbortCode


DataEvent = ProgramBytes | ProgramEnd
Event = ControlBytes | DataEvent | RoundTrip | LinkClosed | LinkAborted


class ReplayBudget:
    """Counts the bytes that all links of one party hold for replay."""

    def __init__(self, limit_bytes: int = REPLAY_LIMIT_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._held_bytes = 0

    @property
    def left(self) -> int:
        """The number of bytes that may still be held, 0 or more."""
        return max(0, self._limit_bytes - self._held_bytes)

    def hold(self, size: int) -> None:
        """Count `size` bytes that are held from now on; a negative size releases bytes."""
        self._held_bytes += size


@dataclass(slots=True)
class _Stream:
    """The state of one of a link's streams.

    Attributes:
        path: how fast it is, and whether it is late.
        heard_at: when something last arrived over it.
        ping_at: when to send the next ping over it.
        asked_at: when the last ping was sent.
        pings: tokens of unanswered pings, and when each was sent.
        answers: frames that must go over this stream and no other.
        spoken: whether bytes or an acknowledgement of ours may be on their way over it.
        carried: the spans of each channel that it was given and the peer has not acknowledged.
    """

    path: Path
    heard_at: float
    ping_at: float
    asked_at: float = -math.inf
    pings: dict[int, float] = field(default_factory=dict)
    answers: list[Frame] = field(default_factory=list)
    spoken: bool = False
    carried: dict[Channel, list[Span]] = field(default_factory=lambda: {channel: [] for channel in Channel})

    @property
    def late_at(self) -> float:
        """When it becomes late if nothing arrives over it."""
        asked_at = max(self.heard_at, min(self.pings.values(), default=math.inf))
        patience_s = max(LATE_AFTER_S, LATE_ROUND_TRIPS * self.path.usual_s)
        return min(asked_at + patience_s, self.heard_at + SUSPECT_AFTER_S)

    def carry(self, channel: Channel, start: int, stop: int) -> None:
        """Note what it was given."""
        spans = self.carried[channel]
        if spans and spans[-1][1] == start:
            start = spans.pop()[0]
        spans.append((start, stop))
        self.spoken = True


class Link:
    """One link of the mesh; outlives its streams.

    Call `receive` with each record's plaintext and handle the events that it returns; after anything that may have
    caused frames, and whenever `wake_at` has come, send over each stream what `transmit` returns for it. Or, where
    nobody is to see when there is something to say, send what `fill` returns at times of your own.

    Any number of streams may be attached. What is sent goes over the fastest of them that is not late; much of it over
    the next ones as well. What comes is taken from all.

    Args:
        window_bytes: how many unacknowledged bytes a channel may hold; the same at both ends.
        budget: what all links of this party may hold together.

    Attributes:
        parted: whether the peer has sent CLOSE or ABORT, even if after ours.
    """

    def __init__(self, *, window_bytes: int = WINDOW_BYTES, budget: ReplayBudget | None = None) -> None:
        self.state = State.OPEN
        self.parted = False
        self._window_bytes = window_bytes
        self._budget = budget or ReplayBudget()
        self._out = {channel: Outbox() for channel in Channel}
        self._in = {channel: Inbox() for channel in Channel}
        self._consumed = 0
        self._end: int | None = None  # of what the peer's program sends
        self._streams: dict[int, _Stream] = {}
        self._paths = PathSelector()
        self._due_at = -math.inf
        self._unacknowledged_bytes = 0
        self._ack_at: float | None = None
        self._heard_at: float | None = None
        self._next_token = 1

    def __repr__(self) -> str:
        return f"<Link {self.state.name} streams={len(self._streams)}>"

    # -- streams

    def offsets(self) -> tuple[int, int]:
        """Return how much of each channel is acknowledged, as a resume handshake says it and every ACK.

        Not how much of the data channel has arrived: what the program has not taken still fills the window, and a
        sender that forgot it would overrun us.
        """
        return self._in[Channel.CONTROL].received, self._consumed

    def attach(self, stream: int, now: float, *, peer_offsets: tuple[int, int] = (0, 0)) -> None:
        """Add a stream. `peer_offsets` say how much of each channel the peer has.

        Raises:
            RemoteProtocolError: the peer claims bytes that were never sent.
        """
        self._require_open()
        self._peer_acknowledges(*peer_offsets)
        # Ping the other streams too: the peer may have dialled because it knows that they deliver nothing.
        for other in self._streams.values():
            other.ping_at = min(other.ping_at, now)
        # At once: the dialler must send a record for the listener to attach, and both want a round trip.
        self._streams[stream] = _Stream(self._paths.add(stream), now, now)
        self._due_at = self._heard_at = now

    def detach(self, stream: int) -> None:
        """Remove a stream that broke. What it may not have delivered is sent again over the others."""
        if (broken := self._streams.pop(stream, None)) is not None:
            self._leave(broken)
            self._paths.remove(stream)

    @property
    def best(self) -> int | None:
        """The best stream, which carries urgent data; None without a stream."""
        return self._paths.best

    def ranking(self) -> list[int]:
        """Return the streams, the best first."""
        return self._paths.ranking()

    def round_trip_s(self, stream: int) -> float | None:
        """Return how long a round trip over this stream usually takes, in seconds; None if it is not known."""
        return self._paths.usual_s(stream)

    def compared(self) -> int:
        """Return over how many streams there were enough round trips to tell how fast they are."""
        return self._paths.compared()

    def slowed(self) -> list[int]:
        """Return the streams whose round trips stay far over what they were at first."""
        return self._paths.slowed()

    def suspicious(self, now: float) -> bool:
        """Return whether no stream has brought anything, heartbeats included, for SUSPECT_AFTER_S; no verdict yet."""
        return all(self._is_suspicious(stream, now) for stream in self._streams.values())

    def stale(self, now: float) -> list[int]:
        """Return the streams that have brought nothing for SILENCE_LIMIT_S."""
        return [number for number, stream in self._streams.items() if now - stream.heard_at >= SILENCE_LIMIT_S]

    def doubt(self, now: float) -> None:
        """Take every stream for suspicious until it brings something: our machine was asleep, and heard nobody."""
        self._heard_at = now
        for stream in self._streams.values():
            stream.heard_at = min(stream.heard_at, now - SUSPECT_AFTER_S)
            stream.ping_at = self._due_at = now
            stream.path.late = True
        self._paths.rank()

    def quietest_first(self) -> list[int]:
        """Return the streams in the order of when they brought something last."""
        return sorted(self._streams, key=lambda number: self._streams[number].heard_at)

    def silent_for(self, now: float) -> float:
        """Return for how many seconds nothing has arrived over any stream."""
        return 0.0 if self._heard_at is None else now - self._heard_at

    def _leave(self, stream: _Stream) -> None:
        """Queue again, for other streams, what this one may not deliver."""
        for channel, spans in stream.carried.items():
            self._out[channel].lose(spans)
            spans.clear()
        stream.spoken = False
        # Our last ACK may be lost with it. Where the peer's bytes came over another stream, no replay asks for it.
        self._unacknowledged_bytes = ACK_AFTER_BYTES

    def _is_suspicious(self, stream: _Stream, now: float) -> bool:
        return now - stream.heard_at >= SUSPECT_AFTER_S

    # -- sending

    def room(self) -> int:
        """Return how many more bytes of the program can be taken before a peer acknowledges some."""
        held = len(self._out[Channel.DATA].pending)
        return max(0, min(self._window_bytes - held, max(self._budget.left, OWN_SHARE_BYTES - held)))

    def send_control(self, payload: bytes) -> None:
        """Queue bytes of the control channel."""
        self._require_open()
        if len(self._out[Channel.CONTROL].pending) + len(payload) > self._window_bytes:
            raise LocalProtocolError("the control channel has too many unacknowledged bytes")
        self._out[Channel.CONTROL].say(payload)

    def send_data(self, payload: bytes) -> None:
        """Queue bytes of the program; the caller keeps to `room`."""
        self._require_open()
        if self._out[Channel.DATA].end is not None:
            raise LocalProtocolError("the program sent bytes after its end")
        if len(payload) > self.room():
            raise LocalProtocolError(f"the program sent {len(payload)} bytes, but there is room for {self.room()}")
        self._out[Channel.DATA].say(payload)
        self._budget.hold(len(payload))

    def end_data(self) -> None:
        """Queue the end of the data channel: the program sends nothing more."""
        self._require_open()
        self._out[Channel.DATA].say_end()

    def ping(self) -> None:
        """Ping the peer over every stream."""
        self._require_open()
        for stream in self._streams.values():
            stream.ping_at = self._due_at = -math.inf

    def close(self) -> None:
        """Queue a CLOSE, and stop."""
        self._stop(State.CLOSED, Close())

    def abort(self, code: AbortCode) -> None:
        """Queue an ABORT because the peer broke the rules, and stop."""
        self._stop(State.ERROR, Abort(code))

    def _stop(self, state: State, last_words: Frame | None = None) -> None:
        if self.state is not State.OPEN:
            return
        self.state = state
        self._budget.hold(-len(self._out[Channel.DATA].pending))
        for stream in self._streams.values():
            # Over all of them: the one that data goes over may be the one that delivers nothing.
            stream.answers = [last_words] if last_words else []

    def flushed(self) -> bool:
        """Return whether the peer has acknowledged all that was queued."""
        return all(box.acknowledged == box.top for box in self._out.values())

    def transmit(self, number: int, now: float) -> bytes:
        """Return the plaintext of the next record to send over this stream now, nothing if there is none.

        To be called again as soon as the stream takes more: so a fast one carries more than a slow one.
        """
        stream = self._streams.get(number)
        if stream is None:
            return b""
        self.do_what_is_due(now)
        # Before anything is made: this is asked once more after each record, and of all streams.
        is_best = number == self._paths.best
        acknowledge = is_best and (self._unsent() or self._ack_is_due(now))
        if (
            not stream.answers
            and not acknowledge
            and (is_best or not self._paths.takes_bulk(number, self._out[Channel.DATA].unsent()))
        ):
            return b""
        return self._record(number, now, MAX_RECORD_BYTES, acknowledge=acknowledge)

    def fill(self, number: int, now: float, size: int) -> bytes:
        """Return the plaintext of the next record for this stream, of exactly `size` bytes, whatever is to be said.

        It holds what fits, an acknowledgement whenever there is one since it costs nothing here, and padding.
        """
        self.do_what_is_due(now)
        record = self._record(number, now, size, acknowledge=True)
        return record + encode_frame(Padding(size - len(record)))

    def speaks(self) -> bool:
        """Return whether any stream has something to send at once."""
        for stream in self._streams.values():
            if stream.answers:
                return True
        return self._unacknowledged_bytes >= ACK_AFTER_BYTES or self._unsent()

    def wake_at(self) -> float | None:
        """Return when `do_what_is_due` has something to do even if nothing arrives, or None."""
        if self.state is not State.OPEN or not self._streams:
            return None
        return self._due_at if self._ack_at is None else min(self._due_at, self._ack_at)

    def do_what_is_due(self, now: float) -> None:
        """Ask streams for a sign of life, and leave those that owe one for others."""
        if now < self._due_at or self.state is not State.OPEN or not self._streams:
            return
        streams = self._streams.values()
        for stream in streams:
            if now >= stream.ping_at:
                self._ask(stream, now)
            stream.path.late = stream.path.late or now >= stream.late_at
        self._paths.rank()
        # At the earliest: what comes meanwhile puts it off.
        self._due_at = min(stream.ping_at for stream in streams)
        if len(streams) > 1:
            self._due_at = min([self._due_at, *(stream.late_at for stream in streams if not stream.path.late)])
        if not all(stream.path.late for stream in streams):
            for stream in streams:
                if stream.path.late and stream.spoken:
                    self._leave(stream)

    def _ask(self, stream: _Stream, now: float) -> None:
        stream.asked_at = self._due_at = now
        stream.ping_at = now + PING_AFTER_S
        if not any(isinstance(frame, Ping) for frame in stream.answers):  # or one that takes no bytes would gather them
            stream.pings[self._next_token] = now
            stream.answers.append(Ping(self._next_token))
            self._next_token += 1

    def _unsent(self) -> bool:
        """Return whether there is something that no stream has."""
        control, data = self._out.values()
        return control.given < control.top or data.given < data.top or bool(control.lost or data.lost)

    def _ack_is_due(self, now: float) -> bool:
        return self._unacknowledged_bytes >= ACK_AFTER_BYTES or (self._ack_at is not None and now >= self._ack_at)

    def _record(self, number: int, now: float, size: int, *, acknowledge: bool) -> bytes:
        """Return what fits into `size` bytes of all that is to be said over this stream."""
        stream, record = self._streams[number], bytearray()
        while stream.answers and len(record) + len(answer := encode_frame(stream.answers[0])) <= size:
            record += answer
            del stream.answers[0]
        if self.state is not State.OPEN:
            return bytes(record)
        if number == self._paths.best:
            if acknowledge and self._unacknowledged_bytes and len(record) + ACK_FRAME.size <= size:
                record += encode_ack(*self.offsets())
                self._unacknowledged_bytes = 0
                self._ack_at = None
                stream.spoken = True
            for channel, outbox in self._out.items():
                while outbox.unsent() and (room := size - len(record) - DATA_OVERHEAD_BYTES) > 0:
                    record += self._give(stream, channel, room, now)
        elif (
            self._paths.takes_bulk(number, self._out[Channel.DATA].unsent())
            and (room := min(CHUNK_BYTES, size - len(record)) - DATA_OVERHEAD_BYTES) > 0
        ):
            record += self._give(stream, Channel.DATA, room, now)
        return bytes(record)

    def _give(self, stream: _Stream, channel: Channel, size: int, now: float) -> bytes:
        """Return the frame of what comes next in a channel, which this stream has to carry."""
        outbox = self._out[channel]
        start, stop = outbox.take(size)
        stream.carry(channel, start, stop)
        stream.path.load(stop - start, now)
        if start == outbox.end:
            return encode_frame(End(start))
        return encode_data(channel, start, outbox.read(start, stop))

    # -- receiving

    def consume(self, size: int, now: float) -> None:
        """Say that the program took `size` more bytes of the data channel (ProgramEnd counts as one).

        Only then are they acknowledged: a program that does not read stops its peers, and fills no memory.
        """
        self._consumed += size
        if self._consumed > self._in[Channel.DATA].received:
            raise LocalProtocolError("more bytes were consumed than had arrived")
        self._owe_ack(size, now)

    def receive(self, number: int, plaintext: bytes, now: float) -> list[Event]:
        """Take the plaintext of one record that came over this stream; return what happened.

        Raises:
            RemoteProtocolError: the peer broke the rules; the link is in ERROR and has queued an ABORT.
        """
        stream = self._streams.get(number)
        if stream is None:
            return []
        if self.state is not State.OPEN:
            with contextlib.suppress(RemoteProtocolError):
                self.parted |= any(isinstance(frame, Close | Abort) for frame in decode_frames(plaintext))
            return []
        self._heard_at = stream.heard_at = now
        if stream.path.late:
            stream.path.late = False
            self._paths.rank()
            self._due_at = now  # to leave others that are late
        if stream.ping_at > now:  # one that is due leaves all the same
            stream.ping_at = now + PING_AFTER_S
            if len(self._streams) > 1:
                stream.ping_at = min(stream.ping_at, max(now, stream.asked_at + MEASURE_EVERY_S))
        events: list[Event] = []
        try:
            for frame in decode_frames(plaintext):
                events += self._handle(number, stream, frame, now)
                if self.state is not State.OPEN:
                    break  # nothing comes after a CLOSE or an ABORT
        except RemoteProtocolError:
            self.abort(AbortCode.FRAME)  # unless it says already which other rule it was
            raise
        return events

    def _handle(self, number: int, stream: _Stream, frame: Frame, now: float) -> list[Event]:
        match frame:
            case Data(channel, offset, payload):
                stream.path.load(len(payload), now)
                return self._arrived(channel, offset, payload, now)
            case End(offset):
                return self._end_arrived(offset, now)
            case Ack(control, data):
                self._peer_acknowledges(control, data)
            case Ping(token):
                # One answer per stream is enough. A peer that floods pings must not grow our queue.
                stream.answers = [frame for frame in stream.answers if not isinstance(frame, Pong)]
                stream.answers.append(Pong(token))
            case Pong(token) if token in stream.pings:
                seconds = now - stream.pings[token]
                stream.pings = {other: at for other, at in stream.pings.items() if other > token}
                stream.path.measure(seconds, now)
                self._paths.rank()
                # There is nothing to compare a lone stream with.
                if not stream.path.compared and len(self._streams) > 1:
                    self._ask(stream, now)
                return [RoundTrip(seconds, number)]
            case Close():
                self.parted = True
                self._stop(State.CLOSED)
                return [LinkClosed()]
            case Abort(code):
                self.parted = True
                self._stop(State.ERROR)
                return [LinkAborted(code)]
        return []

    def _arrived(self, channel: Channel, offset: int, payload: bytes, now: float) -> list[Event]:
        inbox, stop = self._in[channel], offset + len(payload)
        if channel is Channel.DATA and self._end is not None and stop > self._end:
            raise self._broken(AbortCode.OFFSET, "bytes of the program came after its end")
        self._require_asked_for(channel, stop)
        if stop <= inbox.received:
            # A replay of what has arrived: the sender missed our acknowledgement.
            self._owe_ack(len(payload), now)
            return []
        fresh = inbox.put(offset, payload)
        if len(inbox.held) > MAX_PIECES:
            raise self._broken(AbortCode.LIMIT, f"more than {MAX_PIECES} pieces came before those in front of them")
        if not fresh:
            return []
        if channel is Channel.CONTROL:
            self._owe_ack(len(fresh), now)
            return [ControlBytes(fresh)]
        return [ProgramBytes(fresh), *self._ended()] if self._end is not None else [ProgramBytes(fresh)]

    def _end_arrived(self, offset: int, now: float) -> list[Event]:
        inbox = self._in[Channel.DATA]
        if offset == self._end:
            self._owe_ack(1, now)
            return []
        if self._end is not None or offset < inbox.top:
            expected = inbox.top if self._end is None else self._end
            raise self._broken(AbortCode.OFFSET, f"the data channel ends at byte {offset}, expected {expected}")
        self._require_asked_for(Channel.DATA, offset)
        self._end = offset
        return self._ended()

    def _ended(self) -> list[Event]:
        inbox = self._in[Channel.DATA]
        if inbox.received != self._end:
            return []
        inbox.received += 1
        return [ProgramEnd()]

    def _require_asked_for(self, channel: Channel, stop: int) -> None:
        """Check that a peer keeps to the window. Gaps count too: no more than a window may wait here."""
        taken = self._consumed if channel is Channel.DATA else self._in[channel].received
        if stop > taken + self._window_bytes:
            what = f"{self._window_bytes} bytes of the {channel.name.lower()} channel"
            raise self._broken(AbortCode.LIMIT, f"more than {what} came unasked")

    def _peer_acknowledges(self, control: int, data: int) -> None:
        for channel, offset in ((Channel.CONTROL, control), (Channel.DATA, data)):
            outbox = self._out[channel]
            if offset <= outbox.acknowledged:
                continue
            if offset > outbox.given:
                what = f"the {channel.name.lower()} channel up to {offset}, and we sent it up to {outbox.given}"
                raise self._broken(AbortCode.OFFSET, f"the peer acknowledges {what}")
            held = len(outbox.pending)
            outbox.acknowledge(offset)
            for stream in self._streams.values():
                if spans := stream.carried[channel]:
                    stream.carried[channel] = unacknowledged(spans, offset)
            if channel is Channel.DATA:
                self._budget.hold(len(outbox.pending) - held)

    def _broken(self, code: AbortCode, what: str) -> RemoteProtocolError:
        """Queue an ABORT and return what to raise."""
        self.abort(code)
        return RemoteProtocolError(what)

    def _owe_ack(self, size: int, now: float) -> None:
        self._unacknowledged_bytes += size
        if self._unacknowledged_bytes and self._ack_at is None:
            self._ack_at = now + ACK_DELAY_S

    def _require_open(self) -> None:
        if self.state is not State.OPEN:
            raise LocalProtocolError(f"the link is {self.state.name}, expected OPEN")
