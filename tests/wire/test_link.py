"""A link delivers each byte once and in order, and never more than its window."""

from __future__ import annotations

import pytest

from onionmpc.errors import LocalProtocolError, RemoteProtocolError
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
)
from onionmpc.wire.limits import DEFAULT_LINK_LIMITS as LIMITS
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
from tests.support.link_schedules import CONTROL, DATA, T0
from tests.support.links import attached, hear, records, said


def refused(link: Link, *frames: Frame, code: AbortCode) -> str:
    """Check that the link refuses the frames, stays in ERROR and sends one ABORT."""
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
    sender.end_data(last=True)
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
    link.end_data(last=True)
    assert said(link) == [End(8, last=True)]
    assert said(link) == []


def test_epochs_follow_each_other_in_one_space_of_offsets() -> None:
    sender, receiver = attached(), attached()
    sender.send_data(b"first")
    sender.end_data(last=False)
    sender.end_data(last=False)
    sender.send_data(b"third")
    sender.end_data(last=False)
    sender.end_data(last=True)
    frames = said(sender)
    assert frames == [
        Data(DATA, 0, b"first"),
        End(5, last=False),
        End(6, last=False),
        Data(DATA, 7, b"third"),
        End(12, last=False),
        End(13, last=True),
    ]
    events = [ProgramBytes(b"first"), EpochEnd(), EpochEnd(), ProgramBytes(b"third"), EpochEnd(), ProgramEnd()]
    assert hear(receiver, *frames) == events
    receiver.consume(14, T0)
    assert said(receiver, T0 + 1) == [Ack(0, 14)]


def test_an_end_that_fills_a_gap_lets_out_what_waits_behind_it() -> None:
    receiver = attached()
    assert hear(receiver, Data(DATA, 6, b"second"), Data(DATA, 0, b"first")) == [ProgramBytes(b"first")]
    assert hear(receiver, End(5, last=False)) == [EpochEnd(), ProgramBytes(b"second")]


def test_ends_are_sent_again_as_they_were() -> None:
    link = attached()
    link.end_data(last=False)
    link.end_data(last=True)
    said(link)
    link.detach(0)
    link.attach(1, T0, peer_offsets=(0, 1))
    assert [frame for frame in said(link, stream=1) if isinstance(frame, End)] == [End(1, last=True)]


def test_records_are_as_few_and_as_large_as_possible() -> None:
    link = attached()
    link.send_data(bytes(2 * MAX_RECORD_BYTES))
    first, second, _ = records(link)
    assert len(first) == len(second) == MAX_RECORD_BYTES


def test_a_repr_shows_no_bytes() -> None:
    link = attached()
    link.send_data(b"secret")
    assert repr(link) == "<Link OPEN streams=1>"


# --- The window ---------------------------------------------------------------------------------------------


def test_room_shrinks_with_what_is_sent_and_grows_with_what_is_acknowledged() -> None:
    link = attached()
    assert link.room() == LIMITS.window_bytes
    link.send_data(bytes(LIMITS.window_bytes))
    said(link)
    assert link.room() == 0
    hear(link, Ack(0, 1000))
    assert link.room() == 1000
    assert not link.flushed()
    hear(link, Ack(0, LIMITS.window_bytes))
    assert link.flushed()


def test_sending_more_than_there_is_room_for_is_our_bug() -> None:
    link = attached(limits=LinkLimits(window_bytes=100))
    link.send_data(bytes(60))
    with pytest.raises(LocalProtocolError):
        link.send_data(bytes(41))
    link.send_control(bytes(100))
    with pytest.raises(LocalProtocolError):
        link.send_control(b"x")


def test_a_peer_that_exceeds_the_window_is_refused() -> None:
    receiver = attached(limits=LinkLimits(window_bytes=100))
    assert hear(receiver, Data(DATA, 0, bytes(100))) == [ProgramBytes(bytes(100))]
    receiver.consume(10, T0)
    assert hear(receiver, Data(DATA, 100, bytes(10))) == [ProgramBytes(bytes(10))]
    assert "more than 100 unacknowledged bytes" in refused(receiver, Data(DATA, 110, b"x"), code=AbortCode.LIMIT)


def test_an_end_needs_room_in_the_window() -> None:
    link = attached(limits=LinkLimits(window_bytes=100))
    link.send_data(bytes(99))
    link.end_data(last=False)
    assert not link.has_room_for_end()
    with pytest.raises(LocalProtocolError):
        link.end_data(last=True)
    said(link)
    hear(link, Ack(0, 1))
    assert link.has_room_for_end()


