"""Says what to send instead of a value that does not travel."""

from __future__ import annotations

import asyncio
import collections.abc
import datetime
import enum
import types
from typing import Any

import numpy as np

_SHARES = "open it with `await mpc.output(...)`, or keep it: computing on shares needs no transfer"
_WITH_SHARES = {"mpyc.asyncoro.SecureObject", "mpyc.seclists.seclist", "mpyc.seclists.secindex"}
_BY_TYPE: tuple[tuple[tuple[type, ...], str], ...] = (
    ((asyncio.Future, types.CoroutineType), "await it, and send the result"),
    ((type, types.ModuleType), "send the numbers that it is made from: every party's program makes its own"),
    ((types.FunctionType, types.BuiltinFunctionType, types.MethodType), "send data: every party has its own program"),
    ((enum.Enum,), "send its value"),
    ((np.ndarray, memoryview), "send np.asarray(...) of it"),
    ((datetime.tzinfo,), "use datetime.timezone, or astimezone(datetime.timezone.utc)"),
    ((types.GeneratorType, collections.abc.Iterator, collections.abc.MappingView), "send list(...) of it"),
)
# The other types of MPyC hold shares, keys or connections of one party.
_OF_MPYC = {
    "mpyc.thresha.PRF": "it holds a key of this party; every party has its own",
    "mpyc.runtime.Runtime": "every party has its own; send numbers",
    "mpyc.runtime.Party": "send its number, pid",
    "mpyc.asyncoro.MessageExchanger": "it is a connection of this party; send numbers",
}


def what_to_send_instead(value: Any, name: str) -> str:  # noqa: ANN401 (a program may send anything)
    """Return a hint for the author of the program.

    Args:
        name: that of the value's type, with its module.
    """
    if name in _OF_MPYC:
        return _OF_MPYC[name]
    if _holds_shares(value):
        return _SHARES
    for kinds, hint in _BY_TYPE:
        if isinstance(value, kinds):
            return hint
    if name.startswith("gmpy2."):
        return "send int(...) of it"
    return f"send its numbers; or, if the program defines it, every party adds --allow-type {name}"


def _holds_shares(value: object) -> bool:
    return not _WITH_SHARES.isdisjoint(f"{base.__module__}.{base.__qualname__}" for base in type(value).__mro__)
