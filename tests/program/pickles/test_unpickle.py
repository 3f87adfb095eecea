"""The replacement for pickle in MPyC passes data, but not code."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import pickle
import subprocess
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


def run_with_mpyc(script: str) -> None:
    """Run a script in its own process: on import, MPyC reads sys.argv and sets up logging."""
    command = [sys.executable, "-c", SCRIPT_START + script, "--no-log"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


SCRIPT_START = """
import numpy
from mpyc import fingroups, finfields, gfpx
from onionmpc.errors import RemoteProtocolError
from onionmpc.program.pickles.unpickle import RestrictedPickle

restricted = RestrictedPickle()

def there_and_back(value):
    received, = restricted.loads(restricted.dumps([value]))
    assert type(received) is type(value), (value, received)
    return received

def refused(data, reason):
    try:
        restricted.loads(data)
    except RemoteProtocolError as error:
        assert reason in str(error), error
    else:
        raise AssertionError("it was taken")
"""


def test_polynomials_of_mpyc_come_back_unchanged() -> None:
    run_with_mpyc("""
for p in 2, 3, 101:
    polynomials = gfpx.GFpX(p)
    array = numpy.array([polynomials(n) for n in (0, 1, 5, 2**70)], dtype=object).reshape(2, 2)
    received = there_and_back(array)
    assert (received == array).all() and received.shape == (2, 2) and type(received[0, 0]) is polynomials
    assert there_and_back(polynomials(7)) == polynomials(7)
""")


def test_field_elements_of_mpyc_come_back_unchanged() -> None:
    run_with_mpyc("""
moduli = 2, 101, 2**61 - 1, finfields.find_irreducible(2, 8), finfields.find_irreducible(3, 2)
for modulus in moduli:
    field = finfields.GF(modulus)
    for number in 0, 1, field.order - 1:
        assert there_and_back(field(number)) == field(number)
""")


def test_group_elements_of_mpyc_come_back_unchanged() -> None:
    run_with_mpyc("""
curves = [
    fingroups.EllipticCurve(name, coordinates)
    for name, all_coordinates in {
        "Ed25519": ("affine", "projective", "extended"),
        "Ed448": ("projective",),
        "secp256k1": ("affine", "projective", "jacobian"),
        "BN256": ("affine", "projective", "jacobian"),
        "BN256_twist": ("affine", "projective", "jacobian"),
    }.items()
    for coordinates in all_coordinates
]
others = [fingroups.QuadraticResidues(l=64), fingroups.SchnorrGroup(l=256, n=160), fingroups.ClassGroup(l=32)]
for group in curves + others:
    for element in group.identity, group.generator, group.generator ^ 5, ~group.generator:
        assert there_and_back(element) == element, group
symmetric = fingroups.SymmetricGroup(4)
assert there_and_back(symmetric((1, 0, 3, 2))) == symmetric((1, 0, 3, 2))
""")


def test_a_peer_cannot_create_types_of_mpyc() -> None:
    run_with_mpyc("""
before = [set(vars(module)) for module in (gfpx, finfields, fingroups)]
gfpx.GFpX(101)
sent = restricted.dumps(gfpx.GFpX(101)(7))
refused(sent.replace(b"Ke", b"Kg"), "this program has no GF(103)[x]")
finfields.GF(101)
sent = restricted.dumps(finfields.GF(101)(7))
refused(sent.replace(b"(101)", b"(103)"), "this program has no ArrayGF(103)")
after = [set(vars(module)) - names for module, names in zip((gfpx, finfields, fingroups), before)]
assert after == [{"GF(101)[x]"}, {"ArrayGF(101)"}, set()], after
""")


def test_a_number_that_would_take_long_to_take_apart_is_refused() -> None:
    run_with_mpyc("""
import time
before = time.process_time()
for huge in 2**2**16, 2**2**23:
    number = huge.to_bytes(2**20 + 1, "little")
    for value in gfpx.GFpX(3)(7), gfpx.GFpX(2)(7), finfields.GF(11)(7):
        sent = restricted.dumps(value)
        longer = sent.replace(b"K\\x07", b"\\x8b" + len(number).to_bytes(4, "little") + number)
        refused(longer[:2] + longer[11:], "a number of more than 8192 bytes")
assert time.process_time() - before < 5
# The longest number that is allowed takes little time.
widest = numpy.array([gfpx.GFpX(3)(2**65000)], dtype=object)
there_and_back(widest)
""")


def test_polynomials_take_no_more_memory_than_their_bound() -> None:
    run_with_mpyc("""
import tracemalloc
from onionmpc.program.values import array_of_shares, bytes_of_shares
for p in 2, 3, 251, 257, 2**61 - 1:
    gfpx.GFpX(p)
    for width in 1, 2, 9, 100:
        data = b"\\x7f" * width * 200
        tracemalloc.start()
        array_of_shares(p, (200,), width, data)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak <= bytes_of_shares(p, (), width, data), (p, width, peak)
""")


def test_only_elements_of_a_group_are_built() -> None:
    run_with_mpyc("""
curve = fingroups.EllipticCurve("Ed25519", "affine")
sent = restricted.dumps(curve.generator)
y = int(curve.generator.value[1]).to_bytes(32, "little")
assert y in sent
refused(sent.replace(y, bytes([y[0] ^ 1]) + y[1:]), "point not on curve")
for name in b"EllipticCurve", b"GF", b"FiniteGroupElement", b"SymmetricGroupElement", b"__builtins__", b"math", b"":
    long = curve.__name__.encode()
    renamed = sent.replace(bytes([len(long)]) + long, bytes([len(name)]) + name)
    refused(renamed[:2] + renamed[11:], "this program has no ")  # without the frame, whose length has changed
""")


def test_polynomials_of_a_program_without_mpyc_are_malformed() -> None:
    with pytest.raises(RemoteProtocolError, match=r"this program has no GF\(2\)\[x\]"):
        RestrictedPickle().loads(call(OURS, "polynomial", 2, 5))


# --- hostile calls of our builders ---

HOSTILE_CALLS = [
    ("array_of_numbers", "O", (1,), bytes(8)),
    ("array_of_numbers", "|O8", (1,), bytes(8)),
    ("array_of_numbers", "<f8,O", (1,), bytes(16)),
    ("array_of_numbers", "<f8\n", (1,), bytes(8)),
    ("array_of_numbers", "<U2", (1,), bytes(8)),
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
]


@pytest.mark.parametrize("hostile", HOSTILE_CALLS, ids=lambda hostile: hostile[0])
def test_a_builder_refuses_wrong_arguments(hostile: tuple[Any, ...]) -> None:
    with pytest.raises(RemoteProtocolError, match="not well formed"):
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


@pytest.mark.parametrize("value", [len, Ballot, object(), 1j, range(3), sys, lambda: None])
def test_anything_but_data_is_refused_where_it_is_sent(value: object) -> None:
    with pytest.raises(ProgramError):
        RestrictedPickle().dumps(value)


@pytest.mark.parametrize(
    "array", [np.array(["a"]), np.array([None]), np.array([1.5], dtype=object), np.zeros(1, dtype="f8,i4")]
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
