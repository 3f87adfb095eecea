"""The two ends of a channel: bytes arrive in any order and come out once and in order; lost ones are given again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onionmpc.wire.channel import PIECE_BYTES, Inbox, Outbox, Span

TEXT = bytes(range(60))
SPANS = st.tuples(st.integers(0, 60), st.integers(0, 60)).map(lambda ends: (min(ends), max(ends)))


# --- Receiving ----------------------------------------------------------------------------------------------


@given(st.lists(SPANS, max_size=30))
def test_bytes_that_arrive_in_any_order_come_out_once_and_in_order(spans: list[Span]) -> None:
    inbox, out, came = Inbox(), b"", set[int]()
    for start, stop in [*spans, (0, 60)]:
        out += inbox.put(start, TEXT[start:stop])
        came |= set(range(start, stop))
        assert out == TEXT[: inbox.received]
        assert inbox.received == next(number for number in range(61) if number not in came)
        # The bytes that wait are those that arrived, each once.
        waiting = [number for piece in inbox.held for number in range(piece.start, piece.stop)]
        assert waiting == sorted(came - set(range(inbox.received)))
        assert all(piece.payload == TEXT[piece.start : piece.stop] for piece in inbox.held)
        assert inbox.top == max([inbox.received, *(number + 1 for number in waiting)])
    assert out == TEXT
    assert inbox.held == []


def test_bytes_that_arrive_in_order_after_a_gap_make_one_piece() -> None:
    inbox = Inbox()
    for number in range(1, 1000):
        assert inbox.put(number, b"x") == b""
    assert len(inbox.held) == 1
    assert inbox.put(0, b"x") == b"x" * 1000


def test_bytes_sent_from_back_to_front_are_not_copied_repeatedly() -> None:
    inbox = Inbox()
    for number in reversed(range(1, 1000)):
        inbox.put(number, b"x")
    assert len(inbox.held) == 999
    assert inbox.put(0, b"x") == b"x" * 1000


def test_if_an_offset_gets_two_different_bytes_one_of_them_counts() -> None:
    inbox = Inbox()
    inbox.put(2, b"first")
    inbox.put(1, b"another")
    assert len(inbox.put(0, b"x")) == 8


# --- Sending ------------------------------------------------------------------------------------------------


def outbox(*, ended: bool = False) -> Outbox:
    box = Outbox()
    box.queue(b"hello world")
    if ended:
        box.queue_end(last=True)
    return box


def test_new_bytes_are_given_once_and_the_end_by_itself() -> None:
    box = outbox(ended=True)
    assert [box.take(6), box.take(6), box.take(6)] == [(0, 6), (6, 11), (11, 12)]
    assert box.read(6, 11) == b"world"
    assert box.ends == {11: True}
    assert box.unsent() == 0


@given(
    sizes=st.lists(st.integers(0, 2 * PIECE_BYTES) | st.integers(0, 9), max_size=9),
    acknowledged=st.floats(0, 1),
    start=st.floats(0, 1),
    stop=st.floats(0, 1),
)
def test_a_span_is_read_across_pieces(sizes: list[int], acknowledged: float, start: float, stop: float) -> None:
    box, queued = Outbox(), b""
    for number, size in enumerate(sizes):
        box.queue(payload := bytes([number]) * size)
        queued += payload
    offset = int(acknowledged * len(queued))
    box.acknowledge(offset)
    first = offset + int(start * (len(queued) - offset))
    last = first + int(stop * (len(queued) - first))
    assert box.read(first, last) == queued[first:last]
    assert box.pending_bytes == len(queued) - offset
    assert sum(len(piece.payload) for piece in box.pieces) <= box.pending_bytes + 2 * PIECE_BYTES


def test_small_payloads_share_pieces_that_are_dropped_when_acknowledged() -> None:
    box = Outbox()
    for _ in range(2 * PIECE_BYTES):
        box.queue(b"x")
    assert [len(piece.payload) for piece in box.pieces] == [PIECE_BYTES, PIECE_BYTES]
    box.acknowledge(PIECE_BYTES - 1)
    assert len(box.pieces) == 2
    box.acknowledge(PIECE_BYTES)
    assert len(box.pieces) == 1
    box.acknowledge(2 * PIECE_BYTES)
    assert not box.pieces


def test_lost_bytes_are_given_again_before_new_ones() -> None:
    box = outbox()
    for _ in range(4):
        box.take(2)
    box.lose([(4, 6), (0, 3)])
    assert box.unsent() == 3 + 2 + 3
    assert [box.take(2) for _ in range(5)] == [(0, 2), (2, 3), (4, 6), (8, 10), (10, 11)]
    assert box.unsent() == 0


@pytest.mark.parametrize(
    ("lost", "left"),
    [([(0, 3)], []), ([(0, 9)], [(5, 9)]), ([(6, 7), (0, 2), (7, 9)], [(6, 9)]), ([(5, 8), (6, 7)], [(5, 8)])],
)
def test_acknowledged_bytes_are_not_lost(lost: list[Span], left: list[Span]) -> None:
    for before in (True, False):
        box = outbox()
        box.take(9)
        if before:
            box.acknowledge(5)
        box.lose(lost)
        if not before:
            box.acknowledge(5)
        assert box.lost == left
        assert box.read(5, 9) == b" wor"


def test_a_lost_end_is_given_again() -> None:
    box = outbox(ended=True)
    box.take(11)
    box.take(1)
    box.lose([(9, 12)])
    assert [box.take(9), box.take(9)] == [(9, 11), (11, 12)]
