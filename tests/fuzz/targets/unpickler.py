"""Pickles: RemoteProtocolError, or what Python's own would give; nothing imported, opened or run, memory bounded."""

from __future__ import annotations

import io
import pickletools
import tracemalloc

import numpy as np
from hypothesis import strategies as st
from mutations import mutated
from test_pickle_attacks import ALLOWED, CORPUS, FRAGMENTS, MESSAGES, SCRIPT, Reference, loads_watched, mutations

from onionmpc.errors import RemoteProtocolError
from onionmpc.program.unpickle import RestrictedPickle

# An input has a few thousand bytes; whatever makes more of it than this is refused.
LIMIT_BYTES = 2**18
OPCODES = [info.code.encode("latin-1") for info in pickletools.opcodes]
INPUTS = mutations() | mutated(
    st.sampled_from([*MESSAGES, *(attack.data for attack in CORPUS)]), [*FRAGMENTS, *OPCODES, b"h\0", b"\x94", b"0"]
)
REFUSALS = (RemoteProtocolError,)


def check(data: bytes) -> str:
    restricted = RestrictedPickle(ALLOWED, script=SCRIPT, max_memory_bytes=LIMIT_BYTES)
    tracemalloc.start()
    try:
        received = loads_watched(restricted, data)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2 * LIMIT_BYTES
    np.testing.assert_equal(received, Reference(io.BytesIO(data)).load())
    *_, (last, _, at) = pickletools.genops(data)
    assert (last.name, at) == ("STOP", len(data) - 1)
    return type(received).__name__
