"""Two links under any schedule of a network that delays, cuts and loses."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from onionmpc.wire.frames import (
    Channel,
)
from onionmpc.wire.limits import LinkLimits
from onionmpc.wire.link import ControlBytes, EpochEnd, Link, ProgramBytes, ProgramEnd, RoundTrip

T0 = 1000.0
CONTROL, DATA = Channel
SIDES = st.integers(0, 1)
STREAMS_AT_ONCE = 3
# A few bytes fill several records and windows.
SMALL = LinkLimits(
    window_bytes=200, record_bytes=40, ack_after_bytes=40, max_ends=5, bulk_bytes=30, chunk_bytes=25, max_stripes=2
)


@dataclass
class Party:
    """One end of the link: what its program wrote, and what it received. A zero byte holds the place of an END."""

    link: Link = field(default_factory=lambda: Link(limits=SMALL))
    wrote: dict[Channel, bytearray] = field(default_factory=lambda: {channel: bytearray() for channel in Channel})
    got: dict[Channel, bytearray] = field(default_factory=lambda: {channel: bytearray() for channel in Channel})
    ends: dict[int, bool] = field(default_factory=dict)
    ends_got: dict[int, bool] = field(default_factory=dict)
    taken: int = 0

    @property
    def waiting(self) -> int:
        """How many bytes of the data channel have arrived and were not taken."""
        return len(self.got[DATA]) - self.taken

    def take(self, size: int, now: float) -> None:
        size = min(size, self.waiting)
        self.taken += size
        self.link.consume(size, now)

    def receive(self, stream: int, record: bytes, now: float) -> None:
        for event in self.link.receive(stream, record, now):
            match event:
                case ControlBytes(payload):
                    self.got[CONTROL] += payload
                case ProgramBytes(payload):
                    self.got[DATA] += payload
                case EpochEnd() | ProgramEnd():
                    self.ends_got[len(self.got[DATA])] = event == ProgramEnd()
                    self.got[DATA] += b"\0"
                case RoundTrip(seconds):
                    assert seconds >= 0
                case _:
                    pytest.fail(f"{event} in a link of two honest parties")


@dataclass
class Wire:
    """A stream: what is under way to each side, and which sides have it attached.

    Attributes:
        offsets: what each side said in the handshake, which may be long past when the other attaches.
    """

    number: int
    offsets: list[tuple[int, int]]
    held: list[bool] = field(default_factory=lambda: [False, False])
    left: list[bool] = field(default_factory=lambda: [False, False])
    on_its_way_to: list[deque[bytes]] = field(default_factory=lambda: [deque(), deque()])


class AnySchedule(RuleBasedStateMachine):
    """Two links, and a network that delays, cuts and loses, and reorders between streams, though not within one."""

    filled_bytes: int | None = None  # the size of all records, if they have one size

    def __init__(self) -> None:
        super().__init__()
        self.now = T0
        self.parties = [Party(), Party()]
        self.wires: list[Wire] = []
        self.dialled = 0
        self.written = 0

    # -- programs

    @rule(side=SIDES, size=st.integers(1, 60))
    def write_control(self, side: int, size: int) -> None:
        party = self.parties[side]
        if party.link._out[CONTROL].pending_bytes + size <= SMALL.window_bytes:
            party.link.send_control(self._write(party, CONTROL, size))

    @rule(side=SIDES, size=st.integers(1, 130))
    def write_data(self, side: int, size: int) -> None:
        party = self.parties[side]
        size = min(size, party.link.room())
        if size:
            party.link.send_data(self._write(party, DATA, size))

    def _write(self, party: Party, channel: Channel, size: int) -> bytes:
        payload = bytes((self.written + i) % 251 for i in range(size))
        self.written += size
        party.wrote[channel] += payload
        return payload

    @rule(side=SIDES, last=st.booleans())
    def end_data(self, side: int, last: bool) -> None:
        party = self.parties[side]
        if party.link.has_room_for_end():
            party.link.end_data(last=last)
            party.ends[len(party.wrote[DATA])] = last
            party.wrote[DATA] += b"\0"

    @rule(side=SIDES, size=st.integers(1, 130))
    def take(self, side: int, size: int) -> None:
        self.parties[side].take(size, self.now)

    # -- the network

    @precondition(lambda self: len(self.wires) < STREAMS_AT_ONCE)
    @rule(say_offsets=st.booleans())
    def dial(self, say_offsets: bool) -> None:
        self.dialled += 1
        offsets = [party.link.offsets() if say_offsets else (0, 0) for party in self.parties]
        self.wires.append(Wire(self.dialled, offsets))

    @precondition(lambda self: self.wires)
    @rule(side=SIDES, pick=st.integers(0, 5))
    def attach(self, side: int, pick: int) -> None:
        wire = self.wires[pick % len(self.wires)]
        if not wire.held[side] and not wire.left[side]:
            wire.held[side] = True
            self.parties[side].link.attach(wire.number, self.now, peer_offsets=wire.offsets[1 - side])

    @precondition(lambda self: self.wires)
    @rule(side=SIDES, pick=st.integers(0, 5), count=st.integers(1, 5))
    def transmit_over_one(self, side: int, pick: int, count: int) -> None:
        """A stream takes a few records; one that takes no bytes does not stop the others."""
        wire = self.wires[pick % len(self.wires)]
        for record in itertools.islice(self._records(side, wire), count):
            assert wire.held[side]
            if not wire.left[1 - side]:
                wire.on_its_way_to[1 - side].append(record)

    def _records(self, side: int, wire: Wire) -> Iterator[bytes]:
        link = self.parties[side].link
        if self.filled_bytes is None or not wire.held[side]:
            return iter(lambda: link.transmit(wire.number, self.now), b"")
        record = link.fill(wire.number, self.now, self.filled_bytes)
        assert len(record) == self.filled_bytes
        return iter([record])

    @rule(side=SIDES)
    def transmit(self, side: int) -> None:
        link = self.parties[side].link
        for pick in range(len(self.wires)):
            self.transmit_over_one(side, pick, 1000)
        # A caller that waits for `wake_at` would otherwise loop without end.
        for pick, wire in enumerate(self.wires):
            assert self.filled_bytes or not link.transmit(wire.number, self.now), pick
            assert not wire.held[side] or self.filled_bytes or not link.wants_to_send()
        assert (link.wake_at() or T0 * 1000) > self.now

    @precondition(lambda self: self.wires)
    @rule(side=SIDES, pick=st.integers(0, 5), count=st.integers(1, 5))
    def deliver(self, side: int, pick: int, count: int) -> None:
        wire = self.wires[pick % len(self.wires)]
        if wire.held[side]:
            for _ in range(min(count, len(wire.on_its_way_to[side]))):
                self.parties[side].receive(wire.number, wire.on_its_way_to[side].popleft(), self.now)

    @precondition(lambda self: self.wires)
    @rule(side=SIDES, pick=st.integers(0, 5), kept=st.integers(0, 5))
    def cut(self, side: int, pick: int, kept: int) -> None:
        """One side sees its stream break; of what is under way to the other, the first `kept` records may arrive."""
        wire = self.wires[pick % len(self.wires)]
        self.parties[side].link.detach(wire.number)
        wire.held[side], wire.left[side] = False, True
        wire.on_its_way_to[side].clear()
        while len(wire.on_its_way_to[1 - side]) > kept:
            wire.on_its_way_to[1 - side].pop()
        if all(wire.left):
            self.wires.remove(wire)

    @rule()
    def exchange(self) -> None:
        """For a moment, everything works."""
        for side in (0, 1):
            self.transmit(side)
            for pick in range(len(self.wires)):
                self.attach(side, pick)
                self.deliver(1 - side, pick, 1000)
            self.now += 0.01

    @rule(seconds=st.sampled_from([0.01, 0.1, SMALL.ack_delay_s, 1, SMALL.ping_after_s, 100]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(side=SIDES)
    def ping(self, side: int) -> None:
        self.parties[side].link.ping()

    @rule(side=SIDES)
    def sleep(self, side: int) -> None:
        self.parties[side].link.doubt(self.now)

    # -- what holds at all times, and in the end

    @invariant()
    def every_byte_comes_once_and_in_order(self) -> None:
        for sender, receiver in self._both_ways():
            for channel in Channel:
                assert sender.wrote[channel].startswith(receiver.got[channel])
            got = len(receiver.got[DATA])
            assert receiver.ends_got == {end: last for end, last in sender.ends.items() if end < got}

    @invariant()
    def memory_is_bounded(self) -> None:
        for party in self.parties:
            assert party.waiting <= SMALL.window_bytes
            assert len(party.link._ends) <= SMALL.max_ends
            assert all(box.pending_bytes <= SMALL.window_bytes for box in party.link._out.values())
            assert all(len(stream.answers) <= 2 for stream in party.link._streams.values())
            assert all(
                sum(len(piece.payload) for piece in box.held) < SMALL.window_bytes for box in party.link._in.values()
            )

    @invariant()
    def what_was_sent_is_acknowledged_or_lost_or_on_exactly_one_stream(self) -> None:
        for party in self.parties:
            for channel, box in party.link._out.items():
                spans = [
                    *box.lost,
                    *(span for stream in party.link._streams.values() for span in stream.carried[channel]),
                ]
                spans.sort()
                assert [start for start, _ in spans] + [box.given] == [box.acknowledged] + [stop for _, stop in spans]

    def teardown(self) -> None:
        """One stream that works is enough to deliver everything, whatever the others seem to do."""
        for wire in self.wires.copy():
            if any(wire.left):
                self.cut(wire.left.index(False), self.wires.index(wire), 0)
        if not self.wires:
            self.dial(say_offsets=True)
        for _ in range(200):
            for side, party in enumerate(self.parties):
                self.attach(side, len(self.wires) - 1)
                self.deliver(side, len(self.wires) - 1, 1000)
                party.take(1000, self.now)
                self.transmit(side)
            self.every_byte_comes_once_and_in_order()
            self.now += SMALL.ack_delay_s
            if all(party.link.flushed() for party in self.parties):
                break
        for sender, receiver in self._both_ways():
            assert sender.link.flushed()
            assert receiver.got == sender.wrote
            assert receiver.ends_got == sender.ends

    def _both_ways(self) -> Iterator[tuple[Party, Party]]:
        first, second = self.parties
        yield first, second
        yield second, first


class AnyScheduleOfOneSize(AnySchedule):
    """The same with records of one size, one at a time."""

    filled_bytes = 48
