"""A resumable link: two ordered byte channels between two parties, across broken streams.

Knows byte offsets, acknowledgements, replay, heartbeats and which streams deserve doubt. Does not know Tor, sockets or
clocks: bytes and the time come in as arguments, and streams are numbers that the caller picks. Rules: docs/PROTOCOL.md
section 3.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field

from onionmpc.errors import LocalProtocolError, RemoteProtocolError
from onionmpc.wire.frames import (
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
    encode_frame,
)

# Five rounds of 10**5 shares of 8 bytes, per link and channel. Also what a receiver is ready to hold: the data channel
# is acknowledged as the program takes it, so a sender that keeps to it bounds the memory of both sides.
WINDOW_BYTES = 4 * 2**20
# What all links of a party may hold together: eight full windows. Beyond it a link keeps a share that is its own, or a
# peer that is away could stop what the others still have to say to each other.
REPLAY_LIMIT_BYTES = 32 * 2**20
OWN_SHARE_BYTES = 64 * 2**10
ACK_DELAY_S = 0.2
ACK_AFTER_BYTES = 64 * 2**10
# A heartbeat, and three of them missed; the slowest round trips that we know of through tor are below ten seconds.
PING_AFTER_S = 5.0
SUSPECT_AFTER_S = 3 * PING_AFTER_S
# A stream that has brought nothing for so long is given up, unless it is the only one.
SILENCE_LIMIT_S = 3 * SUSPECT_AFTER_S


class State(enum.Enum):
    """Where a link stands."""

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
    """A ping came back after `seconds`."""

    seconds: float


@dataclass(frozen=True, slots=True)
class LinkClosed:
    """The peer closed the link in good order."""


@dataclass(frozen=True, slots=True)
class LinkAborted:
    """The peer says that we broke the rules."""

    code: AbortCode


Event = ControlBytes | ProgramBytes | ProgramEnd | RoundTrip | LinkClosed | LinkAborted


class ReplayBudget:
    """What all links of one party hold for replay, together."""

    def __init__(self, limit_bytes: int = REPLAY_LIMIT_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._held_bytes = 0

    @property
    def left(self) -> int:
        """How many bytes more may be held, 0 or more."""
        return max(0, self._limit_bytes - self._held_bytes)

    def hold(self, size: int) -> None:
        """Count bytes that are held from now on; fewer than 0 are let go."""
        self._held_bytes += size


@dataclass(slots=True)
class _Stream:
    """What a link knows of one of its streams.

    Attributes:
        heard_at: when it brought something.
        ping_at: when to ask over it for a sign of life.
        pings: tokens under way over it, and when each was sent.
        answers: what is to be said over it and no other.
    """

    heard_at: float
    ping_at: float
    pings: dict[int, float] = field(default_factory=dict)
    answers: list[Frame] = field(default_factory=list)


@dataclass(slots=True)
class _Outbox:
    """Bytes of one channel that the peer has not acknowledged, and how far they were sent."""

    acknowledged: int = 0
    sent: int = 0
    furthest: int = 0  # of `sent` over all streams
    pending: bytearray = field(default_factory=bytearray)
    end: int | None = None  # the offset at which the channel ends; END itself counts as one byte

    @property
    def top(self) -> int:
        return self.acknowledged + len(self.pending)

    def acknowledge(self, offset: int) -> None:
        if offset > self.acknowledged:
            del self.pending[: offset - self.acknowledged]
            self.acknowledged = offset
            self.sent = max(self.sent, offset)

    def rewind(self) -> None:
        self.sent = self.acknowledged

    def unsent(self) -> int:
        return max(0, self.top - self.sent)

    def take(self, size: int) -> tuple[int, bytes]:
        offset = self.sent
        start = offset - self.acknowledged
        payload = bytes(self.pending[start : start + size])
        self.advance(len(payload))
        return offset, payload

    def advance(self, size: int) -> None:
        self.sent += size
        self.furthest = max(self.furthest, self.sent)


class Link:
    """One link of the mesh; outlives its streams.

    Call `receive` with each record's plaintext and handle the events that it returns; after anything that may have
    caused frames, and whenever `wake_at` has come, send over each stream what `transmit` returns for it. Or, where
    nobody is to see when there is something to say, send what `fill` returns at times of your own.

    Any number of streams may be attached. What is sent goes over one of them, the newest that is not suspicious; what
    comes is taken from all.

    Args:
        window_bytes: how many unacknowledged bytes a channel may hold; the same at both ends.
        budget: what all links of this party may hold together.
    """

    def __init__(self, *, window_bytes: int = WINDOW_BYTES, budget: ReplayBudget | None = None) -> None:
        self.state = State.OPEN
        self._window_bytes = window_bytes
        self._budget = budget or ReplayBudget()
        self._out = {channel: _Outbox() for channel in Channel}
        self._received = dict.fromkeys(Channel, 0)
        self._consumed = 0
        self._ended = False
        self._streams: dict[int, _Stream] = {}
        self._sending: int | None = None
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
        return self._received[Channel.CONTROL], self._consumed

    def attach(self, stream: int, now: float, *, peer_offsets: tuple[int, int] = (0, 0)) -> None:
        """Send over this stream from now on, starting where the peer says that its bytes end.

        Raises:
            RemoteProtocolError: the peer claims bytes that were never sent.
        """
        self._require_open()
        self._peer_acknowledges(*peer_offsets)
        # At once: the dialler must send a record for the listener to attach, and both want a round trip.
        self._streams[stream] = _Stream(now, now)
        self._heard_at = now
        self._send_over(stream)

    def detach(self, stream: int) -> None:
        """Forget a stream that broke; what it had not delivered goes out again over the next."""
        if self._streams.pop(stream, None) is None:
            return
        if stream == self._sending:
            self._send_over(next(reversed(self._streams), None))
        # Our last ACK may be lost with it. Where the peer's bytes came over another stream, no replay asks for it.
        self._unacknowledged_bytes = ACK_AFTER_BYTES

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
            stream.ping_at = now

    def silent_for(self, now: float) -> float:
        """Return for how many seconds nothing has arrived over any stream."""
        return 0.0 if self._heard_at is None else now - self._heard_at

    def _send_over(self, stream: int | None) -> None:
        self._sending = stream
        for outbox in self._out.values():
            outbox.rewind()

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
            raise LocalProtocolError("the control channel holds more unacknowledged bytes than it may")
        self._out[Channel.CONTROL].pending += payload

    def send_data(self, payload: bytes) -> None:
        """Queue bytes of the program; the caller keeps to `room`."""
        self._require_open()
        if self._out[Channel.DATA].end is not None:
            raise LocalProtocolError("bytes of the program after its end")
        if len(payload) > self.room():
            raise LocalProtocolError(f"{len(payload)} bytes of the program, and room for {self.room()}")
        self._out[Channel.DATA].pending += payload
        self._budget.hold(len(payload))

    def end_data(self) -> None:
        """Say that the program sends nothing more."""
        self._require_open()
        outbox = self._out[Channel.DATA]
        if outbox.end is None:
            outbox.end = outbox.top

    def ping(self) -> None:
        """Ask the peer for a sign of life, over every stream."""
        self._require_open()
        for stream in self._streams.values():
            stream.ping_at = -math.inf

    def close(self) -> None:
        """Say that nothing more comes, and stop."""
        self._stop(State.CLOSED, Close())

    def abort(self, code: AbortCode) -> None:
        """Say that the peer broke the rules, and stop."""
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
        return all(not box.pending and (box.end is None or box.acknowledged > box.end) for box in self._out.values())

    def transmit(self, number: int, now: float) -> list[bytes]:
        """Return the plaintexts of the records to send over this stream now: as few as hold what is to be said."""
        stream = self._streams.get(number)
        if stream is None:
            return []
        self._heed_time(stream, now)
        acknowledge = self._ack_is_due(now)
        return list(iter(lambda: self._record(number, MAX_RECORD_BYTES, acknowledge=acknowledge), b""))

    def fill(self, number: int, now: float, size: int) -> bytes:
        """Return the plaintext of the next record for this stream, of exactly `size` bytes, whatever is to be said.

        It holds what fits, an acknowledgement whenever there is one since it costs nothing here, and padding.
        """
        self._heed_time(self._streams[number], now)
        record = self._record(number, size, acknowledge=True)
        return record + encode_frame(Padding(size - len(record)))

    def owes(self, number: int) -> bool:
        """Return whether something that arrived, or was consumed, wants an answer over this stream at once."""
        if number == self._sending and self._unacknowledged_bytes >= ACK_AFTER_BYTES:
            return True
        return bool(self._streams[number].answers)

    def wake_at(self) -> float | None:
        """Return when `transmit` has something to do even if nothing arrives, or None."""
        if self.state is not State.OPEN or not self._streams:
            return None
        at = min(stream.ping_at for stream in self._streams.values())
        return at if self._ack_at is None else min(at, self._ack_at)

    def _heed_time(self, stream: _Stream, now: float) -> None:
        if self.state is not State.OPEN:
            return
        if now >= stream.ping_at:
            stream.ping_at = now + PING_AFTER_S
            stream.pings[self._next_token] = now
            stream.answers.append(Ping(self._next_token))
            self._next_token += 1
        self._leave_suspicious_stream(now)

    def _leave_suspicious_stream(self, now: float) -> None:
        """Go over to the newest stream that brings something, if the one in use does not."""
        if self._sending is not None and self._is_suspicious(self._streams[self._sending], now):
            for number, stream in reversed(self._streams.items()):
                if not self._is_suspicious(stream, now):
                    self._send_over(number)
                    return

    def _ack_is_due(self, now: float) -> bool:
        return (
            any(box.unsent() for box in self._out.values())
            or self._unacknowledged_bytes >= ACK_AFTER_BYTES
            or (self._ack_at is not None and now >= self._ack_at)
        )

    def _record(self, number: int, size: int, *, acknowledge: bool) -> bytes:
        """Return what fits into `size` bytes of all that is to be said over this stream."""
        record = bytearray()

        def add(frame: Frame) -> bool:
            encoded = encode_frame(frame)
            fits = len(record) + len(encoded) <= size
            if fits:
                record.extend(encoded)
            return fits

        answers = self._streams[number].answers
        while answers and add(answers[0]):
            del answers[0]
        if self.state is not State.OPEN or number != self._sending:
            return bytes(record)
        if acknowledge and self._unacknowledged_bytes and add(Ack(*self.offsets())):
            self._unacknowledged_bytes = 0
            self._ack_at = None
        for channel, outbox in self._out.items():
            room = size - len(record) - DATA_OVERHEAD_BYTES
            if outbox.unsent() and room > 0:
                add(Data(channel, *outbox.take(room)))
        outbox = self._out[Channel.DATA]
        if outbox.end is not None and outbox.sent == outbox.end and add(End(outbox.end)):
            outbox.advance(1)
        return bytes(record)

    # -- receiving

    def consume(self, size: int, now: float) -> None:
        """Say that the program took `size` more bytes of the data channel (ProgramEnd counts as one).

        Only then are they acknowledged: a program that does not read stops its peers, and fills no memory.
        """
        self._consumed += size
        if self._consumed > self._received[Channel.DATA]:
            raise LocalProtocolError("more bytes were consumed than came")
        self._owe_ack(size, now)

    def receive(self, number: int, plaintext: bytes, now: float) -> list[Event]:
        """Take the plaintext of one record that came over this stream; return what happened.

        Raises:
            RemoteProtocolError: the peer broke the rules; the link is in ERROR and has queued an ABORT.
        """
        stream = self._streams.get(number)
        if self.state is not State.OPEN or stream is None:
            return []
        self._heard_at = stream.heard_at = now
        if stream.ping_at > now:  # one that is due leaves all the same
            stream.ping_at = now + PING_AFTER_S
        events = []
        try:
            for frame in decode_frames(plaintext):
                event = self._handle(stream, frame, now)
                if event is not None:
                    events.append(event)
                if isinstance(event, LinkClosed | LinkAborted):
                    break  # nothing comes after it
        except RemoteProtocolError:
            self.abort(AbortCode.FRAME)  # unless it says already which other rule it was
            raise
        return events

    def _handle(self, stream: _Stream, frame: Frame, now: float) -> Event | None:
        match frame:
            case Data(channel, offset, payload):
                return self._arrived(channel, offset, payload, now)
            case End(offset):
                return self._end_arrived(offset, now)
            case Ack(control, data):
                self._peer_acknowledges(control, data)
            case Ping(token):
                # One answer per stream is enough: a peer must not make us queue without end.
                stream.answers = [frame for frame in stream.answers if not isinstance(frame, Pong)]
                stream.answers.append(Pong(token))
            case Pong(token):
                sent_at = stream.pings.pop(token, None)
                if sent_at is not None:
                    stream.pings = {other: at for other, at in stream.pings.items() if other > token}
                    return RoundTrip(now - sent_at)
            case Close():
                self._stop(State.CLOSED)
                return LinkClosed()
            case Abort(code):
                self._stop(State.ERROR)
                return LinkAborted(code)
        return None

    def _arrived(self, channel: Channel, offset: int, payload: bytes, now: float) -> Event | None:
        expected = self._received[channel]
        # A sender goes back to the last acknowledged byte when it changes streams, so a gap cannot be honest.
        if offset > expected:
            what = f"byte {offset} of the {channel.name.lower()} channel came, expected {expected}"
            raise self._broken(AbortCode.OFFSET, what)
        # END stands at expected - 1, so not even a byte at its own offset is a replay.
        if channel is Channel.DATA and self._ended and offset + len(payload) >= expected:
            raise self._broken(AbortCode.OFFSET, "bytes of the program came after its end")
        fresh = payload[expected - offset :]
        if not fresh:
            # A replay of what has arrived: the sender missed our acknowledgement.
            self._owe_ack(len(payload), now)
            return None
        self._received[channel] += len(fresh)
        if channel is Channel.CONTROL:
            self._owe_ack(len(fresh), now)
            return ControlBytes(fresh)
        if self._received[channel] - self._consumed > self._window_bytes:
            raise self._broken(AbortCode.LIMIT, f"more than {self._window_bytes} bytes of the program came unasked")
        return ProgramBytes(fresh)

    def _end_arrived(self, offset: int, now: float) -> Event | None:
        expected = self._received[Channel.DATA]
        if self._ended and offset == expected - 1:
            self._owe_ack(1, now)
            return None
        if self._ended or offset != expected:
            raise self._broken(AbortCode.OFFSET, f"the data channel ends at byte {offset}, expected {expected}")
        self._ended = True
        self._received[Channel.DATA] += 1
        return ProgramEnd()

    def _peer_acknowledges(self, control: int, data: int) -> None:
        for (channel, outbox), offset in zip(self._out.items(), (control, data), strict=True):
            if offset > outbox.furthest:
                what = f"the {channel.name.lower()} channel up to {offset}, and we sent it up to {outbox.furthest}"
                raise self._broken(AbortCode.OFFSET, f"the peer acknowledges {what}")
            held = len(outbox.pending)
            outbox.acknowledge(offset)
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
