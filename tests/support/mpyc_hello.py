"""First messages of MPyC's parties, and streams that bring them."""

from __future__ import annotations

import struct

from hypothesis import strategies as st

LIMIT = 1000


def message(payload: bytes, counter: int = -5) -> bytes:
    return struct.pack("<qI", counter, len(payload)) + payload


@st.composite
def streams(draw: st.DrawFn) -> tuple[int, int, bytes]:
    """A sender, the length of its hello (0: none) and all that it sends, perhaps cut off in the middle."""
    sender = draw(st.integers(0, 255))
    hello_length = draw(st.sampled_from([0, 2, 18, 34]))
    hello = (sender.to_bytes(2, "little") + bytes(range(32)))[:hello_length]
    payloads = draw(st.lists(st.binary(max_size=40), max_size=5))
    stream = hello + b"".join(message(payload) for payload in payloads)
    return sender, hello_length, stream[: draw(st.integers(0, len(stream)))]
