"""What sessions of many sizes come to: medians and failures."""

from __future__ import annotations

from benchmarks.common import Spread
from benchmarks.scale import MEASURES, OfSize, summarise, tables


def session(seconds: float) -> dict[str, float]:
    return dict.fromkeys(MEASURES, seconds)


def test_sizes_are_in_order() -> None:
    sizes = {6: OfSize([session(10), session(12), session(50)]), 3: OfSize([session(6)])}
    results = summarise(sizes, 9)
    assert list(results["parties"]) == [3, 6]
    assert results["parties"][6]["connected_s"] == Spread(12, 10, 50, 3)
    assert "| 6 | 6 | 12.0 (10.0 to 50.0) |" in tables(results)[0]


def test_what_failed_is_said_to_have_failed() -> None:
    results = summarise({3: OfSize([session(6)]), 25: OfSize(failures=["party 3 was lost"])}, 9)
    assert results["parties"][25] == {"tors": 9, "failures": ["party 3 was lost"]}
    (only,) = tables(results)
    assert only.endswith("| 25 | 9 |  |  |  |  |  |  | 1 |")
