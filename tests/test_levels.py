"""The order of the levels and what each promises."""

from __future__ import annotations

import pytest

from onionmpc.levels import Level


def test_levels_are_ordered_by_what_they_protect() -> None:
    assert sorted([Level.LONG, Level.SHORT, Level.STANDARD]) == [Level.SHORT, Level.STANDARD, Level.LONG]
    assert Level.SHORT < Level.LONG
    assert Level.STANDARD >= Level.STANDARD


@pytest.mark.parametrize("level", Level)
def test_a_higher_level_promises_no_fewer_relays(level: Level) -> None:
    for other in Level:
        if other > level:
            assert other.promise.dialled >= level.promise.dialled
            assert other.promise.accepted > level.promise.accepted


def test_promises_are_those_of_tor() -> None:
    assert [(level.promise.dialled, level.promise.accepted) for level in Level] == [(3, 1), (3, 4), (4, 5)]


def test_a_higher_level_is_assumed_to_take_longer() -> None:
    times_s = [level.usual_round_trip_s for level in Level]
    assert times_s == sorted(times_s)
