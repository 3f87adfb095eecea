"""Control messages are decoded whole, byte by byte and with a tail; everything else is refused."""

from __future__ import annotations

import contextlib
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onionmpc.errors import RemoteProtocolError
from onionmpc.program.spec import MAX_PLACES, Wait
from onionmpc.session.agreement import PartyTerms
from onionmpc.session.messages import (
    MAX_CONTROL_MESSAGE_BYTES,
    AnyMessage,
    Done,
    MessageDecoder,
    Offer,
    Verdict,
    Waiting,
    encode_message,
)
from tests.support.messages import COMMON, EXAMPLES, TERMS, decode, framed, messages


def test_examples_cover_every_message() -> None:
    assert {type(example) for example in EXAMPLES} == set(get_args(AnyMessage))


@given(st.lists(messages, max_size=5), st.data())
def test_messages_are_decoded_from_any_pieces(sent: list[AnyMessage], data: st.DataObject) -> None:
    encoded = b"".join(map(encode_message, sent))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(encoded)), max_size=8)))
    pieces = [encoded[start:end] for start, end in zip([0, *cuts], [*cuts, len(encoded)], strict=True)]
    received = decode(*pieces)
    assert received == sent
    assert b"".join(map(encode_message, received)) == encoded


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: type(example).__name__)
def test_byte_by_byte_with_a_tail(example: AnyMessage) -> None:
    encoded = encode_message(example) + encode_message(Done())[:-1]
    decoder = MessageDecoder()
    received = [message for byte in encoded for message in decoder.decode(bytes([byte]))]
    assert received == [example]
    assert list(decoder.decode(encode_message(Done())[-1:])) == [Done()]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: type(example).__name__)
def test_a_partial_message_yields_nothing(example: AnyMessage) -> None:
    encoded = encode_message(example)
    for length in range(len(encoded)):
        assert decode(encoded[:length]) == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{}",
        b"[]",
        b"null",
        b"1",
        b'"done"',
        b"\xff\xfe",
        b'{"type":"nonsense"}',
        b'{"type":"Done"}',
        b'{"type":"done","more":1}',
        b'{"type":"done"}{"type":"done"}',
        b'{"type":"seats","taken":"2","parties":3}',
        b'{"type":"seats","taken":2}',
        b'{"type":"seats","taken":2.5,"parties":3}',
        b'{"type":"refused","reason":"' + b"a" * 501 + b'"}',
        b'{"type":"rendezvous","fingerprint":"' + b"A" * 39 + b'"}',
        b'{"type":"rendezvous","fingerprint":"' + b"a" * 40 + b'"}',
        b'{"type":"rendezvous","fingerprint":"' + b"A" * 40 + b'\\n"}',
        b'{"type":"report","reporter":"a","about":"b","cause":"spite","step":"run"}',
        b'{"type":"report","reporter":"a","about":"b","cause":"lost","step":"later"}',
        b'{"type":"report","reporter":"a","about":"b","cause":"lost","step":"run","detail":"' + b"a" * 501 + b'"}',
        b'{"type":"verdict","reaches":"abc"}',
        b'{"type":"verdict","reaches":[1]}',
        b'{"type":"commit","session":"\\ud800"}',
        b'{"type":"verdict","reaches":' + b"[" * 100_000,
    ],
)
def test_a_body_that_is_not_a_message_is_refused(body: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match=f"a control message of {len(body)} bytes cannot be decoded"):
        decode(framed(body))


def replaced(message: AnyMessage, **changes: Any) -> bytes:
    return framed(msgspec.json.encode(msgspec.to_builtins(message) | changes))


@pytest.mark.parametrize("key", ["", "5e" * 31, "5E" * 32, "5e" * 33, "5e" * 31 + "5g", "5e" * 32 + "\n"])
def test_a_malformed_key_is_refused(key: str) -> None:
    for changes in ({"psk": key}, {"discovery": {COMMON.addresses[0]: key}}):
        with pytest.raises(RemoteProtocolError):
            decode(replaced(TERMS, **changes))


