"""Control messages: RemoteProtocolError, or messages that come through once more as they are, and show no psk.

However the bytes are cut; and nothing is waited for that would be longer than a message may be.
"""

from __future__ import annotations

from hypothesis import strategies as st

from onionmpc.errors import RemoteProtocolError
from onionmpc.session.messages import (
    MAX_CONTROL_MESSAGE_BYTES,
    MESSAGE_LENGTH_BYTES,
    AnyMessage,
    MessageDecoder,
    Terms,
    encode_message,
)
from tests.fuzz.mutations import cut_up, mutated
from tests.support.messages import EXAMPLES, decode, framed, messages

JSON_TOKENS = [
    *(b'{"type":"', b'"', b"{", b"}", b"[", b"]", b",", b":", b"null", b"true", b"-1", b"1e400", b"1.0", b"0.5"),
    *(b"9" * 30, b"9" * 5000, b"[" * 3000, b'{"a":' * 2000, b'"\\ud800"', b'"\\u0000"', b'"\xff"', b"\xed\xa0\x80"),
    *(b'"session":', b'"reaches":', b'"common":', b'"own":', b'"psk":', b'"type":"terms",'),
]
BODIES = st.sampled_from(EXAMPLES).map(lambda example: encode_message(example)[MESSAGE_LENGTH_BYTES:])
TRUE = st.lists(messages, max_size=2).map(lambda true: b"".join(map(encode_message, true)))
ALTERED = mutated(BODIES, JSON_TOKENS).map(framed) | mutated(TRUE)
INPUTS = st.builds(lambda size, *parts: bytes([size]) + b"".join(parts), st.integers(0, 255), TRUE, ALTERED, TRUE)
REFUSALS = (RemoteProtocolError,)


def check(data: bytes) -> object:
    """The first byte says how the others are cut."""
    stream = data[1:]
    in_pieces, refusal = read(cut_up(stream, data[0] + 1 if data else 1))
    whole, other_refusal = read([stream])
    assert (in_pieces, str(refusal)) == (whole, str(other_refusal))
    for message in whole:
        assert decode(encode_message(message)) == [message]
        if isinstance(message, Terms):
            assert message.psk not in repr(message)
    if refusal:
        raise refusal
    return frozenset(type(message).__name__ for message in whole[:1])


def read(pieces: list[bytes]) -> tuple[list[AnyMessage], RemoteProtocolError | None]:
    decoder, got = MessageDecoder(), []
    try:
        for piece in pieces:
            for message in decoder.decode(piece):
                got.append(message)  # noqa: PERF402 (what came before a refusal counts)
            assert (
                int.from_bytes(decoder._received[:MESSAGE_LENGTH_BYTES]) <= MAX_CONTROL_MESSAGE_BYTES
                or len(decoder._received) < 4
            )
    except RemoteProtocolError as error:
        return got, error
    return got, None
