"""What sessions of many sizes come to: medians, failures and the power of the number of parties."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.common import Spread
from benchmarks.scale import MEASURES, OfSize, growth, summarise, tables


@given(st.floats(-3, 3), st.floats(0.1, 10), st.lists(st.integers(2, 256), min_size=2, unique=True))
def test_growth_finds_the_power(power: float, factor: float, sizes: list[int]) -> None:
    assert growth(sizes, [factor * size**power for size in sizes]) == pytest.approx(power, abs=1e-6)


def session(seconds: float) -> dict[str, float]:
    return dict.fromkeys(MEASURES, seconds)


def test_sizes_are_in_order_and_growth_is_that_of_the_medians() -> None:
    sizes = {6: OfSize([session(10), session(12), session(50)]), 3: OfSize([session(6)])}
    results = summarise(sizes, 9)
    assert list(results["parties"]) == [3, 6]
    assert results["parties"][6]["connected_s"] == Spread(12, 10, 50, 3)
    assert results["growth"] == dict.fromkeys(MEASURES, 1.0)
    assert "| 6 | 6 | 12.0 (10.0 to 50.0) |" in tables(results)[0]


def test_what_failed_is_said_to_have_failed() -> None:
    results = summarise({3: OfSize([session(6)]), 25: OfSize(failures=["party 3 was lost"])}, 9)
    assert results["parties"][25] == {"tors": 9, "failures": ["party 3 was lost"]}
    assert results["growth"] == {}
    first, *others = tables(results)
    assert first.endswith("| 25 | 9 |  |  |  |  |  |  | 1 |")
    assert not others


def test_what_took_no_time_has_no_power() -> None:
    early = session(5) | {"links_s": -0.5}
    assert "links_s" not in summarise({3: OfSize([early]), 5: OfSize([session(6)])}, 9)["growth"]
