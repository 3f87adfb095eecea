"""A link and a hostile peer: RemoteProtocolError and one ABORT, or what comes out is what was said there, in a window.

The peer is authenticated and says what it likes over several streams, most often something that is nearly right. What
our side says meanwhile is well formed and true. After an error nothing more is said or heard.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable

from onionmpc.errors import RemoteProtocolError
from onionmpc.wire.frames import (
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
from onionmpc.wire.limits import LinkLimits
from onionmpc.wire.link import (
    ControlBytes,
    EpochEnd,
    Link,
    LinkAborted,
    LinkClosed,
    ProgramBytes,
    ProgramEnd,
    ReplayBudget,
    RoundTrip,
    State,
)
from tests.fuzz.mutations import steps

STEP_BYTES = 5
INPUTS = steps(STEP_BYTES, 50)
REFUSALS = ()

CONTROL, DATA = Channel
# So that a handful of bytes makes several records and windows.
SMALL = LinkLimits(
    window_bytes=100, record_bytes=40, ack_after_bytes=40, max_pieces=3, max_ends=4, bulk_bytes=30, chunk_bytes=25
)
END = b"\0"  # holds its place among the bytes
MAX_RECORDS = 50  # more than a window makes, at a time
BUDGET_BYTES = 2**20
WAITS_S = [0.0, 0.01, SMALL.ack_delay_s, SMALL.ping_after_s, 100.0]
FAR = [0, 2**63, 2**64 - 1]


class Story:
    """A link of ours, what it was given, and all that its peer ever said."""

    def __init__(self) -> None:
        self.now = 0.0
        self.budget = ReplayBudget(BUDGET_BYTES)
        self.link = Link(limits=SMALL, budget=self.budget)
        self.streams: list[int] = []
        self.attached = 0
        self.wrote = {channel: bytearray() for channel in Channel}
        self.ends: dict[int, bool] = {}
        self.told: dict[Channel, dict[int, set[int]]] = {channel: defaultdict(set) for channel in Channel}
        self.told_ends: set[tuple[int, bool]] = set()
        self.got = {channel: bytearray() for channel in Channel}
        self.ends_got: dict[int, bool] = {}
        self.taken = 0
        self.pings: list[int] = []
        self.over = ""

    # -- our side

    def write(self, one: int, size: int, _: int, __: int) -> None:
        channel = Channel(one % 2)
        room = SMALL.window_bytes - self.link._out[CONTROL].pending_bytes if channel is CONTROL else self.link.room()
        payload = bytes((len(self.wrote[channel]) + place) % 251 for place in range(min(size % 70, room)))
        if channel is DATA:
            self.link.send_data(payload)
        else:
            self.link.send_control(payload)
        self.wrote[channel] += payload

    def end(self, one: int, _: int, __: int, ___: int) -> None:
        if one % 4 == 0 and self.link.has_room_for_end():
            self.ends[len(self.wrote[DATA])] = last = one % 3 == 0
            self.link.end_data(last=last)
            self.wrote[DATA] += END

    def take(self, size: int, _: int, __: int, ___: int) -> None:
        size = min(size, self.waiting)
        self.taken += size
        self.link.consume(size, self.now)

    def wait(self, one: int, _: int, __: int, ___: int) -> None:
        self.now += WAITS_S[one % len(WAITS_S)]
        self.link.do_what_is_due(self.now)

    def doubt(self, one: int, _: int, __: int, ___: int) -> None:
        self.link.ping() if one % 2 else self.link.doubt(self.now)

    def attach(self, one: int, other: int, far: int, _: int) -> None:
        if len(self.streams) < 3:
            self.attached += 1
            offsets = self._near(self.link._out[CONTROL].given, one, far), self._near(self._given(), other, far)
            try:
                self.link.attach(self.attached, self.now, peer_offsets=offsets)
            except RemoteProtocolError as error:
                self.refused(error)
            else:
                self.streams.append(self.attached)

    def detach(self, one: int, _: int, __: int, ___: int) -> None:
        if self.streams:
            self.link.detach(self.streams.pop(one % len(self.streams)))

    def transmit(self, one: int, other: int, _: int, __: int) -> None:
        if not self.streams:
            return
        stream = self.streams[one % len(self.streams)]
        if other % 4 == 0:
            self.check_said(self.link.fill(stream, self.now, SMALL.record_bytes))
            return
        for _ in range(MAX_RECORDS):
            record = self.link.transmit(stream, self.now)
            if not record:
                return
            self.check_said(record)
        raise AssertionError("it speaks without end")

    def check_said(self, record: bytes) -> None:
        """Check that our side says what is true."""
        assert len(record) <= SMALL.record_bytes
        for frame in decode_frames(record):
            match frame:
                case Data(channel, offset, payload):
                    assert payload == self.wrote[channel][offset : offset + len(payload)]
                    assert channel is CONTROL or not any(offset <= end < offset + len(payload) for end in self.ends)
                case End(offset, last):
                    assert self.ends[offset] == last
                case Ack(control, data):
                    assert (control, data) == (len(self.got[CONTROL]), self.taken)
                case Ping(token):
                    self.pings.append(token)
                case Pong() | Padding():
                    pass
                case _:
                    raise AssertionError(f"{frame} without a reason")

    # -- the peer's side

    def hear(self, where: int, what: int, near: int, rest: int) -> None:
        """One record, of one frame or of two, over a stream that is there or was."""
        stream = self.streams[where % len(self.streams)] if self.streams and where < 250 else where % 4
        frames = [self._frame(what, near, rest)]
        if where % 3 == 0:
            frames.append(self._frame(rest, what, near))
        record = b"".join(map(encode_frame, frames))
        if what >= 250:
            record = record[: near % (len(record) + 1)] + bytes([rest]) + record[near % (len(record) + 1) :]
        if stream in self.streams:
            self.note(record)
        try:
            events = self.link.receive(stream, record, self.now)
        except RemoteProtocolError as error:
            assert stream in self.streams
            self.refused(error)
            return
        assert stream in self.streams or not events
        for event in events:
            match event:
                case ControlBytes(payload):
                    self.got[CONTROL] += payload
                case ProgramBytes(payload):
                    self.got[DATA] += payload
                case EpochEnd() | ProgramEnd():
                    last = event == ProgramEnd()
                    assert (len(self.got[DATA]), last) in self.told_ends
                    self.ends_got[len(self.got[DATA])] = last
                    self.got[DATA] += END
                case RoundTrip(seconds):
                    assert 0 <= seconds <= self.now
                case LinkClosed():
                    assert self.link.state is State.CLOSED
                    self.over = "closed"
                case LinkAborted(code):
                    assert self.link.state is State.ERROR
                    self.over = code.name

    def note(self, record: bytes) -> None:
        """Remember which bytes it said where, up to a frame that is none."""
        try:
            for frame in decode_frames(record):
                if isinstance(frame, Data):
                    for place, byte in enumerate(frame.payload):
                        self.told[frame.channel][frame.offset + place].add(byte)
                elif isinstance(frame, End):
                    self.told_ends.add((frame.offset, frame.last))
                    self.told[DATA][frame.offset].add(END[0])
        except RemoteProtocolError:
            pass

    def _frame(self, what: int, near: int, rest: int) -> Frame:
        channel = Channel(near % 2)
        offset = self._near(len(self.got[channel]), near, rest)
        match what % 12:
            case 0 | 1 | 2 | 3 | 4:
                return Data(channel, offset, bytes((offset + place) % 256 for place in range(rest % 40)))
            case 5:
                return Data(channel, offset, bytes([rest]) * (near % 40))
            case 6:
                return End(self._near(len(self.got[DATA]), near, rest), last=bool(what & 64))
            case 7:
                return Ack(self._near(self.link._out[CONTROL].given, near, rest), self._near(self._given(), rest, near))
            case 8:
                return Ping(rest)
            case 9:
                return Pong(self.pings[rest % len(self.pings)] if self.pings and near < 250 else near)
            case 10:
                return Close() if rest > 200 else Padding(near + 1)
            case _:
                return Abort(AbortCode(near % 5 + 1)) if rest > 200 else Ping(near)

    def _near(self, right: int, near: int, far: int) -> int:
        """An offset that may be right, or not quite, or far from it."""
        if far > 250:
            return FAR[near % len(FAR)]
        return right if near < 150 else max(0, right + near % 53 - 12)

    def _given(self) -> int:
        return self.link._out[DATA].given

    # -- what holds

    @property
    def waiting(self) -> int:
        """How much of the data channel arrived and was not taken."""
        return len(self.got[DATA]) - self.taken

    def refused(self, error: RemoteProtocolError) -> None:
        """Check that a link that refused something says so once over each of its streams, and nothing more."""
        assert self.link.state is State.ERROR
        self.over = re.sub("[0-9]+", "some", error.message)
        for stream in self.streams:
            words = list(decode_frames(self.link.transmit(stream, self.now)))
            assert len(words) == 1
            assert isinstance(words[0], Abort)

    def check(self) -> None:
        for channel, said in self.told.items():
            assert all(byte in said[place] for place, byte in enumerate(self.got[channel]))
            if self.link.state is State.OPEN:  # all that could come out did
                assert len(self.got[channel]) not in said
        if self.link.state is not State.ERROR:  # what came in one record with what was refused is not told
            assert self.link.offsets() == (len(self.got[CONTROL]), self.taken)
        assert self.waiting <= SMALL.window_bytes
        assert len(self.link._ends) <= SMALL.max_ends + (self.link.state is State.ERROR)
        for box in self.link._in.values():
            assert sum(len(piece.payload) for piece in box.held) < SMALL.window_bytes
            assert len(box.held) <= SMALL.max_pieces + (self.link.state is State.ERROR)
        for outbox in self.link._out.values():
            assert outbox.pending_bytes <= SMALL.window_bytes
        assert all(len(stream.answers) <= 2 for stream in self.link._streams.values())
        held = self.link._out[DATA].pending_bytes if self.link.state is State.OPEN else 0
        assert self.budget.left == BUDGET_BYTES - held

    def check_over(self) -> None:
        """Check that what is over stays so."""
        for stream in self.streams:
            self.link.transmit(stream, self.now)  # an ABORT that is due; or nothing, after a CLOSE
            assert not self.link.transmit(stream, self.now + 100)
            late = encode_frame(Data(CONTROL, len(self.got[CONTROL]), b"late"))
            assert self.link.receive(stream, late, self.now) == []
        assert self.link.wake_at() is None


ACTIONS: list[Callable[[Story, int, int, int, int], None]] = [
    *(Story.write, Story.end, Story.take, Story.wait, Story.doubt, Story.attach, Story.detach, Story.transmit),
    *(Story.transmit, *[Story.hear] * 7),
]


def check(data: bytes) -> tuple[str, bool, bool]:
    """Each five bytes are a step: what is done, and with what."""
    story = Story()
    story.attach(0, 0, 0, 0)
    for at in range(0, len(data) - STEP_BYTES + 1, STEP_BYTES):
        action, *arguments = data[at : at + STEP_BYTES]
        ACTIONS[action % len(ACTIONS)](story, *arguments)
        story.check()
        if story.link.state is not State.OPEN:
            story.check_over()
            break
    return story.over, bool(story.got[DATA]), bool(story.ends_got)
