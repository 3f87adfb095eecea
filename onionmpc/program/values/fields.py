"""MPyC's polynomials, and elements and arrays of its finite fields.

A field is named by numbers: a prime field by its modulus, and the order and value of its root of unity; an extension
field by its characteristic, and its modulus as an integer. They must be those of a field that this program has made.
No field is made for a peer: that would test a modulus of the peer's choice for primality, and keep the field for ever.
Does not import MPyC: a program that has such values has imported it.
"""

from __future__ import annotations

import functools
import operator
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from onionmpc.program.values.checks import MAX_NUMBER_BYTES, NotMade, below, brief, exact, integer
from onionmpc.program.values.shapes import shaped

FieldNumbers = tuple[int, ...]


def polynomial(p: int, number: int) -> object:
    """Build a polynomial over GF(p). Its coefficients are the digits of the number in base p."""
    return find_polynomials(p)(integer(number))


def bytes_of_polynomial(_p: object, number: int) -> int:
    """Return an upper bound of the memory that a polynomial takes: one byte may become five coefficients."""
    return 448 + 8 * integer(number).bit_length()


def field_element(field: FieldNumbers, number: int) -> object:
    """Build an element of a field."""
    found = find_field(field)
    return found(below(number, found.order))


def bytes_of_field_element(_field: object, number: int) -> int:
    """Return an upper bound of the memory that an element takes: in an extension field it holds a polynomial."""
    return 64 + bytes_of_polynomial(0, number)


def field_array(field: FieldNumbers, shape: tuple[int, ...], data: bytes) -> object:
    """Build an array of elements of a field.

    Args:
        shape: any shape for which its product times the field's `byte_length` is the length of `data`.
        data: the elements as numbers, unsigned and little-endian.
    """
    found = find_field(field)
    width = found.byte_length
    if len(exact(data, bytes)) % width:
        raise ValueError(f"{len(data)} bytes cannot hold numbers of {width} bytes each")
    numbers = [int.from_bytes(data[i : i + width], "little") for i in range(0, len(data), width)]
    if numbers and max(numbers) >= found.order:
        raise ValueError("a number out of range")
    elements = iter(numbers) if len(field) == PRIME else map(type(found.modulus), numbers)
    return found.array(shaped(np.fromiter(elements, dtype=object, count=len(numbers)), shape), check=False)


def bytes_of_field_array(field: FieldNumbers, _shape: object, data: bytes) -> int:
    """Return an upper bound of the memory that an array of elements takes."""
    return 4096 + bytes_of_shares(len(field) != PRIME, (), find_field(field).byte_length, data)


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
    elements = map(find_polynomials(p), numbers) if p else iter(numbers)
    return shaped(np.fromiter(elements, dtype=object, count=len(numbers)), shape)


def bytes_of_shares(p: int, _shape: object, width: int, data: bytes) -> int:
    """Return an upper bound of the memory that an array of shares takes; see `array_of_shares`.

    One byte may become an integer of 32 bytes and a pointer to it, or a polynomial of five coefficients. Tests compare
    the bound with what CPython allocates.
    """
    return len(data) // width * (384 + 64 * width if p else 48 + 2 * width)


PRIME = 3  # the numbers that name a prime field


@functools.lru_cache(maxsize=256)  # also so that a pickle has the numbers of a field once, however many elements it has
def numbers_of_field(field: Any) -> FieldNumbers:  # noqa: ANN401 (a class of MPyC's)
    """Return the numbers that name a field."""
    modulus = field.modulus
    if isinstance(modulus, int):
        return int(modulus), int(field.nth), int(field.root)
    return int(modulus.p), int(modulus)


def find_field(field: FieldNumbers) -> Any:  # noqa: ANN401
    """Return the field of this program that has these numbers."""
    for number in exact(field, tuple):
        integer(number)
    return _find_field(field)


