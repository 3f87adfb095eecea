"""The walk through a pickle never measures less memory than the message takes."""

from __future__ import annotations

import io
import pickle
import pickletools
import struct
import tracemalloc
from typing import Any

import pytest

from onionmpc.errors import RemoteProtocolError
from onionmpc.program.pickles.opcodes import DATA_OPCODES, INSTANCE_OPCODES, MAX_DEPTH, measure
from onionmpc.program.pickles.unpickle import RestrictedPickle
from onionmpc.program.values.fields import array_of_shares, bytes_of_shares
from tests.support.pickle_attacks import behind_frames

MANY = 5_000
# For each kind of value, the pickle that takes the most memory per byte.
AMPLIFIERS = {
    "lists": b"(" + b"]" * MANY + b"t.",
    "lists of one": b"(" + b"]Na" * MANY + b"t.",
    "lists of nine": b"(" + b"](NNNNNNNNNe" * MANY + b"t.",
    "dicts": b"(" + b"}" * MANY + b"t.",
    "dicts of one": b"(" + b"}NNs" * MANY + b"t.",
    "dicts of six": b"(" + b"}(K\x00NK\x01NK\x02NK\x03NK\x04NK\x05Nu" * MANY + b"t.",
    "sets": b"(" + b"\x8f" * MANY + b"t.",
    "sets of one": b"(" + b"\x8f(N\x90" * MANY + b"t.",
    "sets of five": b"(" + b"\x8f(K\x00K\x01K\x02K\x03K\x04\x90" * MANY + b"t.",
    "frozen sets": b"(" + b"(N\x91" * MANY + b"t.",
    "tuples": b"(" + b"N\x85" * MANY + b"t.",
    "integers": b"(" + b"J\xff\xff\xff\x7f" * MANY + b"t.",
    "long integers": b"(" + (b"\x8a\x10" + b"\x7f" * 16) * MANY + b"t.",
    "one long integer": b"\x8b" + struct.pack("<i", MANY) + b"\x7f" * MANY + b".",
    "floats": b"(" + (b"G" + bytes(8)) * MANY + b"t.",
    "texts": b"(" + b"\x8c\x02ab" * MANY + b"t.",
    "texts of wide letters": b"(" + b"\x8c\x08abcd\xf0\x9f\xa7\x85" * MANY + b"t.",
    "bytes": b"(" + b"C\x02ab" * MANY + b"t.",
    "byte arrays": b"(" + (b"\x96" + struct.pack("<Q", 2) + b"ab") * MANY + b"t.",
    "the memo": b"N" + b"\x94" * MANY + b".",
    "uses of the memo": b"(" + b"]\x94\x85\x94" + b"h\x01" * MANY + b"t.",
    "one list of many": b"](" + b"N" * MANY + b"e.",
    "one dict of many": b"}(" + b"".join(b"J" + struct.pack("<i", n) + b"N" for n in range(MANY)) + b"u.",
    "one set of many": b"\x8f(" + b"".join(b"J" + struct.pack("<i", n) for n in range(MANY)) + b"\x90.",
    "one list, one by one": b"]" + b"Na" * MANY + b".",
}


def peak_bytes(act: Any) -> int:
    tracemalloc.start()
    try:
        act()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("data", AMPLIFIERS.values(), ids=AMPLIFIERS)
def test_neither_the_walk_nor_the_message_takes_more_memory_than_measured(data: bytes) -> None:
    data = b"\x80\x04" + data
    measured = measure(data, DATA_OPCODES)
    assert peak_bytes(lambda: measure(data, DATA_OPCODES)) <= measured
    assert peak_bytes(lambda: pickle.loads(data)) <= measured
    with pytest.raises(RemoteProtocolError, match=f"more than {measured - 1} bytes of memory"):
        measure(data, DATA_OPCODES, measured - 1)


@pytest.mark.parametrize("width", [1, 2, 3, 4, 8, 40])
def test_an_array_of_shares_takes_no_more_memory_than_its_bound(width: int) -> None:
    data = bytes(range(128, 256)) * 5 * width
    counted = bytes_of_shares(0, (), width, data)
    assert peak_bytes(lambda: array_of_shares(0, (len(data) // width,), width, data)) <= counted


def test_the_bound_of_an_honest_message_is_not_absurdly_high() -> None:
    restricted = RestrictedPickle()
    for value in (list(range(10**5)), [str(n) for n in range(10**4)], bytes(10**6), {n: n for n in range(10**4)}):
        data = restricted.dumps(value)
        assert measure(data, DATA_OPCODES) < 12 * peak_bytes(lambda data=data: pickle.loads(data))


@pytest.mark.parametrize("opcodes", [DATA_OPCODES, INSTANCE_OPCODES], ids=["data only", "with classes"])
def test_a_container_is_as_deep_as_what_it_holds(opcodes: Any) -> None:
    for opened, closed in ((b"(", b"t"), (b"](", b"e"), (b"}N", b"s"), (b"", b"\x85"), (b"N", b"\x86")):
        levels = [opened * depth + b")" + closed * depth + b"." for depth in (MAX_DEPTH, MAX_DEPTH + 1)]
        measure(levels[0], opcodes)
        with pytest.raises(RemoteProtocolError, match="nested more than 100 deep"):
            measure(levels[1], opcodes)


HIDDEN = {attack.name: attack.data for attack in behind_frames()}


@pytest.mark.parametrize("data", HIDDEN.values(), ids=HIDDEN)
def test_an_argument_across_the_end_of_its_frame_makes_an_unpickler_continue_at_another_place(data: bytes) -> None:
    """The reason why such messages are refused: a reader that ignores frames sees no tuple at all."""
    assert "TUPLE1" not in [opcode.name for opcode, _, _ in pickletools.genops(data)]
    try:
        value, depth = pickle.Unpickler(io.BytesIO(data)).load(), 0
    except pickle.UnpicklingError:
        pytest.skip("the unpickler of this Python respects the end of a frame")
    while value:
        (value,), depth = value, depth + 1
    assert depth == 120


@pytest.mark.parametrize("size", [10, 2**16 - 20, 2**16, 2**17])
def test_frames_made_by_python_are_accepted(size: int) -> None:
    restricted = RestrictedPickle()
    for value in ([bytes(size)] * 2, ["\u00e4" * size, [1] * size, b""], [bytes([one]) for one in range(200)] * 1000):
        data = restricted.dumps(value)
        assert data.count(b"\x95") >= 1
        assert restricted.loads(data) == value


def test_only_listed_opcodes_are_allowed() -> None:
    """An opcode of a later Python is refused like any other."""
    assert {chr(code) for code in INSTANCE_OPCODES} < {info.code for info in pickletools.opcodes}
    assert len(DATA_OPCODES) == len(INSTANCE_OPCODES) - 3
