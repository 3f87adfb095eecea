"""The choice among a link's streams, without a link."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onionmpc.wire.limits import DEFAULT_LINK_LIMITS as LIMITS
from onionmpc.wire.paths import LOADED_FOR_S, ROUND_TRIPS, SLOWED_TIMES, Path, PathSelector

T0 = 1000.0
SECONDS = st.floats(0.01, 100.0)


def measured(*seconds: float) -> PathSelector:
    """Streams 0, 1, ..., each measured often enough."""
    paths = PathSelector()
    for number, usual_s in enumerate(seconds):
        path = paths.add(number)
        for _ in range(ROUND_TRIPS):
            path.measure(usual_s, T0)
    paths.rank()
    return paths


def test_without_streams_there_is_no_best() -> None:
    paths = PathSelector()
    assert (paths.best, paths.ranking(), paths.measured(), paths.slowed()) == (None, [], 0, [])
    assert paths.usual_s(0) is None


def test_faster_streams_rank_first_and_unmeasured_ones_last_the_newer_first() -> None:
    paths = measured(0.3, 0.1, 0.2)
    paths.add(3)
    paths.add(4)
    assert paths.ranking() == [1, 2, 0, 4, 3]
    assert paths.best == 1
    assert paths.measured() == 3
    assert (paths.usual_s(1), paths.usual_s(3)) == (0.1, None)


def test_a_late_stream_ranks_last_until_it_delivers_again() -> None:
    paths = measured(0.1, 0.2)
    late = paths.add(2)
    for _ in range(ROUND_TRIPS):
        late.measure(0.05, T0)
    paths.rank()
    assert paths.best == 2
    late.late = True
    paths.rank()
    assert paths.ranking() == [0, 1, 2]
    late.late = False
    paths.rank()
    assert paths.best == 2


def test_a_removed_stream_is_not_ranked() -> None:
    paths = measured(0.1, 0.2)
    paths.remove(0)
    assert (paths.ranking(), paths.usual_s(0)) == ([1], None)


def test_only_bulk_data_uses_further_streams_and_at_most_max_stripes() -> None:
    paths = measured(*(0.1 * number for number in range(1, LIMITS.max_stripes + 3)))
    assert not any(paths.takes_bulk(number, LIMITS.bulk_bytes - 1) for number in paths.ranking())
    carrying = [number for number in paths.ranking() if paths.takes_bulk(number, LIMITS.bulk_bytes)]
    assert carrying == list(range(LIMITS.max_stripes))


def test_an_unmeasured_stream_takes_no_bulk() -> None:
    paths = measured(0.1)
    paths.add(1)
    assert not paths.takes_bulk(1, LIMITS.bulk_bytes)


def test_a_round_trip_during_bulk_data_does_not_count_once_the_speed_is_known() -> None:
    path = Path(loading_bytes=1000)
    for _ in range(ROUND_TRIPS):
        path.load(1000, T0)
        path.measure(0.1, T0)
    assert path.measured
    for _ in range(ROUND_TRIPS):
        path.measure(9.0, T0 + 9.0 + LOADED_FOR_S - 0.1)
    assert path.usual_s == 0.1
    for _ in range(ROUND_TRIPS):
        path.measure(9.0, T0 + 9.0 + LOADED_FOR_S)
    assert path.usual_s == 9.0


def test_little_data_is_not_bulk() -> None:
    path = Path(loading_bytes=1000)
    path.load(999, T0)
    assert math.isinf(path.loaded_at)


@pytest.mark.parametrize("slow", range(ROUND_TRIPS + 1))
def test_a_path_has_slowed_when_all_its_latest_round_trips_take_more_than_twice_the_first(slow: int) -> None:
    path = Path(loading_bytes=1000)
    for _ in range(ROUND_TRIPS):
        path.measure(0.1, T0)
    for _ in range(slow):
        path.measure(0.1 * SLOWED_TIMES + 0.01, T0)
    assert path.slowed == (slow == ROUND_TRIPS)


@given(st.lists(st.tuples(st.integers(0, 6), st.lists(SECONDS, max_size=8), st.booleans()), max_size=20))
def test_under_any_history_the_ranking_holds_each_stream_once_in_order(
    history: list[tuple[int, list[float], bool]],
) -> None:
    paths = PathSelector()
    known: dict[int, Path] = {}
    for number, round_trips, late in history:
        if number in known and not round_trips:
            paths.remove(number)
            del known[number]
            continue
        path = known[number] if number in known else known.setdefault(number, paths.add(number))
        path.late = late
        for seconds in round_trips:
            path.measure(seconds, T0)
        paths.rank()
    ranking = paths.ranking()
    assert sorted(ranking) == sorted(known)
    assert paths.best == (ranking[0] if ranking else None)
    keys = [(known[number].late, known[number].usual_s) for number in ranking]
    assert keys == sorted(keys)
    carrying = [number for number in ranking if paths.takes_bulk(number, LIMITS.bulk_bytes)]
    assert len(carrying) <= LIMITS.max_stripes
    assert all(not known[number].late and known[number].round_trips for number in carrying)
