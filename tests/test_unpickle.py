"""What MPyC gets in place of pickle: data passes, code does not."""

from __future__ import annotations

import contextlib
import copyreg
import dataclasses
import io
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onionmpc.errors import ProgramError, RemoteProtocolError, UsageError
from onionmpc.program import unpickle, values
from onionmpc.program.unpickle import MAX_DEPTH, RestrictedPickle

OURS = values.__name__


@dataclasses.dataclass(frozen=True)
class Ballot:
    """A class of a program's own."""

    number: int


BALLOT = f"{Ballot.__module__}.Ballot"


class Calls:
    """Pickles as the call of a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.reduced = function, arguments

    def __reduce__(self) -> Any:
        return self.reduced


def text(value: str) -> bytes:
    return b"\x8c" + bytes([len(value.encode())]) + value.encode()


def call(module: str, name: str, *arguments: object) -> bytes:
    """A pickle of protocol 4 that names a callable by STACK_GLOBAL and calls it."""
    given_arguments = pickle.dumps(arguments, protocol=4)[2:]
    if given_arguments[:1] == b"\x95":  # the frame is left out
        given_arguments = given_arguments[9:]
    return b"\x80\x04" + text(module) + text(name) + b"\x93" + given_arguments[:-1] + b"R."


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
def test_plain_data_comes_back_as_it_was(value: object) -> None:
    restricted = RestrictedPickle()
    received = restricted.loads(restricted.dumps(value))
    assert received == value
    assert type(received) is type(value)


@given(st.lists(st.integers(-(2**600), 2**600), max_size=30))
def test_arrays_of_shares_come_back_as_they_were(numbers: list[int]) -> None:
    restricted = RestrictedPickle()
    array = np.array(numbers, dtype=object)
    received = restricted.loads(restricted.dumps(array))
    assert isinstance(received, np.ndarray)
    assert received.dtype == object
    assert received.tolist() == numbers
    assert all(type(number) is int for number in received)


@pytest.mark.parametrize("number_type", ["b1", "i1", "u1", "<i2", "<i8", "<u4", "<f4", "<f8", "<c16"])
@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 0), (2, 3, 4)])
def test_arrays_of_numbers_come_back_as_they_were(number_type: str, shape: tuple[int, ...]) -> None:
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
def test_a_numpy_scalar_comes_back_as_it_was(scalar: np.generic) -> None:
    restricted = RestrictedPickle()
    received = restricted.loads(restricted.dumps([scalar]))
    assert received == [scalar]
    assert type(received[0]) is type(scalar)  # type: ignore[index]


def test_a_list_may_hold_itself() -> None:
    restricted = RestrictedPickle()
    value: list[object] = []
    value.append(value)
    received = restricted.loads(restricted.dumps(value))
    assert isinstance(received, list)
    assert received[0] is received


def run_with_mpyc(script: str) -> None:
    """Run a script in a process of its own, since MPyC reads sys.argv and sets up logging when it is imported."""
    command = [sys.executable, "-c", SCRIPT_START + script, "--no-log"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


SCRIPT_START = """
import numpy
from mpyc import fingroups, finfields, gfpx
from onionmpc.errors import RemoteProtocolError
from onionmpc.program.unpickle import RestrictedPickle

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


def test_polynomials_of_mpyc_come_back_as_they_were() -> None:
    run_with_mpyc("""
for p in 2, 3, 101:
    polynomials = gfpx.GFpX(p)
    array = numpy.array([polynomials(n) for n in (0, 1, 5, 2**70)], dtype=object).reshape(2, 2)
    received = there_and_back(array)
    assert (received == array).all() and received.shape == (2, 2) and type(received[0, 0]) is polynomials
    assert there_and_back(polynomials(7)) == polynomials(7)
""")


def test_field_elements_of_mpyc_come_back_as_they_were() -> None:
    run_with_mpyc("""
moduli = 2, 101, 2**61 - 1, finfields.find_irreducible(2, 8), finfields.find_irreducible(3, 2)
for modulus in moduli:
    field = finfields.GF(modulus)
    for number in 0, 1, field.order - 1:
        assert there_and_back(field(number)) == field(number)
""")


