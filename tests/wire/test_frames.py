"""Frames: decoding undoes encoding, and refuses all other bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onionmpc.errors import RemoteProtocolError
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
from tests.support.frames import BODY_BYTES, FRAMES, raw_frame

# One of each kind, and the bytes that docs/PROTOCOL.md section 3 gives it.
VECTORS = [
    (Data(Channel.CONTROL, 258, b"hi"), "01 000b 00 0000000000000102 6869"),
    (Data(Channel.DATA, 1, b""), "01 0009 01 0000000000000001"),
    (End(2**64 - 1, last=False), "02 0009 ffffffffffffffff 00"),
    (End(2, last=True), "02 0009 0000000000000002 01"),
    (Ack(1, 2), "03 0010 0000000000000001 0000000000000002"),
    (Ping(7), "04 0008 0000000000000007"),
    (Pong(7), "05 0008 0000000000000007"),
    (Close(), "06 0000"),
    (Abort(AbortCode.PROGRAM_BYTES), "07 0001 05"),
]
KINDS = pytest.mark.parametrize(("frame", "layout"), VECTORS, ids=lambda value: type(value).__name__)


def refused(plaintext: bytes) -> str:
    with pytest.raises(RemoteProtocolError) as raised:
        list(decode_frames(plaintext))
    return str(raised.value)


@KINDS
def test_each_kind_has_the_bytes_of_the_protocol(frame: Frame, layout: str) -> None:
    assert encode_frame(frame) == bytes.fromhex(layout)
    assert list(decode_frames(bytes.fromhex(layout))) == [frame]


@given(st.lists(FRAMES, max_size=8), st.integers(0, 300))
def test_frames_and_their_bytes_survive_a_round_trip(frames: list[Frame], filled: int) -> None:
    frames = [*frames, *([Padding(filled)] if filled else [])]
    plaintext = b"".join(map(encode_frame, frames))
    decoded = list(decode_frames(plaintext))
    assert decoded == frames
    assert b"".join(map(encode_frame, decoded)) == plaintext


@given(st.binary(max_size=60))
def test_any_bytes_are_refused_or_are_the_one_encoding_of_their_frames(plaintext: bytes) -> None:
    try:
        frames = list(decode_frames(plaintext))
    except RemoteProtocolError:
        return
    assert b"".join(map(encode_frame, frames)) == plaintext


@KINDS
def test_a_frame_cut_at_any_byte_is_refused(frame: Frame, layout: str) -> None:
    encoded = bytes.fromhex(layout)
    for length in range(1, len(encoded)):
        refused(encoded[:length])


@KINDS
def test_a_frame_with_a_tail_is_yielded_before_the_tail_is_refused(frame: Frame, layout: str) -> None:
    frames = decode_frames(bytes.fromhex(layout) + b"\x01")
    assert next(frames) == frame
    with pytest.raises(RemoteProtocolError, match="header has 1 bytes, expected 3"):
        next(frames)


@pytest.mark.parametrize("kind", range(8, 256))
def test_an_unknown_type_is_refused_whatever_its_body(kind: int) -> None:
    for body in (b"", bytes(8), bytes(16)):
        assert f"a frame has the unknown type {kind} and {len(body)} bytes" in refused(raw_frame(kind, body))


@pytest.mark.parametrize(("kind", "right"), BODY_BYTES.items())
def test_a_body_of_the_wrong_size_is_refused(kind: int, right: int) -> None:
    for size in set(range(20)) - {right}:
        assert f"type {kind}" in refused(raw_frame(kind, b"\x01" * size))


def test_data_too_short_for_its_offset_is_refused() -> None:
    for size in range(9):
        assert "type 1" in refused(raw_frame(1, bytes(size)))


def test_an_unknown_channel_or_abort_code_is_refused() -> None:
    refused(raw_frame(1, b"\x02" + bytes(8)))
    refused(raw_frame(7, b"\x00"))
    refused(raw_frame(7, bytes([len(AbortCode) + 1])))


def test_the_largest_payload_fills_a_record() -> None:
    frame = Data(Channel.DATA, 5, bytes(MAX_RECORD_BYTES - DATA_OVERHEAD_BYTES))
    assert len(encode_frame(frame)) == MAX_RECORD_BYTES
    assert list(decode_frames(encode_frame(frame))) == [frame]


@KINDS
@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_padding_fills_the_rest_of_a_record(frame: Frame, layout: str, size: int) -> None:
    assert encode_frame(Padding(size)) == bytes(size)
    assert list(decode_frames(bytes.fromhex(layout) + bytes(size))) == [frame, Padding(size)]
    assert list(decode_frames(bytes(size))) == [Padding(size)]


@pytest.mark.parametrize("size", [2, 3, 4, 1000])
def test_padding_with_a_byte_that_is_not_zero_is_refused(size: int) -> None:
    for place in {1, size // 2, size - 1}:
        padding = bytearray(size)
        padding[place] = 1
        assert refused(bytes(padding)) == "padding has bytes other than zero"


def test_an_empty_plaintext_has_no_frames() -> None:
    assert list(decode_frames(b"")) == []
