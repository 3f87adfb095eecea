"""Pickles that are altered, and what reading them does."""

from __future__ import annotations

import collections
import datetime
import decimal
import fractions
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from onionmpc.program.pickles.unpickle import RestrictedPickle
from onionmpc.program.values import BUILDERS
from tests.support.pickle_attacks import attacks

ALLOWED = (f"{__name__}.Allowed",)
SCRIPT = Path(__file__).parents[2] / "script.py"  # `tests` is a package beside it


class Allowed:
    """A class that all parties have allowed."""

    def __init__(self, number: int = 0) -> None:
        self.number = number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Allowed) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return 1


def with_classes() -> RestrictedPickle:
    return RestrictedPickle(ALLOWED, script=SCRIPT)


# --- what happens while a message is read, by Python's own account ---

WATCHED = (
    "os.",
    "subprocess.",
    "exec",
    "compile",
    "import",
    "open",
    "pickle.",
    "socket.",
    "ctypes.",
    "shutil.",
    "sys.",
)
EVENTS: list[str] = []
_watching = [False]


def _hook(event: str, _arguments: tuple[Any, ...]) -> None:
    if _watching[0] and event.startswith(WATCHED):
        EVENTS.append(event)


sys.addaudithook(_hook)


def loads_watched(restricted: RestrictedPickle, data: bytes) -> object:
    """Load a message, which must not import, open, compile or run anything, whatever it is."""
    EVENTS.clear()
    _watching[0] = True
    try:
        return restricted.loads(data)
    finally:
        _watching[0] = False
        assert EVENTS == []


CORPUS = attacks("marker")
VALID: list[object] = [
    None,
    [1, -1, 2**40, 2**2000, True, 1.5, "a", "\u00e4\U0001f9c5", b"bytes", bytearray(b"array")],
    {"name": ["tea", ("coffee", 7)], 3: {frozenset({1, 2}), (1, 2, 3, 4)}},
    np.arange(6).reshape(2, 3),
    np.array([2**90, -1, 0], dtype=object),
    [np.float64(0.5), np.array([True, False])],
    [Allowed(7), {Allowed(8): Allowed(9)}],
    ["twice"] * 3,
    [1j, range(5, 0, -2), fractions.Fraction(-3, 7), decimal.Decimal("-1.50E+7")],
    [datetime.datetime(2026, 1, 2, 3, 4, 5, 6, datetime.UTC), datetime.time(1), datetime.timedelta(-1)],
    [collections.OrderedDict(b=1), collections.Counter("aab"), collections.deque([1, 2], 5)],
    collections.defaultdict(list, {1: [2]}),
    [np.array(["tea", ""]), np.str_("tea"), np.bytes_(b"tea"), np.datetime64("2026-01-02")],
    np.array([(1, "ab", [True, False])], dtype=[("a", "<i4"), ("b", "<U2"), ("c", "?", (2,))]),
]
MESSAGES = [with_classes().dumps(value) for value in VALID]
FRAGMENTS = [
    fragment for attack in CORPUS if 0 < len(fragment := attack.data.removeprefix(b"\x80\x04").removesuffix(b".")) < 200
]


class Reference(pickle.Unpickler):
    """Python's own, with nothing but an exact list of names."""

    def find_class(self, module: str, name: str) -> object:
        if module == "onionmpc.program.values" and name in BUILDERS:
            return BUILDERS[name].build
        assert (module, name) == (__name__, "Allowed"), "this should have been refused"
        return Allowed


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """A valid message, of which a few bytes or stretches were altered, dropped, doubled, or came from elsewhere."""
    data = draw(st.sampled_from(MESSAGES))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 12)))
        other = draw(
            st.binary(max_size=6)
            | st.sampled_from(FRAGMENTS)
            | st.sampled_from(MESSAGES).map(lambda message: message[11:-1])
            | st.just(data[start:end] * 2)
        )
        data = data[:start] + other + data[end:]
    return data
