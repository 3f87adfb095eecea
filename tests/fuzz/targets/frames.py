"""Frames: RemoteProtocolError, or the one encoding of what was read; what comes before an error is a start of it."""

from __future__ import annotations

from hypothesis import strategies as st

from onionmpc.errors import RemoteProtocolError
from onionmpc.wire.frames import decode_frames, encode_frame
from tests.fuzz.mutations import mutated
from tests.support.frames import BODY_BYTES, FRAMES, raw_frame

# Of a type that there is or is not, and of nearly the right size.
NEARLY = st.builds(
    lambda kind, more, body: raw_frame(kind, body[: max(0, BODY_BYTES.get(kind, 9) + more)]),
    st.integers(1, 8),
    st.integers(-2, 2),
    st.binary(min_size=20, max_size=20) | st.just(b"\1" * 20),
)
ENCODED = st.lists(FRAMES.map(encode_frame) | NEARLY, max_size=5).map(b"".join)
INPUTS = mutated(ENCODED, [bytes(9)])
REFUSALS = (RemoteProtocolError,)


def check(data: bytes) -> None:
    read = b""
    try:
        for frame in decode_frames(data):
            read += encode_frame(frame)
    finally:
        assert data.startswith(read)
    assert read == data
