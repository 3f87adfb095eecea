"""The choice among a link's streams, without a link."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onionmpc.wire.paths import (
    BULK_BYTES,
    CHUNK_BYTES,
    LOADED_FOR_S,
    MAX_STRIPES,
    ROUND_TRIPS,
    SLOWED_TIMES,
    Path,
    PathSelector,
)

T0 = 1000.0
SECONDS = st.floats(0.01, 100.0)


def measured(*seconds: float) -> PathSelector:
    """Streams 0 and so on, each measured often enough."""
    paths = PathSelector()
    for number, usual_s in enumerate(seconds):
        path = paths.add(number)
        for _ in range(ROUND_TRIPS):
            path.measure(usual_s, T0)
    paths.rank()
    return paths


def test_no_stream_is_the_best_of_none() -> None:
    paths = PathSelector()
    assert (paths.best, paths.ranking(), paths.compared(), paths.slowed()) == (None, [], 0, [])
    assert paths.usual_s(0) is None


def test_the_faster_go_first_and_those_of_unknown_speed_last_the_newer_first() -> None:
    paths = measured(0.3, 0.1, 0.2)
    paths.add(3)
    paths.add(4)
    assert paths.ranking() == [1, 2, 0, 4, 3]
    assert paths.best == 1
    assert paths.compared() == 3
    assert (paths.usual_s(1), paths.usual_s(3)) == (0.1, None)


def test_a_late_stream_goes_behind_all_others_until_it_is_heard_again() -> None:
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


def test_a_stream_that_is_gone_is_not_ranked() -> None:
    paths = measured(0.1, 0.2)
    paths.remove(0)
    assert (paths.ranking(), paths.usual_s(0)) == ([1], None)


def test_only_much_goes_over_others_and_over_no_more_than_max_stripes() -> None:
    paths = measured(*(0.1 * number for number in range(1, MAX_STRIPES + 3)))
    assert not any(paths.takes_bulk(number, BULK_BYTES - 1) for number in paths.ranking())
    assert [number for number in paths.ranking() if paths.takes_bulk(number, BULK_BYTES)] == list(range(MAX_STRIPES))


def test_a_stream_of_unknown_speed_takes_no_bulk() -> None:
    paths = measured(0.1)
    paths.add(1)
    assert not paths.takes_bulk(1, BULK_BYTES)


def test_a_round_trip_beside_much_data_does_not_count_once_the_speed_is_known() -> None:
    path = Path()
    for _ in range(ROUND_TRIPS):
        path.load(CHUNK_BYTES, T0)
        path.measure(0.1, T0)
    assert path.compared
    for _ in range(ROUND_TRIPS):
        path.measure(9.0, T0 + 9.0 + LOADED_FOR_S - 0.1)
    assert path.usual_s == 0.1
    for _ in range(ROUND_TRIPS):
        path.measure(9.0, T0 + 9.0 + LOADED_FOR_S)
    assert path.usual_s == 9.0


def test_little_data_is_no_load() -> None:
    path = Path()
    path.load(CHUNK_BYTES // 2 - 1, T0)
    assert math.isinf(path.loaded_at)


@pytest.mark.parametrize("slow", range(ROUND_TRIPS + 1))
def test_a_stream_has_slowed_when_all_its_last_round_trips_took_more_than_twice_the_first(slow: int) -> None:
    path = Path()
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
    carrying = [number for number in ranking if paths.takes_bulk(number, BULK_BYTES)]
    assert len(carrying) <= MAX_STRIPES
    assert all(not known[number].late and known[number].round_trips for number in carrying)
