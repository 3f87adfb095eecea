"""The simulation of guard layers: what it gives where the answer is known."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.common import RESULTS
from benchmarks.guard_discovery import (
    CASES,
    LONG_LAYER_2,
    LONG_LAYER_3,
    PROPOSAL_LAYER_2,
    SHARES,
    TOR_LAYER_2,
    Layer,
    discovery,
    quantiles,
    simulate,
)
from tests.support.guard_model import ROTATION, ended_by, exact_days, rotations_needed

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 120


def random(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(("share", "rotations", "days"), [(0.01, 18, 126), (0.05, 4, 28), (0.10, 2, 14)])
def test_whole_rotations_take_the_days_of_proposal_333(share: float, rotations: int, days: int) -> None:
    assert rotations_needed(share, ROTATION.relays, 0.5) == rotations
    # The 17th rotation of 1 % ends at 49.5 %: with fewer trials it could pass for one half.
    drawn = quantiles(simulate(random(1), [ROTATION], share, 200_000) / ROTATION.longest_days + 1)
    assert round(drawn[1]) == rotations
    assert rotations * ROTATION.longest_days == days


@pytest.mark.parametrize(
    ("share", "relays", "percent", "rotations"),
    [(0.01, 1, 50, 69), (0.01, 4, 10, 3), (0.01, 8, 90, 29), (0.05, 1, 50, 14), (0.05, 16, 99, 6), (0.10, 6, 95, 5)],
)
def test_rotations_are_those_of_proposal_292s_table(share: float, relays: int, percent: int, rotations: int) -> None:
    assert rotations_needed(share, relays, percent / 100) == rotations


@pytest.mark.parametrize("share", SHARES.values())
@pytest.mark.parametrize("layer", [PROPOSAL_LAYER_2, TOR_LAYER_2, LONG_LAYER_3])
def test_simulated_and_calculated_days_differ_by_less_than_2_percent(layer: Layer, share: float) -> None:
    simulated = quantiles(simulate(random(1), [layer], share, 100_000))
    assert simulated == pytest.approx(exact_days(layer, share), rel=0.02)


def test_the_first_relays_count_at_day_0() -> None:
    days = simulate(random(1), [PROPOSAL_LAYER_2], 0.10, 100_000)
    assert np.mean(days == 0) == pytest.approx(1 - 0.9**4, rel=0.02)
    assert days[days > 0].min() >= PROPOSAL_LAYER_2.shortest_days


@pytest.mark.parametrize(("layer", "mean_days"), [(PROPOSAL_LAYER_2, 1 + 11 * 2 / 3), (TOR_LAYER_2, 6.5)])
def test_lives_have_their_mean_and_bounds(layer: Layer, mean_days: float) -> None:
    lives = layer.draw_lives(random(1), 100_000)
    assert lives.mean() == pytest.approx(mean_days, rel=0.01)
    assert layer.shortest_days <= lives.min() < lives.max() <= layer.longest_days
    assert ended_by(layer, np.array([lives.min(), np.median(lives), layer.longest_days])) == pytest.approx(
        [0, 0.5, 1], abs=0.01
    )


def test_two_layers_of_whole_rotations_are_won_in_the_same_rotation() -> None:
    """Both are drawn anew at once, so each day is one more try."""
    layers = [Layer(4, 1, 1), Layer(8, 1, 1)]
    days = simulate(random(1), layers, 0.05, 50_000)
    won = (1 - 0.95**4) * (1 - 0.95**8)
    assert days.mean() == pytest.approx(1 / won - 1, rel=0.02)
    assert np.mean(days == 0) == pytest.approx(won, rel=0.05)


def test_two_layers_are_won_at_the_beginning_as_often_as_chance_says() -> None:
    days = simulate(random(1), [LONG_LAYER_2, LONG_LAYER_3], 0.10, 50_000)
    assert np.mean(days == 0) == pytest.approx((1 - 0.9**4) * (1 - 0.9**8), rel=0.05)


def test_two_layers_take_no_less_than_either() -> None:
    for share in SHARES.values():
        both = quantiles(simulate(random(1), [LONG_LAYER_2, LONG_LAYER_3], share, 2_000))
        for layer in (LONG_LAYER_2, LONG_LAYER_3):
            assert all(np.array(both) >= np.array(exact_days(layer, share)) * 0.9)


def test_a_layer_3_that_is_always_won_is_no_obstacle() -> None:
    """With a thousand relays in it, one is the adversary's at all times."""
    days = simulate(random(1), [LONG_LAYER_2, Layer(1000, 1, 2)], 0.10, 2_000)
    assert quantiles(days)[1:] == pytest.approx(exact_days(LONG_LAYER_2, 0.10)[1:], rel=0.15)


def test_the_same_seed_gives_the_same_days_and_another_seed_others() -> None:
    case = "standard, lives as in tor 0.4.9.11"
    assert discovery(case, 3, 50) == discovery(case, 3, 50) != discovery(case, 4, 50)


@pytest.mark.parametrize("case", CASES)
def test_every_case_has_days_for_each_share(case: str) -> None:
    found = discovery(case, trials=200)
    assert list(found) == list(SHARES)
    for lowest, median, highest in found.values():
        assert lowest <= median <= highest
        assert case != "short" or highest == 0


def test_the_command_prints_a_table_and_writes_json(tmp_path: Path) -> None:
    case, output = "long, by timing", tmp_path / "guard_discovery.json"
    command = [sys.executable, "-m", "benchmarks.guard_discovery", "--only", case, "--output", str(output)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S)
    assert ended.returncode == 0, ended.stderr
    results = json.loads(output.read_text())
    assert results["benchmark"] == "guard_discovery"
    written = [(each["lowest"], each["median"], each["highest"]) for each in results["rows"][case].values()]
    assert written == [pytest.approx(days, abs=0.0001) for days in discovery(case).values()]
    assert "|  | 1 % | 5 % | 10 % |" in ended.stdout
    assert f"| {case} | " in ended.stdout


@pytest.mark.parametrize("case", CASES)
def test_the_figures_in_the_repository_are_within_2_percent_of_those_calculated(case: str) -> None:
    results = json.loads((RESULTS / "guard_discovery.json").read_text())
    for words, share in SHARES.items():
        row = results["rows"][case][words]
        simulated = [row["lowest"], row["median"], row["highest"]]
        match CASES[case]:
            case []:
                assert simulated == [0, 0, 0]
            case [layer]:
                assert simulated == pytest.approx(exact_days(layer, share), rel=0.02, abs=0.005)
