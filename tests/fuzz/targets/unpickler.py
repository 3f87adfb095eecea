"""Pickles: RemoteProtocolError, or what Python's own would give; nothing imported, opened or run, memory bounded."""

from __future__ import annotations

import io
import pickle
import pickletools
import tracemalloc

import numpy as np
from hypothesis import strategies as st

from onionmpc.errors import RemoteProtocolError
from onionmpc.program.pickles.unpickle import RestrictedPickle
from tests.fuzz.mutations import mutated
from tests.support.pickle_attacks import bombs
from tests.support.restricted_pickles import (
    ALLOWED,
    CORPUS,
    FRAGMENTS,
    MESSAGES,
    SCRIPT,
    Allowed,
    Reference,
    loads_watched,
    mutations,
)

# An input has a few thousand bytes; whatever makes more of it than this is refused.
LIMIT_BYTES = 2**18
MAX_ATTACK_BYTES = 2000
OPCODES = [info.code.encode("latin-1") for info in pickletools.opcodes]
ATTACKS = [attack.data for attack in [*CORPUS, *bombs(LIMIT_BYTES)] if len(attack.data) < MAX_ATTACK_BYTES]
INPUTS = mutations() | mutated(st.sampled_from(MESSAGES) | st.sampled_from(ATTACKS), [*FRAGMENTS, *OPCODES])
REFUSALS = (RemoteProtocolError,)


class InPython(pickle._Unpickler):
    """The one that is not written in C, and differs from it in what it refuses."""

    find_class = Reference.find_class


def check(data: bytes) -> str:
    restricted = RestrictedPickle(ALLOWED, script=SCRIPT, max_memory_bytes=LIMIT_BYTES)
    tracemalloc.start()
    try:
        received = loads_watched(restricted, data)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2 * LIMIT_BYTES
    assert not is_larger(received, LIMIT_BYTES)
    for python in (Reference, InPython):
        np.testing.assert_equal(received, python(io.BytesIO(data)).load())
    *_, (last, _, at) = pickletools.genops(data)
    assert (last.name, at) == ("STOP", len(data) - 1)
    return type(received).__name__


def is_larger(value: object, limit: int) -> bool:
    """Whether somebody who goes through a value meets more objects than so many; what holds itself never ends."""
    waiting, met = [value], 0
    while waiting and met <= limit:
        met += 1
        one = waiting.pop()
        if isinstance(one, list | tuple | set | frozenset):
            waiting.extend(one)
        elif isinstance(one, dict):
            waiting.extend([*one, *one.values()])
        elif isinstance(one, Allowed):
            waiting.append(vars(one))
    return met > limit
