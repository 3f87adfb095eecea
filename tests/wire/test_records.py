"""Records decrypt in order, once, unaltered, at the other end, and in no other way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onionmpc.errors import LocalProtocolError, RemoteProtocolError
from onionmpc.wire.noise import CipherState
from onionmpc.wire.records import LENGTH_BYTES, MAX_CIPHERTEXT_BYTES, TAG_BYTES, Records

KEYS = bytes([1]) * 32, bytes([2]) * 32
MAX_PLAINTEXT_BYTES = 65519


def pair() -> tuple[Records, Records]:
    there, back = KEYS
    return Records(CipherState(there), CipherState(back)), Records(CipherState(back), CipherState(there))


def decode(records: Records, received: bytes) -> list[bytes]:
    return list(records.decode(received))


def refused(records: Records, received: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decode(records, received)


def test_a_record_is_its_length_and_a_ciphertext() -> None:
    ours, theirs = pair()
    record = ours.encode(b"hello")
    assert record[:LENGTH_BYTES] == (5 + TAG_BYTES).to_bytes(2)
    assert len(record) == LENGTH_BYTES + 5 + TAG_BYTES
    assert decode(theirs, record) == [b"hello"]


def test_both_directions_work_at_once() -> None:
    ours, theirs = pair()
    there, back = ours.encode(b"there"), theirs.encode(b"back")
    assert decode(theirs, there) == [b"there"]
    assert decode(ours, back) == [b"back"]


def test_a_record_that_arrives_byte_by_byte_comes_out_with_its_last_byte() -> None:
    ours, theirs = pair()
    *first, last = ours.encode(b"hello")
    assert all(decode(theirs, bytes([byte])) == [] for byte in first)
    assert decode(theirs, bytes([last])) == [b"hello"]


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.lists(st.integers(1, 90), min_size=1))
def test_records_come_out_the_same_however_the_bytes_are_cut(plaintexts: list[bytes], cuts: list[int]) -> None:
    ours, theirs = pair()
    sent = b"".join(map(ours.encode, plaintexts))
    received, position = [], 0
    while position < len(sent):
        size = cuts[position % len(cuts)]
        received += decode(theirs, sent[position : position + size])
        position += size
    assert received == plaintexts


def test_what_follows_a_record_is_kept_for_the_next_read() -> None:
    ours, theirs = pair()
    first, second = ours.encode(b"first"), ours.encode(b"second")
    assert decode(theirs, first + second[:9]) == [b"first"]
    assert decode(theirs, second[9:]) == [b"second"]


def test_the_largest_record_passes_and_a_larger_one_is_not_made() -> None:
    ours, theirs = pair()
    record = ours.encode(bytes(MAX_PLAINTEXT_BYTES))
    assert len(record) == LENGTH_BYTES + MAX_CIPHERTEXT_BYTES
    assert decode(theirs, record) == [bytes(MAX_PLAINTEXT_BYTES)]
    with pytest.raises(LocalProtocolError):
        ours.encode(bytes(MAX_PLAINTEXT_BYTES + 1))


@pytest.mark.parametrize("length", range(TAG_BYTES + 1))
def test_an_empty_record_is_refused_by_its_length_alone(length: int) -> None:
    _, theirs = pair()
    refused(theirs, length.to_bytes(2))


def test_an_empty_plaintext_is_refused_by_the_other_end() -> None:
    ours, theirs = pair()
    refused(theirs, ours.encode(b""))


def test_a_record_altered_at_any_byte_yields_nothing() -> None:
    length = len(pair()[0].encode(b"hello"))
    for position in range(length):
        ours, theirs = pair()
        record = bytearray(ours.encode(b"hello"))
        record[position] ^= 1
        # A greater length makes the receiver wait for more bytes, and take the next record for a part of this one.
        refused(theirs, bytes(record) + ours.encode(bytes(1000)))


def test_nothing_comes_out_after_a_record_that_does_not_decrypt() -> None:
    ours, theirs = pair()
    record = ours.encode(b"hello")
    refused(theirs, record[:-1] + bytes([record[-1] ^ 1]))
    refused(theirs, record)
    refused(theirs, b"")


def test_a_record_before_a_bad_one_in_the_same_read_still_comes_out() -> None:
    ours, theirs = pair()
    plaintexts = theirs.decode(ours.encode(b"good") + bytes(2))
    assert next(plaintexts) == b"good"
    with pytest.raises(RemoteProtocolError, match="a record has 0 bytes"):
        next(plaintexts)


def test_a_replayed_record_is_refused() -> None:
    ours, theirs = pair()
    record = ours.encode(b"once")
    assert decode(theirs, record) == [b"once"]
    refused(theirs, record)


def test_reordered_records_are_refused() -> None:
    ours, theirs = pair()
    first, second = ours.encode(b"first"), ours.encode(b"second")
    refused(theirs, second + first)


def test_a_record_after_a_lost_one_is_refused() -> None:
    ours, theirs = pair()
    ours.encode(b"lost")
    refused(theirs, ours.encode(b"next"))


def test_a_record_sent_back_to_its_sender_is_refused() -> None:
    ours, _ = pair()
    refused(ours, ours.encode(b"mirror"))


def test_a_repr_shows_no_key() -> None:
    ours, _ = pair()
    assert KEYS[0].hex() not in repr(ours)
    assert repr(KEYS[0]) not in repr(ours)
