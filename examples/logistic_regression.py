# /// script
# dependencies = ["mpyc", "numpy"]
#
# [tool.onionmpc]
# version = 1
# title = "Logistic regression over everyone's rows"
# reveals = """all parties learn how many rows there are in all, and the exact coefficients after each step, last \
# those of the model"""
# min-parties = 3
#
# [[tool.onionmpc.public]]
# name = "columns"
# label = "How many explaining columns a row has; all of them are used"
# type = "integer"
# min = 1
# max = 8
# option = "--columns"
# demo = "2"
#
# [[tool.onionmpc.public]]
# name = "penalty"
# label = "The penalty on large coefficients"
# help = "1 over what scikit-learn calls C. Default: 1."
# type = "decimal"
# min = 0
# max = 1000
# option = "--penalty"
# optional = true
#
# [[tool.onionmpc.input]]
# name = "table"
# label = "Your rows: the explaining columns, and then 0 or 1"
# type = "table"
# cells = "decimal"
# min = -1000
# max = 1000
# max-rows = 100_000
# option = "--input"
#
# [tool.onionmpc.output]
# type = "value"
# ///
"""Logistic regression over the rows of all parties: how likely is a 1 in the last column?

Each party has rows of numbers: first as many explaining columns as --columns says, which are all used, then a last
column of 0 or 1. All learn how many rows there are in all, and the exact coefficients after each of about six steps.
The last ones are the model. With fewer than ten rows for each coefficient, the program stops before the first step. A
row never leaves its party, not even as a secret.

hops: 24 with three parties and the made-up rows: three for each of six steps. In each step of Newton's method, a party
adds up the slope and curvature of the likelihood over its own rows, which it knows. The sums over all parties stay
secret. They are multiplied by a random matrix that nobody knows, so only the next coefficients can be worked out.

accuracy: the coefficients are right to about six digits, like those of a computation over all rows in one place.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections.abc import Sequence

import numpy as np
from mpyc.runtime import mpc
from private_input import add_private_arguments, private_text
from regression import coefficients, random_matrix

LIMIT = 1000  # of a number in a row
MOST_ROWS = 100_000  # of a party
MOST_COLUMNS = 8
ROWS_PER_COEFFICIENT = 10
MOST_STEPS = 15
SETTLED = 1e-6  # a step that changes no coefficient by more is the last
SCALE = 2**30
# A prime above twice the square of what a determinant of the sums can be (see regression.py). A sum is below 2**75:
# 2**30 for the scale, 2**25 rows of 256 parties, and 2**20 for a product of two numbers. With 9 coefficients, the prime
# needs 1,400 bits.
PRIME = 2**2203 - 1
DEMO_ROWS = 40


def slope_and_curvature(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the equations [curvature | slope] of the next step, for this party's rows, as scaled whole numbers."""
    explaining = np.hstack((np.ones((len(rows), 1)), rows[:, :-1]))
    likely = 1 / (1 + np.exp(-np.clip(explaining @ weights, -50, 50)))
    slope = explaining.T @ (rows[:, -1] - likely)
    curvature = (explaining.T * (likely * (1 - likely))) @ explaining
    return scaled(np.column_stack((curvature, slope)))


def scaled(table: np.ndarray) -> np.ndarray:
    """Return the numbers times SCALE, rounded to Python's own whole numbers, which have no limit."""
    return np.array([[round(float(value) * SCALE) for value in row] for row in table], dtype=object)


async def fit(table: Sequence[Sequence[float]], penalty: float) -> tuple[int, list[float]]:
    """Return the number of rows of all parties, and the coefficients, first the constant.

    Args:
        table: this party's rows.
        penalty: half of this times the sum of the squares of the coefficients, without the constant, is added to what
            is minimised: the negative logarithm of the likelihood.
    """
    rows = np.array(table, dtype=float)
    field = mpc.SecFld(modulus=PRIME)
    count = int(await mpc.output(sum(mpc.input(field(len(rows))))))
    unknowns = rows.shape[1]
    if count < ROWS_PER_COEFFICIENT * unknowns:
        sys.exit(f"all parties together have {count} rows, expected at least {ROWS_PER_COEFFICIENT * unknowns}")
    penalties = np.diag([0.0] + [penalty] * (unknowns - 1))
    weights = np.zeros(unknowns)
    for _ in range(MOST_STEPS):
        equations = sum(mpc.input(field.array(slope_and_curvature(rows, weights))))
        equations += scaled(np.column_stack((penalties, -penalties @ weights)))
        mask = sum(mpc.input(field.array(random_matrix(unknowns, PRIME))))
        step = coefficients(await mpc.output(mask @ equations), PRIME)
        if step is None:
            sys.exit("the rows of all parties together do not determine the coefficients: use a larger --penalty")
        change = np.array([float(value) for value in step])
        weights = weights + change
        if np.abs(change).max() < SETTLED:
            return count, [float(weight) for weight in weights]
    sys.exit(f"the coefficients did not settle within {MOST_STEPS} steps: use a larger --penalty")


def parse_rows(text: str, columns: int) -> list[list[float]]:
    """Return one row for each line of `text` (semicolons separate rows, too), or end with a sentence."""
    lines = [line for line in text.replace(";", "\n").splitlines() if line.strip()]
    try:
        rows = [[float(cell) for cell in line.replace(",", " ").split()] for line in lines]
    except ValueError:
        sys.exit("the rows must have numbers only")
    if not 0 < len(rows) <= MOST_ROWS or any(len(row) != columns + 1 for row in rows):
        sys.exit(f"expected 1 to {MOST_ROWS} rows of {columns + 1} numbers (--columns {columns}, and then 0 or 1)")
    if not all(abs(value) <= LIMIT for row in rows for value in row):
        sys.exit(f"the numbers of a row must be from {-LIMIT} to {LIMIT}")
    if not all(row[-1] in (0, 1) for row in rows):
        sys.exit("the last number of a row must be 0 or 1")
    return rows


def made_up(columns: int) -> list[list[float]]:
    """Return rows in which the columns make a 1 more or less likely by turns, the same ones at each run."""
    source = random.Random(mpc.pid)
    rows = []
    for _ in range(DEMO_ROWS):
        xs = [round(source.uniform(-2, 2), 2) for _ in range(columns)]
        odds = math.exp(0.5 + sum(-x if i % 2 else 1.5 * x for i, x in enumerate(xs)))
        rows.append([*xs, float(source.random() < odds / (1 + odds))])
    return rows


async def main(rows: list[list[float]], penalty: float) -> None:
    """Fit the model in secret, and print it."""
    async with mpc:
        count, weights = await fit(rows, penalty)
    terms = (f"{weight:+.5f}{f' x{i}' if i else ''}" for i, weight in enumerate(weights))
    columns = len(weights) - 1
    print(f"{count} rows, {columns} explaining column{'s' * (columns > 1)}: log odds of a 1 =", *terms)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--columns", type=int, required=True, help="explaining columns; the same for all parties")
    parser.add_argument(
        "--penalty", type=float, default=1.0, help="on large coefficients; the same for all parties (1)"
    )
    add_private_arguments(parser, "table")
    arguments = parser.parse_args()
    if not 1 <= arguments.columns <= MOST_COLUMNS or not 0 <= arguments.penalty <= LIMIT:
        sys.exit(f"--columns must be from 1 to {MOST_COLUMNS}, --penalty from 0 to {LIMIT}")
    if arguments.demo:
        mpc.run(main(made_up(arguments.columns), arguments.penalty))
    else:
        text = private_text(arguments, "table", ())
        mpc.run(main(parse_rows(text, arguments.columns), arguments.penalty))
