"""Containers of Python's module `collections`: they travel as a plain dict or list."""

from __future__ import annotations

import collections
from typing import Any

from onionmpc.errors import ProgramError
from onionmpc.program.values.checks import Reducer, exact

# What a defaultdict may call for a missing key. All take no arguments and run no code of the program.
FACTORIES: dict[str, type] = {
    factory.__name__: factory
    for factory in (bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset)
}


def ordered_dict(items: dict[Any, Any]) -> collections.OrderedDict[Any, Any]:
    """Build an ordered dict."""
    return collections.OrderedDict(exact(items, dict))


def counter(items: dict[Any, Any]) -> collections.Counter[Any]:
    """Build a counter."""
    return collections.Counter(exact(items, dict))


def default_dict(factory: str | None, items: dict[Any, Any]) -> collections.defaultdict[Any, Any]:
    """Build a defaultdict whose factory is one of FACTORIES."""
    return collections.defaultdict(None if factory is None else FACTORIES[factory], exact(items, dict))


def double_ended_queue(items: list[Any], maxlen: int | None) -> collections.deque[Any]:
    """Build a deque that holds all of `items`."""
    if maxlen is not None and not len(items) <= exact(maxlen, int) < 2**63:
        raise ValueError(f"a deque of {len(items)} items with another maxlen")
    return collections.deque(exact(items, list), maxlen)


def bytes_of_dict(*arguments: Any) -> int:  # noqa: ANN401 (a peer may send anything)
    """Return what the copy of a dict takes; an ordered one has a list besides."""
    return 512 + 256 * len(arguments[-1])


def bytes_of_deque(items: list[Any], _maxlen: object) -> int:
    """Return what a deque takes: it has blocks of 64 places, one of which may be almost empty at each end."""
    return 2048 + 16 * len(items)


def reduce_ordered_dict(value: collections.OrderedDict[Any, Any]) -> tuple[Any, ...]:
    """Take an ordered dict apart; the functions below do the same for other types."""
    return ordered_dict, (dict(value),)


def reduce_counter(value: collections.Counter[Any]) -> tuple[Any, ...]:
    """Take a counter apart."""
    return counter, (dict(value),)


def reduce_default_dict(value: collections.defaultdict[Any, Any]) -> tuple[Any, ...]:
    """Take a defaultdict apart.

    Raises:
        ProgramError: its factory is not among FACTORIES.
    """
    factory = value.default_factory
    name = getattr(factory, "__name__", "")
    if factory is not None and FACTORIES.get(name) is not factory:
        hint = f"use one of {', '.join(FACTORIES)} as its factory, or send dict(value)"
        raise ProgramError("the program sends a defaultdict with a factory that does not travel", hint=hint)
    return default_dict, (name if factory else None, dict(value))


def reduce_deque(value: collections.deque[Any]) -> tuple[Any, ...]:
    """Take a deque apart."""
    return double_ended_queue, (list(value), value.maxlen)


CONTAINER_REDUCERS: dict[type, Reducer] = {
    collections.OrderedDict: reduce_ordered_dict,
    collections.Counter: reduce_counter,
    collections.defaultdict: reduce_default_dict,
    collections.deque: reduce_deque,
}
