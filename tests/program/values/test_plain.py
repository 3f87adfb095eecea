"""Values of Python's library and of numpy come back unchanged, and take no more memory than is counted."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import datetime
import decimal
import enum
import fractions
import gc
import tracemalloc
import zoneinfo
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onionmpc.errors import ProgramError, RemoteProtocolError
from onionmpc.program.pickles.opcodes import DATA_OPCODES, measure
from onionmpc.program.pickles.unpickle import RestrictedPickle
from onionmpc.program.values import BUILDERS, reduce_value
from onionmpc.program.values.plain import MAX_DECIMAL_DIGITS


def there_and_back(value: object, restricted: RestrictedPickle | None = None) -> Any:
    restricted = restricted or RestrictedPickle()
    received: Any = restricted.loads(restricted.dumps(value))
    assert type(received) is type(value)
    return received


zones = (
    st.none()
    | st.timedeltas(datetime.timedelta(hours=-23, minutes=-59, seconds=-59), datetime.timedelta(hours=23)).map(
        datetime.timezone
    )
    | st.just(datetime.timezone(datetime.timedelta(hours=2), "CEST"))
)
folds = st.sampled_from((0, 1))
keys = st.text() | st.integers() | st.fractions() | st.dates()
values = st.recursive(
    st.complex_numbers(allow_nan=False)
    | st.builds(range, *[st.integers(-1000, 1000)] * 2, st.integers(1, 50) | st.integers(-50, -1))
    | st.fractions()
    | st.decimals(allow_nan=False, places=None)
    | st.dates()
    | st.builds(lambda time, fold: time.replace(fold=fold), st.times(timezones=zones), folds)
    | st.builds(lambda time, fold: time.replace(fold=fold), st.datetimes(timezones=zones), folds)
    | st.timedeltas()
    | zones,
    lambda inner: (
        st.dictionaries(keys, inner).map(collections.OrderedDict)
        | st.dictionaries(keys, inner).map(lambda items: collections.defaultdict(list, items))
        | st.dictionaries(keys, st.integers()).map(collections.Counter)
        | st.lists(inner).map(collections.deque)
        | st.lists(inner, max_size=5).map(lambda items: collections.deque(items, 5))
        | st.lists(inner)
    ),
    max_leaves=10,
)


@given(values)
def test_a_value_comes_back_unchanged(value: object) -> None:
    received = there_and_back(value)
    assert received == value
    assert repr(received) == repr(value)  # equal values may differ: in their fold, zone, maxlen or zeros at the end


@pytest.mark.parametrize(
    "text", ["NaN", "-NaN", "sNaN", "NaN123", "Infinity", "-Infinity", "-0", "0E-5", "1.50", "1E+19660"]
)
def test_special_decimals_come_back_unchanged(text: str) -> None:
    number = decimal.Decimal(text)
    assert there_and_back(number).as_tuple() == number.as_tuple()
    with decimal.localcontext() as context:
        context.capitals = 0
        assert there_and_back(number).as_tuple() == number.as_tuple()


@pytest.mark.parametrize(
    "array",
    [
        np.array(["tea", "\N{TEACUP WITHOUT HANDLE}", ""]),
        np.array([[b"tea", b"\xff"]]),
        np.array(["2026-01-02T03:04:05", "NaT"], dtype="M8[ns]"),
        np.array([1, 2], dtype="m8[25s]"),
        np.array([(1, "ab", [1.5, 2.5])], dtype=[("a", "<i4"), ("b", "<U2"), ("c", "<f8", (2,))]),
        np.array([True, False]),
        np.zeros((0, 3), dtype="<U7"),
        np.array("alone"),
        np.zeros((2, 2), dtype=[("x", "|b1"), ("y", "|S3", (2, 2))]),
    ],
    ids=lambda array: str(array.dtype),
)
def test_an_array_comes_back_unchanged(array: np.ndarray[Any, Any]) -> None:
    received = there_and_back(array)
    assert (received.dtype, received.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(received, array)
    assert received.flags.writeable
    for scalar in array.ravel()[:1]:
        np.testing.assert_array_equal(there_and_back(scalar), scalar)


def test_a_structure_arrives_without_gaps_and_in_our_byte_order() -> None:
    """The bytes between fields are whatever was in the sender's memory."""
    array = np.zeros(2, dtype=np.dtype([("a", "i1"), ("b", ">f8")], align=True))
    array["a"], array["b"] = [1, 2], [0.5, 1.5]
    array.view("u1").reshape(2, 16)[:, 1:8] = 0xAA
    assert b"\xaa" not in RestrictedPickle().dumps(array)
    received = there_and_back(array)
    assert received.dtype == np.dtype([("a", "i1"), ("b", "<f8")])
    assert received.tolist() == array.tolist()


@pytest.mark.parametrize("text", ["", "tea", "\0a\0", "\N{TEACUP WITHOUT HANDLE}"])
def test_strings_of_numpy_come_back_whole(text: str) -> None:
    received, raw = there_and_back(np.str_(text)), there_and_back(np.bytes_(text.encode()))
    assert list(received) == list(np.str_(text))
    assert list(raw) == list(np.bytes_(text.encode()))


# --- what is refused where it is sent ---


class Point(NamedTuple):
    x: int


class Own(collections.OrderedDict[str, int]):
    """A subclass may hold more."""


@dataclasses.dataclass
class Record:
    x: int


class Colour(enum.Enum):
    RED = 1


