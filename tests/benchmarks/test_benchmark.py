"""The shape of every benchmark: turns, samples, ratios, failures, and what is printed and written."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.benchmark import Benchmark, Turn, in_turns, main, measure, no_setup
from benchmarks.common import Failed, Spread
from benchmarks.samples import Record, Sample, ratios_of, rows_of

TURNS = ("one", "other", "third")
PAIRS = [("one", "other"), ("one", "nothing")]


async def take(turn: Turn) -> None:
    turn.note(turn.name, seconds=float(turn.repeat + 1))


SMALL = Benchmark(
    name="small",
    question="How long does nothing take?",
    turns=TURNS,
    opened=no_setup(take),
    figures={"seconds": ("seconds", 1), "memory_mb": ("memory, MB", 0)},
    ratios=PAIRS,
    repeats=3,
)


def run(benchmark: Benchmark, output: Path, networks: int = 0, turns: tuple[str, ...] = TURNS) -> Any:
    """Measure; return what was written."""
    assert asyncio.run(measure(benchmark, turns, benchmark.repeats, networks, output)) == []
    return json.loads(output.read_text())


# --- Turns


def test_each_repeat_begins_with_another_turn_and_leaves_none_out() -> None:
    orders = [order for _, order in in_turns(TURNS, 10)]
    assert [order[0] for order in orders[: len(TURNS)]] == list(TURNS)
    assert all(len(order) == len(TURNS) and set(order) == set(TURNS) for order in orders)


def test_each_side_of_a_pair_comes_first_every_other_time() -> None:
    turns = [Turn("pair", network, repeat, ["pair"], Record()) for network in range(2) for repeat in range(2)]
    assert [turn.alternating(["ours", "raw"])[0] for turn in turns] == ["ours", "raw", "raw", "ours"]


# --- Failures


def test_an_attempt_that_fails_is_noted_without_what_may_name_files(capsys: pytest.CaptureFixture[str]) -> None:
    record = Record()
    for error in (Failed("party 2 ended with status 6: /home/ann/x"), EOFError(), TimeoutError()):
        with record.attempt("3 parties"):
            raise error
    assert record.failures == {"3 parties": ["party 2 ended with status 6", "EOFError", "TimeoutError"]}
    assert "3 parties: failed (party 2 ended with status 6: /home/ann/x)\n" in capsys.readouterr().err
    with pytest.raises(ZeroDivisionError), record.attempt("a mistake of ours"):
        raise ZeroDivisionError


def test_a_turn_that_fails_once_is_noted_and_the_others_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def fails_first(turn: Turn) -> None:
        if turn.name == "other" and turn.repeat == 0:
            raise Failed("it hung")
        await take(turn)

    results = run(dataclasses.replace(SMALL, opened=no_setup(fails_first)), tmp_path / "out.json")
    assert results["failures"] == {"other": ["it hung"]}
    assert {row: each["seconds"]["count"] for row, each in results["rows"].items()} == {
        "one": 3,
        "other": 2,
        "third": 3,
    }
    assert "| other | 1 | it hung |" in capsys.readouterr().out


def test_what_was_never_measured_is_named_at_the_end(tmp_path: Path) -> None:
    async def fails(turn: Turn) -> None:
        if turn.name == "other":
            raise Failed("it hung")
        await take(turn)

    with pytest.raises(SystemExit, match="never measured: other"):
        main(dataclasses.replace(SMALL, opened=no_setup(fails)), ["--output", str(tmp_path / "out.json")])


# --- Figures


def test_the_figures_of_a_row_are_summed_up_each_by_itself() -> None:
    samples = [
        Sample(0, 0, "one", {"a": 1.0}),
        Sample(0, 0, "one", {"a": 3.0, "b": 5.0}),
        Sample(1, 0, "two", {"a": 7}),
    ]
    assert rows_of(samples) == {
        "one": {"a": Spread(2.0, 1.0, 3.0, 2), "b": Spread(5.0, 5.0, 5.0, 1)},
        "two": {"a": Spread(7, 7, 7, 1)},
    }


def test_ratios_are_of_medians_within_one_repeat() -> None:
    # In the second repeat guards are twice as far. Its second sample of the other row is missing.
    samples = [
        Sample(0, repeat, row, {"seconds": seconds * far})
        for repeat, far in enumerate((1, 2))
        for row, seconds in (("one", 3.0), ("one", 6.0), ("one", 60.0), ("other", 4.0))
    ]
    assert ratios_of(samples, PAIRS, "repeat") == {"one / other": {"seconds": Spread(1.5, 1.5, 1.5, 2)}}


def test_ratios_are_of_medians_on_one_network() -> None:
    seconds = {(0, "one"): (1.0, 2.0, 9.0), (0, "other"): (4.0, 4.0, 4.0), (1, "one"): (3.0,), (1, "other"): (2.0,)}
    samples = [
        Sample(network, repeat, row, {"seconds": value})
        for (network, row), values in seconds.items()
        for repeat, value in enumerate(values)
    ]
    assert ratios_of(samples, PAIRS, "network") == {"one / other": {"seconds": Spread(1.0, 0.5, 1.5, 2)}}


def test_what_has_nothing_beside_it_has_no_ratio() -> None:
    samples = [Sample(0, 0, "one", {"seconds": 1.0}), Sample(0, 1, "other", {"seconds": 1.0})]
    assert ratios_of(samples, PAIRS, "repeat") == {}
    assert (
        ratios_of([Sample(0, 0, "one", {"seconds": 1.0}), Sample(0, 0, "other", {"seconds": 0.0})], PAIRS, "repeat")
        == {}
    )


# --- What is printed and written


def test_each_turn_is_written_when_it_ends(tmp_path: Path) -> None:
    output = tmp_path / "deep" / "out.json"
    written = []

    async def take_and_look(turn: Turn) -> None:
        if output.exists():
            written.append(sum(row["seconds"]["count"] for row in json.loads(output.read_text())["rows"].values()))
        await take(turn)

    run(dataclasses.replace(SMALL, opened=no_setup(take_and_look)), output)
    assert written == list(range(1, 9))


def test_figures_and_ratios_are_printed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = run(SMALL, tmp_path / "out.json")
    assert results["benchmark"] == "small"
    assert results["networks"] == 0
    assert results["rows"]["one"] == {"seconds": {"median": 2.0, "lowest": 1.0, "highest": 3.0, "count": 3}}
    assert results["ratios"] == {"one / other": {"seconds": {"median": 1.0, "lowest": 1.0, "highest": 1.0, "count": 3}}}
    printed = capsys.readouterr().out
    assert "## How long does nothing take?" in printed
    assert "|  | seconds |\n| --- | --- |\n| one | 2.0 (1.0 to 3.0) |" in printed
    assert "| ratio | seconds |\n| --- | --- |\n| one / other | 1.00 (1.00 to 1.00) |" in printed


def test_what_a_row_does_not_have_is_left_empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def take_memory_too(turn: Turn) -> None:
        await take(turn)
        if turn.name == "one":
            turn.note("one", memory_mb=64.4)

    run(dataclasses.replace(SMALL, opened=no_setup(take_memory_too), repeats=1), tmp_path / "out.json")
    printed = capsys.readouterr().out
    assert "|  | seconds | memory, MB |\n| --- | --- | --- |\n| one | 1.0 | 64 |\n| other | 1.0 |  |" in printed


def test_networks_are_shown_each_by_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = run(dataclasses.replace(SMALL, repeats=1), tmp_path / "out.json", networks=2)
    assert results["rows"]["one"]["seconds"]["count"] == 2
    assert [network["one"]["seconds"]["count"] for network in results["each_network"]] == [1, 1]
    printed = capsys.readouterr().out
    assert "| network 1 | seconds |" in printed
    assert "| network 2 | seconds |" in printed


def test_only_what_is_asked_for_is_measured(tmp_path: Path) -> None:
    output = tmp_path / "out.json"
    main(SMALL, ["--only", "third", "--only", "one", "--repeats", "1", "--output", str(output)])
    assert list(json.loads(output.read_text())["rows"]) == ["one", "third"]
