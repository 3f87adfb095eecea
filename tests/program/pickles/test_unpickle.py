"""The replacement for pickle in MPyC passes data, but not code."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onionmpc.errors import ProgramError, RemoteProtocolError
from onionmpc.program import values
from onionmpc.program.pickles.opcodes import MAX_DEPTH
from onionmpc.program.pickles.unpickle import RestrictedPickle
from tests.support.pickle_attacks import call, text

OURS = values.__name__


@dataclasses.dataclass(frozen=True)
class Ballot:
    """A class that the program defines."""

    number: int


BALLOT = f"{Ballot.__module__}.Ballot"
SCRIPT = Path(__file__).parents[3] / "script.py"  # `tests` is a package beside it


# --- what passes ---

plain_data = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.binary().map(bytearray),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text() | st.integers(), inner)
        | st.frozensets(st.integers())
        | st.sets(st.text())
    ),
    max_leaves=20,
)


@given(plain_data)
def test_plain_data_comes_back_unchanged(value: object) -> None:
    restricted = RestrictedPickle()
    received = restricted.loads(restricted.dumps(value))
    assert received == value
    assert type(received) is type(value)


@given(st.lists(st.integers(-(2**600), 2**600), max_size=30))
def test_arrays_of_shares_come_back_unchanged(numbers: list[int]) -> None:
    restricted = RestrictedPickle()
    array = np.array(numbers, dtype=object)
    received = restricted.loads(restricted.dumps(array))
    assert isinstance(received, np.ndarray)
    assert received.dtype == object
    assert received.tolist() == numbers
    assert all(type(number) is int for number in received)


@pytest.mark.parametrize("number_type", ["b1", "i1", "u1", "<i2", "<i8", "<u4", "<f4", "<f8", "<c16"])
@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 0), (2, 3, 4)])
def test_arrays_of_numbers_come_back_unchanged(number_type: str, shape: tuple[int, ...]) -> None:
    restricted = RestrictedPickle()
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(number_type)
    received = restricted.loads(restricted.dumps(array))
    assert isinstance(received, np.ndarray)
    assert (received.dtype, received.shape) == (array.dtype, array.shape)
    assert np.array_equal(received, array)
    assert received.flags.writeable


def test_an_array_of_objects_keeps_its_shape() -> None:
    restricted = RestrictedPickle()
    array = np.array([[1, -(2**80), 3], [4, 5, 6]], dtype=object).T
    assert np.array_equal(restricted.loads(restricted.dumps(array)), array)  # type: ignore[arg-type]


def test_big_endian_numbers_arrive_in_our_order() -> None:
    restricted = RestrictedPickle()
    received = restricted.loads(restricted.dumps(np.array([1, 2], dtype=">i4")))
    assert isinstance(received, np.ndarray)
    assert received.tolist() == [1, 2]


@pytest.mark.parametrize("scalar", [np.int64(-3), np.float64(1.5), np.bool_(True), np.uint8(255)])
def test_a_numpy_scalar_comes_back_unchanged(scalar: np.generic) -> None:
    restricted = RestrictedPickle()
    received = restricted.loads(restricted.dumps([scalar]))
    assert received == [scalar]
    assert type(received[0]) is type(scalar)


def test_a_value_that_contains_itself_is_refused_where_it_is_sent() -> None:
    value: list[object] = []
    value.append(value)
    with pytest.raises(
        ProgramError, match=r"something that the other parties would refuse: .* a value that contains itself"
    ):
        RestrictedPickle().dumps(value)


def test_polynomials_of_a_program_without_mpyc_are_malformed() -> None:
    with pytest.raises(
        RemoteProtocolError, match=r"the type of polynomials GF\(10007\)\[x\], which this program has not made"
    ):
        RestrictedPickle().loads(call(OURS, "polynomial", 10007, 5))


# --- hostile calls of our builders ---

HOSTILE_CALLS = [
    ("array_of_numbers", "O", (1,), bytes(8)),
    ("array_of_numbers", "|O8", (1,), bytes(8)),
    ("array_of_numbers", "<f8,O", (1,), bytes(16)),
    ("array_of_numbers", "<f8\n", (1,), bytes(8)),
    ("array_of_numbers", "<U2", (1,), b"\0\0\x11\0" * 2),
    ("array_of_numbers", "<U0", (1,), b""),
    ("array_of_numbers", "<U1000000", (0,), b""),
    ("array_of_numbers", "|S9999999", (0,), b""),
    ("array_of_numbers", "|V8", (1,), bytes(8)),
    ("array_of_numbers", "<M8[\N{GREEK SMALL LETTER MU}s]", (1,), bytes(8)),
    ("array_of_numbers", "<M8[0s]", (1,), bytes(8)),
    ("array_of_numbers", "<f8", (2**62, 0), b""),
    ("array_of_numbers", "<f8", (-1,), bytes(8)),
    ("array_of_numbers", "<f8", (True,), bytes(8)),
    ("array_of_numbers", (("a", "O", ()),), (1,), bytes(8)),
    ("array_of_numbers", (("a", "<f8,O", ()),), (1,), bytes(16)),
    ("array_of_numbers", (("a", {"names": ["f"], "formats": ["O"]}, ()),), (1,), bytes(8)),
    ("array_of_numbers", (("a", (("b", "<f8", ()),), ()),), (1,), bytes(8)),
    ("array_of_numbers", (("a", "<f8", ()), ("a", "<f8", ())), (1,), bytes(16)),
    ("array_of_numbers", (("a", "<f8", (2**40,)),), (0,), b""),
    ("array_of_numbers", (("a", "<f8", (0,)),), (0,), b""),
    ("array_of_numbers", (("a", "<f8", 2),), (1,), bytes(16)),
    ("array_of_numbers", (("a", "<f8", (), 0),), (1,), bytes(8)),
    ("array_of_numbers", ((("title", "a"), "<f8", ()),), (1,), bytes(8)),
    ("array_of_numbers", (("", "<f8", ()),), (1,), bytes(8)),
    ("array_of_numbers", (("a", "|b1", (2,)),), (1,), b"\1\2"),
    ("array_of_numbers", (("a", "|i1", ()), ("b", "<U1", (1, 1))), (1,), b"\0\0\0\x11\0"),
    ("array_of_numbers", (), (1,), b""),
    ("array_of_numbers", tuple((f"f{i}", "|i1", ()) for i in range(1001)), (1,), bytes(1001)),
    ("array_of_numbers", "<f99", (1,), bytes(8)),
    ("array_of_numbers", b"<f8", (1,), bytes(8)),
    ("array_of_numbers", {"names": ["f"], "formats": ["O"]}, (1,), bytes(8)),
    ("array_of_numbers", "<f8", (2,), bytes(8)),
    ("array_of_numbers", "<f8", (2**62,), bytes(8)),
    ("array_of_numbers", "<f8", (1,) * 100, bytes(8)),
    ("array_of_numbers", "<f8", ("1",), bytes(8)),
    ("array_of_numbers", "<f8", (1,), bytes(7)),
    ("array_of_numbers", "<f8", (1,), "bytes(8)"),
    ("array_of_numbers", "<f8", (1,)),
    ("array_of_shares", 0, (2,), 1, [1, 2]),
    ("array_of_numbers", "|b1", (2,), b"\1\2"),
    ("numpy_scalar", "|b1", b"\xff"),
    ("numpy_scalar", "O", bytes(8)),
    ("numpy_scalar", "<f8", bytes(16)),
    ("numpy_scalar", "<f8", b""),
    ("array_of_shares", 0, (2,), 1, b"1"),
    ("array_of_shares", 0, (2**62,), 1, b"1"),
    ("array_of_shares", 0, (1,), 0, b"1"),
    ("array_of_shares", 0, (1,), -1, b"1"),
    ("array_of_shares", 0, (1,), 2**70, b"1"),
    ("array_of_shares", 0, (1,), 0.5, b"1"),
    ("array_of_shares", 0, (1,), 1, "1"),
    ("array_of_shares", 0, (1,), 1, 1),
    ("array_of_shares", 0, (1,), 1, {0: 1}),
    ("array_of_shares", -2, (1,), 1, b"1"),
    ("array_of_shares", "2", (1,), 1, b"1"),
    ("array_of_shares", 10**5000, (1,), 1, b"1"),
    ("polynomial", 7, 1),
    ("field_element", "ArrayGF(7)", 1),
    ("field_element", "__class__", 1),
    ("field_element", 7, 1),
    ("group_element", "Sym(3)", (0, 1, 2)),
    ("group_element", "__init__", ()),
    ("group_element", None, ()),
    ("group_element", "Sym(3)", ("0", "1", "2")),
    ("group_element", "Sym(3)", [0, 1, 2]),
    ("polynomial", None, 1),
    ("polynomial", True, 1),
    ("polynomial", 2, True),
    ("field_element", (7, 2, 6), 1),
    ("field_element", (), 1),
    ("field_element", [7, 2, 6], 1),
    ("field_element", (7.0, 2, 6), 1),
    ("field_element", (2**70000, 2, 6), 1),
    ("field_element", ("7", 2, 6), 1),
    ("field_array", (7, 2, 6), (1,), b"1"),
    ("field_array", None, (1,), b"1"),
    ("group_element", ("SymmetricGroupElement", 3), (0, 1, 2)),
    ("group_element", ("SymmetricGroupElement", 2**70000), (0, 1, 2)),
    ("group_element", ("EdwardsAffine", "Ed25519"), (0, 1)),
    ("group_element", ("EdwardsAffine", ["Ed25519"]), (0, 1)),
    ("group_element", ("FiniteGroupElement", 1), 1),
    ("group_element", (), 1),
    ("group_element", ("__init__", "__globals__"), 1),
    ("complex_number", 1, 2.0),
    ("complex_number", "1", 2.0),
    ("complex_number", 1.0),
    ("number_range", 0, 2**63, 1),
    ("number_range", -(2**63), 2**63 - 1, 1),
    ("number_range", 0, 2**70, 1),
    ("number_range", 0, 1, 0),
    ("number_range", True, 2, 1),
    ("fraction", 1, 0),
    ("fraction", 1, -1),
    ("fraction", 2**70000, 1),
    ("fraction", 1, 2**70000),
    ("fraction", "1e999999999", 1),
    ("fraction", 1.5, 1),
    ("decimal_number", "1E+999999999"),
    ("decimal_number", "1E-999999999"),
    ("decimal_number", "1E+19661"),
    ("decimal_number", "1" * 20000),
    ("decimal_number", "1_0"),
    ("decimal_number", " 1"),
    ("decimal_number", "1\n"),
    ("decimal_number", "\N{ARABIC-INDIC DIGIT ONE}"),
    ("decimal_number", ""),
    ("decimal_number", 1),
    ("decimal_number", (0, (1,), 999999999)),
    ("date", 0, 1, 1),
    ("date", 2026, 2, 30),
    ("date", b"\x07\xea\x01\x01"),
    ("date", True, 1, 1),
    ("time", (24, 0, 0, 0), 0, None),
    ("time", (0, 0, 0, 0), 2, None),
    ("time", (0, 0, 0), 0, None),
    ("time", b"\0\0\0\0\0\0", 0, None),
    ("time", (0, 0, 0, 0), 0, "UTC"),
    ("date_and_time", (2026, 1, 1, 0, 0, 0, 10**6), 0, None),
    ("date_and_time", b"\x07\xea\x01\x01\0\0\0\0\0\0", 0, None),
    ("date_and_time", [2026, 1, 1, 0, 0, 0, 0], 0, None),
    ("duration", 10**10, 0, 0),
    ("duration", 2**70000, 0, 0),
    ("duration", 1.5, 0, 0),
    ("time_zone", 3600, None),
    ("time_zone", None, "UTC"),
    ("ordered_dict", [(1, 2)]),
    ("ordered_dict", 3),
    ("counter", "aab"),
    ("counter", [1, 2]),
    ("default_dict", "eval", {}),
    ("default_dict", "__import__", {}),
    ("default_dict", "os.getcwd", {}),
    ("default_dict", ["list"], {}),
    ("default_dict", "list", [(1, 2)]),
    ("default_dict", "range", {}),
    ("double_ended_queue", [1, 2], 1),
    ("double_ended_queue", [1, 2], -1),
    ("double_ended_queue", [1, 2], 2**63),
    ("double_ended_queue", [1, 2], True),
    ("double_ended_queue", (1, 2), None),
    ("double_ended_queue", 3, None),
    ("numpy_text", b"a"),
    ("numpy_text", 1),
    ("numpy_bytes", 10**9),
    ("numpy_bytes", "a"),
]


@pytest.mark.parametrize("hostile", HOSTILE_CALLS, ids=lambda hostile: hostile[0])
def test_a_builder_refuses_wrong_arguments(hostile: tuple[Any, ...]) -> None:
    with pytest.raises(RemoteProtocolError, match=r"not well formed|which this program has not made"):
        RestrictedPickle().loads(call(OURS, *hostile))


# --- size, depth, form ---


def test_a_message_that_is_too_long_is_not_parsed() -> None:
    with pytest.raises(RemoteProtocolError, match="a message has 11 bytes, expected at most 10"):
        RestrictedPickle(max_bytes=10).loads(b"cos\nsystem\n")


@pytest.mark.parametrize("build", [b"\x85", b"N\x86", b"NN\x87"])
def test_a_deeply_nested_tuple_is_refused_before_it_is_built(build: bytes) -> None:
    """As the key of a dict it would be hashed by a recursion in C, which crashes the process."""
    nested = b"\x80\x04}" + b")" + build * 200_000 + b"Ns."
    with pytest.raises(RemoteProtocolError, match="nested more than 100 deep"):
        RestrictedPickle().loads(nested)


def test_depth_counts_across_marks_and_the_memo() -> None:
    through_marks = b"\x80\x04" + b"(" * 200 + b"t" * 200 + b"."
    through_memo = b"\x80\x04)\x94" + b"".join(b"0h" + bytes([i]) + b"\x85\x94" for i in range(200)) + b"."
    for nested in (through_marks, through_memo.replace(b"0h", b"h")):
        with pytest.raises(RemoteProtocolError, match="nested more than 100 deep"):
            RestrictedPickle().loads(nested)


def test_a_value_at_the_maximum_depth_passes() -> None:
    value: object = ()
    for _ in range(MAX_DEPTH - 1):
        value = (value,)
    restricted = RestrictedPickle()
    assert restricted.loads(restricted.dumps(value)) == value
    flat = [[number] for number in range(5000)]
    assert restricted.loads(restricted.dumps(flat)) == flat


@given(st.binary(max_size=60))
def test_random_bytes_raise_only_protocol_errors(data: bytes) -> None:
    with contextlib.suppress(RemoteProtocolError):
        RestrictedPickle().loads(b"\x80\x04" + data)


@given(plain_data, st.data())
def test_an_altered_message_raises_only_protocol_errors(value: object, data: st.DataObject) -> None:
    restricted = RestrictedPickle((BALLOT,), script=SCRIPT)
    message = bytearray(restricted.dumps([value, Ballot(1), np.arange(3), np.array([2**90], dtype=object)]))
    for _ in range(3):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(RemoteProtocolError):
        restricted.loads(bytes(message))


# --- classes that the parties allow ---


def test_an_allowed_class_passes_in_both_directions() -> None:
    restricted = RestrictedPickle((BALLOT,), script=SCRIPT)
    assert restricted.loads(restricted.dumps([Ballot(7), {Ballot(8)}])) == [Ballot(7), {Ballot(8)}]


def test_a_class_that_was_not_allowed_is_refused_where_it_is_sent() -> None:
    with pytest.raises(ProgramError, match=f"the program sends a {BALLOT}, which the other parties would refuse"):
        RestrictedPickle().dumps([Ballot(7)])


@pytest.mark.parametrize("value", [len, Ballot, object(), slice(3), sys, lambda: None])
def test_anything_but_data_is_refused_where_it_is_sent(value: object) -> None:
    with pytest.raises(ProgramError):
        RestrictedPickle().dumps(value)


@pytest.mark.parametrize(
    "array",
    [
        np.array([None]),
        np.array([1.5], dtype=object),
        np.zeros(1, dtype="f8,O"),
        np.zeros(1, dtype=[("a", [("b", "f8")])]),
        np.zeros(1, dtype="V8"),
        np.zeros(1, dtype=[]),
    ],
)
def test_an_array_without_numbers_is_refused_where_it_is_sent(array: np.ndarray[Any, Any]) -> None:
    with pytest.raises(ProgramError, match="expected numbers"):
        RestrictedPickle().dumps(array)


@pytest.mark.parametrize("state", [{"number": 1}, (None, {"number": 1})])
def test_a_peer_cannot_change_an_allowed_class(state: object) -> None:
    module, _, name = BALLOT.rpartition(".")
    named = b"\x80\x04" + text(module) + text(name) + b"\x93"
    built = pickle.dumps(state, protocol=4)[11:-1] + b"b."
    with pytest.raises(RemoteProtocolError, match="a change to a class"):
        RestrictedPickle((BALLOT,), script=SCRIPT).loads(named + built)
    assert not hasattr(Ballot, "number")


# Names that a program's module may have besides its own classes.
Alias = dataclasses.dataclass
Renamed = Ballot
function = len


class Maker(type):
    """Makes classes."""


class Outer:
    class Inner:
        """A class in a class."""


NOT_ALLOWED = ["Alias", "Renamed", "function", "Maker", "Missing", "Path", "Any", "pytest", "__name__", "Outer.Inner"]


@pytest.mark.parametrize("name", NOT_ALLOWED)
def test_only_a_class_that_its_module_defines_passes(name: str) -> None:
    restricted = RestrictedPickle((f"{__name__}.{name}",), script=SCRIPT)
    with pytest.raises(RemoteProtocolError, match=f"{__name__}.{name}, which is not allowed"):
        restricted.loads(call(__name__, name))


FOREIGN = ["builtins.eval", "builtins.list", "collections.OrderedDict", "numpy.ndarray", "subprocess.Popen", "abc.ABC"]


@pytest.mark.parametrize("name", FOREIGN)
def test_a_class_of_a_foreign_module_does_not_pass_even_if_allowed(name: str) -> None:
    module, _, last = name.rpartition(".")
    with pytest.raises(RemoteProtocolError, match=f"{name}, which is not allowed"):
        RestrictedPickle((name,), script=SCRIPT).loads(call(module, last, "1"))


def test_a_class_from_another_folder_does_not_pass(tmp_path: Path) -> None:
    data = RestrictedPickle((BALLOT,), script=SCRIPT).dumps(Ballot(7))
    for script in (tmp_path / "script.py", SCRIPT.parent.parent / "script.py", Path()):
        with pytest.raises(RemoteProtocolError, match="Ballot, which is not allowed"):
            RestrictedPickle((BALLOT,), script=script).loads(data)


def test_nothing_is_imported_for_a_peer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "not_loaded.py").write_text("class Note: ...")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RemoteProtocolError, match=r"not_loaded\.Note, which is not allowed"):
        RestrictedPickle(("not_loaded.Note",), script=tmp_path / "script.py").loads(call("not_loaded", "Note"))
    assert "not_loaded" not in sys.modules


def test_an_allowed_name_cannot_be_split_in_another_place() -> None:
    with pytest.raises(RemoteProtocolError, match="not allowed"):
        RestrictedPickle(("collections.abc.Sized",), script=SCRIPT).loads(call("collections", "abc.Sized"))


class Picky:
    """Refuses all arguments with its own error."""

    def __init__(self, *_: object) -> None:
        raise OSError("no such ballot")


def test_any_error_of_an_allowed_class_is_the_fault_of_the_sender() -> None:
    restricted = RestrictedPickle((f"{__name__}.Picky",), script=SCRIPT)
    with pytest.raises(RemoteProtocolError, match="a message is not well formed: no such ballot"):
        restricted.loads(call(__name__, "Picky", 1))


def test_a_value_that_is_too_large_is_refused_where_it_is_sent() -> None:
    deep: object = ()
    for _ in range(MAX_DEPTH + 1):
        deep = (deep,)
    for value, restricted, reason in (
        (deep, RestrictedPickle(), "nested more than 100 deep"),
        (bytes(100), RestrictedPickle(max_bytes=100), "expected at most 100"),
        ([1] * 1000, RestrictedPickle(max_memory_bytes=10_000), "more than 10000 bytes of memory"),
    ):
        with pytest.raises(
            ProgramError, match=f"the program sends something that the other parties would refuse: .*{reason}"
        ):
            restricted.dumps(value)


def test_plain_data_from_the_stock_pickler_is_accepted() -> None:
    file = io.BytesIO()
    pickle.Pickler(file, protocol=5).dump({"a": [1, (2.5, None)]})
    assert RestrictedPickle().loads(file.getvalue()) == {"a": [1, (2.5, None)]}
