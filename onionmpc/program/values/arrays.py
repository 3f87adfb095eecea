"""numpy's arrays and scalars: numbers, strings, dates, and structures of them.

A type is a code such as "<f8" or "<U5"; for a structure, a tuple of fields, each with its name, its code and its shape.
Structures hold no structures, and their fields lie side by side: the gaps that numpy can leave between fields would
carry other memory of the sender. No type has pointers.
"""

from __future__ import annotations

import functools
import re
from typing import Any

import numpy as np

from onionmpc.errors import ProgramError
from onionmpc.program.values.checks import Reducer, exact
from onionmpc.program.values.fields import reduce_array_of_shares
from onionmpc.program.values.shapes import shaped

NamedField = tuple[str, str, tuple[int, ...]]
Code = str | tuple[NamedField, ...]

# Any bytes make a valid value, but for booleans and code points, which are checked. The length of strings is bounded
# for arrays without elements: a program may make others like them.
_CODE = re.compile(
    r"[<|][biufc][0-9]{1,2}|<U[1-9][0-9]{0,5}|\|S[1-9][0-9]{0,5}"
    r"|<[mM]8(\[([1-9][0-9]{0,8})?(Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?"
)
_MAX_FIELDS = 1000
_MAX_CODE_POINT = 0x10FFFF


def array_of_numbers(code: Code, shape: tuple[int, ...], data: bytes) -> np.ndarray[Any, Any]:
    """Build an array.

    Args:
        shape: any shape for which its product times the size of the type is the length of `data`.
    """
    return shaped(_values(code, data), shape).copy()  # the array over `data` is read-only, and programs may write


def numpy_scalar(code: Code, data: bytes) -> np.generic:
    """Build one number, date or structure."""
    (scalar,) = _values(code, data)
    return scalar if isinstance(code, str) else scalar.copy()  # type: ignore[no-any-return]


def numpy_text(text: str) -> np.str_:
    """Build a string of numpy's."""
    return np.str_(exact(text, str))


def numpy_bytes(data: bytes) -> np.bytes_:
    """Build bytes of numpy's."""
    return np.bytes_(exact(data, bytes))


def bytes_of_array(code: Code, *shape_and_data: Any) -> int:  # noqa: ANN401 (a peer may send anything)
    """Return what the type of a structure takes, and numpy's buffer for the check of booleans and characters."""
    return len(shape_and_data[-1]) + (512 if isinstance(code, str) else 4096 + 2048 * len(code))


def reduce_array(array: np.ndarray[Any, Any]) -> tuple[Any, ...]:
    """Take an array apart; the functions below do the same for scalars.

    Raises:
        ProgramError: it holds something else than numbers, strings and dates.
    """
    if array.dtype == object:
        try:
            return reduce_array_of_shares(array)
        except (TypeError, ValueError) as error:
            hint = "send array.tolist(), array.astype(float), or field.array(...) for elements of a field"
            raise ProgramError("the program sends an array of objects, expected numbers", hint=hint) from error
    return array_of_numbers, _take_apart(array, array.shape)


def reduce_scalar(scalar: np.generic) -> tuple[Any, ...]:
    """Take a scalar apart."""
    code, _, data = _take_apart(np.asarray(scalar), ())
    return numpy_scalar, (code, data)


def reduce_text(text: np.str_) -> tuple[Any, ...]:
    """Take a string of numpy's apart."""
    return numpy_text, (str.__str__(text),)  # str() would drop NUL characters at its end


def reduce_bytes(data: np.bytes_) -> tuple[Any, ...]:
    """Take bytes of numpy's apart."""
    return numpy_bytes, (bytes.__getitem__(data, slice(None)),)


NUMPY_REDUCERS: dict[type, Reducer] = {np.ndarray: reduce_array, np.str_: reduce_text, np.bytes_: reduce_bytes}


def _take_apart(array: np.ndarray[Any, Any], shape: tuple[int, ...]) -> tuple[Code, tuple[int, ...], bytes]:
    try:
        code = _code_of(array.dtype)
        layout = _layout(code)
    except (TypeError, ValueError) as error:
        hint = "send it as arrays of numbers, strings or dates: for example one for each field, or array.astype(str)"
        message = f"the program sends an array of {str(array.dtype)[:80]}, expected numbers, strings or dates"
        raise ProgramError(message, hint=hint) from error
    return code, shape, array.astype(layout, copy=False).tobytes()


def _code_of(dtype: np.dtype[Any]) -> Code:
    if dtype.names is None:
        return dtype.newbyteorder("<").str
    fields = (dtype[name] for name in dtype.names)
    return tuple(
        (name, field.base.newbyteorder("<").str, field.shape) for name, field in zip(dtype.names, fields, strict=True)
    )


def _values(code: Code, data: bytes) -> np.ndarray[Any, Any]:
    exact(data, bytes)  # an array of objects is a buffer too: its bytes are pointers of this process
    values = np.frombuffer(data, _layout(code))
    if isinstance(code, str):
        code = (("", code, ()),)
    if any(_is_checked(field_code) for _, field_code, _ in code):
        raw = np.frombuffer(data, np.dtype([(f"f{i}", *_raw(*field[1:])) for i, field in enumerate(code)]))
        for i, (_, field_code, _) in enumerate(code):
            if _is_checked(field_code) and raw[f"f{i}"].max(initial=0) > (_MAX_CODE_POINT if "U" in field_code else 1):
                raise ValueError("a boolean that is neither 0 nor 1, or no character")  # numpy relies on both
    return values


def _layout(code: Code) -> np.dtype[Any]:
    if not isinstance(code, tuple):
        return _simple(code)
    if not 0 < len(code) <= _MAX_FIELDS:
        raise ValueError(f"a structure of {len(code)} fields")
    for name, _, shape in code:
        if not exact(name, str) or not all(0 < exact(length, int) < 2**31 for length in exact(shape, tuple)):
            raise ValueError("a field without a name, or with another shape")
    return np.dtype([(name, _simple(field_code), shape) for name, field_code, shape in code])


@functools.lru_cache(maxsize=256)
def _simple(code: str) -> np.dtype[Any]:
    if not _CODE.fullmatch(exact(code, str)):
        raise ValueError(f"{code} is not a type of numbers, strings or dates")
    return np.dtype(code)


def _is_checked(code: str) -> bool:
    return code[1] in "bU"


def _raw(code: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
    """Return a type of numbers that has the same size."""
    if code[1] == "U":
        return "<u4", (*shape, int(code[2:]))
    return (code.replace("b", "u"), shape)
