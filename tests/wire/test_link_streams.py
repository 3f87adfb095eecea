"""A link over several streams: what each carries, which are suspicious, and the budget that all links share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from onionmpc.errors import RemoteProtocolError
from onionmpc.wire.frames import (
    Ack,
    Channel,
    Close,
    Data,
    End,
    Ping,
    Pong,
)
from onionmpc.wire.limits import DEFAULT_LINK_LIMITS as LIMITS
from onionmpc.wire.limits import LinkLimits
from onionmpc.wire.link import OWN_SHARE_BYTES, ControlBytes, Link, ProgramBytes, ProgramEnd, ReplayBudget, State
from onionmpc.wire.paths import LOADED_FOR_S, ROUND_TRIPS
from tests.support.link_schedules import CONTROL, DATA, T0
from tests.support.links import attached, hear, said

# --- Streams ------------------------------------------------------------------------------------------------


def test_a_cut_sends_again_what_was_not_acknowledged() -> None:
    link = attached()
    link.send_data(b"hello")
    link.end_data(last=True)
    said(link)
    hear(link, Ack(0, 2))
    link.detach(0)
    assert said(link) == []
    link.attach(1, T0)
    assert said(link, stream=1)[-2:] == [Data(DATA, 2, b"llo"), End(5, last=True)]
    link.detach(1)
    link.attach(2, T0, peer_offsets=(0, 5))
    assert [frame for frame in said(link, stream=2) if isinstance(frame, Data | End)] == [End(5, last=True)]
    hear(link, Ack(0, 6), stream=2)
    link.detach(2)
    link.attach(3, T0, peer_offsets=(0, 6))
    assert not [frame for frame in said(link, stream=3) if isinstance(frame, Data | End)]


def test_of_two_unmeasured_streams_the_newer_is_used_and_the_other_when_it_breaks() -> None:
    link = attached()
    link.attach(1, T0)
    link.send_data(b"hello")
    assert said(link, stream=0) == [Ping(2)]
    assert said(link, stream=1) == [Ping(3), Data(DATA, 0, b"hello")]
    link.detach(1)
    assert Data(DATA, 0, b"hello") in said(link)


def test_a_pong_goes_over_the_stream_of_its_ping() -> None:
    link = attached()
    link.attach(1, T0)
    hear(link, Ping(7), stream=0)
    assert said(link, stream=1) == [Ping(3)]
    assert said(link, stream=0) == [Pong(7), Ping(2)]


def test_records_of_a_detached_stream_are_ignored() -> None:
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
    sender, receiver = attached(limits=LinkLimits(window_bytes=100)), attached(limits=LinkLimits(window_bytes=100))
    sender.send_data(bytes(100))
    hear(receiver, *said(sender))
    receiver.consume(30, T0)
    sender.detach(0)
    sender.attach(1, T0, peer_offsets=receiver.offsets())
    assert sender.room() == 30
    sender.send_data(bytes(30))
    assert hear(receiver, *said(sender, stream=1)) == [ProgramBytes(bytes(30))]


def test_an_acknowledgement_that_may_be_lost_with_a_stream_is_sent_again() -> None:
    receiver = attached()
    receiver.attach(1, T0)
    hear(receiver, Data(CONTROL, 0, b"hello"))
    assert Ack(5, 0) in said(receiver, T0 + 1, stream=1)
    receiver.detach(1)
    assert said(receiver, T0 + 1) == [Ping(2), Ack(5, 0)]
    assert said(receiver, T0 + 2) == []


# --- Several streams ----------------------------------------------------------------------------------------


def data(link: Link, now: float = T0, stream: int = 0) -> list[Data]:
    """The data frames among what a link sends over a stream now."""
    return [frame for frame in said(link, now, stream) if isinstance(frame, Data)]


def raced(*round_trips_s: float, **settings: Any) -> Link:
    """A link on streams 0, 1, ..., each of which has answered five pings in the given time, less than 1 s."""
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
    assert link.measured() == len(round_trips_s)
    return link


def test_each_of_several_streams_is_pinged_five_times_in_a_row_and_the_fastest_is_the_best() -> None:
    link = raced(0.3, 0.1, 0.2)
    assert link.ranking() == [1, 2, 0]
    assert link.best == 1
    assert link.round_trip_s(1) == pytest.approx(0.1)
    assert link.round_trip_s(9) is None


def test_one_slow_answer_does_not_make_a_stream_slow() -> None:
    link = raced(0.2, 0.1)
    link.ping()
    (ping,) = said(link, T0 + 2, stream=1)
    assert isinstance(ping, Ping)
    hear(link, Pong(ping.token), now=T0 + 4, stream=1)
    assert link.best == 1


def test_a_lone_stream_is_not_pinged_in_a_row() -> None:
    link = attached()
    hear(link, Pong(1))
    assert said(link) == []


def test_little_data_goes_over_the_fastest_stream_alone() -> None:
    link = raced(0.3, 0.1, 0.2)
    link.send_control(b"hello")
    link.send_data(bytes(LIMITS.bulk_bytes - 1))
    assert link.wants_to_send()
    assert said(link, stream=0) == said(link, stream=2) == []
    assert said(link, stream=1)[0] == Data(CONTROL, 0, b"hello")
    assert said(link, stream=1) == []
    assert not link.wants_to_send()


def test_of_bulk_data_each_stream_with_room_takes_a_chunk_and_the_fastest_takes_the_rest() -> None:
    link = raced(0.3, 0.1, 0.2)
    link.send_data(bytes(LIMITS.bulk_bytes + 2 * LIMITS.chunk_bytes))
    link.send_control(b"hello")
    assert len(link.transmit(0, T0)) == len(link.transmit(2, T0)) == LIMITS.chunk_bytes
    assert link.transmit(2, T0)
    # The rest is too little for them, and they never carry the control channel.
    assert said(link, stream=0) == said(link, stream=2) == []
    assert said(link, stream=1)[0] == Data(CONTROL, 0, b"hello")
    assert said(link, stream=0) == said(link, stream=1) == said(link, stream=2) == []


def test_bulk_data_goes_over_at_most_max_stripes_and_over_no_unmeasured_stream() -> None:
    link = raced(0.1, 0.2, 0.3, 0.4, 0.5)
    link.attach(5, T0)
    link.send_data(bytes(10 * LIMITS.bulk_bytes))
    carries = [len(link.transmit(stream, T0)) > LIMITS.chunk_bytes // 2 for stream in range(1, 6)]
    assert carries == [True] * 3 + [False] * 2


def test_bytes_that_arrive_early_wait_and_are_delivered_once() -> None:
    receiver = raced(0.1, 0.2)
    assert hear(receiver, Data(DATA, 6, b"world"), stream=1) == []
    assert hear(receiver, End(11, last=True), stream=1) == []
    assert hear(receiver, Data(DATA, 8, b"rl"), Data(DATA, 4, b"o world"), stream=0) == []
    assert hear(receiver, Data(DATA, 0, b"hell"), stream=0) == [ProgramBytes(b"hello world"), ProgramEnd()]
    assert hear(receiver, Data(DATA, 0, b"hello "), End(11, last=True), stream=0) == []
    receiver.consume(12, T0 + 1)
    assert said(receiver, T0 + 2) == [Ack(0, 12)]


def test_bytes_behind_a_gap_are_not_acknowledged() -> None:
    receiver = attached()
    hear(receiver, Data(CONTROL, 5, b"later"))
    assert said(receiver, T0 + 1) == []
    assert receiver.offsets() == (0, 0)
    assert hear(receiver, Data(CONTROL, 0, b"first")) == [ControlBytes(b"firstlater")]
    assert said(receiver, T0 + 2) == [Ack(10, 0)]


def test_only_what_a_broken_stream_carried_is_sent_again() -> None:
    link = raced(0.1, 0.2)
    link.send_data(bytes(LIMITS.bulk_bytes))
    chunks = data(link, stream=1)
    said(link)
    link.detach(1)
    assert data(link) == chunks
    link.detach(0)
    link.attach(2, T0)
    assert sum(len(frame.payload) for frame in data(link, stream=2)) == LIMITS.bulk_bytes


def test_acknowledged_bytes_are_not_sent_again() -> None:
    link = raced(0.1, 0.2)
    link.send_data(bytes(LIMITS.bulk_bytes))
    (chunk,) = data(link, stream=1)
    said(link)
    hear(link, Ack(0, 1000))
    link.detach(1)
    assert data(link) == [Data(DATA, 1000, chunk.payload[1000:])]


def test_data_leaves_the_fastest_stream_while_that_does_not_answer() -> None:
    link = raced(0.1, 0.2)
    link.send_data(b"hello")
    assert said(link) == [Data(DATA, 0, b"hello")]
    silent_since = T0 + 1.0  # when the slower stream last answered
    asked_at = silent_since + LIMITS.ping_after_s
    hear(link, Ack(0, 0), now=silent_since)
    assert [type(frame) for frame in said(link, asked_at)] == [Ping]
    hear(link, Ack(0, 0), now=asked_at + 1, stream=1)
    assert link.wake_at() == asked_at + LIMITS.late_after_s
    assert data(link, asked_at + LIMITS.late_after_s, stream=1) == [Data(DATA, 0, b"hello")]
    assert link.best == 1
    assert not link.suspicious(asked_at + LIMITS.late_after_s)
    hear(link, Ack(0, 5), now=asked_at + LIMITS.late_after_s + 1)
    assert link.best == 0


def test_a_slow_stream_is_given_time_to_answer() -> None:
    link = raced(0.9, 0.95)
    asked_at = T0 + 100
    for stream in (0, 1):
        hear(link, Ack(0, 0), now=asked_at, stream=stream)
        said(link, asked_at, stream=stream)
    hear(link, Ack(0, 0), now=asked_at + 1, stream=1)
    link.do_what_is_due(asked_at + LIMITS.late_round_trips * 0.9 - 0.1)
    assert link.best == 0
    link.do_what_is_due(asked_at + LIMITS.late_round_trips * 0.9 + 0.1)
    assert link.best == 1


def test_a_new_stream_has_the_others_pinged() -> None:
    link = attached()
    hear(link, Pong(1), now=T0 + 1)
    link.attach(1, T0 + 2)
    assert said(link, T0 + 2) == [Ping(2)]


def test_a_busy_stream_is_measured_every_30_s() -> None:
    link = raced(0.1, 0.2)
    pings = 0
    for second in range(1, 100):
        hear(link, Ack(0, 0), now=T0 + second)
        pings += len(said(link, T0 + second))
    assert pings == 3


def answer(link: Link, stream: int, seconds: float, times: int, now: float = T0 + 1000) -> float:
    """Have a stream answer pings after this many seconds; return when the last answer came."""
    for _ in range(times):
        link.ping()
        for ping in [frame for frame in said(link, now, stream) if isinstance(frame, Ping)]:
            hear(link, Pong(ping.token), now=now + seconds, stream=stream)
        now += seconds + LIMITS.ping_after_s
    return now


def test_a_stream_has_slowed_when_all_its_latest_round_trips_take_twice_the_first() -> None:
    link = raced(0.1, 0.2)
    now = answer(link, 0, 0.21, ROUND_TRIPS - 1)
    link.attach(2, T0)  # never measured
    assert link.slowed() == []
    answer(link, 0, 0.21, 1, now)
    assert link.slowed() == [0]
    answer(link, 1, 0.39, ROUND_TRIPS)
    assert link.slowed() == [0]


@pytest.mark.parametrize("ours", [True, False])
def test_round_trips_during_bulk_data_do_not_count(ours: bool) -> None:
    link = raced(0.1, 0.2)
    now = T0 + 1000
    for number in range(2 * ROUND_TRIPS):
        if ours:
            link.send_data(bytes(LIMITS.chunk_bytes))
            assert data(link, now)
        else:
            hear(link, Data(CONTROL, number * LIMITS.chunk_bytes, bytes(LIMITS.chunk_bytes)), now=now)
        now = answer(link, 0, 2.0, 1, now)
    assert link.slowed() == []
    assert link.best == 0
    answer(link, 0, 2.0, ROUND_TRIPS, now + LOADED_FOR_S)
    assert link.slowed() == [0]


def test_a_stream_that_takes_no_bytes_collects_no_pings() -> None:
    link = raced(0.1, 0.2)
    for second in range(100):
        hear(link, Ack(0, 0), now=T0 + second)
        link.do_what_is_due(T0 + second)
    assert len(said(link, T0 + 100, stream=1)) == 1


# --- Suspicion ----------------------------------------------------------------------------------------------


def test_a_stream_is_suspicious_after_three_missed_beats_and_not_before() -> None:
    link = attached()
    assert not link.suspicious(T0 + LIMITS.suspect_after_s - 0.1)
    assert link.suspicious(T0 + LIMITS.suspect_after_s)
    hear(link, Pong(1), now=T0 + LIMITS.suspect_after_s)
    assert not link.suspicious(T0 + LIMITS.suspect_after_s)
    assert link.state is State.OPEN


def test_a_link_without_streams_is_suspicious() -> None:
    link = attached()
    link.detach(0)
    assert link.suspicious(T0)


def test_data_moves_from_a_silent_stream_to_one_that_delivers() -> None:
    link = attached()
    link.attach(1, T0)
    said(link, stream=1)
    link.send_data(b"hello")
    assert data(link, T0 + 2, stream=1) == [Data(DATA, 0, b"hello")]
    hear(link, Ack(0, 0), now=T0 + LIMITS.suspect_after_s - 1)
    assert data(link, T0 + LIMITS.suspect_after_s - 1) == []
    assert data(link, T0 + LIMITS.suspect_after_s) == [Data(DATA, 0, b"hello")]
    assert not link.suspicious(T0 + LIMITS.suspect_after_s)


def test_a_stream_that_stays_silent_is_stale() -> None:
    link = attached()
    link.attach(1, T0 + 1)
    assert link.stale(T0 + LIMITS.silence_limit_s - 1) == []
    assert link.stale(T0 + LIMITS.silence_limit_s) == [0]


def test_after_a_sleep_every_stream_is_suspicious_until_it_delivers() -> None:
    link = attached()
    hear(link, Pong(1))
    link.doubt(T0 + 1000)
    assert link.suspicious(T0 + 1000)
    # It was we who were away, not the peer.
    assert link.silent_for(T0 + 1000) == 0
    assert said(link, T0 + 1000) == [Ping(2)]
    hear(link, Pong(2), now=T0 + 1001)
    assert not link.suspicious(T0 + 1001)


def test_a_ping_that_is_due_is_sent_even_if_something_arrives_first() -> None:
    link = Link()
    link.attach(0, T0)
    hear(link, Ack(0, 0), now=T0 + 1)
    assert said(link, T0 + 1) == [Ping(1)]


def test_last_words_go_over_every_stream() -> None:
    link = attached()
    link.attach(1, T0)
    link.close()
    assert said(link) == said(link, stream=1) == [Close()]


def test_a_closed_link_still_notes_the_peers_close_and_nothing_else() -> None:
    link = attached()
    link.close()
    assert said(link) == [Close()]
    assert hear(link, Data(Channel.CONTROL, 0, b"late"), Ping(1)) == []
    assert link.receive(0, b"\xff no frame", T0) == []
    assert not link.peer_closed
    assert hear(link, Close()) == []
    assert link.peer_closed
    assert said(link) == []


# --- All links together -------------------------------------------------------------------------------------


def test_links_share_one_budget_and_each_keeps_a_share_of_its_own() -> None:
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
def test_a_link_that_ends_releases_its_share_of_the_budget(end: Callable[[Link], object]) -> None:
    budget = ReplayBudget(1000)
    link = attached(budget=budget)
    link.send_data(bytes(600))
    assert budget.left == 400
    end(link)
    end(link)
    assert budget.left == 1000