def test_ends_count_in_the_budget_of_all_links() -> None:
    budget = ReplayBudget(100)
    link = attached(budget=budget)
    link.end_data(last=False)
    assert budget.left == 99
    said(link)
    hear(link, Ack(0, 1))
    assert budget.left == 100


def test_only_so_many_ends_may_be_unacknowledged() -> None:
    sender, receiver = attached(), attached()
    for _ in range(LIMITS.max_ends):
        sender.end_data(last=False)
    assert not sender.has_room_for_end()
    hear(receiver, *said(sender))
    receiver.consume(1, T0)
    assert hear(receiver, End(LIMITS.max_ends, last=False)) == [EpochEnd()]
    refused(receiver, End(LIMITS.max_ends + 1, last=False), code=AbortCode.LIMIT)


def test_consuming_more_than_arrived_is_our_bug() -> None:
    receiver = attached()
    hear(receiver, Data(DATA, 0, bytes(10)))
    with pytest.raises(LocalProtocolError):
        receiver.consume(11, T0)


# --- Acknowledgements ---------------------------------------------------------------------------------------


def test_control_bytes_are_acknowledged_once_after_a_delay() -> None:
    receiver = attached()
    hear(receiver, Data(CONTROL, 0, b"hello"))
    assert said(receiver) == []
    assert receiver.wake_at() == T0 + LIMITS.ack_delay_s
    assert said(receiver, T0 + LIMITS.ack_delay_s) == [Ack(5, 0)]
    assert receiver.wake_at() != T0 + LIMITS.ack_delay_s
    assert said(receiver, T0 + 2 * LIMITS.ack_delay_s) == []


def test_the_data_channel_is_acknowledged_as_the_program_takes_it() -> None:
    receiver = attached()
    hear(receiver, Data(DATA, 0, bytes(10)), End(10, last=True))
    assert said(receiver, T0 + 1) == []
    receiver.consume(4, T0 + 1)
    assert said(receiver, T0 + 2) == [Ack(0, 4)]
    receiver.consume(7, T0 + 2)
    assert said(receiver, T0 + 3) == [Ack(0, 11)]


def test_an_acknowledgement_travels_in_front_of_data() -> None:
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
    assert said(receiver, T0 + LIMITS.ack_delay_s) == [Ack(1000, 0)]


