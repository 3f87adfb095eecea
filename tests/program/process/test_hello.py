"""The gate in front of MPyC takes bytes in one piece, byte by byte, and with a tail."""

from __future__ import annotations

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onionmpc.errors import RemoteProtocolError
from onionmpc.program.process.hello import HelloGate, MessageSplitter, hello_bytes
from tests.support.mpyc_hello import LIMIT, message, streams


def keys_from_peer(parties: int, threshold: int, lower: int, higher: int) -> int:
    """Count as MPyC 0.11 does in Runtime._prss_keys_from_peer."""
    length = 0
    for subset in itertools.combinations(range(parties), parties - threshold):
        if subset[0] == lower and higher in subset:
            length += 16
    return length


@pytest.mark.parametrize("parties", range(2, 9))
def test_the_length_of_a_hello_is_the_one_that_mpyc_expects(parties: int) -> None:
    for threshold in range((parties + 1) // 2):
        for lower, higher in itertools.combinations(range(parties), 2):
            keys = keys_from_peer(parties, threshold, lower, higher)
            assert hello_bytes(parties, threshold, lower, higher, prss=True) == 2 + keys
            assert hello_bytes(parties, threshold, lower, higher, prss=False) == 2


def test_known_lengths() -> None:
    assert hello_bytes(3, 1, 0, 1, prss=True) == 2 + 16
    assert hello_bytes(3, 1, 1, 2, prss=True) == 2 + 16
    assert hello_bytes(9, 4, 0, 5, prss=True) == 2 + 560


@pytest.mark.parametrize("arguments", [(3, 1, 1, 1), (3, 1, 2, 1), (3, 1, 0, 3), (3, 2, 0, 1), (3, -1, 0, 1)])
def test_there_is_no_hello_between_impossible_parties(arguments: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="no hello"):
        hello_bytes(*arguments, prss=True)


@given(streams(), st.data())
def test_the_same_bytes_come_out_however_they_are_cut(stream: tuple[int, int, bytes], data: st.DataObject) -> None:
    sender, hello_length, sent = stream
    gate = HelloGate(sender, hello_length, max_payload_bytes=LIMIT)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=8)))
    passed = b""
    for start, end in itertools.pairwise([0, *cuts, len(sent)]):
        passed += gate.let_through(sent[start:end])
        assert passed == (sent[:end] if end >= hello_length else b"")


@given(streams())
def test_the_same_bytes_come_out_if_they_arrive_one_by_one(stream: tuple[int, int, bytes]) -> None:
    sender, hello_length, sent = stream
    gate = HelloGate(sender, hello_length, max_payload_bytes=LIMIT)
    passed = b"".join(gate.let_through(sent[i : i + 1]) for i in range(len(sent)))
    assert passed == (sent if len(sent) >= hello_length else b"")


@given(streams(), st.integers(LIMIT + 1, 2**32 - 1), st.binary(max_size=10))
def test_a_message_that_is_too_long_is_refused_in_one_piece_and_byte_by_byte(
    stream: tuple[int, int, bytes], length: int, tail: bytes
) -> None:
    sender, hello_length, _ = stream
    hello = sender.to_bytes(2, "little").ljust(hello_length, b"k")[:hello_length]
    header = struct.pack("<qI", 7, length)
    sent = hello + message(b"fine") + header + tail
    with pytest.raises(RemoteProtocolError, match=f"a message of {length} bytes, expected at most {LIMIT}"):
        HelloGate(sender, hello_length, max_payload_bytes=LIMIT).let_through(sent)
    gate = HelloGate(sender, hello_length, max_payload_bytes=LIMIT)
    last = len(sent) - len(tail) - 1
    for i in range(last):
        gate.let_through(sent[i : i + 1])
    with pytest.raises(RemoteProtocolError):
        gate.let_through(sent[last:])


def test_a_message_of_exactly_the_limit_passes() -> None:
    gate = HelloGate(2, 0, max_payload_bytes=LIMIT)
    sent = message(bytes(LIMIT)) + message(b"next")
    assert gate.let_through(sent) == sent


@given(st.integers(0, 65535), st.integers(0, 255), st.booleans())
def test_a_hello_must_name_its_sender(claimed: int, sender: int, byte_by_byte: bool) -> None:
    gate = HelloGate(sender, 18)
    hello = claimed.to_bytes(2, "little") + bytes(16)
    pieces = [hello[i : i + 1] for i in range(len(hello))] if byte_by_byte else [hello]
    if claimed == sender:
        assert b"".join(map(gate.let_through, pieces)) == hello
    else:
        with pytest.raises(RemoteProtocolError, match=f"party {sender} calls itself party {claimed} in"):
            list(map(gate.let_through, pieces))


def test_a_gate_that_refused_once_refuses_for_ever() -> None:
    gate = HelloGate(1, 2)
    with pytest.raises(RemoteProtocolError):
        gate.let_through(b"\0\0")
    with pytest.raises(RemoteProtocolError):
        gate.let_through(b"\1\0")


def test_bytes_of_a_payload_are_passed_on_without_a_copy() -> None:
    gate = HelloGate(1, 0)
    gate.let_through(struct.pack("<qI", 0, 2**20))
    chunk = bytes(2**16)
    assert gate.let_through(chunk) is chunk


@given(streams(), st.data())
def test_a_stream_is_split_into_its_messages_however_it_is_cut(
    stream: tuple[int, int, bytes], data: st.DataObject
) -> None:
    _, hello_length, sent = stream
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=8)))
    splitter = MessageSplitter(hello_length)
    pieces = itertools.pairwise([0, *cuts, len(sent)])
    assert [each for start, end in pieces for each in splitter.split(sent[start:end])] == split(hello_length, sent)


@given(streams())
def test_a_stream_is_split_byte_by_byte(stream: tuple[int, int, bytes]) -> None:
    _, hello_length, sent = stream
    splitter = MessageSplitter(hello_length)
    assert [each for byte in sent for each in splitter.split(bytes([byte]))] == split(hello_length, sent)


def test_what_is_not_whole_yet_is_kept() -> None:
    splitter = MessageSplitter(0)
    first, second = message(b"first"), message(b"")
    assert list(splitter.split(first + second[:-1])) == [first]
    assert list(splitter.split(second[-1:])) == [second]


def split(hello_length: int, sent: bytes) -> list[bytes]:
    """Return the messages of a stream that are whole, by their headers."""
    messages = []
    end = hello_length
    while end <= len(sent):
        messages.append(sent[:end])
        sent = sent[end:]
        end = 12 + int.from_bytes(sent[8:12], "little")
    return messages if hello_length else messages[1:]
