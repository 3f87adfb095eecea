"""Converts the numbers that MPyC programs send to calls of functions that a peer may make.

Arrays, numpy scalars and MPyC's own values (polynomials, elements of its fields and groups) travel as plain numbers and
strings. `reduce_value` takes them apart, and the functions in BUILDERS put them together again. A peer can call these
with any arguments, so each accepts only valid ones and raises one of MALFORMED otherwise. A peer can name MPyC's types
but cannot create new ones. Does not import MPyC: a program that has such values has imported it.
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
# MPyC takes a number apart digit by digit, in a time that grows with the square of its length: a peer could keep this
# party busy for hours. No useful field or polynomial needs longer numbers.
MAX_NUMBER_BYTES = 2**13
# No objects, structures or strings: any bytes make a valid number, but an object is a pointer.
_NUMBER_TYPE = re.compile(r"[<|][biufc][0-9]{1,2}")


def array_of_numbers(code: str, shape: tuple[int, ...], data: bytes) -> np.ndarray[Any, Any]:
    """Build an array of numpy numbers.

    Args:
        code: a type such as "<f8".
        shape: any shape for which its product times the size of the type is the length of `data`.
    """
    return _numbers(code, data).reshape(shape).copy()  # the array over `data` is read-only, and programs may write


def numpy_scalar(code: str, data: bytes) -> np.generic:
    """Build one numpy number."""
    (scalar,) = _numbers(code, data)
    return scalar  # type: ignore[no-any-return]


def bytes_of_shares(p: int, _shape: object, width: int, data: bytes) -> int:
    """Return an upper bound of the memory that an array of shares takes; see `array_of_shares`.

    One byte may become an integer of 32 bytes and a pointer to it, or a polynomial of five coefficients. Tests compare
    the bound with what CPython allocates.
    """
    return len(data) // width * (384 + 64 * width if p else 48 + 2 * width)


def array_of_shares(p: int, shape: tuple[int, ...], width: int, data: bytes) -> np.ndarray[Any, Any]:
    """Build an array as MPyC shares it: of Python integers, or of polynomials over GF(p).

    Args:
        p: 0 for integers, otherwise the characteristic of the polynomials.
        shape: any shape for which its product times `width` is the length of `data`.
        width: the length of one number in bytes, signed and little-endian.
    """
    if type(data) is not bytes:
        raise TypeError("expected bytes")
    if not 0 < width <= max(len(data), 1) or len(data) % width or (p and width > MAX_NUMBER_BYTES):
        raise ValueError(f"{len(data)} bytes cannot hold numbers of {width} bytes each")
    numbers = [int.from_bytes(data[i : i + width], "little", signed=True) for i in range(0, len(data), width)]
    elements = map(_polynomials(p), numbers) if p else iter(numbers)
    return np.fromiter(elements, dtype=object, count=len(numbers)).reshape(shape)


def polynomial(p: int, number: int) -> object:
    """Build a polynomial over GF(p). Its coefficients are the digits of the number in base p."""
    return _polynomials(p)(_integer(number))


def field_element(array_type: str, number: int) -> object:
    """Build an element of a finite field. The field is named by MPyC's type of arrays, such as "ArrayGF(101)"."""
    return _type_of_mpyc("finfields", array_type, "FiniteFieldArray").field(_integer(number))


def group_element(group: str, value: int | tuple[int, ...]) -> object:
    """Build an element of a finite group. MPyC checks it: for example, that a point is on its curve."""
    numbers = tuple(map(_integer, value)) if isinstance(value, tuple) else _integer(value)
    return _type_of_mpyc("fingroups", group, "FiniteGroupElement")(numbers)


BUILDERS = {
    builder.__name__: builder
    for builder in (array_of_numbers, numpy_scalar, array_of_shares, polynomial, field_element, group_element)
}


def reduce_value(value: Any) -> tuple[Any, ...] | None:  # noqa: ANN401 (a program may send anything)
    """Return the builder and arguments that make `value` again, or None if no builder does.

    Raises:
        ProgramError: the value is an array, but not of numbers.
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
    width = max((integer.bit_length() for integer in integers), default=0) // 8 + 1  # includes a bit for the sign
    data = b"".join([integer.to_bytes(width, "little", signed=True) for integer in integers])
    return array_of_shares, (p, array.shape, width, data)


def _number(value: Any) -> int:  # noqa: ANN401 (an integer, a polynomial or a field element)
    """Return the number for a field element or polynomial. It is never negative, unlike int() of a signed field."""
    return int(value.value) if _is_of_mpyc(value, "finfields", "FiniteFieldElement") else int(value)


def _integer(value: object) -> int:
    if type(value) is not int:
        raise TypeError("expected an integer")
    if value.bit_length() > 8 * MAX_NUMBER_BYTES:
        raise ValueError(f"a number of more than {MAX_NUMBER_BYTES} bytes")
    return value


def _numbers(code: str, data: bytes) -> np.ndarray[Any, Any]:
    if type(data) is not bytes:  # an array of objects is a buffer too: its bytes are pointers of this process
        raise TypeError("expected bytes")
    numbers = np.frombuffer(data, _number_type(code))
    if numbers.dtype.kind == "b" and data.translate(None, b"\0\1"):
        raise ValueError("a boolean that is neither 0 nor 1")  # numpy relies on it
    return numbers


def _number_type(code: str) -> np.dtype[Any]:
    if not _NUMBER_TYPE.fullmatch(code):
        raise ValueError(f"{code} is not a type of numbers")
    return np.dtype(code)


def _polynomials(p: int) -> Any:  # noqa: ANN401 (a class of MPyC's)
    return _type_of_mpyc("gfpx", f"GF({p:d})[x]", "Polynomial")


def _type_of_mpyc(module: str, name: str, base: str) -> Any:  # noqa: ANN401
    """Return a type that this program has made MPyC create; MPyC keeps it among the names of its module.

    No type is created for a peer: that would test a modulus of the peer's choice for primality, and keep the type for
    ever.
    """
    names = vars(sys.modules.get(f"mpyc.{module}", object))
    found = names.get(name)
    # Names of created types have parentheses. A name that is an identifier is a base class of the module itself.
    if name.isidentifier() or not isinstance(found, type) or not issubclass(found, names[base]):
        raise ValueError(f"this program has no {name}")
    return found


def _is_of_mpyc(value: object, module: str, base: str) -> bool:
    names = vars(sys.modules.get(f"mpyc.{module}", object))
    return base in names and isinstance(value, names[base])