def test_many_bytes_are_acknowledged_at_once() -> None:
    receiver = attached()
    half = bytes(LIMITS.ack_after_bytes // 2)
    hear(receiver, Data(CONTROL, 0, half))
    assert said(receiver) == []
    hear(receiver, Data(CONTROL, len(half), half))
    assert said(receiver) == [Ack(LIMITS.ack_after_bytes, 0)]


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
    hear(receiver, End(0, last=True))
    receiver.consume(1, T0)
    said(receiver, T0 + 1)
    assert hear(receiver, End(0, last=True)) == []
    assert said(receiver, T0 + 2) == [Ack(0, 1)]


def test_an_empty_data_frame_wakes_nobody() -> None:
    # A peer could otherwise keep us busy for ever with an acknowledgement that is due and never sent.
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


def test_a_pong_without_a_ping_is_ignored() -> None:
    link = attached()
    assert hear(link, Pong(99)) == []
    assert hear(link, Pong(1), Pong(1)) == [RoundTrip(0.0, 0)]


def test_a_ping_comes_after_silence_and_not_before() -> None:
    link = attached()
    hear(link, Pong(1))
    assert link.wake_at() == T0 + LIMITS.ping_after_s
    assert said(link, T0 + LIMITS.ping_after_s - 0.1) == []
    assert link.silent_for(T0 + LIMITS.ping_after_s) == LIMITS.ping_after_s
    assert said(link, T0 + LIMITS.ping_after_s) == [Ping(2)]
    assert link.wake_at() == T0 + 2 * LIMITS.ping_after_s
    assert said(link, T0 + 20 * LIMITS.ping_after_s) == [Ping(3)]
    assert said(link, T0 + 20 * LIMITS.ping_after_s) == []


def test_a_link_that_receives_something_does_not_ping() -> None:
    link = attached()
    hear(link, Pong(1))
    for second in range(1, 60):
        hear(link, Ack(0, 0), now=T0 + second)
        assert said(link, T0 + second) == []


def test_a_requested_ping_is_sent_at_once() -> None:
    link = attached()
    link.ping()
    assert said(link) == [Ping(2)]


def test_endless_pings_queue_one_answer() -> None:
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


def test_a_filled_record_has_its_size_whatever_is_queued() -> None:
    link = attached()
    assert filled(link) == []
    link.send_control(b"hello")
    assert filled(link) == [Data(CONTROL, 0, b"hello")]
    link.end_data(last=True)
    assert filled(link) == [End(0, last=True)]
    assert filled(link, T0 + LIMITS.ping_after_s) == [Ping(2)]
    link.close()
    assert filled(link) == [Close()]
    assert filled(link) == []


@pytest.mark.parametrize("left", range(30))
def test_a_filled_record_has_its_size_however_little_room_is_left(left: int) -> None:
    sender, receiver = attached(), attached()
    sender.send_control(bytes(SIZE - left))
    sender.send_data(b"world")
    sender.end_data(last=True)
    frames = [frame for _ in range(3) for frame in filled(sender)]
    got = hear(receiver, *frames)
    assert b"".join(event.payload for event in got if isinstance(event, ControlBytes)) == bytes(SIZE - left)
    assert b"".join(event.payload for event in got if isinstance(event, ProgramBytes)) == b"world"
    assert got[-1] == ProgramEnd()


def test_a_long_queue_fills_many_records_the_control_channel_first() -> None:
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


def test_padding_causes_no_event() -> None:
    link = attached()
    assert hear(link, Padding(480), now=T0 + 1) == []
    assert not link.suspicious(T0 + LIMITS.suspect_after_s)  # it does show that its sender is there
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
    link.end_data(last=True)
    refused(link, Ack(0, 6), code=AbortCode.OFFSET)


@pytest.mark.parametrize("channel", Channel)
def test_bytes_beyond_the_window_are_refused_with_or_without_a_gap(channel: Channel) -> None:
    link = attached(limits=LinkLimits(window_bytes=100))
    assert hear(link, Data(channel, 99, b"x"), Data(channel, 100, b"")) == []
    what = refused(link, Data(channel, 100, b"x"), code=AbortCode.LIMIT)
    assert what == f"the peer sent more than 100 unacknowledged bytes on the {channel.name.lower()} channel"


def test_more_pieces_than_an_honest_sender_causes_are_refused() -> None:
    link = attached()
    for number in range(LIMITS.max_pieces):
        hear(link, Data(DATA, 2 * number + 1, b"x"))
    refused(link, Data(DATA, 2 * LIMITS.max_pieces + 1, b"x"), code=AbortCode.LIMIT)


def test_an_end_where_a_byte_has_been_is_taken_for_a_replay() -> None:
    link = attached()
    hear(link, Data(DATA, 0, b"hello"))
    assert hear(link, End(3, last=False), Data(DATA, 5, b"!")) == [ProgramBytes(b"!")]


def test_of_an_end_and_a_byte_in_one_place_the_end_counts_and_of_two_ends_the_first() -> None:
    # A peer that sends both harms only itself.
    link = attached()
    assert hear(link, Data(DATA, 1, b"byte"), End(2, last=False), End(2, last=True)) == []
    assert hear(link, Data(DATA, 0, b"a")) == [ProgramBytes(b"ab"), EpochEnd(), ProgramBytes(b"te")]


def test_an_end_beyond_the_window_is_refused() -> None:
    refused(attached(limits=LinkLimits(window_bytes=100)), End(100, last=True), code=AbortCode.LIMIT)


def test_bytes_that_are_not_a_frame_are_refused() -> None:
    link = attached()
    with pytest.raises(RemoteProtocolError):
        link.receive(0, b"\x63\x00\x00", T0)
    assert said(link) == [Abort(AbortCode.FRAME)]


def test_an_error_replaces_everything_that_was_queued() -> None:
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


def test_close_is_sent_once_and_reported_once() -> None:
    closer, other = attached(), attached()
    closer.close()
    closer.close()
    frames = said(closer)
    assert frames == [Close()]
    assert hear(other, *frames) == [LinkClosed()]
    assert hear(other, *frames) == []
    assert [link.state for link in (closer, other)] == [State.CLOSED, State.CLOSED]
    assert said(closer) == said(other, T0 + 100) == []


def test_frames_before_close_count_and_those_after_it_do_not() -> None:
    link = attached()
    frames = Data(CONTROL, 0, b"a"), Close(), Data(CONTROL, 1, b"b"), Abort(AbortCode.FRAME)
    assert hear(link, *frames) == [ControlBytes(b"a"), LinkClosed()]
    assert link.state is State.CLOSED


@pytest.mark.parametrize("code", AbortCode)
def test_an_abort_is_reported_with_its_code_and_not_answered(code: AbortCode) -> None:
    link = attached()
    assert hear(link, Abort(code), Data(CONTROL, 99, b"x")) == [LinkAborted(code)]
    assert link.state is State.ERROR
    assert said(link) == []
