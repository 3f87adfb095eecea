"""Numbers that MPyC programs send, as arguments of functions that a peer may call.

An array, a numpy scalar and what MPyC computes with (polynomials, elements of its fields and groups) travel as plain
numbers and strings: `reduce_value` takes them apart, the functions in BUILDERS put them together. These get whatever
arguments a peer likes, so each accepts only what it is for and raises one of MALFORMED otherwise. A peer names
MPyC's types but cannot make new ones. Does not import MPyC: a program that has such values has done so.
"""

from __future__ import annotations

import operator
import re
import sys
from typing import Any

import numpy as np

from onionmpc.errors import ProgramError

MALFORMED = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)
NUMBER_KINDS = "biufc"
# What MPyC makes of a number, digit after digit, takes a time that grows as its square: no field or polynomial that is
# of use has more.
MAX_NUMBER_BYTES = 2**13
_NUMBER_TYPE = re.compile(r"[<|][biufc][0-9]{1,2}")  # no objects, structures or strings: bytes of any value will do


def array_of_numbers(code: str, shape: tuple[int, ...], data: bytes) -> np.ndarray[Any, Any]:
    """Build an array of numpy numbers.

    Args:
        code: a type such as "<f8".
        shape: any; its product times the size of the type is the length of `data`.
    """
    return _numbers(code, data).reshape(shape).copy()  # a copy, since `data` is read-only


def numpy_scalar(code: str, data: bytes) -> np.generic:
    """Build one numpy number."""
    (scalar,) = _numbers(code, data)
    return scalar  # type: ignore[no-any-return]


def bytes_of_shares(p: int, _shape: object, width: int, data: bytes) -> int:
    """Return how much memory an array of shares takes at most; see `array_of_shares`.

    A byte may become an integer of 32 bytes with a pointer to it, or a polynomial of five coefficients.
    """
    return len(data) // width * (384 + 64 * width if p else 48 + 2 * width)


def array_of_shares(p: int, shape: tuple[int, ...], width: int, data: bytes) -> np.ndarray[Any, Any]:
    """Build what MPyC shares: an array of Python integers, or of polynomials over GF(p).

    Args:
        p: 0 for integers, else the characteristic of the polynomials.
        shape: any; its product times `width` is the length of `data`.
        width: bytes of one number, signed and little-endian.
    """
    if type(data) is not bytes:
        raise TypeError("no bytes")
    if not 0 < width <= max(len(data), 1) or len(data) % width or (p and width > MAX_NUMBER_BYTES):
        raise ValueError(f"{len(data)} bytes are no numbers of {width} bytes each")
    numbers = [int.from_bytes(data[i : i + width], "little", signed=True) for i in range(0, len(data), width)]
    elements = map(_polynomials(p), numbers) if p else iter(numbers)
    return np.fromiter(elements, dtype=object, count=len(numbers)).reshape(shape)


def polynomial(p: int, number: int) -> object:
    """Build a polynomial over GF(p) from the number that its coefficients are the digits of."""
    return _polynomials(p)(_integer(number))


def field_element(array_type: str, number: int) -> object:
    """Build an element of a finite field, named by MPyC's type for arrays over it, such as "ArrayGF(101)"."""
    return _type_of_mpyc("finfields", array_type, "FiniteFieldArray").field(_integer(number))


def group_element(group: str, value: int | tuple[int, ...]) -> object:
    """Build an element of a finite group, which MPyC checks to be one: a point is on its curve."""
    numbers = tuple(map(_integer, value)) if isinstance(value, tuple) else _integer(value)
    return _type_of_mpyc("fingroups", group, "FiniteGroupElement")(numbers)


BUILDERS = {
    builder.__name__: builder
    for builder in (array_of_numbers, numpy_scalar, array_of_shares, polynomial, field_element, group_element)
}