@functools.lru_cache(maxsize=256)  # of what was found: an error is not kept
def _find_field(field: FieldNumbers) -> Any:  # noqa: ANN401
    for made in made_by_mpyc("finfields", "FiniteFieldElement"):
        if numbers_of_field(made) == field:
            return made
    if len(field) == PRIME:
        raise NotMade(f"the field GF({brief(field[0])})")
    raise NotMade(
        f"the field of characteristic {brief(field[0])} with modulus {brief(field[-1])}" if field else "a field"
    )


def find_polynomials(p: int) -> Any:  # noqa: ANN401
    """Return the type of polynomials over GF(p) that this program has made."""
    return _find_polynomials(integer(p))


@functools.lru_cache(maxsize=256)
def _find_polynomials(p: int) -> Any:  # noqa: ANN401
    for made in made_by_mpyc("gfpx", "Polynomial"):
        if made.p == p:
            return made
    raise NotMade(f"the type of polynomials GF({brief(p)})[x]")


def made_by_mpyc(module: str, base: str) -> Iterator[Any]:
    """Yield the types that MPyC has made for this program, which are below a base class of one of its modules."""
    module = f"mpyc.{module}"
    waiting = [vars(sys.modules.get(module, object)).get(base)]
    while waiting:
        found = waiting.pop()
        if found is not None:
            waiting.extend(found.__subclasses__())
            # The names of made types have parentheses, but the type of binary polynomials may not have been renamed.
            if found.__module__ == module and (
                not found.__name__.isidentifier() or found.__name__ == "BinaryPolynomial"
            ):
                yield found


def is_of_mpyc(value: object, module: str, base: str) -> bool:
    """Say whether a value is of a type that MPyC has made. A program's own subclass is not."""
    names = vars(sys.modules.get(f"mpyc.{module}", object))
    return base in names and isinstance(value, names[base]) and type(value).__module__ == f"mpyc.{module}"


def number_of(value: Any) -> int:  # noqa: ANN401 (an integer, a polynomial or a field element)
    """Return the number for a field element or polynomial. It is never negative, unlike int() of a signed field."""
    return int(value.value) if is_of_mpyc(value, "finfields", "FiniteFieldElement") else int(value)


def reduce_polynomial(value: Any) -> tuple[Any, ...]:  # noqa: ANN401
    """Take a polynomial apart; the functions below do the same for other types."""
    return polynomial, (int(value.p), integer(int(value)))


def reduce_field_element(value: Any) -> tuple[Any, ...]:  # noqa: ANN401
    """Take an element of a field apart."""
    field: Any = type(value)
    return field_element, (numbers_of_field(field), below(number_of(value), field.order))


def reduce_field_array(array: Any) -> tuple[Any, ...]:  # noqa: ANN401
    """Take an array of elements of a field apart."""
    field = type(array).field
    convert = operator.index if isinstance(field.modulus, int) else int
    numbers = [below(convert(element), field.order) for element in array.value.ravel().tolist()]
    data = b"".join([number.to_bytes(field.byte_length, "little") for number in numbers])
    return field_array, (numbers_of_field(field), array.shape, data)


def reduce_array_of_shares(array: np.ndarray[Any, Any]) -> tuple[Any, ...]:
    """Take an array of Python integers, or of polynomials, apart."""
    elements = array.ravel().tolist()
    p = int(elements[0].p) if elements and is_of_mpyc(elements[0], "gfpx", "Polynomial") else 0
    integers = [int(element) if p else operator.index(element) for element in elements]
    width = max((integer.bit_length() for integer in integers), default=0) // 8 + 1  # includes a bit for the sign
    if p and width > MAX_NUMBER_BYTES:
        raise OverflowError(f"a polynomial of more than {MAX_NUMBER_BYTES} bytes")
    data = b"".join([integer.to_bytes(width, "little", signed=True) for integer in integers])
    return array_of_shares, (p, array.shape, width, data)
