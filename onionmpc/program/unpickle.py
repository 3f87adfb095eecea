"""What MPyC gets in place of `pickle`: the same two functions, for data only.

Stock MPyC unpickles whatever a peer sends, so any party can run code on any other. Here an array, a polynomial and a
numpy scalar travel as numbers in a bytes string and are built by four functions of this module; no numpy or MPyC
callable can be named by a peer at all. What is left is None, bool, int, float, str, bytes, bytearray, list, tuple,
dict, set and frozenset, and classes that all parties have agreed to allow by name.
Knows pickle's opcodes and numpy's number types. Does not import MPyC. Rules: docs/PROTOCOL.md section 6.
"""

from __future__ import annotations

import io
import operator
import pickle
import pickletools
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from onionmpc.errors import ProgramError, RemoteProtocolError, UsageError
from onionmpc.program.hello import MAX_PAYLOAD_BYTES

PROTOCOL = 5  # fixed, since Python's default differs between versions
MAX_DEPTH = 100  # hashing nested tuples recurses in C without a limit of its own
_NUMBER_TYPE = re.compile(r"[<|][biufc][0-9]{1,2}")  # no objects, structures or strings: bytes of any value will do

# What protocol 5 uses for plain data. Not among them: anything that builds an instance, the extension registry,
# persistent ids, out-of-band buffers, and memo indices of the sender's choice (a large one makes CPython allocate).
_CONSTANTS = {"NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"}
_STRINGS = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"}
_LISTS_AND_DICTS = {"EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_DICT", "SETITEM", "SETITEMS"}
_TUPLES_AND_SETS = {"EMPTY_TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "TUPLE", "EMPTY_SET", "ADDITEMS", "FROZENSET"}
_STRUCTURE = {"PROTO", "FRAME", "STOP", "MARK", "MEMOIZE", "BINGET", "LONG_BINGET", "STACK_GLOBAL", "REDUCE"}
_DATA_OPCODES = frozenset(_CONSTANTS | _STRINGS | _LISTS_AND_DICTS | _TUPLES_AND_SETS | _STRUCTURE)
_INSTANCE_OPCODES = frozenset({"NEWOBJ", "NEWOBJ_EX", "BUILD"})
_NAMED = -1  # in place of a depth: a class or a builder, which is not data
_FILLS_ITS_CONTAINER = frozenset({"APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD"})

_MALFORMED = (
    pickle.UnpicklingError,
    ArithmeticError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)


class RestrictedPickle:
    """Stands where mpyc.runtime looks for `pickle`.

    Args:
        allowed: further classes, as "module.Class". Allowing one trusts every party with all that its
            constructor and `__setstate__` can be made to do.
        max_bytes: the longest message that is looked at.
    """

    def __init__(self, allowed: Iterable[str] = (), *, max_bytes: int = MAX_PAYLOAD_BYTES) -> None:
        self._allowed = frozenset(allowed)
        for name in self._allowed:
            if "." not in name or not all(word.isidentifier() for word in name.split(".")):
                raise UsageError(f"{_shown(name)} cannot be allowed, expected module.Class")
        self._opcodes = _DATA_OPCODES | _INSTANCE_OPCODES if self._allowed else _DATA_OPCODES
        self._max_bytes = max_bytes

    def dumps(self, obj: object) -> bytes:
        """Return `obj` as bytes that the peer's `loads` takes.

        Raises:
            ProgramError: it is, or holds, something that the peer would refuse.
        """
        file = io.BytesIO()
        _Pickler(file, self._allowed).dump(obj)
        return file.getvalue()

    def loads(self, data: bytes) -> object:
        """Return what a peer sent.

        Raises:
            RemoteProtocolError: it is malformed, too long or too deep, or names what is not allowed.
        """
        if len(data) > self._max_bytes:
            raise RemoteProtocolError(f"a message has {len(data)} bytes, expected at most {self._max_bytes}")
        try:
            _check_opcodes(data, self._opcodes)
            return _Unpickler(io.BytesIO(data), self._allowed).load()
        except _MALFORMED as error:
            raise RemoteProtocolError(f"a message is not well formed: {_shown(str(error))}") from error


def array_of_numbers(code: str, shape: tuple[int, ...], data: bytes) -> np.ndarray[Any, Any]:
    """Build an array of numpy numbers.

    Args:
        code: a type such as "<f8".
        shape: any; its product times the size of the type is the length of `data`.
    """
    return np.frombuffer(data, _number_type(code)).reshape(shape).copy()  # a copy, since `data` is read-only


def numpy_scalar(code: str, data: bytes) -> np.generic:
    """Build one numpy number."""
    (scalar,) = np.frombuffer(data, _number_type(code))
    return scalar  # type: ignore[no-any-return]


def array_of_shares(p: int, shape: tuple[int, ...], width: int, data: bytes) -> np.ndarray[Any, Any]:
    """Build what MPyC computes with: an array of Python integers, or of polynomials over GF(p).

    Args:
        p: 0 for integers, else the characteristic of the polynomials.
        shape: any; its product times `width` is the length of `data`.
        width: bytes of one number, signed and little-endian.
    """
    if not 0 < width <= max(len(data), 1) or len(data) % width:
        raise ValueError(f"{len(data)} bytes are no numbers of {width} bytes each")
    numbers = [int.from_bytes(data[i : i + width], "little", signed=True) for i in range(0, len(data), width)]
    elements = map(_polynomials(p), numbers) if p else iter(numbers)
    return np.fromiter(elements, dtype=object, count=len(numbers)).reshape(shape)


def polynomial(p: int, number: int) -> object:
    """Build one polynomial over GF(p) from the number that its coefficients are the digits of."""
    return _polynomials(p)(number)


_BUILDERS = {builder.__name__: builder for builder in (array_of_numbers, numpy_scalar, array_of_shares, polynomial)}


def _polynomials(p: int) -> Callable[[int], object]:
    """The class of polynomials over GF(p), if the program has made it: a peer's `p` makes no new one."""
    polynomials: Callable[[int], object] | None = getattr(sys.modules.get("mpyc.gfpx"), f"GF({p:d})[x]", None)
    if polynomials is None:
        raise ValueError(f"this program has no polynomials over GF({p:d})")
    return polynomials


def _number_type(code: str) -> np.dtype[Any]:
    if not _NUMBER_TYPE.fullmatch(code):
        raise ValueError(f"{code} is no type of numbers")
    return np.dtype(code)


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, allowed: frozenset[str]) -> None:
        super().__init__(file, protocol=PROTOCOL)
        self._allowed = allowed

    def reducer_override(self, obj: object) -> Any:  # noqa: ANN401 (as the base class has it)
        """Say how to send `obj`, which is not of a type that pickle has opcodes for."""
        if getattr(obj, "__module__", None) == __name__ and getattr(obj, "__name__", None) in _BUILDERS:
            return NotImplemented  # by its name
        if type(obj) is np.ndarray:
            return _reduce_array(obj)
        if isinstance(obj, np.generic) and obj.dtype.kind in "biufc":
            return numpy_scalar, (_little_endian(obj.dtype).str, obj.astype(_little_endian(obj.dtype)).tobytes())
        if characteristic := _characteristic(obj):
            return polynomial, (characteristic, int(obj))  # type: ignore[call-overload]
        named = obj if hasattr(obj, "__qualname__") else type(obj)
        name = f"{named.__module__}.{named.__qualname__}"
        if name not in self._allowed:
            raise ProgramError(
                f"the program sends a {_shown(name)}, which the other parties would refuse",
                hint="send its numbers, or have all parties allow this class",
            )
        return NotImplemented


