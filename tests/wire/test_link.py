"""A link: each byte once and in order under any schedule of sends and cuts, and no more than its window of them."""

from __future__ import annotations

import itertools
import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from onionmpc.errors import LocalProtocolError, RemoteProtocolError
from onionmpc.wire import link as link_module
from onionmpc.wire import paths
from onionmpc.wire.frames import (
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
from onionmpc.wire.link import (
    ACK_AFTER_BYTES,
    ACK_DELAY_S,
    LATE_AFTER_S,
    LATE_ROUND_TRIPS,
    MAX_PIECES,
    OWN_SHARE_BYTES,
    PING_AFTER_S,
    SILENCE_LIMIT_S,
    SUSPECT_AFTER_S,
    WINDOW_BYTES,
    ControlBytes,
    Event,
    Link,
    LinkAborted,
    LinkClosed,
    ProgramBytes,
    ProgramEnd,
    ReplayBudget,
    RoundTrip,
    State,
)
from onionmpc.wire.paths import BULK_BYTES, CHUNK_BYTES, LOADED_FOR_S, ROUND_TRIPS

T0 = 1000.0
CONTROL, DATA = Channel


def attached(**settings: Any) -> Link:
    """A link on stream 0 that has sent its first ping."""
    link = Link(**settings)
    link.attach(0, T0)
    assert said(link) == [Ping(1)]
    return link


def said(link: Link, now: float = T0, stream: int = 0) -> list[Frame]:
    """The frames that a link sends over a stream now."""
    return [frame for record in records(link, now, stream) for frame in decode_frames(record)]


def records(link: Link, now: float = T0, stream: int = 0) -> list[bytes]:
    """What a link sends over a stream that takes all of it now."""
    return list(iter(lambda: link.transmit(stream, now), b""))


def hear(link: Link, *frames: Frame, now: float = T0, stream: int = 0) -> list[Event]:
    return link.receive(stream, b"".join(map(encode_frame, frames)), now)


def refused(link: Link, *frames: Frame, code: AbortCode) -> str:
    """The link refuses the frames, stays in ERROR and says so once."""
    with pytest.raises(RemoteProtocolError) as raised:
        hear(link, *frames)
    assert link.state is State.ERROR
    assert said(link) == [Abort(code)]
    assert said(link, T0 + 100) == []
    assert hear(link, Data(CONTROL, 0, b"late")) == []
    assert link.state is State.ERROR
    assert link.wake_at() is None
    return str(raised.value)


# --- Bytes --------------------------------------------------------------------------------------------------


def test_both_channels_and_the_end_arrive() -> None:
    sender, receiver = attached(), attached()
    sender.send_control(b"hello")
    sender.send_data(b"world")
    sender.end_data()
    assert hear(receiver, *said(sender)) == [ControlBytes(b"hello"), ProgramBytes(b"world"), ProgramEnd()]


def test_nothing_is_sent_without_a_stream() -> None:
    link = Link()
    link.send_control(b"hello")
    assert said(link) == []
    assert link.wake_at() is None


def test_nothing_is_sent_twice_over_one_stream() -> None:
    link = attached()
    link.send_data(b"once")
    assert said(link) == [Data(DATA, 0, b"once")]
    link.send_data(b"more")
    assert said(link) == [Data(DATA, 4, b"more")]
    link.end_data()
    assert said(link) == [End(8)]
    assert said(link) == []


def test_the_end_of_an_empty_channel_is_an_end() -> None:
    sender, receiver = attached(), attached()
    sender.end_data()
    sender.end_data()
    assert hear(receiver, *said(sender)) == [ProgramEnd()]


def test_records_are_as_few_and_as_large_as_they_can_be() -> None:
    link = attached()
    link.send_data(bytes(2 * MAX_RECORD_BYTES))
    first, second, _ = records(link)
    assert len(first) == len(second) == MAX_RECORD_BYTES


def test_bytes_after_the_end_are_our_own_mistake() -> None:
    link = attached()
    link.end_data()
    with pytest.raises(LocalProtocolError):
        link.send_data(b"late")


def test_a_repr_shows_no_bytes() -> None:
    link = attached()
    link.send_data(b"secret")
    assert repr(link) == "<Link OPEN streams=1>"


# --- The window ---------------------------------------------------------------------------------------------


def test_room_shrinks_with_what_is_sent_and_grows_with_what_is_acknowledged() -> None:
    link = attached()
    assert link.room() == WINDOW_BYTES
    link.send_data(bytes(WINDOW_BYTES))
    said(link)
    assert link.room() == 0
    hear(link, Ack(0, 1000))
    assert link.room() == 1000
    assert not link.flushed()
    hear(link, Ack(0, WINDOW_BYTES))
    assert link.flushed()


def test_more_than_there_is_room_for_is_our_own_mistake() -> None:
    link = attached(window_bytes=100)
    link.send_data(bytes(60))
    with pytest.raises(LocalProtocolError):
        link.send_data(bytes(41))
    link.send_control(bytes(100))
    with pytest.raises(LocalProtocolError):
        link.send_control(b"x")


def test_a_peer_that_does_not_keep_to_the_window_is_refused() -> None:
    receiver = attached(window_bytes=100)
    assert hear(receiver, Data(DATA, 0, bytes(100))) == [ProgramBytes(bytes(100))]
    receiver.consume(10, T0)
    assert hear(receiver, Data(DATA, 100, bytes(10))) == [ProgramBytes(bytes(10))]
    assert "more than 100 bytes" in refused(receiver, Data(DATA, 110, b"x"), code=AbortCode.LIMIT)


def test_the_end_fits_a_full_window() -> None:
    receiver = attached(window_bytes=100)
    hear(receiver, Data(DATA, 0, bytes(100)))
    assert hear(receiver, End(100)) == [ProgramEnd()]


def test_taking_more_than_came_is_our_own_mistake() -> None:
    receiver = attached()
    hear(receiver, Data(DATA, 0, bytes(10)))
    with pytest.raises(LocalProtocolError):
        receiver.consume(11, T0)


# --- Acknowledgements ---------------------------------------------------------------------------------------


def test_control_bytes_are_acknowledged_after_a_while_and_once() -> None:
    receiver = attached()
    hear(receiver, Data(CONTROL, 0, b"hello"))
    assert said(receiver) == []
    assert receiver.wake_at() == T0 + ACK_DELAY_S
    assert said(receiver, T0 + ACK_DELAY_S) == [Ack(5, 0)]
    assert receiver.wake_at() != T0 + ACK_DELAY_S
    assert said(receiver, T0 + 2 * ACK_DELAY_S) == []


def test_the_data_channel_is_acknowledged_as_the_program_takes_it() -> None:
    receiver = attached()
    hear(receiver, Data(DATA, 0, bytes(10)), End(10))
    assert said(receiver, T0 + 1) == []
    receiver.consume(4, T0 + 1)
    assert said(receiver, T0 + 2) == [Ack(0, 4)]
    receiver.consume(7, T0 + 2)
    assert said(receiver, T0 + 3) == [Ack(0, 11)]


def test_an_acknowledgement_rides_on_data_and_before_it() -> None:
    receiver = attached()
    hear(receiver, Data(CONTROL, 0, b"hello"))
    receiver.send_data(b"answer")
    assert said(receiver) == [Ack(5, 0), Data(DATA, 0, b"answer")]
    assert said(receiver, T0 + 1) == []


def test_many_small_messages_cost_one_acknowledgement() -> None:
    receiver = attached()
    frames = []
    for number in range(1000):
        hear(receiver, Data(CONTROL, number, b"x"))
        frames += said(receiver)
    assert frames == []
    assert said(receiver, T0 + ACK_DELAY_S) == [Ack(1000, 0)]


def test_many_bytes_are_acknowledged_at_once() -> None:
    receiver = attached()
    half = bytes(ACK_AFTER_BYTES // 2)
    hear(receiver, Data(CONTROL, 0, half))
    assert said(receiver) == []
    hear(receiver, Data(CONTROL, len(half), half))
    assert said(receiver) == [Ack(ACK_AFTER_BYTES, 0)]


def test_an_acknowledgement_is_not_acknowledged() -> None:
    sender = attached()
    sender.send_control(b"hello")
    said(sender)
    hear(sender, Ack(5, 0))
    assert said(sender, T0 + 1) == []


def test_an_old_acknowledgement_changes_nothing() -> None:
    sender = attached()
    sender.send_data(b"hello")
    said(sender)
    hear(sender, Ack(0, 5), Ack(0, 2), Ack(0, 0))
    assert sender.flushed()


def test_a_replay_is_dropped_and_acknowledged_again() -> None:
    receiver = attached()
    hear(receiver, Data(CONTROL, 0, b"hello"))
    said(receiver, T0 + 1)
    assert hear(receiver, Data(CONTROL, 0, b"hello")) == []
    assert said(receiver, T0 + 2) == [Ack(5, 0)]
    assert hear(receiver, Data(CONTROL, 3, b"lo, you")) == [ControlBytes(b", you")]
    assert said(receiver, T0 + 3) == [Ack(10, 0)]


def test_a_replay_of_the_end_is_acknowledged_again() -> None:
    receiver = attached()
    hear(receiver, End(0))
    receiver.consume(1, T0)
    said(receiver, T0 + 1)
    assert hear(receiver, End(0)) == []
    assert said(receiver, T0 + 2) == [Ack(0, 1)]


def test_an_empty_frame_of_data_is_no_reason_to_wake() -> None:
    # Or a peer could keep us turning: an acknowledgement that is due and never sent.
    receiver = attached()
    before = receiver.wake_at()
    assert hear(receiver, Data(CONTROL, 0, b""), Data(DATA, 0, b"")) == []
    assert receiver.wake_at() == before
    assert said(receiver, T0 + 1) == []


# --- Pings --------------------------------------------------------------------------------------------------


def test_a_ping_is_answered_at_once_and_measures_the_round_trip() -> None:
    asker, answerer = Link(), attached()
    asker.attach(0, T0)
    hear(answerer, *said(asker))
    assert hear(asker, *said(answerer), now=T0 + 1.5) == [RoundTrip(1.5, 0)]


def test_a_pong_that_nobody_asked_for_says_nothing() -> None:
    link = attached()
    assert hear(link, Pong(99)) == []
    assert hear(link, Pong(1), Pong(1)) == [RoundTrip(0.0, 0)]


def test_a_ping_comes_after_silence_and_not_before() -> None:
    link = attached()
    hear(link, Pong(1))
    assert link.wake_at() == T0 + PING_AFTER_S
    assert said(link, T0 + PING_AFTER_S - 0.1) == []
    assert link.silent_for(T0 + PING_AFTER_S) == PING_AFTER_S
    assert said(link, T0 + PING_AFTER_S) == [Ping(2)]
    assert link.wake_at() == T0 + 2 * PING_AFTER_S
    assert said(link, T0 + 20 * PING_AFTER_S) == [Ping(3)]
    assert said(link, T0 + 20 * PING_AFTER_S) == []


def test_a_link_that_hears_something_does_not_ping() -> None:
    link = attached()
    hear(link, Pong(1))
    for second in range(1, 60):
        hear(link, Ack(0, 0), now=T0 + second)
        assert said(link, T0 + second) == []


def test_a_ping_that_is_asked_for_leaves_at_once() -> None:
    link = attached()
    link.ping()
    assert said(link) == [Ping(2)]


def test_endless_pings_leave_one_answer() -> None:
    link = attached()
    for token in range(10_000):
        hear(link, Ping(token), Ping(token))
    assert said(link) == [Pong(9999)]
    assert said(link) == []


# --- Records of one size ------------------------------------------------------------------------------------

SIZE = 480


def filled(link: Link, now: float = T0, stream: int = 0, size: int = SIZE) -> list[Frame]:
    """The frames of a filled record, without the padding."""
    record = link.fill(stream, now, size)
    assert len(record) == size
    return [frame for frame in decode_frames(record) if not isinstance(frame, Padding)]


def test_a_filled_record_has_its_size_whatever_there_is_to_say() -> None:
    link = attached()
    assert filled(link) == []
    link.send_control(b"hello")
    assert filled(link) == [Data(CONTROL, 0, b"hello")]
    link.end_data()
    assert filled(link) == [End(0)]
    assert filled(link, T0 + PING_AFTER_S) == [Ping(2)]
    link.close()
    assert filled(link) == [Close()]
    assert filled(link) == []


@pytest.mark.parametrize("left", range(30))
def test_a_filled_record_has_its_size_however_little_is_left_of_it(left: int) -> None:
    sender, receiver = attached(), attached()
    sender.send_control(bytes(SIZE - left))
    sender.send_data(b"world")
    sender.end_data()
    frames = [frame for _ in range(3) for frame in filled(sender)]
    got = hear(receiver, *frames)
    assert b"".join(event.payload for event in got if isinstance(event, ControlBytes)) == bytes(SIZE - left)
    assert b"".join(event.payload for event in got if isinstance(event, ProgramBytes)) == b"world"
    assert got[-1] == ProgramEnd()


def test_much_to_say_is_said_in_many_records_the_control_channel_first() -> None:
    link = attached()
    link.send_data(bytes(1000))
    link.send_control(b"urgent")
    first, second = filled(link)
    assert first == Data(CONTROL, 0, b"urgent")
    assert second == Data(DATA, 0, bytes(SIZE - 2 * 12 - 6))
    assert filled(link) == [Data(DATA, SIZE - 30, bytes(SIZE - 12))]
    assert filled(link) == [Data(DATA, 2 * SIZE - 42, bytes(1000 - 2 * SIZE + 42))]
    assert filled(link) == []


def test_a_filled_record_acknowledges_at_once() -> None:
    link = attached()
    hear(link, Data(CONTROL, 0, b"hello"))
    assert filled(link) == [Ack(5, 0)]
    assert filled(link) == []


def test_endless_pings_do_not_overfill_a_record() -> None:
    link = attached()
    for token in range(1000):
        hear(link, Ping(token))
    link.ping()
    hear(link, Data(CONTROL, 0, b"hello"))
    link.send_data(bytes(SIZE))
    assert filled(link) == [Pong(999), Ping(2), Ack(5, 0), Data(DATA, 0, bytes(SIZE - 2 * 11 - 19 - 12))]


def test_padding_says_nothing() -> None:
    link = attached()
    assert hear(link, Padding(480), now=T0 + 1) == []
    assert not link.suspicious(T0 + SUSPECT_AFTER_S)  # but that its sender is there
    assert link.offsets() == (0, 0)


# --- Broken rules -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ack", [Ack(6, 0), Ack(0, 6), Ack(2**64 - 1, 0), Ack(5, 2**64 - 1)], ids=lambda ack: f"{ack.control}-{ack.data}"
)
def test_an_acknowledgement_of_bytes_that_do_not_exist_is_refused(ack: Ack) -> None:
    link = attached()
    link.send_control(b"hello")
    link.send_data(b"world")
    said(link)
    assert "up to 5" in refused(link, ack, code=AbortCode.OFFSET)


def test_an_acknowledgement_of_bytes_that_were_not_sent_yet_is_refused() -> None:
    link = attached()
    link.send_control(b"hello")
    assert "up to 0" in refused(link, Ack(5, 0), code=AbortCode.OFFSET)


def test_an_acknowledgement_of_the_end_before_it_was_sent_is_refused() -> None:
    link = attached()
    link.send_data(b"hello")
    said(link)
    link.end_data()
    refused(link, Ack(0, 6), code=AbortCode.OFFSET)


@pytest.mark.parametrize("channel", Channel)
def test_what_is_beyond_the_window_is_refused_gap_or_not(channel: Channel) -> None:
    link = attached(window_bytes=100)
    assert hear(link, Data(channel, 99, b"x"), Data(channel, 100, b"")) == []
    what = refused(link, Data(channel, 100, b"x"), code=AbortCode.LIMIT)
    assert what == f"more than 100 bytes of the {channel.name.lower()} channel came unasked"


def test_more_pieces_than_an_honest_sender_leaves_are_refused() -> None:
    link = attached()
    for number in range(MAX_PIECES):
        hear(link, Data(DATA, 2 * number + 1, b"x"))
    refused(link, Data(DATA, 2 * MAX_PIECES + 1, b"x"), code=AbortCode.LIMIT)


@pytest.mark.parametrize(
    "frame",
    [Data(DATA, 5, b"x"), Data(DATA, 4, b"ox"), Data(DATA, 6, b"x"), Data(DATA, 0, b"hello, you"), Data(DATA, 7, b"")],
    ids=["at the end", "across it", "right after it", "a longer replay", "far after it"],
)
def test_data_after_the_end_is_refused(frame: Data) -> None:
    link = attached()
    hear(link, Data(DATA, 0, b"hello"), End(5))
    assert hear(link, Data(DATA, 0, b"hello"), Data(DATA, 2, b"l")) == []
    refused(link, frame, code=AbortCode.OFFSET)


@pytest.mark.parametrize("offset", [0, 4, 6])
def test_an_end_at_another_byte_is_refused(offset: int) -> None:
    link = attached()
    hear(link, Data(DATA, 0, b"hello"), End(5), End(5))
    refused(link, End(offset), code=AbortCode.OFFSET)


@pytest.mark.parametrize("offset", [0, 4, 7])
def test_an_end_before_bytes_that_have_come_is_refused(offset: int) -> None:
    link = attached()
    hear(link, Data(DATA, 0, b"hello"), Data(DATA, 6, b"yo"))
    refused(link, End(offset), code=AbortCode.OFFSET)


def test_an_end_beyond_the_window_is_refused() -> None:
    refused(attached(window_bytes=100), End(101), code=AbortCode.LIMIT)


def test_what_is_no_frame_is_refused() -> None:
    link = attached()
    with pytest.raises(RemoteProtocolError):
        link.receive(0, b"\x63\x00\x00", T0)
    assert said(link) == [Abort(AbortCode.FRAME)]


def test_an_error_takes_the_place_of_all_that_was_queued() -> None:
    link = attached()
    link.send_control(b"hello")
    link.send_data(b"world")
    refused(link, Ack(1, 0), code=AbortCode.OFFSET)
    for sending in (link.send_control, link.send_data):
        with pytest.raises(LocalProtocolError):
            sending(b"late")


def test_a_second_error_changes_nothing() -> None:
    link = attached()
    link.abort(AbortCode.PROGRAM_BYTES)
    link.abort(AbortCode.LIMIT)
    link.close()
    assert said(link) == [Abort(AbortCode.PROGRAM_BYTES)]
    assert link.state is State.ERROR


# --- Closing ------------------------------------------------------------------------------------------------


def test_close_is_said_once_and_heard_once() -> None:
    closer, other = attached(), attached()
    closer.close()
    closer.close()
    frames = said(closer)
    assert frames == [Close()]
    assert hear(other, *frames) == [LinkClosed()]
    assert hear(other, *frames) == []
    assert [link.state for link in (closer, other)] == [State.CLOSED, State.CLOSED]
    assert said(closer) == said(other, T0 + 100) == []


def test_what_comes_before_close_counts_and_what_comes_after_does_not() -> None:
    link = attached()
    frames = Data(CONTROL, 0, b"a"), Close(), Data(CONTROL, 1, b"b"), Abort(AbortCode.FRAME)
    assert hear(link, *frames) == [ControlBytes(b"a"), LinkClosed()]
    assert link.state is State.CLOSED


@pytest.mark.parametrize("code", AbortCode)
def test_an_abort_is_heard_with_its_code_and_not_answered(code: AbortCode) -> None:
    link = attached()
    assert hear(link, Abort(code), Data(CONTROL, 99, b"x")) == [LinkAborted(code)]
    assert link.state is State.ERROR
    assert said(link) == []


# --- Streams ------------------------------------------------------------------------------------------------


def test_a_cut_sends_again_what_was_not_acknowledged() -> None:
    link = attached()
    link.send_data(b"hello")
    link.end_data()
    said(link)
    hear(link, Ack(0, 2))
    link.detach(0)
    assert said(link) == []
    link.attach(1, T0)
    assert said(link, stream=1)[-2:] == [Data(DATA, 2, b"llo"), End(5)]
    link.detach(1)
    link.attach(2, T0, peer_offsets=(0, 5))
    assert [frame for frame in said(link, stream=2) if isinstance(frame, Data | End)] == [End(5)]
    hear(link, Ack(0, 6), stream=2)
    link.detach(2)
    link.attach(3, T0, peer_offsets=(0, 6))
    assert not [frame for frame in said(link, stream=3) if isinstance(frame, Data | End)]


def test_of_two_streams_of_unknown_speed_the_newer_one_is_sent_over_and_the_other_when_it_breaks() -> None:
    link = attached()
    link.attach(1, T0)
    link.send_data(b"hello")
    assert said(link, stream=0) == [Ping(2)]
    assert said(link, stream=1) == [Ping(3), Data(DATA, 0, b"hello")]
    link.detach(1)
    assert Data(DATA, 0, b"hello") in said(link)


def test_an_answer_goes_over_the_stream_of_its_question() -> None:
    link = attached()
    link.attach(1, T0)
    hear(link, Ping(7), stream=0)
    assert said(link, stream=1) == [Ping(3)]
    assert said(link, stream=0) == [Pong(7), Ping(2)]


def test_what_comes_over_a_stream_that_is_gone_is_not_heard() -> None:
    link = attached()
    link.detach(0)
    assert hear(link, Data(CONTROL, 0, b"late")) == []


def test_a_handshake_that_claims_bytes_never_sent_is_refused() -> None:
    link = attached()
    link.send_data(b"hello")
    with pytest.raises(RemoteProtocolError):
        link.attach(1, T0, peer_offsets=(0, 1))
    assert link.state is State.ERROR


def test_what_the_program_has_not_taken_still_fills_the_window_after_a_cut() -> None:
    sender, receiver = attached(window_bytes=100), attached(window_bytes=100)
    sender.send_data(bytes(100))
    hear(receiver, *said(sender))
    receiver.consume(30, T0)
    sender.detach(0)
    sender.attach(1, T0, peer_offsets=receiver.offsets())
    assert sender.room() == 30
    sender.send_data(bytes(30))
    assert hear(receiver, *said(sender, stream=1)) == [ProgramBytes(bytes(30))]


def test_an_acknowledgement_that_may_be_lost_with_a_stream_is_said_again() -> None:
    receiver = attached()
    receiver.attach(1, T0)
    hear(receiver, Data(CONTROL, 0, b"hello"))
    assert Ack(5, 0) in said(receiver, T0 + 1, stream=1)
    receiver.detach(1)
    assert said(receiver, T0 + 1) == [Ping(2), Ack(5, 0)]
    assert said(receiver, T0 + 2) == []


# --- Several streams ----------------------------------------------------------------------------------------


def data(link: Link, now: float = T0, stream: int = 0) -> list[Data]:
    """The bytes among what a link sends over a stream now."""
    return [frame for frame in said(link, now, stream) if isinstance(frame, Data)]


def raced(*round_trips_s: float, **settings: Any) -> Link:
    """A link on streams 0 and so on, each of which has answered five pings in so many seconds, fewer than 1."""
    link = Link(**settings)
    for stream in range(len(round_trips_s)):
        link.attach(stream, T0)
    for round_ in range(ROUND_TRIPS):
        for stream, seconds in enumerate(round_trips_s):
            asked_at = T0 + round_ * seconds
            for token in [frame.token for frame in said(link, asked_at, stream) if isinstance(frame, Ping)]:
                hear(link, Pong(token), now=asked_at + seconds, stream=stream)
    for stream in range(len(round_trips_s)):
        assert said(link, stream=stream) == []
    assert link.compared() == len(round_trips_s)
    return link


def test_each_of_several_streams_is_asked_five_times_in_a_row_and_the_fastest_is_the_best() -> None:
    link = raced(0.3, 0.1, 0.2)
    assert link.ranking() == [1, 2, 0]
    assert link.best == 1
    assert link.round_trip_s(1) == pytest.approx(0.1)
    assert link.round_trip_s(9) is None


def test_one_slow_answer_makes_no_slow_stream() -> None:
    link = raced(0.2, 0.1)
    link.ping()
    (ping,) = said(link, T0 + 2, stream=1)
    assert isinstance(ping, Ping)
    hear(link, Pong(ping.token), now=T0 + 4, stream=1)
    assert link.best == 1


def test_a_lone_stream_is_not_asked_in_a_row() -> None:
    link = attached()
    hear(link, Pong(1))
    assert said(link) == []


def test_what_is_little_goes_over_the_fastest_stream_alone() -> None:
    link = raced(0.3, 0.1, 0.2)
    link.send_control(b"hello")
    link.send_data(bytes(BULK_BYTES - 1))
    assert link.speaks()
    assert said(link, stream=0) == said(link, stream=2) == []
    assert said(link, stream=1)[0] == Data(CONTROL, 0, b"hello")
    assert said(link, stream=1) == []
    assert not link.speaks()


def test_of_much_each_stream_takes_a_chunk_when_it_has_room_and_the_rest_goes_over_the_fastest() -> None:
    link = raced(0.3, 0.1, 0.2)
    link.send_data(bytes(BULK_BYTES + 2 * CHUNK_BYTES))
    link.send_control(b"hello")
    assert len(link.transmit(0, T0)) == len(link.transmit(2, T0)) == CHUNK_BYTES
    assert link.transmit(2, T0)
    # What is left is too little for them, and the control channel was never theirs.
    assert said(link, stream=0) == said(link, stream=2) == []
    assert said(link, stream=1)[0] == Data(CONTROL, 0, b"hello")
    assert said(link, stream=0) == said(link, stream=1) == said(link, stream=2) == []


def test_much_goes_over_no_more_streams_than_are_kept_nor_over_one_of_unknown_speed() -> None:
    link = raced(0.1, 0.2, 0.3, 0.4, 0.5)
    link.attach(5, T0)
    link.send_data(bytes(10 * BULK_BYTES))
    assert [len(link.transmit(stream, T0)) > CHUNK_BYTES // 2 for stream in range(1, 6)] == [True] * 3 + [False] * 2


def test_what_comes_before_what_is_in_front_of_it_waits_and_comes_once() -> None:
    receiver = raced(0.1, 0.2)
    assert hear(receiver, Data(DATA, 6, b"world"), stream=1) == []
    assert hear(receiver, End(11), stream=1) == []
    assert hear(receiver, Data(DATA, 8, b"rl"), Data(DATA, 4, b"o world"), stream=0) == []
    assert hear(receiver, Data(DATA, 0, b"hell"), stream=0) == [ProgramBytes(b"hello world"), ProgramEnd()]
    assert hear(receiver, Data(DATA, 0, b"hello "), End(11), stream=0) == []
    receiver.consume(12, T0 + 1)
    assert said(receiver, T0 + 2) == [Ack(0, 12)]


def test_what_waits_is_not_acknowledged() -> None:
    receiver = attached()
    hear(receiver, Data(CONTROL, 5, b"later"))
    assert said(receiver, T0 + 1) == []
    assert receiver.offsets() == (0, 0)
    assert hear(receiver, Data(CONTROL, 0, b"first")) == [ControlBytes(b"firstlater")]
    assert said(receiver, T0 + 2) == [Ack(10, 0)]


def test_a_stream_that_breaks_has_only_its_own_part_sent_again() -> None:
    link = raced(0.1, 0.2)
    link.send_data(bytes(BULK_BYTES))
    chunks = data(link, stream=1)
    said(link)
    link.detach(1)
    assert data(link) == chunks
    link.detach(0)
    link.attach(2, T0)
    assert sum(len(frame.payload) for frame in data(link, stream=2)) == BULK_BYTES


def test_what_was_acknowledged_is_not_sent_again() -> None:
    link = raced(0.1, 0.2)
    link.send_data(bytes(BULK_BYTES))
    (chunk,) = data(link, stream=1)
    said(link)
    hear(link, Ack(0, 1000))
    link.detach(1)
    assert data(link) == [Data(DATA, 1000, chunk.payload[1000:])]


def test_the_fastest_stream_is_left_when_it_owes_an_answer_for_long_and_taken_again_when_it_answers() -> None:
    link = raced(0.1, 0.2)
    link.send_data(b"hello")
    assert said(link) == [Data(DATA, 0, b"hello")]
    silent_since = T0 + 1.0  # when the slower one had answered last
    asked_at = silent_since + PING_AFTER_S
    hear(link, Ack(0, 0), now=silent_since)
    assert [type(frame) for frame in said(link, asked_at)] == [Ping]
    hear(link, Ack(0, 0), now=asked_at + 1, stream=1)
    assert link.wake_at() == asked_at + LATE_AFTER_S
    assert data(link, asked_at + LATE_AFTER_S, stream=1) == [Data(DATA, 0, b"hello")]
    assert link.best == 1
    assert not link.suspicious(asked_at + LATE_AFTER_S)
    hear(link, Ack(0, 5), now=asked_at + LATE_AFTER_S + 1)
    assert link.best == 0


def test_a_slow_stream_is_given_time_to_answer() -> None:
    link = raced(0.9, 0.95)
    asked_at = T0 + 100
    for stream in (0, 1):
        hear(link, Ack(0, 0), now=asked_at, stream=stream)
        said(link, asked_at, stream=stream)
    hear(link, Ack(0, 0), now=asked_at + 1, stream=1)
    link.heed_time(asked_at + LATE_ROUND_TRIPS * 0.9 - 0.1)
    assert link.best == 0
    link.heed_time(asked_at + LATE_ROUND_TRIPS * 0.9 + 0.1)
    assert link.best == 1


def test_a_further_stream_has_the_others_asked_whether_they_deliver() -> None:
    link = attached()
    hear(link, Pong(1), now=T0 + 1)
    link.attach(1, T0 + 2)
    assert said(link, T0 + 2) == [Ping(2)]


def test_a_busy_stream_is_measured_now_and_then() -> None:
    link = raced(0.1, 0.2)
    pings = 0
    for second in range(1, 100):
        hear(link, Ack(0, 0), now=T0 + second)
        pings += len(said(link, T0 + second))
    assert pings == 3


def answer(link: Link, stream: int, seconds: float, times: int, now: float = T0 + 1000) -> float:
    """Have a stream answer pings after so many seconds; return when the last answer came."""
    for _ in range(times):
        link.ping()
        for ping in [frame for frame in said(link, now, stream) if isinstance(frame, Ping)]:
            hear(link, Pong(ping.token), now=now + seconds, stream=stream)
        now += seconds + PING_AFTER_S
    return now


def test_a_stream_has_slowed_when_all_its_last_round_trips_took_twice_what_the_first_took() -> None:
    link = raced(0.1, 0.2)
    now = answer(link, 0, 0.21, ROUND_TRIPS - 1)
    link.attach(2, T0)  # of which nothing is known
    assert link.slowed() == []
    answer(link, 0, 0.21, 1, now)
    assert link.slowed() == [0]
    answer(link, 1, 0.39, ROUND_TRIPS)
    assert link.slowed() == [0]


@pytest.mark.parametrize("ours", [True, False])
def test_round_trips_beside_much_data_say_nothing_of_the_circuit(ours: bool) -> None:
    link = raced(0.1, 0.2)
    now = T0 + 1000
    for number in range(2 * ROUND_TRIPS):
        if ours:
            link.send_data(bytes(CHUNK_BYTES))
            assert data(link, now)
        else:
            hear(link, Data(CONTROL, number * CHUNK_BYTES, bytes(CHUNK_BYTES)), now=now)
        now = answer(link, 0, 2.0, 1, now)
    assert link.slowed() == []
    assert link.best == 0
    answer(link, 0, 2.0, ROUND_TRIPS, now + LOADED_FOR_S)
    assert link.slowed() == [0]


def test_a_stream_that_takes_no_bytes_gathers_no_questions() -> None:
    link = raced(0.1, 0.2)
    for second in range(100):
        hear(link, Ack(0, 0), now=T0 + second)
        link.heed_time(T0 + second)
    assert len(said(link, T0 + 100, stream=1)) == 1


# --- Doubt --------------------------------------------------------------------------------------------------


def test_a_stream_is_suspicious_after_three_missed_beats_and_not_before() -> None:
    link = attached()
    assert not link.suspicious(T0 + SUSPECT_AFTER_S - 0.1)
    assert link.suspicious(T0 + SUSPECT_AFTER_S)
    hear(link, Pong(1), now=T0 + SUSPECT_AFTER_S)
    assert not link.suspicious(T0 + SUSPECT_AFTER_S)
    assert link.state is State.OPEN


def test_a_link_without_streams_is_suspicious() -> None:
    link = attached()
    link.detach(0)
    assert link.suspicious(T0)


def test_a_stream_that_brings_nothing_is_left_for_one_that_does() -> None:
    link = attached()
    link.attach(1, T0)
    said(link, stream=1)
    link.send_data(b"hello")
    assert data(link, T0 + 2, stream=1) == [Data(DATA, 0, b"hello")]
    hear(link, Ack(0, 0), now=T0 + SUSPECT_AFTER_S - 1)
    assert data(link, T0 + SUSPECT_AFTER_S - 1) == []
    assert data(link, T0 + SUSPECT_AFTER_S) == [Data(DATA, 0, b"hello")]
    assert not link.suspicious(T0 + SUSPECT_AFTER_S)


def test_a_stream_that_stays_silent_is_stale() -> None:
    link = attached()
    link.attach(1, T0 + 1)
    assert link.stale(T0 + SILENCE_LIMIT_S - 1) == []
    assert link.stale(T0 + SILENCE_LIMIT_S) == [0]


def test_after_a_sleep_every_stream_is_doubted_until_it_brings_something() -> None:
    link = attached()
    hear(link, Pong(1))
    link.doubt(T0 + 1000)
    assert link.suspicious(T0 + 1000)
    # It was not the peer that was away.
    assert link.silent_for(T0 + 1000) == 0
    assert said(link, T0 + 1000) == [Ping(2)]
    hear(link, Pong(2), now=T0 + 1001)
    assert not link.suspicious(T0 + 1001)


def test_a_ping_that_is_due_leaves_even_if_something_comes_first() -> None:
    link = Link()
    link.attach(0, T0)
    hear(link, Ack(0, 0), now=T0 + 1)
    assert said(link, T0 + 1) == [Ping(1)]


def test_last_words_go_over_every_stream() -> None:
    link = attached()
    link.attach(1, T0)
    link.close()
    assert said(link) == said(link, stream=1) == [Close()]


def test_a_link_that_is_closed_still_hears_the_peers_last_words_and_nothing_else() -> None:
    link = attached()
    link.close()
    assert said(link) == [Close()]
    assert hear(link, Data(Channel.CONTROL, 0, b"late"), Ping(1)) == []
    assert link.receive(0, b"\xff no frame", T0) == []
    assert not link.parted
    assert hear(link, Close()) == []
    assert link.parted
    assert said(link) == []


# --- All links together -------------------------------------------------------------------------------------


def test_links_share_what_they_hold_and_each_keeps_a_share_of_its_own() -> None:
    budget = ReplayBudget(OWN_SHARE_BYTES + 1000)
    first, second = attached(budget=budget), attached(budget=budget)
    first.send_data(bytes(first.room()))
    assert first.room() == 0
    assert second.room() == OWN_SHARE_BYTES
    second.send_data(bytes(OWN_SHARE_BYTES))
    assert second.room() == 0
    said(first)
    hear(first, Ack(0, OWN_SHARE_BYTES + 1000))
    assert second.room() == 1000


@pytest.mark.parametrize("end", [lambda link: link.close(), lambda link: hear(link, Close())], ids=["ours", "theirs"])
def test_a_link_that_ends_lets_go_of_what_it_held(end: Callable[[Link], object]) -> None:
    budget = ReplayBudget(1000)
    link = attached(budget=budget)
    link.send_data(bytes(600))
    assert budget.left == 400
    end(link)
    end(link)
    assert budget.left == 1000


# --- Any schedule -------------------------------------------------------------------------------------------

SIDES = st.integers(0, 1)
SMALL_WINDOW_BYTES = 200
STREAMS_AT_ONCE = 3


@dataclass
class Party:
    """One end of the link, what its programs wrote and what they got."""

    link: Link = field(default_factory=lambda: Link(window_bytes=SMALL_WINDOW_BYTES))
    wrote: dict[Channel, bytearray] = field(default_factory=lambda: {channel: bytearray() for channel in Channel})
    got: dict[Channel, bytearray] = field(default_factory=lambda: {channel: bytearray() for channel in Channel})
    ended: bool = False
    ends_got: int = 0
    taken: int = 0

    @property
    def waiting(self) -> int:
        """How much of the data channel arrived and was not taken."""
        return len(self.got[DATA]) + self.ends_got - self.taken

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
                    assert not self.ends_got
                    self.got[DATA] += payload
                case ProgramEnd():
                    self.ends_got += 1
                case RoundTrip(seconds):
                    assert seconds >= 0
                case _:
                    pytest.fail(f"{event} in a link of two honest parties")


@dataclass
class Wire:
    """A stream: what is on its way to each side, and which sides hold it.

    Attributes:
        offsets: what each side said in the handshake, which may be long ago when the other attaches.
    """

    number: int
    offsets: list[tuple[int, int]]
    held: list[bool] = field(default_factory=lambda: [False, False])
    left: list[bool] = field(default_factory=lambda: [False, False])
    on_its_way_to: list[deque[bytes]] = field(default_factory=lambda: [deque(), deque()])


class AnySchedule(RuleBasedStateMachine):
    """Two links, and a network that delays, cuts and loses, and reorders between streams, though not within one."""

    filled_bytes: int | None = None  # the size of all records, where they have one

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        # Small, so that a handful of bytes makes several records and windows.
        self.patch.setattr(link_module, "MAX_RECORD_BYTES", 40)
        self.patch.setattr(link_module, "ACK_AFTER_BYTES", 40)
        self.patch.setattr(paths, "BULK_BYTES", 30)
        self.patch.setattr(link_module, "CHUNK_BYTES", 25)
        self.patch.setattr(paths, "CHUNK_BYTES", 25)
        self.patch.setattr(paths, "MAX_STRIPES", 2)
        self.now = T0
        self.parties = [Party(), Party()]
        self.wires: list[Wire] = []
        self.dialled = 0
        self.written = 0

    # -- programs

    @rule(side=SIDES, size=st.integers(1, 60))
    def write_control(self, side: int, size: int) -> None:
        party = self.parties[side]
        if len(party.link._out[CONTROL].pending) + size <= SMALL_WINDOW_BYTES:
            party.link.send_control(self._write(party, CONTROL, size))

    @rule(side=SIDES, size=st.integers(1, 130))
    def write_data(self, side: int, size: int) -> None:
        party = self.parties[side]
        size = min(size, party.link.room())
        if size and not party.ended:
            party.link.send_data(self._write(party, DATA, size))

    def _write(self, party: Party, channel: Channel, size: int) -> bytes:
        payload = bytes((self.written + i) % 251 for i in range(size))
        self.written += size
        party.wrote[channel] += payload
        return payload

    @rule(side=SIDES)
    def end_data(self, side: int) -> None:
        self.parties[side].ended = True
        self.parties[side].link.end_data()

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
        """A stream takes a few records; one that takes no bytes stops no other."""
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
        # Or whoever waits for `wake_at` would turn without end.
        for pick, wire in enumerate(self.wires):
            assert self.filled_bytes or not link.transmit(wire.number, self.now), pick
            assert not wire.held[side] or self.filled_bytes or not link.speaks()
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
        """One side sees its stream break; of what is on its way to the other, the first `kept` records may arrive."""
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
        """For a moment all goes as it should."""
        for side in (0, 1):
            self.transmit(side)
            for pick in range(len(self.wires)):
                self.attach(side, pick)
                self.deliver(1 - side, pick, 1000)
            self.now += 0.01

    @rule(seconds=st.sampled_from([0.01, 0.1, ACK_DELAY_S, 1, PING_AFTER_S, 100]))
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
            assert receiver.ends_got <= sender.ended
            if receiver.ends_got:
                assert receiver.got[DATA] == sender.wrote[DATA]

    @invariant()
    def memory_is_bounded(self) -> None:
        for party in self.parties:
            assert party.waiting <= SMALL_WINDOW_BYTES + 1
            assert all(len(box.pending) <= SMALL_WINDOW_BYTES for box in party.link._out.values())
            assert all(len(stream.answers) <= 2 for stream in party.link._streams.values())
            assert all(
                sum(len(piece.payload) for piece in box.held) < SMALL_WINDOW_BYTES for box in party.link._in.values()
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
        """One stream that holds is enough for all that was written, whatever the others seem to do."""
        try:
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
                self.now += ACK_DELAY_S
                if all(party.link.flushed() for party in self.parties):
                    break
            for sender, receiver in self._both_ways():
                assert sender.link.flushed()
                assert receiver.got == sender.wrote
                assert receiver.ends_got == sender.ended
        finally:
            self.patch.undo()

    def _both_ways(self) -> Iterator[tuple[Party, Party]]:
        first, second = self.parties
        yield first, second
        yield second, first


class AnyScheduleOfOneSize(AnySchedule):
    """The same with records of one size, one at a time."""

    filled_bytes = 48


TestAnySchedule = AnySchedule.TestCase
TestAnyScheduleOfOneSize = AnyScheduleOfOneSize.TestCase
TestAnySchedule.settings = TestAnyScheduleOfOneSize.settings = settings(
    max_examples=100, stateful_step_count=60, derandomize=True
)


@pytest.mark.parametrize("seed", range(100))
@pytest.mark.parametrize("kind", [AnySchedule, AnyScheduleOfOneSize])
def test_any_long_schedule(kind: type[AnySchedule], seed: int) -> None:
    """The same steps at the rates of a network that mostly works: long ways to fail, next to hypothesis' short ones."""
    choose = random.Random(seed)
    schedule = kind()

    def side_and(upper: int) -> tuple[int, int]:
        return choose.randrange(2), choose.randint(1, upper)

    steps: list[tuple[float, Callable[[], object]]] = [
        (2, lambda: schedule.write_control(*side_and(60))),
        (2, lambda: schedule.write_data(*side_and(130))),
        (0.01, lambda: schedule.end_data(choose.randrange(2))),
        (3, lambda: schedule.take(*side_and(130))),
        (1, lambda: len(schedule.wires) < STREAMS_AT_ONCE and schedule.dial(choose.random() < 0.5)),
        (3, lambda: schedule.wires and schedule.attach(*side_and(6))),
        (5, lambda: schedule.transmit(choose.randrange(2))),
        (9, lambda: schedule.wires and schedule.deliver(*side_and(6), choose.randint(1, 4))),
        (0.5, lambda: schedule.wires and schedule.cut(*side_and(6), choose.randint(0, 5))),
        (2, lambda: schedule.wait(choose.choice([0.01, 0.1, ACK_DELAY_S, PING_AFTER_S]))),
        (2, schedule.exchange),
        (0.2, lambda: schedule.ping(choose.randrange(2))),
        (0.1, lambda: schedule.sleep(choose.randrange(2))),
        (4, lambda: schedule.wires and schedule.transmit_over_one(*side_and(6), choose.randint(1, 4))),
    ]
    weights, actions = zip(*steps, strict=True)
    for action in choose.choices(actions, weights, k=choose.randint(100, 1000)):
        action()
        schedule.every_byte_comes_once_and_in_order()
        schedule.memory_is_bounded()
        schedule.what_was_sent_is_acknowledged_or_lost_or_on_exactly_one_stream()
    schedule.teardown()
