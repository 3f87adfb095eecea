"""A resumable link: two ordered byte channels between two parties, across broken streams.

Knows byte offsets, acknowledgements, replay and heartbeats. Does not know Tor, sockets or clocks: bytes and the time
come in as arguments, and streams are numbers that the caller picks. Rules: docs/PROTOCOL.md section 3.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field

from onionmpc.errors import LocalProtocolError, RemoteProtocolError
from onionmpc.wire.frames import (
    MAX_PAYLOAD_BYTES,
    MAX_RECORD_BYTES,
    Abort,
    AbortCode,
    Ack,
    Channel,
    Close,
    Data,
    End,
    Frame,
    Ping,
    Pong,
    decode_frames,
    encode_frame,
)

# Five rounds of 10**5 shares of 8 bytes, per link and channel. Also what a receiver is ready to hold: the data channel
# is acknowledged as the program takes it, so a sender that keeps to it bounds the memory of both sides.
WINDOW_BYTES = 4 * 2**20
ACK_DELAY_S = 0.2
ACK_AFTER_BYTES = 64 * 2**10
PING_AFTER_S = 10.0
# Two pings and one of the slowest round trips lost in a row.
SILENCE_LIMIT_S = 45.0


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
    caused frames, and whenever `wake_at` has come, send what `transmit` returns.

    Args:
        window_bytes: how many unacknowledged bytes a channel may hold; the same at both ends.
    """

    def __init__(self, *, window_bytes: int = WINDOW_BYTES) -> None:
        self.state = State.OPEN
        self._window_bytes = window_bytes
        self._out = {channel: _Outbox() for channel in Channel}
        self._received = dict.fromkeys(Channel, 0)
        self._consumed = 0
        self._ended = False
        self._streams: list[int] = []
        self._urgent: list[Frame] = []
        self._unacknowledged_bytes = 0
        self._ack_at: float | None = None
        self._heard_at: float | None = None
        self._ping_at: float | None = None
        self._pings: dict[int, float] = {}
        self._next_token = 1
        self._ping_wanted = False

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
        for outbox in self._out.values():
            outbox.rewind()
        self._streams.append(stream)
        self._heard_at = now
        # The dialler must send a record at once for the listener to attach, and both want a round trip.
        self._ping_wanted = True

    def detach(self, stream: int) -> None:
        """Forget a stream that broke; what it had not delivered goes out again over the next."""
        if stream in self._streams:
            sending = self._streams[-1] == stream
            self._streams.remove(stream)
            if sending:
                for outbox in self._out.values():
                    outbox.rewind()
            self._pings.clear()
            # Our last ACK may be lost with it. Where the peer's bytes came over another stream, no replay asks for it.
            self._unacknowledged_bytes = ACK_AFTER_BYTES

    # -- sending

    def room(self) -> int:
        """Return how many more bytes of the program can be taken before its peer acknowledges some."""
        return max(0, self._window_bytes - len(self._out[Channel.DATA].pending))

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

    def end_data(self) -> None:
        """Say that the program sends nothing more."""
        self._require_open()
        outbox = self._out[Channel.DATA]
        if outbox.end is None:
            outbox.end = outbox.top

    def ping(self) -> None:
        """Ask the peer for a sign of life."""
        self._require_open()
        self._ping_wanted = True

    def close(self) -> None:
        """Say that nothing more comes, and stop."""
        if self.state is State.OPEN:
            self._urgent.append(Close())
            self.state = State.CLOSED

    def abort(self, code: AbortCode) -> None:
        """Say that the peer broke the rules, and stop."""
        if self.state is State.OPEN:
            self._urgent.append(Abort(code))
            self.state = State.ERROR

    def flushed(self) -> bool:
        """Return whether the peer has acknowledged all that was queued."""
        return all(not box.pending and (box.end is None or box.acknowledged > box.end) for box in self._out.values())

    def transmit(self, now: float) -> tuple[int, list[bytes]] | None:
        """Return the stream to send over and the plaintexts of the records to send, or None if there is nothing."""
        if not self._streams:
            return None
        if self.state is State.OPEN:
            self._tick(now)
        records = list(_pack(self._frames(now)))
        return (self._streams[-1], records) if records else None

    def owes(self) -> bool:
        """Return whether something that arrived, or was consumed, wants an answer at once."""
        return bool(self._urgent) or self._unacknowledged_bytes >= ACK_AFTER_BYTES

    def wake_at(self) -> float | None:
        """Return when `transmit` has something to do even if nothing arrives, or None."""
        if self.state is not State.OPEN or not self._streams:
            return None
        return min((at for at in (self._ping_at, self._ack_at) if at is not None), default=None)

    def silent_for(self, now: float) -> float:
        """Return for how many seconds nothing has arrived."""
        return 0.0 if self._heard_at is None else now - self._heard_at

    def _tick(self, now: float) -> None:
        if self._ping_wanted or (self._ping_at is not None and now >= self._ping_at):
            self._ping_wanted = False
            self._ping_at = now + PING_AFTER_S
            self._pings[self._next_token] = now
            self._urgent.append(Ping(self._next_token))
            self._next_token += 1

    def _frames(self, now: float) -> Iterator[Frame]:
        yield from self._urgent
        self._urgent.clear()
        if self.state is not State.OPEN:
            return
        waiting = any(box.unsent() for box in self._out.values())
        if self._unacknowledged_bytes and (
            waiting
            or self._unacknowledged_bytes >= ACK_AFTER_BYTES
            or (self._ack_at is not None and now >= self._ack_at)
        ):
            self._unacknowledged_bytes = 0
            self._ack_at = None
            yield Ack(*self.offsets())
        for channel, outbox in self._out.items():
            while outbox.unsent():
                offset, payload = outbox.take(MAX_PAYLOAD_BYTES)
                yield Data(channel, offset, payload)
        outbox = self._out[Channel.DATA]
        if outbox.end is not None and outbox.sent == outbox.end:
            outbox.advance(1)
            yield End(outbox.end)

    # -- receiving

    def consume(self, size: int, now: float) -> None:
        """Say that the program took `size` more bytes of the data channel (ProgramEnd counts as one).

        Only then are they acknowledged: a program that does not read stops its peers, and fills no memory.
        """
        self._consumed += size
        if self._consumed > self._received[Channel.DATA]:
            raise LocalProtocolError("more bytes were consumed than came")
        self._owe_ack(size, now)

    def receive(self, plaintext: bytes, now: float) -> list[Event]:
        """Take the plaintext of one record; return what happened.

        Raises:
            RemoteProtocolError: the peer broke the rules; the link is in ERROR and has queued an ABORT.
        """
        if self.state is not State.OPEN:
            return []
        self._heard_at = now
        self._ping_at = now + PING_AFTER_S
        events = []
        try:
            for frame in decode_frames(plaintext):
                event = self._handle(frame, now)
                if event is not None:
                    events.append(event)
                if isinstance(event, LinkClosed | LinkAborted):
                    break  # nothing comes after it
        except RemoteProtocolError:
            self.abort(AbortCode.FRAME)  # unless it says already which other rule it was
            raise
        return events

    def _handle(self, frame: Frame, now: float) -> Event | None:
        match frame:
            case Data(channel, offset, payload):
                return self._arrived(channel, offset, payload, now)
            case End(offset):
                return self._end_arrived(offset, now)
            case Ack(control, data):
                self._peer_acknowledges(control, data)
            case Ping(token):
                # One answer per record is enough: a peer must not make us queue without end.
                self._urgent = [frame for frame in self._urgent if not isinstance(frame, Pong)]
                self._urgent.append(Pong(token))
            case Pong(token):
                sent_at = self._pings.pop(token, None)
                if sent_at is not None:
                    self._pings = {other: at for other, at in self._pings.items() if other > token}
                    return RoundTrip(now - sent_at)
            case Close():
                self.state = State.CLOSED
                return LinkClosed()
            case Abort(code):
                self.state = State.ERROR
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
            outbox.acknowledge(offset)

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


def _pack(frames: Iterator[Frame]) -> Iterator[bytes]:
    """Join frames into as few record plaintexts as hold them."""
    record = bytearray()
    for frame in frames:
        encoded = encode_frame(frame)
        if record and len(record) + len(encoded) > MAX_RECORD_BYTES:
            yield bytes(record)
            record.clear()
        record += encoded
    if record:
        yield bytes(record)
