"""MPyC's bytes: what passes is what came, its hello names its sender, no message is too long; or it is refused.

However the bytes are cut, and once refused for good.
"""

from __future__ import annotations

import struct

from hypothesis import strategies as st

from onionmpc.errors import RemoteProtocolError
from onionmpc.program.process.hello import HelloGate
from tests.fuzz.mutations import cut_up, mutated
from tests.support.mpyc_hello import LIMIT, message, streams

HELLO_LENGTHS = [0, 2, 18, 34]
MESSAGES = [
    *(message(b""), message(bytes(100)), message(bytes(LIMIT))),
    *(struct.pack("<qI", -1, length) for length in (LIMIT, LIMIT + 1, 2**31, 2**32 - 1)),
]
STREAMS = st.builds(
    lambda drawn, more, size: bytes([drawn[0], HELLO_LENGTHS.index(drawn[1]), size]) + drawn[2] + b"".join(more),
    streams(),
    st.lists(st.sampled_from(MESSAGES), max_size=3),
    st.integers(0, 255),
)
INPUTS = mutated(STREAMS, MESSAGES)
REFUSALS = (RemoteProtocolError,)


def check(data: bytes) -> int:
    """The first three bytes say who sends, how long its hello is, and how the others are cut."""
    sender, kind, size = data[:3].ljust(3, b"\0")
    hello_length, stream = HELLO_LENGTHS[kind % 4], data[3:]
    gate, passed = HelloGate(sender, hello_length, max_payload_bytes=LIMIT), b""
    try:
        for piece in cut_up(stream, size + 1):
            passed += gate.let_through(piece)
    except RemoteProtocolError:
        assert broken(sender, hello_length, stream)
        assert not broken(sender, hello_length, passed)
        for piece in (b"", stream):
            try:
                gate.let_through(piece)
            except RemoteProtocolError:
                continue
            raise AssertionError("it was let through after a refusal") from None
        raise
    finally:
        assert stream.startswith(passed)
    assert not broken(sender, hello_length, stream)
    assert passed == (stream if len(stream) >= hello_length else b"")
    return hello_length


def broken(sender: int, hello_length: int, stream: bytes) -> bool:
    """Whether these bytes break the rules of PROTOCOL 6, read all at once."""
    if hello_length and len(stream) >= 2 and stream[:2] != bytes([sender, 0]):
        return True
    at = hello_length
    while at + 12 <= len(stream):
        (length,) = struct.unpack_from("<I", stream, at + 8)
        if length > LIMIT:
            return True
        at += 12 + length
    return False
