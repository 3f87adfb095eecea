"""Linear regression over the rows of all parties.

Each party has rows of whole numbers: some explaining columns, and a last column to explain. All learn how many rows
each party has, and the exact coefficients of the least-squares fit over all rows, but nothing else. The rows are shared
as arrays, so there are few messages, but large ones. Without --input, the program makes rows up, the same ones at each
run.
"""

# /// script
# dependencies = ["mpyc", "numpy"]
#
# [tool.onionmpc]
# version = 1
# title = "Linear regression over the rows of all parties"
# reveals = "how many rows each party has, and the coefficients of the fit over all rows, to all parties"
#
# [[tool.onionmpc.public]]
# name = "columns"
# label = "Number of explaining columns (3)"
# type = "integer"
# min = 1
# max = 8
# option = "--columns"
# optional = true
#
# [[tool.onionmpc.public]]
# name = "rows"
# label = "Number of rows to make up for a party that gives none (100)"
# type = "integer"
# min = 1
# max = 10_000
# option = "--rows"
# optional = true
#
# [[tool.onionmpc.input]]
# name = "table"
# label = "Your rows"
# help = "Each row has the explaining columns first, and then the column to explain. Without rows, some are made up."
# type = "table"
# cells = "integer"
# min = -10_000
# max = 10_000
# max-rows = 10_000
# option = "--input"
# optional = true
#
# [tool.onionmpc.output]
# type = "value"
# ///

from __future__ import annotations

import argparse
import random
import secrets
import sys
from fractions import Fraction

import numpy as np
from mpyc import gmpy
from mpyc.runtime import mpc
from private_input import add_private_arguments, integers, private_text

LIMIT = 10_000  # of a number in a row
MOST_ROWS = 10_000
MOST_COLUMNS = 8
NOISE = 50  # of the made-up rows


def made_up(rows: int, columns: int, seed: int) -> list[list[int]]:
    """Return rows around y = 7 + 2 x1 - 3 x2 + 2 x3 - 3 x4 ..., the same ones for the same seed and party."""
    source = random.Random(f"{seed} {mpc.pid}")
    table = []
    for _ in range(rows):
        xs = [source.randint(-100, 100) for _ in range(columns)]
        y = 7 + sum((-3 if i % 2 else 2) * x for i, x in enumerate(xs)) + source.randint(-NOISE, NOISE)
        table.append([*xs, y])
    return table


def parse_rows(text: str, columns: int) -> list[list[int]]:
    """Return one row for each line of `text` (semicolons separate rows, too), or end with a sentence."""
    lines = text.replace(";", "\n").splitlines()
    rows = [integers(line, "numbers of a row", -LIMIT, LIMIT) for line in lines if line.strip()]
    if not 0 < len(rows) <= MOST_ROWS or any(len(row) != columns + 1 for row in rows):
        sys.exit(
            f"expected 1 to {MOST_ROWS} rows of {columns + 1} numbers (--columns {columns}, and the one to explain)"
        )
    return rows


def prime_for(columns: int) -> int:
    """Return a prime that is large enough to recover the coefficients, which are quotients of two determinants.

    Hadamard's bound limits the determinants. A quotient is unique modulo a prime above twice the bound's square.
    """
    unknowns = columns + 1
    sum_of_products = len(mpc.parties) * MOST_ROWS * LIMIT**2
    determinant = (unknowns * sum_of_products**2) ** ((unknowns + 1) // 2)
    return int(gmpy.next_prime(2 * determinant**2))


def coefficients(equations: np.ndarray, prime: int) -> list[Fraction] | None:
    """Solve the equations [A | b] modulo the prime. Return None if there are not enough different rows."""
    try:
        solution = np.linalg.solve(equations[:, :-1], equations[:, -1:])
    except (ZeroDivisionError, np.linalg.LinAlgError):
        return None
    return [Fraction(*gmpy.ratrec(int(value) % prime, prime)) for value in solution.flat]


async def main(rows: list[list[int]]) -> None:
    """Share the rows, compute the normal equations in secret, mask them, open them and solve them."""
    table = np.array([[1, *row] for row in rows], dtype=object)
    unknowns = table.shape[1] - 1
    prime = prime_for(unknowns - 1)
    field = mpc.SecFld(modulus=prime)
    async with mpc:
        counts = await mpc.transfer(len(rows))
        if not all(isinstance(count, int) and 0 < count <= MOST_ROWS for count in counts):
            raise ValueError(f"a party has more than {MOST_ROWS} rows")
        tables = [
            mpc.input(
                field.array(table if party == mpc.pid else np.zeros((count, unknowns + 1), object)), senders=party
            )
            for party, count in enumerate(counts)
        ]
        data = mpc.np_vstack(tables)
        equations = (data.T @ data)[:-1]
        # Multiplied by a random matrix that no party knows, the equations reveal only their solution.
        mask = sum(mpc.input(field.array(random_matrix(unknowns, prime))))
        opened = await mpc.output(mask @ equations)
    fit = coefficients(opened, prime)
    if fit is None:
        sys.exit("the rows of all parties together do not determine the coefficients")
    print(f"{sum(counts)} rows: y =", " ".join(f"{float(c):+.4f}{f' x{i}' if i else ''}" for i, c in enumerate(fit)))


def random_matrix(size: int, prime: int) -> np.ndarray:
    """Return a square matrix of random numbers below the prime."""
    return np.array([[secrets.randbelow(prime) for _ in range(size)] for _ in range(size)], dtype=object)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--columns", type=int, default=3, help="explaining columns; the same for all parties (3)")
    parser.add_argument("--rows", type=int, default=100, help="rows to make up for each party (100)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the made-up rows (1)")
    add_private_arguments(parser, "table")
    arguments = parser.parse_args()
    if not 1 <= arguments.columns <= MOST_COLUMNS or not 1 <= arguments.rows <= MOST_ROWS:
        sys.exit(f"--columns must be from 1 to {MOST_COLUMNS}, --rows from 1 to {MOST_ROWS}")
    if arguments.demo or not (arguments.table or arguments.input):
        mpc.run(main(made_up(arguments.rows, arguments.columns, arguments.seed)))
    else:
        mpc.run(main(parse_rows(private_text(arguments, "table", ()), arguments.columns)))
