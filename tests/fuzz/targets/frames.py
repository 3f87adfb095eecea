"""Frames: RemoteProtocolError, or the one encoding of what was read; what comes before an error is a start of it."""

from __future__ import annotations

from hypothesis import strategies as st
from mutations import mutated
from test_frames import FRAMES

from onionmpc.errors import RemoteProtocolError
from onionmpc.wire.frames import decode_frames, encode_frame

INPUTS = mutated(st.lists(FRAMES, max_size=5).map(lambda frames: b"".join(map(encode_frame, frames))), [bytes(9)])
REFUSALS = (RemoteProtocolError,)


def check(data: bytes) -> None:
    read = b""
    try:
        for frame in decode_frames(data):
            read += encode_frame(frame)
    finally:
        assert data.startswith(read)
    assert read == data
