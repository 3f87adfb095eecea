"""What the builders share: the bounds of a peer's numbers, and the errors for arguments that no honest party sends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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
# MPyC takes a number apart digit by digit, in a time that grows with the square of its length: a peer could keep this
# party busy for hours. No useful field or polynomial needs longer numbers.
MAX_NUMBER_BYTES = 2**13
# Takes a value apart: returns the function that builds it again, and its arguments.
Reducer = Callable[[Any], tuple[Any, ...]]


class NotMade(LookupError):
    """A peer asks for a field or group that this program has not made. None is made for a peer."""


@dataclass(frozen=True, slots=True)
class Builder:
    """A function that a peer may call.

    Attributes:
        build: returns the value, or raises one of MALFORMED.
        bytes: from the same arguments, an upper bound of the memory that it takes, beyond what a pickle of the
            arguments counts: twice the arguments, and 384 bytes. See pickles.opcodes.
    """

    build: Callable[..., object]
    bytes: Callable[..., int]


def exact(value: Any, expected: type) -> Any:  # noqa: ANN401 (a peer may send anything)
    """Return `value`, which must not be of a subclass either: True is no integer."""
    if type(value) is not expected:
        raise TypeError(f"expected {expected.__name__}, got {type(value).__name__}")
    return value


def integer(value: Any) -> int:  # noqa: ANN401
    """Return an integer that is not too long."""
    if exact(value, int).bit_length() > 8 * MAX_NUMBER_BYTES:
        raise ValueError(f"a number of more than {MAX_NUMBER_BYTES} bytes")
    return value  # type: ignore[no-any-return]


def below(value: Any, limit: int) -> int:  # noqa: ANN401
    """Return an integer in [0, limit)."""
    if not 0 <= integer(value) < limit:
        raise ValueError("a number out of range")
    return value  # type: ignore[no-any-return]


def brief(number: int) -> str:
    """Return a number for an error message, without its digits if there are many."""
    return (
        str(number)
        if number.bit_length() <= 64
        else f"{number >> number.bit_length() - 32:x}... in hex, {number.bit_length()} bits"
    )
