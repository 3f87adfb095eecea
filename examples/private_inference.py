# /// script
# dependencies = ["mpyc", "numpy"]
#
# [tool.onionmpc]
# version = 1
# title = "One party's model, the others' rows"
# reveals = """each party learns the classes of its own rows; all learn the sizes of the model's layers and how many \
# rows each party has"""
# min-parties = 3
#
# [[tool.onionmpc.input]]
# name = "data"
# label = "Your rows (CSV); the host instead gives the model (JSON)"
# type = "file"
# option = "--input"
#
# [tool.onionmpc.output]
# type = "value"
# ///
"""Applies the model of one party to the rows of the others: a logistic model, or a small network.

Party 0, the host, has a model. The other parties have rows. Each learns the class of each of its own rows. All learn
the sizes of the model's layers, and how many rows each party has. Nobody learns anything else about the model or the
rows of others: not even scores, from a few of which one could work out a logistic model.

hops: 23 with three parties and the network that reads digits, fewer with a logistic model.

accuracy: numbers in rows are rounded to 1/16, weights to 1/256. The rest is exact, so the classes are those of the
rounded model. The one that --demo uses is right about as many images as digits_data.py says.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from digits_data import IMAGES, LAYERS
from mpyc.runtime import mpc
from private_input import add_private_arguments, private_text

ROW_BITS, WEIGHT_BITS = 4, 8  # after the binary point
LARGEST_IN_ROW, LARGEST_WEIGHT = 64, 64
MOST_ROWS = 1000
MOST_COLUMNS = 256  # of a layer
MOST_LAYERS = 3
MOST_CLASSES = 20

Matrix = Sequence[Sequence[int]]  # of whole numbers: a row for each output of a layer, the last column is added


def bits_of_scores(shapes: Sequence[tuple[int, int]]) -> int:
    """Return how many bits a score can have, with its sign."""
    bits = LARGEST_IN_ROW.bit_length() + ROW_BITS
    for number, (_, columns) in enumerate(shapes):
        bits = 2 * bits if number else bits  # squares come before each further layer
        bits += LARGEST_WEIGHT.bit_length() + WEIGHT_BITS + columns.bit_length()
    return bits + 1


def scores(rows: Any, layers: Sequence[Any]) -> Any:
    """Return the scores of each row, for secret or open arrays of whole numbers. There are squares between layers."""
    places = ROW_BITS
    for number, layer in enumerate(layers):
        if number:
            rows, places = rows * rows, 2 * places
        rows = rows @ layer[:, :-1].T + layer[:, -1] * 2**places
        places += WEIGHT_BITS
    return rows


def largest(table: Any, bits: int) -> Any:
    """Return for each row the secret number of its largest entry, the first of equal ones."""
    _, classes = table.shape
    pairs = [*itertools.combinations(range(classes), 2)]
    first, second = np.array(pairs).T
    columns = table.T
    smaller = mpc.np_sgn(columns[first] - columns[second], l=bits + 1, LT=True)
    known = mpc.np_vstack((1 - smaller, smaller))
    place = {(one, other): number for number, (one, other) in enumerate(pairs)}
    place |= {(other, one): len(pairs) + number for number, (one, other) in enumerate(pairs)}
    factors = [[place[one, other] for other in range(classes) if other != one] for one in range(classes)]
    is_largest = mpc.np_prod(known[np.array(factors).T], axis=0)
    return np.sum(is_largest * np.arange(classes).reshape(classes, 1), axis=0)


async def classify(layers: Sequence[Matrix], rows: Matrix) -> list[int]:
    """Return the class of each of this party's rows.

    Args:
        layers: the model, at party 0; each matrix has a column more than the one before has rows.
        rows: the rows, at other parties.
    """
    shapes = await mpc.transfer([(len(layer), len(layer[0])) for layer in layers], senders=0)
    counts = await mpc.transfer((len(rows), len(rows[0]) if rows else 0))
    check(shapes, counts)
    bits = bits_of_scores(shapes)
    secint = mpc.SecInt(bits + 1)
    own = mpc.pid == 0
    model = [
        mpc.input(secint.array(np.array(layers[number] if own else np.zeros(shape), dtype=object)), senders=0)
        for number, shape in enumerate(shapes)
    ]
    shared = [
        mpc.input(secint.array(np.array(rows if party == mpc.pid else np.zeros(shape), dtype=object)), senders=party)
        for party, shape in enumerate(counts)
        if party
    ]
    table = scores(mpc.np_vstack(shared), model)
    if shapes[-1][0] == 1:  # class 1 if the score is above 0
        table = mpc.np_hstack((table * 0, table))
    classes = largest(table, bits)
    ends = [*itertools.accumulate(count for count, _ in counts)]
    opened = [mpc.output(classes[ends[party - 1] : ends[party]], receivers=party) for party in range(1, len(counts))]
    return [] if own else [int(number) for number in await opened[mpc.pid - 1]]


def check(shapes: Any, counts: Any) -> None:
    """Raise an error unless what the parties say about their inputs fits together."""
    numbers = [number for pair in (*shapes, *counts) for number in pair]
    if not all(isinstance(number, int) and 0 <= number <= MOST_ROWS for number in numbers):
        raise ValueError("a party says that its input has an impossible size")
    sizes = [shapes[0][1] - 1, *(outputs for outputs, _ in shapes)]
    if len(shapes) > MOST_LAYERS or any(size != columns - 1 for size, (_, columns) in zip(sizes, shapes, strict=False)):
        raise ValueError("the layers of the model do not fit together")
    for party, (count, columns) in enumerate(counts):
        if party and (count == 0 or columns != sizes[0]):
            sys.exit(f"party {party} has {count} rows of {columns} columns, expected rows of {sizes[0]} columns")


def parse_model(text: str) -> list[list[list[int]]]:
    """Return the layers from JSON, or end with a sentence."""
    try:
        layers = [np.array(layer, dtype=float) for layer in json.loads(text)]
    except (ValueError, TypeError):
        layers = []
    fits = all(layer.ndim == 2 and 2 <= layer.shape[1] <= MOST_COLUMNS + 1 for layer in layers) and all(
        one.shape[0] == other.shape[1] - 1 for one, other in itertools.pairwise(layers)
    )
    if not 1 <= len(layers) <= MOST_LAYERS or not fits or not 1 <= len(layers[-1]) <= MOST_CLASSES:
        sys.exit(f"the model must be a JSON list of 1 to {MOST_LAYERS} matrices that fit together")
    if not all((np.abs(layer) <= LARGEST_WEIGHT).all() for layer in layers):
        sys.exit(f"the weights of the model must be from -{LARGEST_WEIGHT} to {LARGEST_WEIGHT}")
    return [[[round(float(weight) * 2**WEIGHT_BITS) for weight in row] for row in layer] for layer in layers]


def parse_rows(text: str) -> list[list[int]]:
    """Return one row for each line of `text` (semicolons separate rows, too), or end with a sentence."""
    lines = [line for line in text.replace(";", "\n").splitlines() if line.strip()]
    try:
        rows = [[float(cell) for cell in line.replace(",", " ").split()] for line in lines]
    except ValueError:
        sys.exit("the rows must have numbers only")
    if not 0 < len(rows) <= MOST_ROWS or len({len(row) for row in rows}) > 1:
        sys.exit(f"expected 1 to {MOST_ROWS} rows of equally many numbers")
    if not all(abs(number) <= LARGEST_IN_ROW for row in rows for number in row):
        sys.exit(f"the numbers of a row must be from -{LARGEST_IN_ROW} to {LARGEST_IN_ROW}")
    return [[round(number * 2**ROW_BITS) for number in row] for row in rows]


async def main(layers: Sequence[Matrix], rows: Matrix) -> None:
    """Classify the rows in secret, and print the classes of this party's own."""
    async with mpc:
        classes = await classify(layers, rows)
    print("classes:", *classes) if rows else print("the model was applied to the rows of the others")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_private_arguments(parser, "data")
    arguments = parser.parse_args()
    if len(mpc.parties) < 2:
        sys.exit("private_inference needs at least two parties: party 0 has the model, the others have rows")
    if arguments.demo:  # an image has numbers from 0 to 16, and the network was trained with 1/16 of them
        mine = IMAGES[mpc.pid :: len(mpc.parties)][:4]
        mpc.run(main(*((LAYERS, []) if mpc.pid == 0 else ([], mine))))
    elif mpc.pid == 0:
        mpc.run(main(parse_model(private_text(arguments, "data", ())), []))
    else:
        mpc.run(main([], parse_rows(private_text(arguments, "data", ()))))
