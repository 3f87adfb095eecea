"""A resumable link: two ordered byte channels between two parties, across broken streams.

It acknowledges, replays, sends heartbeats and detects silent streams. onionmpc.wire.paths picks the fastest stream. It
has no sockets and no clock: bytes and the time come in as arguments, and the caller numbers the streams. Rules:
docs/PROTOCOL.md section 3.
"""

from __future__ import annotations

import contextlib
import enum
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from onionmpc.errors import LocalProtocolError, RemoteProtocolError
from onionmpc.wire.channel import Inbox, Outbox, Span, unacknowledged
from onionmpc.wire.frames import (
    ACK_FRAME,
    DATA_OVERHEAD_BYTES,
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
from onionmpc.wire.limits import DEFAULT_LINK_LIMITS, LinkLimits
from onionmpc.wire.paths import Path, PathSelector

# The limit for all links of a party together: eight full windows. Each link keeps a small share beyond it. Otherwise a
# few absent peers could block the data to all others.
REPLAY_LIMIT_BYTES = 32 * 2**20
OWN_SHARE_BYTES = 64 * 2**10


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
class EpochEnd:
    """The peer's program sends nothing more in this epoch."""


@dataclass(frozen=True, slots=True)
class ProgramEnd:
    """The peer's program has ended well, and there is no further epoch."""


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """A ping over this stream was answered after `seconds`."""

    seconds: float
    stream: int


@dataclass(frozen=True, slots=True)
class LinkClosed:
    """The peer closed the link properly."""


@dataclass(frozen=True, slots=True)
class LinkAborted:
    """The peer reports that this party broke the rules."""

    code: AbortCode


DataEvent = ProgramBytes | EpochEnd | ProgramEnd
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
        asked_at: when the last ping was queued for it.
        pings: the tokens of unanswered pings, and when each was queued.
        answers: frames that must go over this stream and no other.
        spoken: whether bytes or an acknowledgement of ours may be under way over it.
        carried: the spans of each channel that it was given and that the peer has not acknowledged.
    """

    path: Path
    heard_at: float
    ping_at: float
    asked_at: float = -math.inf
    pings: dict[int, float] = field(default_factory=dict)
    answers: list[Frame] = field(default_factory=list)
    spoken: bool = False
    carried: dict[Channel, list[Span]] = field(default_factory=lambda: {channel: [] for channel in Channel})

    def carry(self, channel: Channel, start: int, stop: int) -> None:
        """Note a span that it was given."""
        spans = self.carried[channel]
        if spans and spans[-1][1] == start:
            start = spans.pop()[0]
        spans.append((start, stop))
        self.spoken = True


class Link:
    """One link of the mesh; outlives its streams.

    Call `receive` with each record's plaintext and handle the events that it returns. After anything that may have
    queued frames, and whenever the time of `wake_at` has come, send over each stream what `transmit` returns for it. At
    a constant rate, send what `fill` returns at times that you choose, so that the times reveal nothing.

    Any number of streams may be attached. Data goes over the fastest one that is not late; bulk data over the next ones
    as well. Data is accepted from all of them.

    Args:
        limits: its window has to be the same at both ends.
        budget: what all links of this party may hold together.

    Attributes:
        peer_closed: whether the peer has sent CLOSE or ABORT, even after ours.
    """

    def __init__(self, *, limits: LinkLimits = DEFAULT_LINK_LIMITS, budget: ReplayBudget | None = None) -> None:
        self.state = State.OPEN
        self.peer_closed = False
        self._limits = limits
        self._budget = budget or ReplayBudget()
        self._out = {channel: Outbox() for channel in Channel}
        self._in = {channel: Inbox() for channel in Channel}
        self._consumed = 0
        self._ends: dict[int, bool] = {}  # the peer's ENDs that are not consumed, and whether each is the last one
        self._streams: dict[int, _Stream] = {}
        self._paths = PathSelector(limits)
        self._due_at = -math.inf
        self._unacknowledged_bytes = 0
        self._ack_at: float | None = None
        self._heard_at: float | None = None
        self._next_token = 1

    def __repr__(self) -> str:
        return f"<Link {self.state.name} streams={len(self._streams)}>"

    # -- streams

    def offsets(self) -> tuple[int, int]:
        """Return how much of each channel we acknowledge, in a resume handshake and in every ACK.

        This is not how much of the data channel has arrived. What the program has not taken still fills the window, and
        a sender that dropped it would exceed the window.
        """
        return self._in[Channel.CONTROL].received, self._consumed

    def attach(self, stream: int, now: float, *, peer_offsets: tuple[int, int] = (0, 0)) -> None:
        """Add a stream. `peer_offsets` are how much of each channel the peer has.

        Raises:
            RemoteProtocolError: the peer claims bytes that were never sent.
        """
        self._require_open()
        self._peer_acknowledges(*peer_offsets)
        # Ping the other streams too. The peer may have dialled because it knows that they deliver nothing.
        for other in self._streams.values():
            other.ping_at = min(other.ping_at, now)
        # Ping at once: the listener attaches the stream only at the dialler's first record, and both sides want to know
        # the round trip.
        self._streams[stream] = _Stream(self._paths.add(stream), now, now)
        self._due_at = self._heard_at = now

    def detach(self, stream: int) -> None:
        """Remove a stream that broke. What it may not have delivered goes again over the others."""
        if (broken := self._streams.pop(stream, None)) is not None:
            self._abandon(broken)
            self._paths.remove(stream)

    @property
    def best(self) -> int | None:
        """The best stream, which carries urgent data; None if there is no stream."""
        return self._paths.best

    def ranking(self) -> list[int]:
        """Return the streams, best first."""
        return self._paths.ranking()

    def round_trip_s(self, stream: int) -> float | None:
        """Return how many seconds a round trip over this stream usually takes; None if that is not known."""
        return self._paths.usual_s(stream)

    def measured(self) -> int:
        """Return how many streams have had enough round trips to tell their speed."""
        return self._paths.measured()

    def slowed(self) -> list[int]:
        """Return the streams whose round trips have stayed far above the first ones."""
        return self._paths.slowed()

    def suspicious(self, now: float) -> bool:
        """Return whether no stream has delivered anything, even a heartbeat, for `suspect_after_s`."""
        return all(self._is_suspicious(stream, now) for stream in self._streams.values())

    def stale(self, now: float) -> list[int]:
        """Return the streams that have delivered nothing for `silence_limit_s`."""
        limit_s = self._limits.silence_limit_s
        return [number for number, stream in self._streams.items() if now - stream.heard_at >= limit_s]

    def doubt(self, now: float) -> None:
        """Treat every stream as suspicious until it delivers something, because our machine was asleep."""
        # Patience with the peer starts again: it was we who were away.
        self._heard_at = now
        for stream in self._streams.values():
            stream.heard_at = min(stream.heard_at, now - self._limits.suspect_after_s)
            stream.ping_at = self._due_at = now
            stream.path.late = True
        self._paths.rank()

    def quietest_first(self) -> list[int]:
        """Return the streams, the one that has been silent longest first."""
        return sorted(self._streams, key=lambda number: self._streams[number].heard_at)

    def silent_for(self, now: float) -> float:
        """Return for how many seconds nothing has arrived over any stream."""
        return 0.0 if self._heard_at is None else now - self._heard_at

    def _abandon(self, stream: _Stream) -> None:
        """Queue again, for other streams, what this one may never deliver."""
        for channel, spans in stream.carried.items():
            self._out[channel].lose(spans)
            spans.clear()
        stream.spoken = False
        # Our last ACK may be lost too. If the peer's bytes came over another stream, it will not replay them, so
        # nothing would make us acknowledge them again.
        self._unacknowledged_bytes = self._limits.ack_after_bytes

    def _is_suspicious(self, stream: _Stream, now: float) -> bool:
        return now - stream.heard_at >= self._limits.suspect_after_s

    def _late_at(self, stream: _Stream) -> float:
        """Return when a stream becomes late if nothing arrives over it."""
        limits = self._limits
        # The oldest unanswered ping counts: with the newest, each further ping would postpone the moment.
        asked_at = max(stream.heard_at, min(stream.pings.values(), default=math.inf))
        patience_s = max(limits.late_after_s, limits.late_round_trips * stream.path.usual_s)
        return min(asked_at + patience_s, stream.heard_at + limits.suspect_after_s)

    # -- sending

    def room(self) -> int:
        """Return how many more bytes of the program fit before the peer acknowledges some."""
        held = self._out[Channel.DATA].pending_bytes
        return max(0, min(self._limits.window_bytes - held, max(self._budget.left, OWN_SHARE_BYTES - held)))

    def send_control(self, payload: bytes) -> None:
        """Queue bytes of the control channel."""
        self._require_open()
        if self._out[Channel.CONTROL].pending_bytes + len(payload) > self._limits.window_bytes:
            raise LocalProtocolError("the control channel has too many unacknowledged bytes")
        self._out[Channel.CONTROL].queue(payload)

    def send_data(self, payload: bytes) -> None:
        """Queue bytes of the program, at most `room()`."""
        self._require_open()
        if len(payload) > self.room():
            raise LocalProtocolError(f"the program sent {len(payload)} bytes, but there is room for {self.room()}")
        self._out[Channel.DATA].queue(payload)
        self._budget.hold(len(payload))

    def has_room_for_end(self) -> bool:
        """Return whether an END can be queued before the peer acknowledges more."""
        return self.room() > 0 and len(self._out[Channel.DATA].ends) < self._limits.max_ends

    def end_data(self, *, last: bool) -> None:
        """Queue the END of an epoch, or the `last` END, that of the program; the caller keeps to `has_room_for_end`."""
        self._require_open()
        if not self.has_room_for_end():
            raise LocalProtocolError("the program ended an epoch, but there is no room for an END")
        self._out[Channel.DATA].queue_end(last=last)
        self._budget.hold(1)

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
        self._budget.hold(-self._out[Channel.DATA].pending_bytes)
        for stream in self._streams.values():
            # Over all of them: the one that carries data may be the one that delivers nothing.
            stream.answers = [last_words] if last_words else []

    def flushed(self) -> bool:
        """Return whether the peer has acknowledged all that was queued."""
        return all(box.acknowledged == box.top for box in self._out.values())

    def transmit(self, number: int, now: float) -> bytes:
        """Return the plaintext of the next record to send over this stream now; empty if there is none.

        Call it again whenever the stream takes more, so that a fast stream carries more than a slow one.
        """
        stream = self._streams.get(number)
        if stream is None:
            return b""
        self.do_what_is_due(now)
        # Decide before building anything: this runs once more after each record, and for every stream.
        is_best = number == self._paths.best
        acknowledge = is_best and (self._unsent() or self._ack_is_due(now))
        if (
            not stream.answers
            and not acknowledge
            and (is_best or not self._paths.takes_bulk(number, self._out[Channel.DATA].unsent()))
        ):
            return b""
        return self._record(number, now, self._limits.record_bytes, acknowledge=acknowledge)

    def fill(self, number: int, now: float, size: int) -> bytes:
        """Return the plaintext of the next record for this stream: exactly `size` bytes, even if nothing is queued.

        It holds what fits, then padding. It acknowledges without delay, since that costs nothing here.
        """
        self.do_what_is_due(now)
        record = self._record(number, now, size, acknowledge=True)
        return record + encode_frame(Padding(size - len(record)))

    def wants_to_send(self) -> bool:
        """Return whether any stream has something to send now."""
        for stream in self._streams.values():
            if stream.answers:
                return True
        return self._unacknowledged_bytes >= self._limits.ack_after_bytes or self._unsent()

    def wake_at(self) -> float | None:
        """Return when `do_what_is_due` next has something to do even if nothing arrives; None if never."""
        if self.state is not State.OPEN or not self._streams:
            return None
        return self._due_at if self._ack_at is None else min(self._due_at, self._ack_at)

    def do_what_is_due(self, now: float) -> None:
        """Ping the streams whose ping is due, and move data away from those that are late."""
        if now < self._due_at or self.state is not State.OPEN or not self._streams:
            return
        streams = self._streams.values()
        for stream in streams:
            if now >= stream.ping_at:
                self._queue_ping(stream, now)
            stream.path.late = stream.path.late or now >= self._late_at(stream)
        self._paths.rank()
        in_time = [stream for stream in streams if not stream.path.late]
        # Possibly too early, since arrivals postpone both; then the next call finds nothing to do.
        self._due_at = min(stream.ping_at for stream in streams)
        if len(streams) > 1:  # a lone stream may be late: there is no other to move to
            self._due_at = min([self._due_at, *map(self._late_at, in_time)])
        if in_time:
            for stream in streams:
                if stream.path.late and stream.spoken:
                    self._abandon(stream)

    def _queue_ping(self, stream: _Stream, now: float) -> None:
        stream.asked_at = self._due_at = now
        stream.ping_at = now + self._limits.ping_after_s
        # One is enough: a stream that takes no bytes would collect them without end.
        if not any(isinstance(frame, Ping) for frame in stream.answers):
            stream.pings[self._next_token] = now
            stream.answers.append(Ping(self._next_token))
            self._next_token += 1

    def _unsent(self) -> bool:
        """Return whether there are bytes that no stream was given, or that must be sent again."""
        control, data = self._out.values()
        return control.given < control.top or data.given < data.top or bool(control.lost or data.lost)

    def _ack_is_due(self, now: float) -> bool:
        has_much = self._unacknowledged_bytes >= self._limits.ack_after_bytes
        return has_much or (self._ack_at is not None and now >= self._ack_at)

    def _record(self, number: int, now: float, size: int, *, acknowledge: bool) -> bytes:
        """Return a record of at most `size` bytes with what is queued for this stream."""
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
            and (room := min(self._limits.chunk_bytes, size - len(record)) - DATA_OVERHEAD_BYTES) > 0
        ):
            record += self._give(stream, Channel.DATA, room, now)
        return bytes(record)

    def _give(self, stream: _Stream, channel: Channel, size: int, now: float) -> bytes:
        """Return the next frame of a channel, and note that this stream carries it."""
        outbox = self._out[channel]
        start, stop = outbox.take(size)
        stream.carry(channel, start, stop)
        stream.path.load(stop - start, now)
        if (last := outbox.ends.get(start)) is not None:
            return encode_frame(End(start, last))
        return encode_data(channel, start, outbox.read(start, stop))

    # -- receiving

    def consume(self, size: int, now: float) -> None:
        """Note that the program took `size` more bytes of the data channel (EpochEnd and ProgramEnd count as one each).

        Bytes are acknowledged only then, so a program that does not read stops its peers instead of filling memory.
        """
        self._consumed += size
        if self._consumed > self._in[Channel.DATA].received:
            raise LocalProtocolError("more bytes were consumed than had arrived")
        if self._ends:
            self._ends = {end: last for end, last in self._ends.items() if end >= self._consumed}
        self._owe_ack(size, now)

    def receive(self, number: int, plaintext: bytes, now: float) -> list[Event]:
        """Take the plaintext of one record that arrived over this stream, and return what happened.

        Raises:
            RemoteProtocolError: the peer broke the rules; the link is in ERROR and has queued an ABORT.
        """
        stream = self._streams.get(number)
        if stream is None:
            return []
        if self.state is not State.OPEN:
            # The link is over, so a malformed record no longer matters. Only whether the peer has closed too does.
            with contextlib.suppress(RemoteProtocolError):
                self.peer_closed |= any(isinstance(frame, Close | Abort) for frame in decode_frames(plaintext))
            return []
        self._heard_at = stream.heard_at = now
        if stream.path.late:
            stream.path.late = False
            self._paths.rank()
            self._due_at = now  # data can now leave other streams that are late
        # An arrival postpones the next ping, but not one that is due already: `attach` or `ping` asked for that one.
        if stream.ping_at > now:
            stream.ping_at = now + self._limits.ping_after_s
            if len(self._streams) > 1:
                stream.ping_at = min(stream.ping_at, max(now, stream.asked_at + self._limits.measure_every_s))
        events: list[Event] = []
        try:
            for frame in decode_frames(plaintext):
                events += self._handle(number, stream, frame, now)
                if self.state is not State.OPEN:
                    break  # nothing may follow a CLOSE or an ABORT
        except RemoteProtocolError:
            self.abort(AbortCode.FRAME)  # no effect if a more precise code is queued already
            raise
        return events

    def _handle(self, number: int, stream: _Stream, frame: Frame, now: float) -> list[Event]:
        match frame:
            case Data(channel, offset, payload):
                stream.path.load(len(payload), now)
                return self._arrived(channel, offset, payload, now)
            case End(offset, last):
                return self._end_arrived(offset, now, last=last)
            case Ack(control, data):
                self._peer_acknowledges(control, data)
            case Ping(token):
                # Only the latest is answered: a peer that floods us with pings must not grow our queue.
                stream.answers = [frame for frame in stream.answers if not isinstance(frame, Pong)]
                stream.answers.append(Pong(token))
            case Pong(token) if token in stream.pings:
                seconds = now - stream.pings[token]
                stream.pings = {other: at for other, at in stream.pings.items() if other > token}
                stream.path.measure(seconds, now)
                self._paths.rank()
                # The first round trips follow each other, unless there is no other stream to compare with.
                if not stream.path.measured and len(self._streams) > 1:
                    self._queue_ping(stream, now)
                return [RoundTrip(seconds, number)]
            case Close():
                self.peer_closed = True
                self._stop(State.CLOSED)
                return [LinkClosed()]
            case Abort(code):
                self.peer_closed = True
                self._stop(State.ERROR)
                return [LinkAborted(code)]
        return []

    def _arrived(self, channel: Channel, offset: int, payload: bytes, now: float) -> list[Event]:
        inbox, stop = self._in[channel], offset + len(payload)
        self._require_asked_for(channel, stop)
        if stop <= inbox.received:
            # A replay of what has arrived: our acknowledgement was lost.
            self._owe_ack(len(payload), now)
            return []
        fresh = inbox.put(offset, payload)
        if len(inbox.held) > (most := self._limits.max_pieces):
            raise self._broken(AbortCode.LIMIT, f"more than {most} pieces arrived ahead of missing bytes")
        if not fresh:
            return []
        if channel is Channel.CONTROL:
            self._owe_ack(len(fresh), now)
            return [ControlBytes(fresh)]
        return list(self._split(fresh)) if self._ends else [ProgramBytes(fresh)]

    def _end_arrived(self, offset: int, now: float, *, last: bool) -> list[Event]:
        self._require_asked_for(Channel.DATA, offset + 1)
        if offset >= self._in[Channel.DATA].received:
            self._ends.setdefault(offset, last)
            if len(self._ends) > (limit := self._limits.max_ends):
                raise self._broken(AbortCode.LIMIT, f"more than {limit} ENDs came before the first was acknowledged")
        # One byte that stands in for the END, so that it waits behind a gap as bytes do.
        return self._arrived(Channel.DATA, offset, b"\0", now)

    def _split(self, fresh: bytes) -> Iterator[DataEvent]:
        """Yield what has just been received in order, cut at each END within it."""
        stop = self._in[Channel.DATA].received
        start = at = stop - len(fresh)
        for end, last in sorted(self._ends.items()):
            if at <= end < stop:
                if at < end:
                    yield ProgramBytes(fresh[at - start : end - start])
                yield ProgramEnd() if last else EpochEnd()
                at = end + 1
        if at < stop:
            yield ProgramBytes(fresh[at - start :])

    def _require_asked_for(self, channel: Channel, stop: int) -> None:
        """Check that the peer stays within the window. Gaps count too, since pieces behind them wait in our memory."""
        taken = self._consumed if channel is Channel.DATA else self._in[channel].received
        if stop > taken + self._limits.window_bytes:
            what = f"more than {self._limits.window_bytes} unacknowledged bytes on the {channel.name.lower()} channel"
            raise self._broken(AbortCode.LIMIT, f"the peer sent {what}")

    def _peer_acknowledges(self, control: int, data: int) -> None:
        for channel, offset in ((Channel.CONTROL, control), (Channel.DATA, data)):
            outbox = self._out[channel]
            if offset <= outbox.acknowledged:
                continue
            if offset > outbox.given:
                what = f"the {channel.name.lower()} channel up to {offset}, and we sent it up to {outbox.given}"
                raise self._broken(AbortCode.OFFSET, f"the peer acknowledges {what}")
            held = outbox.pending_bytes
            outbox.acknowledge(offset)
            for stream in self._streams.values():
                if spans := stream.carried[channel]:
                    stream.carried[channel] = unacknowledged(spans, offset)
            if channel is Channel.DATA:
                self._budget.hold(outbox.pending_bytes - held)

    def _broken(self, code: AbortCode, what: str) -> RemoteProtocolError:
        """Queue an ABORT and return what to raise."""
        self.abort(code)
        return RemoteProtocolError(what)

    def _owe_ack(self, size: int, now: float) -> None:
        self._unacknowledged_bytes += size
        if self._unacknowledged_bytes and self._ack_at is None:
            self._ack_at = now + self._limits.ack_delay_s

    def _require_open(self) -> None:
        if self.state is not State.OPEN:
            raise LocalProtocolError(f"the link is {self.state.name}, expected OPEN")
