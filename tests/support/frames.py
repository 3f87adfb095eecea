"""Frames of every type, right and wrong."""

from __future__ import annotations

from hypothesis import strategies as st

from onionmpc.wire.frames import (
    Abort,
    AbortCode,
    Ack,
    Channel,
    Close,
    Data,
    End,
    Frame,
    Ping,
    Pong,
)

U64 = st.integers(0, 2**64 - 1)
FRAMES: st.SearchStrategy[Frame] = st.one_of(
    st.builds(Data, st.sampled_from(Channel), U64, st.binary(max_size=300)),
    st.builds(End, U64, st.booleans()),
    st.builds(Ack, U64, U64),
    st.builds(Ping, U64),
    st.builds(Pong, U64),
    st.just(Close()),
    st.builds(Abort, st.sampled_from(AbortCode)),
)
BODY_BYTES = {2: 9, 3: 16, 4: 8, 5: 8, 6: 0, 7: 1}


def raw_frame(kind: int, body: bytes) -> bytes:
    return bytes([kind]) + len(body).to_bytes(2) + body