def reduce_value(value: Any) -> tuple[Any, ...] | None:  # noqa: ANN401 (whatever a program sends)
    """Return the builder and its arguments that make `value` again, None if there is none.

    Raises:
        ProgramError: it is an array, but not of numbers.
    """
    if type(value) is np.ndarray:
        return _reduce_array(value)
    if isinstance(value, np.generic) and value.dtype.kind in NUMBER_KINDS:
        little_endian = value.dtype.newbyteorder("<")
        return numpy_scalar, (little_endian.str, value.astype(little_endian).tobytes())
    if _is_of_mpyc(value, "gfpx", "Polynomial"):
        return polynomial, (int(value.p), int(value))
    if _is_of_mpyc(value, "finfields", "FiniteFieldElement"):
        return field_element, (value.array.__name__, _number(value))
    if _is_of_mpyc(value, "fingroups", "FiniteGroupElement"):
        plain = tuple(map(_number, value.value)) if isinstance(value.value, tuple) else _number(value.value)
        return group_element, (type(value).__name__, plain)
    return None


def _reduce_array(array: np.ndarray[Any, Any]) -> tuple[Any, ...]:
    if array.dtype.kind in NUMBER_KINDS:
        numbers = array.astype(array.dtype.newbyteorder("<"), copy=False)
        return array_of_numbers, (numbers.dtype.str, array.shape, numbers.tobytes())
    if array.dtype != object:
        raise ProgramError(f"the program sends an array of {array.dtype}, expected numbers")
    elements = array.ravel().tolist()
    p = int(elements[0].p) if elements and _is_of_mpyc(elements[0], "gfpx", "Polynomial") else 0
    try:
        integers = [int(element) if p else operator.index(element) for element in elements]
    except TypeError as error:
        raise ProgramError("the program sends an array of objects, expected numbers") from error
    width = max((integer.bit_length() for integer in integers), default=0) // 8 + 1  # with a bit for the sign
    data = b"".join([integer.to_bytes(width, "little", signed=True) for integer in integers])
    return array_of_shares, (p, array.shape, width, data)


def _number(value: Any) -> int:  # noqa: ANN401 (an integer, a polynomial or a field element)
    """The number that a field element or polynomial is written as; never negative, unlike a field's own int()."""
    return int(value.value) if _is_of_mpyc(value, "finfields", "FiniteFieldElement") else int(value)


def _integer(value: object) -> int:
    if type(value) is not int:
        raise TypeError("no integer")
    if value.bit_length() > 8 * MAX_NUMBER_BYTES:
        raise ValueError(f"a number of more than {MAX_NUMBER_BYTES} bytes")
    return value


def _numbers(code: str, data: bytes) -> np.ndarray[Any, Any]:
    if type(data) is not bytes:  # an array of integers is a buffer as well: of pointers to them
        raise TypeError("no bytes")
    numbers = np.frombuffer(data, _number_type(code))
    if numbers.dtype.kind == "b" and data.translate(None, b"\0\1"):
        raise ValueError("a truth value that is neither")  # numpy counts on there being two
    return numbers


def _number_type(code: str) -> np.dtype[Any]:
    if not _NUMBER_TYPE.fullmatch(code):
        raise ValueError(f"{code} is no type of numbers")
    return np.dtype(code)


def _polynomials(p: int) -> Any:  # noqa: ANN401 (a class of MPyC's)
    return _type_of_mpyc("gfpx", f"GF({p:d})[x]", "Polynomial")


def _type_of_mpyc(module: str, name: str, base: str) -> Any:  # noqa: ANN401
    """The type that MPyC has made for this program and keeps among the names of its module.

    To make one for a peer would mean to test its modulus for primality, and to keep the type for ever.
    """
    names = vars(sys.modules.get(f"mpyc.{module}", object))
    found = names.get(name)
    # The class statements of the module are common bases of such types, and have a name that is an identifier.
    if name.isidentifier() or not isinstance(found, type) or not issubclass(found, names[base]):
        raise ValueError(f"this program has no {name}")
    return found


def _is_of_mpyc(value: object, module: str, base: str) -> bool:
    names = vars(sys.modules.get(f"mpyc.{module}", object))
    return base in names and isinstance(value, names[base])
