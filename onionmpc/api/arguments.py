"""Checks what another program passes to the API.

Python checks neither types nor the names that ** takes, and text passes for a sequence of its characters. What slipped
through here would be ignored, or fail long after the mistake.
"""

from __future__ import annotations

import difflib
import inspect
import math
import operator
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn, SupportsIndex

from onionmpc.errors import UsageError
from onionmpc.levels import Level


def check_names(given: Iterable[str], known: Iterable[str]) -> None:
    """Refuse options that do not exist.

    Raises:
        UsageError: there is one; the hint says which name is nearest.
    """
    known = sorted(known)
    for name in given:
        if name not in known:
            raise UsageError(f"there is no option {name}", hint=_nearest(name, known))


def text(name: str, value: Any) -> str:  # noqa: ANN401 (its type is what is in question, here and below)
    """Return a text."""
    return value if isinstance(value, str) else _refuse(name, value, "a text")


def texts(name: str, value: Any) -> tuple[str, ...]:  # noqa: ANN401
    """Return texts. One text alone is refused."""
    return tuple(text(name, one) for one in several(name, value))


def path(name: str, value: Any) -> Path:  # noqa: ANN401
    """Return a path, given as a text or as a path."""
    return Path(value) if isinstance(value, str | os.PathLike) else _refuse(name, value, "a path")


def paths(name: str, value: Any) -> tuple[Path, ...]:  # noqa: ANN401
    """Return paths. One path alone is refused."""
    return tuple(path(name, one) for one in several(name, value))


def several(name: str, value: Any) -> Iterable[Any]:  # noqa: ANN401
    """Return a list or another iterable. A text or a path alone is refused."""
    is_one = isinstance(value, str | bytes | os.PathLike)
    return value if isinstance(value, Iterable) and not is_one else _refuse(name, value, "a list")


def whole(name: str, value: Any) -> int:  # noqa: ANN401
    """Return a whole number."""
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        _refuse(name, value, "a whole number")
    return operator.index(value)


def count(name: str, value: Any) -> int:  # noqa: ANN401
    """Return a whole number from 0 on."""
    found = whole(name, value)
    if found < 0:
        raise UsageError(f"{name}: {found}, expected 0 or more")
    return found


def number(name: str, value: Any) -> float:  # noqa: ANN401
    """Return a number."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number else _refuse(name, value, "a number")


def seconds(name: str, value: Any) -> float:  # noqa: ANN401
    """Return a duration in seconds, above 0."""
    if not 0 < number(name, value) < math.inf:
        raise UsageError(f"{name}: {value} s, expected more than 0")
    return float(value)


def flag(name: str, value: Any) -> bool:  # noqa: ANN401
    """Return True or False."""
    return value if isinstance(value, bool) else _refuse(name, value, "True or False")


def level(name: str, value: Any) -> Level:  # noqa: ANN401
    """Return a circuit length, given as a `Level` or by its name."""
    names = [one.value for one in Level]
    if isinstance(value, Level):
        return value
    if text(name, value) in names:
        return Level(value)
    raise UsageError(f"{name}: there is no level {value!r}", hint=_nearest(value, names))


def function(name: str, value: Any) -> Any:  # noqa: ANN401
    """Return something that can be called."""
    return value if callable(value) else _refuse(name, value, "a function")


def optional(check: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    """Return a check that lets None pass."""
    return lambda name, value: None if value is None else check(name, value)


def _refuse(name: str, value: object, expected: str) -> NoReturn:
    # Not the value: a passphrase or an input may have come to the wrong place.
    raise UsageError(f"{name}: {type(value).__name__}, expected {expected}")


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}"


async def answered(name: str, asked: object) -> bool:
    """Wait for the caller's answer. Only True is a yes: None and "no" come from a mistake."""
    if not inspect.isawaitable(asked):
        raise TypeError(f"{name} returned {type(asked).__name__}, expected a coroutine: write it as async def")
    answer = await asked
    if not isinstance(answer, bool):
        raise TypeError(f"{name} answered {type(answer).__name__}, expected True or False")
    return answer