REFUSED: list[tuple[object, str]] = [
    (range(10**9), "would take too much memory"),
    (range(2**64), "more than 64 bits"),
    (decimal.Decimal("1E+19661"), f"more than {MAX_DECIMAL_DIGITS} digits"),
    (fractions.Fraction(1, 2**70000), "more than 8192 bytes"),
    (datetime.datetime(2026, 1, 1, tzinfo=zoneinfo.ZoneInfo("UTC")), r"use astimezone\(datetime.timezone.utc\)"),
    (zoneinfo.ZoneInfo("UTC"), r"use datetime.timezone, or astimezone"),
    (collections.defaultdict(lambda: 1), r"send dict\(value\)"),
    (collections.defaultdict(Own), r"send dict\(value\)"),
    (Point(1), "--allow-type tests.program.values.test_plain.Point"),
    (Own(), "--allow-type tests.program.values.test_plain.Own"),
    (Record(1), "--allow-type tests.program.values.test_plain.Record"),
    (Record, "every party's program makes its own"),
    (Colour.RED, "send its value"),
    (np.ma.masked_array([1]), r"send np.asarray\(...\) of it"),
    (np.array([None]), r"send array.tolist\(\)"),
    (np.array(["a"], dtype=object), r"send array.tolist\(\)"),
    (np.zeros(1, dtype="V8"), "arrays of numbers, strings or dates"),
    (np.array(["a"] * 3).astype(np.dtypes.StringDType()), r"array.astype\(str\)"),
    ((number for number in (1, 2)), r"send list\(...\) of it"),
    ({1: 2}.keys(), r"send list\(...\) of it"),
    (iter([1]), r"send list\(...\) of it"),
    (print, "send data"),
    (asyncio, "every party's program makes its own"),
    (slice(3), "send its numbers"),
]


@pytest.mark.parametrize(("value", "says"), REFUSED, ids=lambda value: type(value).__name__)
def test_what_does_not_travel_is_refused_with_advice_where_it_is_sent(value: object, says: str) -> None:
    with pytest.raises(ProgramError, match="the program sends") as caught:
        RestrictedPickle().dumps({"a": [value]})
    message = f"{caught.value.message} {caught.value.hint}"
    with pytest.raises(ValueError, match=says):
        raise ValueError(message)


def test_a_future_is_refused_with_the_advice_to_await_it() -> None:
    with contextlib.closing(asyncio.new_event_loop()) as loop, pytest.raises(ProgramError) as caught:
        RestrictedPickle().dumps(loop.create_future())
    assert caught.value.hint == "await it, and send the result"


@pytest.mark.parametrize("container", [collections.OrderedDict, collections.deque, collections.defaultdict, list])
def test_a_value_that_never_ends_is_refused_where_it_is_sent(container: Any) -> None:
    value = outer = container()
    for _ in range(5000):
        inner = container()
        if isinstance(outer, dict):
            outer[1] = inner
        else:
            outer.append(inner)
        outer = inner
    with pytest.raises(ProgramError, match=r"nested too deep|nested more than 100 deep"):
        RestrictedPickle().dumps(value)


# --- memory ---

MANY = 2000
SIZED: list[object] = [
    1j,
    range(MANY),
    fractions.Fraction(1, 3),
    decimal.Decimal("1" * MANY),
    datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    datetime.timezone(datetime.timedelta(1 / 24), "CET"),
    collections.OrderedDict.fromkeys(range(MANY)),
    collections.OrderedDict(),
    collections.Counter(range(MANY)),
    collections.Counter(),
    collections.defaultdict(list, dict.fromkeys(range(MANY))),
    collections.deque(range(MANY)),
    collections.deque(),
    np.array(["a"] * MANY),
    np.array(["\N{TEACUP WITHOUT HANDLE}" * MANY]),
    np.zeros(1, dtype=[(f"f{i}", "?") for i in range(1000)]),
    np.zeros(1, dtype=[("a", "<U1000", (5, 5))]),
    np.zeros(1, dtype=[("a", "<U1000", (5, 5))])[0],
    np.str_("\N{TEACUP WITHOUT HANDLE}" * MANY),
    np.bytes_(b"1" * MANY),
    np.datetime64("2026-01-02"),
]


@pytest.mark.parametrize("value", SIZED, ids=lambda value: type(value).__name__)
def test_a_value_takes_no_more_memory_than_is_counted(value: object) -> None:
    restricted = RestrictedPickle()
    data = restricted.dumps(value)
    reduced = reduce_value(value)
    assert reduced is not None
    build, arguments = reduced
    counted = measure(data, DATA_OPCODES) + BUILDERS[build.__name__].bytes(*arguments)
    restricted.loads(data)
    tracemalloc.start()
    try:
        held = restricted.loads(data)
        list_of_range = list(held) if isinstance(held, range) else None
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    del list_of_range
    assert peak <= counted + 2048  # the readers themselves


def test_a_message_is_freed_as_soon_as_it_is_read() -> None:
    """The unpickler must be in no cycle: its memo holds the bytes of each array."""
    restricted = RestrictedPickle()
    data = restricted.dumps(np.zeros(10**6))
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        for _ in range(5):
            restricted.loads(data)
        assert tracemalloc.get_traced_memory()[0] < len(data) / 2
    finally:
        tracemalloc.stop()
        gc.enable()


def test_values_share_one_budget_on_both_sides() -> None:
    limit = 2**20
    message = [range(1000 * n, 1000 * n + 10_000) for n in range(4)]
    data = RestrictedPickle().dumps(message)
    with pytest.raises(RemoteProtocolError, match="values in a message would take too much memory"):
        RestrictedPickle(max_memory_bytes=limit).loads(data)
    with pytest.raises(ProgramError, match="values in a message would take too much memory"):
        RestrictedPickle(max_memory_bytes=limit).dumps(message)
    assert there_and_back(message[:2], RestrictedPickle(max_memory_bytes=limit)) == message[:2]
