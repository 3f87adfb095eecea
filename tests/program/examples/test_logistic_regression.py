"""The coefficients are those of a computation over all rows in one place, and few rows are refused."""

from __future__ import annotations

import itertools
import math
import random
from pathlib import Path

import numpy as np
import pytest

from tests.support.examples import call_parties, read_input, run_alone, run_parties

Rows = list[list[float]]


def made_up(source: random.Random, count: int, truth: list[float]) -> Rows:
    rows = []
    for _ in range(count):
        xs = [source.uniform(-3, 3) for _ in truth[1:]]
        odds = math.exp(truth[0] + sum(w * x for w, x in zip(truth[1:], xs, strict=True)))
        rows.append([*xs, float(source.random() < odds / (1 + odds))])
    return rows


def fit_in_the_clear(rows: Rows, penalty: float) -> np.ndarray:
    """Minimise by gradient descent alone: slower than the program's method, and another one."""
    table = np.array(rows)
    explaining, ones = np.hstack([np.ones((len(table), 1)), table[:, :-1]]), table[:, -1]
    penalties = np.array([0.0] + [penalty] * (explaining.shape[1] - 1))
    rate = 1 / (np.linalg.eigvalsh(explaining.T @ explaining).max() / 4 + penalty)
    weights = np.zeros(explaining.shape[1])
    for _ in range(20_000):
        likely = 1 / (1 + np.exp(-explaining @ weights))
        weights += rate * (explaining.T @ (ones - likely) - penalties * weights)
    return weights


@pytest.mark.parametrize(
    ("sizes", "truth", "penalty"),
    [
        ((120,), [0.0, 1.0], 0.0),
        ((90, 1, 60), [-1.0, 0.5, -1.0], 1.0),
        ((30, 40, 1, 25, 60), [0.3, 2.0, 0.0, -1.0], 0.1),
        # All ones are on one side, so without the penalty the coefficients would grow without end.
        ((20, 20, 20), [0.0, 1000.0], 1.0),
    ],
)
def test_the_coefficients_are_those_of_all_rows_in_one_place(
    tmp_path: Path, sizes: tuple[int, ...], truth: list[float], penalty: float
) -> None:
    source = random.Random(str(sizes))
    truth = [min(weight, 200.0) for weight in truth]
    tables = [made_up(source, size, truth) for size in sizes]
    [results] = call_parties(tmp_path, "logistic_regression", "fit", [[(table, penalty) for table in tables]])
    expected = fit_in_the_clear([*itertools.chain(*tables)], penalty)
    for count, weights in results:
        assert count == sum(sizes)
        assert weights == pytest.approx(expected, abs=1e-5)


def test_a_table_is_read_and_the_model_printed(tmp_path: Path) -> None:
    tables = ["1, 0\n2, 1\n" * 5, "1.5 1; 0.5 0; 3 1", "2.5,1\n1.25,1\n-1,0\n" * 5]
    printed = run_parties(tmp_path, "logistic_regression", read_input("--columns", "1"), tables)
    assert len(set(printed)) == 1
    assert printed[0].startswith("28 rows, 1 explaining column: log odds of a 1 = ")


def test_too_few_rows_are_refused_before_anything_but_their_number_is_opened() -> None:
    done = run_alone("logistic_regression", "--columns", "1", "1 0; 2 1")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "all parties together have 2 rows, expected at least 20\n"