def test_unknown_fields_of_the_terms_are_refused() -> None:
    common = msgspec.to_builtins(COMMON)
    for changed in (common | {"more": 1}, {key: value for key, value in common.items() if key != "threshold"}):
        with pytest.raises(RemoteProtocolError):
            decode(replaced(Offer(COMMON, PartyTerms()), common=changed))


@pytest.mark.parametrize(
    "evidence",
    [["a"] * 5, ["a" * (16 * 1024 + 1)], ["\u00e9"], ["\x1b[2J"], ["a\r"], ["a\t"], ["\x7f"], [1], "a", None],
    ids=["five", "long", "letter", "escape", "return", "tab", "delete", "number", "text", "null"],
)
def test_evidence_out_of_bounds_is_refused(evidence: object) -> None:
    with pytest.raises(RemoteProtocolError):
        decode(replaced(Offer(COMMON, PartyTerms()), evidence=evidence))


def test_an_offer_carries_evidence_of_the_largest_size_and_its_repr_hides_it() -> None:
    offer = Offer(COMMON, PartyTerms(), None, ("~" * (16 * 1024), "\n", "", "x y"))
    assert decode(framed(msgspec.json.encode(offer))) == [offer]
    assert "x y" not in repr(offer)


@pytest.mark.parametrize("rate", [-1, 201, 10**9, 1.5, None])
def test_a_padding_rate_out_of_bounds_is_refused(rate: object) -> None:
    with pytest.raises(RemoteProtocolError):
        decode(replaced(TERMS, common=msgspec.to_builtins(COMMON) | {"padding_rate": rate}))


@given(st.binary(max_size=60))
def test_random_bytes_are_refused_or_wait_for_more(received: bytes) -> None:
    with contextlib.suppress(RemoteProtocolError):
        assert decode(received) == []


def test_the_longest_message_is_accepted_and_a_longer_one_refused_at_once() -> None:
    empty = len(msgspec.json.encode(Verdict(("",))))
    longest = encode_message(Verdict(("a" * (MAX_CONTROL_MESSAGE_BYTES - empty),)))
    assert len(longest) == MAX_CONTROL_MESSAGE_BYTES + 4
    assert len(decode(longest)) == 1
    with pytest.raises(RemoteProtocolError, match="at most 1048576 are allowed"):
        decode((MAX_CONTROL_MESSAGE_BYTES + 1).to_bytes(4))


def test_messages_before_a_bad_one_are_still_delivered() -> None:
    received = MessageDecoder().decode(encode_message(Done()) + framed(b"{}"))
    assert next(received) == Done()
    with pytest.raises(RemoteProtocolError):
        next(received)


# Issue 12.
@pytest.mark.parametrize(
    "changes",
    [
        {"awaited": [-1]},
        {"awaited": [256]},
        {"awaited": [0] * 257},
        {"places": [{"file": "a.py", "line": 1}] * (MAX_PLACES + 1)},
        {"places": [{"file": "a" * 201, "line": 1}]},
        {"places": [{"file": "", "line": 1}]},
        {"places": [{"file": "a.py", "line": -1}]},
        {"places": [{"file": "a.py", "line": 1, "text": "x = 1"}]},
        {"sent": [1]},
        {"sent": ["f" * 17]},
        {"sent": ["f\n"]},
        {"received": ["0"] * 257},
        {"failed": "yes"},
    ],
)
def test_an_impossible_wait_is_refused(changes: dict[str, object]) -> None:
    wait = {"awaited": [], "places": [], "ending": False, "failed": False, "sent": ["0"], "received": ["0"]}
    good = framed(msgspec.json.encode({"type": "waiting", "wait": wait}))
    assert decode(good) == [Waiting(Wait((), (), ending=False, failed=False, sent=("0",), received=("0",)))]
    with pytest.raises(RemoteProtocolError):
        decode(framed(msgspec.json.encode({"type": "waiting", "wait": wait | changes})))


def test_no_key_is_in_the_repr() -> None:
    assert "5e5e" not in repr(TERMS)
    assert "d1d1" not in repr(TERMS)
