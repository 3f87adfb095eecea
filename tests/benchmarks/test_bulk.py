"""What runs of `benchmarks.bulk` come to: ratios pair by pair, and what failed."""

from __future__ import annotations

import pytest

from benchmarks.bulk import CHUNK_BYTES, Runs, parts
from benchmarks.common import Spread


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, 8_000_000])
def test_parts_make_up_the_whole(size: int) -> None:
    assert sum(parts(size)) == size
    assert max(parts(size)) <= CHUNK_BYTES


def test_a_ratio_is_that_of_the_medians_of_two_runs_beside_each_other() -> None:
    runs = Runs(ours=[[9.0, 4.0, 5.0], [6.0]], raw=[[10.0, 30.0, 10.0], [4.0]], failures=["it hung"])
    summary = runs.summarise()
    assert summary["ratio"] == Spread(1.0, 0.5, 1.5, 2)
    assert summary["ours_s"] == Spread(5.5, 4.0, 9.0, 4)
    assert summary["failures"] == ["it hung"]


def test_nothing_but_failures_has_no_ratio() -> None:
    assert Runs(failures=["it hung"]).summarise() == {"failures": ["it hung"]}
