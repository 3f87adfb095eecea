"""Records: what came as the other end sent it comes out, from its first on; at all else RemoteProtocolError for good.

However the bytes are cut, and with no more than one record's of them waiting.
"""

from __future__ import annotations

from hypothesis import strategies as st

from onionmpc.errors import RemoteProtocolError
from onionmpc.wire.noise import CipherState
from onionmpc.wire.records import LENGTH_BYTES, MAX_CIPHERTEXT_BYTES, Records
from tests.fuzz.mutations import cut_up, mutated

THERE, BACK = bytes([1]) * 32, bytes([2]) * 32
SENT = [b"one", b"a second one", bytes(1), bytes(range(100)), b"one", b"the last one"]


def sealed(key: bytes) -> list[bytes]:
    sender = Records(CipherState(key), CipherState(BACK))
    return [sender.encode(plaintext) for plaintext in SENT]


# In any order, or sent back to their sender, or of another session; or empty.
TRUE = sealed(THERE)
OTHERS = [*sealed(BACK), *sealed(bytes(32)), Records(CipherState(THERE), CipherState(BACK)).encode(b"")]
RECORDS = st.lists(st.sampled_from(TRUE + OTHERS), max_size=8) | st.integers(0, len(TRUE)).map(lambda n: TRUE[:n])
INPUTS = st.builds(
    lambda size, stream: bytes([size]) + stream,
    st.integers(0, 255),
    mutated(RECORDS.map(b"".join), [b"\0\x10", b"\0\x11", b"\xff\xff"]),
)
REFUSALS = (RemoteProtocolError,)


def check(data: bytes) -> int:
    """The first byte says how the others are cut."""
    receiver = Records(CipherState(BACK), CipherState(THERE))
    size = (data[0] if data else 0) + 1
    got: list[bytes] = []
    try:
        for piece in cut_up(data[1:], size):
            got.extend(receiver.decode(piece))
            assert len(receiver._received) < LENGTH_BYTES + MAX_CIPHERTEXT_BYTES
    except RemoteProtocolError:
        assert stays_refused(receiver)
        raise
    finally:
        true = sum(data[1:].startswith(b"".join(TRUE[: count + 1])) for count in range(len(TRUE)))
        assert got == SENT[:true]
    return len(got)


def stays_refused(receiver: Records) -> bool:
    try:
        return list(receiver.decode(TRUE[0])) is None
    except RemoteProtocolError:
        return True