def test_group_elements_of_mpyc_come_back_as_they_were() -> None:
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


def test_a_peer_makes_no_new_types_of_mpyc() -> None:
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


# --- attacks: each would make the marker, or build what nobody agreed to ---


@pytest.fixture
def marker(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "marker"
    yield path
    assert not path.exists(), "the attack ran"


def attacks(marker: str) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each attack; most come in each protocol."""
    import importlib
    import os
    import runpy

    touch = f"open({marker!r}, 'w')"
    calls = {
        "os.system": Calls(os.system, f"touch {marker}"),
        "subprocess.Popen": Calls(subprocess.Popen, ["touch", marker]),
        "subprocess.check_output": Calls(subprocess.check_output, ["touch", marker]),
        "eval": Calls(eval, touch),
        "exec": Calls(exec, touch),
        "open": Calls(open, marker, "w"),
        "getattr": Calls(getattr, Calls(__import__, "os"), "system"),
        "import": Calls(importlib.import_module, "os"),
        "runpy": Calls(runpy.run_path, marker),
        "pickle.loads": Calls(pickle.loads, pickle.dumps(Calls(os.system, f"touch {marker}"))),
        "our own loads": Calls(RestrictedPickle, ("os.system",)),
        "numpy.load": Calls(np.load, marker),
        "numpy.save": Calls(np.save, marker, 1),
        "numpy.dtype": Calls(np.dtype, "O"),
        "numpy.ndarray": Calls(np.ndarray, (2,), "O"),
        "numpy.frombuffer": Calls(np.frombuffer, bytes(8), "u1"),
        "copyreg._reconstructor": Calls(copyreg._reconstructor, Ballot, object, None),  # type: ignore[attr-defined]
        "an instance": Ballot(1),
        "a class": Ballot,
        "an array as numpy pickles it": np.array([1, None], dtype=object),
        "a module-level function": call,
    }
    for name, value in calls.items():
        for protocol in range(6):
            yield f"{name}, protocol {protocol}", pickle.dumps(value, protocol=protocol)

    named = {
        "a dotted name": call("numpy", "ndarray.__class__.__base__.__subclasses__"),
        "a dotted name into builtins": call("numpy", "ma.core.builtins.eval", touch),
        "a dotted name below ours": call(
            unpickle.__name__, "pickle.loads", pickle.dumps(Calls(os.system, f"touch {marker}"))
        ),
        "a builder's neighbour": call(OURS, "reduce_value", 1),
        "a builder of another module": call(unpickle.__name__, "array_of_shares", 0, (1,), 1, b"1"),
        "a builder's globals": call(OURS, "array_of_shares.__globals__.get", "sys"),
        "a name that we import": call(unpickle.__name__, "_Unpickler", 1, 2),
        "f2py": call("numpy.f2py", "compile", "end"),
        "f2py by an old name": call("numpy.f2py.crackfortran", "myeval", touch),
        "ctypes": call("ctypes", "CDLL", marker),
        "code": call("types", "FunctionType"),
        "an empty module": call("", "eval", touch),
        "a lone surrogate": b"\x80\x04\x8c\x03\xed\xa0\x80\x8c\x04eval\x93.",
    }
    yield from named.items()

    system = b"cos\nsystem\n"
    touch_text = f"touch {marker}".encode()
    by_opcode = {
        "INST": b"(S'" + touch_text + b"'\nios\nsystem\n.",
        "OBJ": b"(" + system + b"S'" + touch_text + b"'\no.",
        "NEWOBJ": b"\x80\x04" + text("subprocess") + text("Popen") + b"\x93" + text(marker) + b"\x85\x81.",
        "NEWOBJ_EX": b"\x80\x04" + text("subprocess") + text("Popen") + b"\x93)}\x92.",
        "BUILD on a builder": b"\x80\x04" + text(OURS) + text("polynomial") + b"\x93}" + text("x") + b"K\x01sb.",
        "BUILD of slots": b"\x80\x04" + text(OURS) + text("polynomial") + b"\x93N}\x86b.",
        "PERSID": b"Pos.system\n.",
        "BINPERSID": b"\x8c\x02osQ.",
        "EXT1": b"\x82\x01.",
        "EXT2": b"\x83\x01\x00.",
        "EXT4": b"\x84\x01\x00\x00\x00.",
        "NEXT_BUFFER": b"\x80\x05\x97.",
        "a huge memo index": b"\x80\x04Nr\xff\xff\xff\x7f.",
        "a long integer in decimal": b"L" + b"9" * 100_000 + b"L\n.",
    }
    yield from by_opcode.items()


ATTACKS = [name for name, _ in attacks("marker")]


@pytest.mark.parametrize("allowed", [(), (BALLOT + "_of_another_name",)], ids=["data only", "with classes"])
@pytest.mark.parametrize("number", range(len(ATTACKS)), ids=ATTACKS)
def test_an_attack_is_refused_and_never_runs(number: int, allowed: tuple[str, ...], marker: Path) -> None:
    _, data = list(attacks(str(marker)))[number]
    with pytest.raises(RemoteProtocolError):
        RestrictedPickle(allowed).loads(data)


def test_the_extension_registry_is_not_a_way_around() -> None:
    """A code that has been used once is answered from a cache, without asking find_class."""
    copyreg.add_extension("builtins", "eval", 200)
    try:
        assert pickle.loads(b"\x80\x02\x82\xc8.") is eval
        for allowed in ((), (BALLOT,)):
            with pytest.raises(RemoteProtocolError, match="pickle opcode EXT1"):
                RestrictedPickle(allowed).loads(b"\x80\x02\x82\xc8.")
    finally:
        copyreg.remove_extension("builtins", "eval", 200)
        copyreg.clear_extension_cache()  # type: ignore[attr-defined]


def test_a_refusal_names_what_was_asked_for() -> None:
    with pytest.raises(RemoteProtocolError, match=r"a message asks for os\.system, which is not allowed"):
        RestrictedPickle().loads(call("os", "system", "true"))


def test_a_refusal_is_one_short_line_of_plain_characters() -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        RestrictedPickle().loads(call("os\n\x1b[2J", "\u202e" + "x" * 200, "true"))
    assert caught.value.message.isascii()
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 200


# --- what our builders can be asked for ---

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
def test_a_builder_refuses_what_does_not_fit(hostile: tuple[Any, ...]) -> None:
    with pytest.raises(RemoteProtocolError, match="not well formed"):
        RestrictedPickle().loads(call(OURS, *hostile))


# --- size, depth, form ---


def test_a_message_that_is_too_long_is_not_looked_at() -> None:
    with pytest.raises(RemoteProtocolError, match="a message has 11 bytes, expected at most 10"):
        RestrictedPickle(max_bytes=10).loads(b"cos\nsystem\n")


@pytest.mark.parametrize("build", [b"\x85", b"N\x86", b"NN\x87"])
def test_a_deeply_nested_tuple_is_refused_before_it_is_built(build: bytes) -> None:
    """As the key of a dict it would be hashed by a recursion in C, which ends the process."""
    nested = b"\x80\x04}" + b")" + build * 200_000 + b"Ns."
    with pytest.raises(RemoteProtocolError, match="nested more than 100 deep"):
        RestrictedPickle().loads(nested)


def test_depth_is_kept_through_marks_and_the_memo() -> None:
    through_marks = b"\x80\x04" + b"(" * 200 + b"t" * 200 + b"."
    through_memo = b"\x80\x04)\x94" + b"".join(b"0h" + bytes([i]) + b"\x85\x94" for i in range(200)) + b"."
    for nested in (through_marks, through_memo.replace(b"0h", b"h")):
        with pytest.raises(RemoteProtocolError, match="nested more than 100 deep"):
            RestrictedPickle().loads(nested)


def test_what_is_not_too_deep_passes() -> None:
    value: object = ()
    for _ in range(MAX_DEPTH - 1):
        value = (value,)
    restricted = RestrictedPickle()
    assert restricted.loads(restricted.dumps(value)) == value
    flat = [[number] for number in range(5000)]
    assert restricted.loads(restricted.dumps(flat)) == flat


@given(st.binary(max_size=60))
def test_random_bytes_raise_nothing_else(data: bytes) -> None:
    with contextlib.suppress(RemoteProtocolError):
        RestrictedPickle().loads(b"\x80\x04" + data)


@given(plain_data, st.data())
def test_an_altered_message_raises_nothing_else(value: object, data: st.DataObject) -> None:
    restricted = RestrictedPickle((BALLOT,))
    message = bytearray(restricted.dumps([value, Ballot(1), np.arange(3), np.array([2**90], dtype=object)]))
    for _ in range(3):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(RemoteProtocolError):
        restricted.loads(bytes(message))


@pytest.mark.parametrize("data", [b"", b".", b"\x80\x04", b"\x80\x04t.", b"\x80\x04h\x07.", b"\x80\x63N."])
def test_a_broken_message_is_malformed(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="not well formed"):
        RestrictedPickle().loads(data)


def test_a_length_that_was_only_announced_allocates_nothing() -> None:
    announced = b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"."
    with pytest.raises(RemoteProtocolError, match="not well formed"):
        RestrictedPickle().loads(announced)


# --- classes that the parties allow ---


def test_an_allowed_class_passes_in_both_directions() -> None:
    restricted = RestrictedPickle((BALLOT,))
    assert restricted.loads(restricted.dumps([Ballot(7), {Ballot(8)}])) == [Ballot(7), {Ballot(8)}]


def test_a_class_that_was_not_allowed_is_refused_where_it_is_sent() -> None:
    with pytest.raises(ProgramError, match=f"the program sends a {BALLOT}, which the other parties would refuse"):
        RestrictedPickle().dumps([Ballot(7)])


@pytest.mark.parametrize("value", [len, Ballot, object(), 1j, range(3), sys, lambda: None])
def test_what_is_not_data_is_refused_where_it_is_sent(value: object) -> None:
    with pytest.raises(ProgramError):
        RestrictedPickle().dumps(value)


@pytest.mark.parametrize(
    "array", [np.array(["a"]), np.array([None]), np.array([1.5], dtype=object), np.zeros(1, dtype="f8,i4")]
)
def test_an_array_without_numbers_is_refused_where_it_is_sent(array: np.ndarray[Any, Any]) -> None:
    with pytest.raises(ProgramError, match="expected numbers"):
        RestrictedPickle().dumps(array)


def test_a_function_cannot_be_allowed() -> None:
    with pytest.raises(RemoteProtocolError, match=r"builtins\.eval"):
        RestrictedPickle(("builtins.eval",)).loads(call("builtins", "eval", "1"))


@pytest.mark.parametrize("state", [{"number": 1}, (None, {"number": 1})])
def test_an_allowed_class_is_not_itself_changed(state: object) -> None:
    module, _, name = BALLOT.rpartition(".")
    named = b"\x80\x04" + text(module) + text(name) + b"\x93"
    built = pickle.dumps(state, protocol=4)[11:-1] + b"b."
    with pytest.raises(RemoteProtocolError, match="a change to a class"):
        RestrictedPickle((BALLOT,)).loads(named + built)
    assert not hasattr(Ballot, "number")


def test_an_allowed_name_is_not_reached_by_another_split() -> None:
    with pytest.raises(RemoteProtocolError, match="not allowed"):
        RestrictedPickle(("collections.abc.Sized",)).loads(call("collections", "abc.Sized"))


@pytest.mark.parametrize("name", ["eval", "os.", ".system", "a b.c", "os.system()", ""])
def test_only_a_full_name_can_be_allowed(name: str) -> None:
    with pytest.raises(UsageError, match=r"cannot be allowed, expected module\.Class"):
        RestrictedPickle((name,))


def test_pickles_of_the_stock_pickler_with_plain_data_are_read() -> None:
    file = io.BytesIO()
    pickle.Pickler(file, protocol=5).dump({"a": [1, (2.5, None)]})
    assert RestrictedPickle().loads(file.getvalue()) == {"a": [1, (2.5, None)]}