def _reduce_array(array: np.ndarray[Any, Any]) -> tuple[Any, ...]:
    if array.dtype.kind in "biufc":
        numbers = array.astype(_little_endian(array.dtype), copy=False)
        return array_of_numbers, (numbers.dtype.str, array.shape, numbers.tobytes())
    if array.dtype != object:
        raise ProgramError(f"the program sends an array of {array.dtype}, expected numbers")
    elements = array.ravel().tolist()
    p = _characteristic(elements[0]) if elements else 0
    try:
        integers = [int(e) if p else operator.index(e) for e in elements]
    except TypeError as error:
        raise ProgramError("the program sends an array of objects, expected numbers") from error
    width = max((e.bit_length() for e in integers), default=0) // 8 + 1  # one bit for the sign
    data = b"".join([e.to_bytes(width, "little", signed=True) for e in integers])
    return array_of_shares, (p, array.shape, width, data)


def _characteristic(obj: object) -> int:
    """The p of a polynomial over GF(p), 0 for any other object."""
    gfpx = sys.modules.get("mpyc.gfpx")
    return int(obj.p) if gfpx and isinstance(obj, gfpx.Polynomial) else 0


def _little_endian(number_type: np.dtype[Any]) -> np.dtype[Any]:
    return number_type.newbyteorder("<")


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, allowed: frozenset[str]) -> None:
        super().__init__(file)
        self._allowed = allowed

    def find_class(self, module: str, name: str) -> object:
        if module == __name__ and name in _BUILDERS:
            return _BUILDERS[name]
        # A name with a dot would walk attributes: "ndarray.__class__" of "numpy".
        if f"{module}.{name}" in self._allowed and "." not in name:
            found = super().find_class(module, name)
            if isinstance(found, type):
                return found
        raise _refusal(f"{module}.{name}")


def _check_opcodes(data: bytes, opcodes: frozenset[str]) -> None:
    """Walk through a pickle without running it, keeping for each object on its stack how deep it is."""
    stack: list[int] = []
    marks: list[int] = []
    memo: list[int] = []
    for opcode, argument, _ in pickletools.genops(data):
        name = opcode.name
        if name not in opcodes:
            raise _refusal(f"pickle opcode {name}")
        if name == "MARK":
            marks.append(len(stack))
        elif name == "MEMOIZE":
            memo.append(stack[-1])
        elif name.endswith("BINGET"):
            stack.append(memo[int(argument or 0)])
        elif opcode.stack_before or opcode.stack_after:
            to_mark = pickletools.markobject in opcode.stack_before
            start = marks.pop() if to_mark else len(stack) - len(opcode.stack_before)
            if name in _FILLS_ITS_CONTAINER:
                start += not to_mark
                if stack[start - 1] == _NAMED:  # BUILD would change an allowed class for the whole process
                    raise _refusal("a change to a class")
                stack[start - 1] = max(stack[start - 1], *(depth + 1 for depth in stack[start:]), 0)
                del stack[start:]
            else:
                depth = _NAMED if name == "STACK_GLOBAL" else max(stack[start:], default=-1) + 1
                stack[start:] = [depth] * len(opcode.stack_after)
            if stack and stack[-1] > MAX_DEPTH:
                raise RemoteProtocolError(f"a message is nested more than {MAX_DEPTH} deep")


def _refusal(name: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"a message asks for {_shown(name)}, which is not allowed")


def _shown(text: str) -> str:
    """A peer's text on one line of plain characters."""
    return ascii(text)[1:-1][:80]
