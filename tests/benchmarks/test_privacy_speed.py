"""What privacy_speed makes of what it measured, and its program without tor. What it measures is not looked at."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import privacy_speed
from benchmarks.common import Failed, Spread, in_turns, write
from benchmarks.privacy_speed import (
    HALVES,
    SETTINGS,
    Measured,
    RoundTrips,
    Session,
    Setting,
    against_standard,
    check_promise,
    merged,
    percentile,
    row,
    run_session,
    sum_up,
    summarise,
    total,
)
from benchmarks.sessions import Process
from onionmpc.levels import Level

NO_TOR, SHORT, STANDARD, LONG_DIALLING, LONG_LISTENING, LONG, PADDED = SETTINGS
TRIPS = [RoundTrips(3, 4, seconds) for seconds in (0.3, 0.5, 0.4)]
NOTES = [
    {"rounds": {"began_s": 1.0, "ended_s": 5.0}, "large": {"began_s": 6.0, "ended_s": 7.5}},
    {"rounds": {"began_s": 2.0, "ended_s": 4.0}, "large": {"began_s": 6.5, "ended_s": 9.0}},
    {"rounds": {"began_s": 1.5, "ended_s": 4.5}, "large": {"began_s": 6.0, "ended_s": 8.0}},
]


def session(seconds: float) -> Session:
    return Session(
        {"rounds": seconds, "large": 2 * seconds},
        {"rounds": [1024, 2048, 3072], "large": [2**20, 2**20, 2**20]},
        [(3, 4), (3, 4), (3, 4)],
    )


def measured() -> Measured:
    return Measured(
        TRIPS, [session(10.0), session(12.0)], failed_dials=1, failed_sessions=["party 1 ended with status 6"]
    )


def party(number: int, *links: tuple[int, int | None, int | None]) -> Any:
    """A party that measured these links: the peer, own relays, claimed relays."""
    told = Process(SimpleNamespace(), lambda: None)  # type: ignore[arg-type]
    told.printed = [json.dumps({"loads": list(NOTES[number].values())})]
    told.events = [
        {"event": "link_measured", "party": peer, "own_relays": own, "claimed_relays": claimed}
        for peer, own, claimed in links
    ]
    return told


# --- Numbers -----------------------------------------------------------------------------------------------------


def test_a_percentile_is_the_lowest_value_that_so_many_do_not_exceed() -> None:
    assert percentile([7.0], 0.95) == 7.0
    assert percentile(range(1, 11), 0.5) == 5
    assert percentile(range(1, 21), 0.95) == 19
    assert percentile([3.0, 1.0, 2.0], 1.0) == 3.0


def test_the_rendezvous_point_counts_once_and_no_tor_is_no_relay() -> None:
    assert (total(3, 4), total(3, 1), total(4, 5), total(None, None)) == (6, 3, 8, 0)


def test_settings_promise_the_relays_of_their_levels() -> None:
    assert [setting.promised for setting in SETTINGS] == [0, 3, 6, 7, 7, 8, 6]


def test_each_repeat_begins_with_another_setting_and_leaves_none_out() -> None:
    turns = list(in_turns(SETTINGS, 10, budget_s=60))
    orders = [[setting for number, setting in turns if number == repeat] for repeat in range(10)]
    assert [order[0] for order in orders[: len(SETTINGS)]] == list(SETTINGS)
    assert all(len(order) == len(SETTINGS) and set(order) == set(SETTINGS) for order in orders)


def test_a_repeat_that_has_begun_is_ended_when_the_time_is_up() -> None:
    assert list(in_turns(["one", "other"], 10, budget_s=0)) == [(0, "one"), (0, "other")]


# --- Promises ----------------------------------------------------------------------------------------------------


def test_what_is_longer_than_promised_counts() -> None:
    check_promise(Level.LONG, Level.LONG, 4, 5)
    check_promise(Level.SHORT, Level.SHORT, 3, 4)


@pytest.mark.parametrize(("own", "accepted"), [(3, 5), (4, 4), (None, 5), (4, None)])
def test_what_is_shorter_than_promised_or_was_not_counted_fails(own: int | None, accepted: int | None) -> None:
    with pytest.raises(Failed, match="expected 4 and 5 or more"):
        check_promise(Level.LONG, Level.LONG, own, accepted)


def bytes_between(began_s: float, ended_s: float) -> list[int]:
    return [round(ended_s - began_s)] * 3


def test_a_half_takes_from_the_last_start_to_the_last_end_and_links_are_counted_by_both_sides() -> None:
    parties = [
        party(0, (1, 3, None), (1, 3, 4), (2, 3, 4)),
        party(1, (0, 4, 3), (2, 3, 4)),
        party(2, (0, 4, 3), (1, 4, 3)),
    ]
    told = sum_up(STANDARD, parties, SimpleNamespace(count=bytes_between))  # type: ignore[arg-type]
    assert told.seconds == {"rounds": 3.0, "large": 2.5}
    assert told.wire_bytes == {"rounds": [4, 4, 4], "large": [3, 3, 3]}
    assert told.links == [(3, 4)] * 3


@pytest.mark.parametrize(
    ("lie", "words"),
    [((0, 4, 4), "claim other relays"), ((0, 3, 3), "relays were counted"), ((2, 4, 3), "was not measured")],
)
def test_a_session_whose_counts_do_not_add_up_fails(lie: tuple[int, int, int], words: str) -> None:
    parties = [party(0, (1, 3, 4), (2, 3, 4)), party(1, lie, (2, 3, 4)), party(2, (0, 4, 3), (1, 4, 3))]
    with pytest.raises(Failed, match=words):
        sum_up(STANDARD, parties, SimpleNamespace(count=bytes_between))  # type: ignore[arg-type]


# --- What is told ------------------------------------------------------------------------------------------------


def test_a_setting_tells_medians_exact_relays_and_what_failed(tmp_path: Path) -> None:
    result = summarise(STANDARD, measured())
    assert result["round_trip"]["relays"] == {"6": 3}
    assert result["round_trip"]["own_and_accepted"] == {"3 and 4": 3}
    assert (result["round_trip"]["median_ms"], result["round_trip"]["p95_ms"]) == (400.0, 500.0)
    assert result["session_relays"] == {"6 6 6": 2}
    assert result["rounds"]["seconds"] == Spread(11.0, 10.0, 12.0, 2)
    path = write("privacy_speed", {"settings": {"standard": result}}, tmp_path / "deep" / "out.json")
    assert json.loads(path.read_text())["settings"]["standard"]["failed_sessions"] == ["party 1 ended with status 6"]


def test_a_setting_is_compared_with_standard_round_by_round() -> None:
    # The guards of the second round are twice as far.
    rounds = [
        {
            "standard": Measured([RoundTrips(3, 4, 0.4 * far)], [session(10.0 * far)]),
            "long": Measured([RoundTrips(4, 5, 0.6 * far)], [session(12.0 * far)]),
        }
        for far in (1, 2)
    ]
    ratios = against_standard(rounds, "long")
    assert {name: spread.show() for name, spread in ratios.items()} == {
        "round_trip": "1.50 (1.50 to 1.50)",
        "rounds": "1.20 (1.20 to 1.20)",
        "large": "1.20 (1.20 to 1.20)",
    }
    assert len(merged(rounds, "long").circuits) == len(merged(rounds, "long").sessions) == 2


def test_what_has_no_standard_beside_it_is_not_compared() -> None:
    assert against_standard([{"long": measured()}, {"long": measured(), "standard": Measured()}], "long") == {}


def test_a_row_has_a_dash_for_what_was_not_measured() -> None:
    assert row("standard", summarise(STANDARD, measured())) == [
        *("standard", "6", "400", "500", "3", "11.0 (10.0 to 12.0)", "22.0 (20.0 to 24.0)"),
        *("2.0 (1.0 to 3.0)", "1.0 (1.0 to 1.0)", "2"),
    ]
    assert row("long", summarise(LONG, Measured())) == ["long", *["-"] * 8, "0"]


def test_a_session_that_fails_is_told_and_the_others_run_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(*_arguments: object) -> None:
        pass

    async def one_session(setting: Setting, *_arguments: object) -> Session:
        if setting is LONG:
            raise Failed("party 2 ended with status 6")
        return session(10.0)

    for name, replacement in (("draw_guards", nothing), ("ping_all", nothing), ("run_session", one_session)):
        monkeypatch.setattr(privacy_speed, name, replacement)
    results = {setting.name: Measured() for setting in SETTINGS}
    asyncio.run(privacy_speed._one_round(SETTINGS, tmp_path, SimpleNamespace(), results))  # type: ignore[arg-type]
    assert results["long"].failed_sessions == ["party 2 ended with status 6"]
    assert all(len(one.sessions) == (name != "long") for name, one in results.items())


def test_each_round_is_written_when_it_ends_and_the_whole_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.json"
    written: list[int] = []

    async def two_rounds(settings: Sequence[Setting], _repeats: int, _budget_s: float, keep: Any) -> list[Any]:
        rounds = []
        for _ in range(2):
            rounds.append({setting.name: measured() for setting in settings})
            keep(rounds)
            written.append(json.loads(output.read_text())["settings"]["long"]["round_trip"]["circuits"])
        return rounds

    monkeypatch.setattr(privacy_speed, "measure", two_rounds)
    monkeypatch.setattr("sys.argv", ["privacy_speed", "--output", str(output)])
    privacy_speed.main()
    assert written == [len(TRIPS), 2 * len(TRIPS)]
    printed = capsys.readouterr().out
    for setting in SETTINGS:
        assert printed.count(f"| {setting.name} |") == 3
    assert json.loads(output.read_text())["settings"]["short"]["against_standard"]["large"]["median"] == 1.0


# --- The program -------------------------------------------------------------------------------------------------


def test_a_session_without_tor_does_both_halves(tmp_path: Path) -> None:
    told = asyncio.run(run_session(NO_TOR, tmp_path, SimpleNamespace(forget=lambda: None)))  # type: ignore[arg-type]
    assert all(told.seconds[half] > 0 for half in HALVES)
    # A MiB is sent and a MiB received, by everyone.
    assert all(2 * 2**20 < size < 2.5 * 2**20 for size in told.wire_bytes["large"])
    assert all(size < 10_000 for size in told.wire_bytes["rounds"])
    assert told.links == []
