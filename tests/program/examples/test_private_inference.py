"""The classes are those of the same model in the clear, for a network and for a logistic model."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

from tests.support.examples import EXAMPLES, call_parties, read_input, run_parties

DATA = runpy.run_path(str(EXAMPLES / "digits_data.py"))


def classes_in_the_clear(images: list[list[int]]) -> list[int]:
    """Apply the network to pixels from 0 to 1 with floating-point numbers."""
    first, second = (np.array(layer) / DATA["FACTOR"] for layer in DATA["LAYERS"])
    hidden = (np.array(images) / 16 @ first[:, :-1].T + first[:, -1]) ** 2
    return [int(number) for number in (hidden @ second[:, :-1].T + second[:, -1]).argmax(axis=1)]


@pytest.mark.parametrize("sizes", [(4, 9), pytest.param((1, 6, 2, 3), marks=pytest.mark.weekly)])
def test_digits_are_read_as_by_the_network_in_the_clear(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    images = iter(DATA["IMAGES"])
    rows = [[next(images) for _ in range(size)] for size in sizes]
    case = [(DATA["LAYERS"], []), *(([], mine) for mine in rows)]
    [found] = call_parties(tmp_path, "private_inference", "classify", [case])
    assert found == [[], *map(classes_in_the_clear, rows)]


def test_the_network_reads_nearly_all_digits_that_it_has_not_seen() -> None:
    found = classes_in_the_clear(DATA["IMAGES"])
    assert sum(one == other for one, other in zip(found, DATA["DIGITS"], strict=True)) >= len(found) - 2


def test_a_logistic_model_says_on_which_side_of_its_line_a_row_is(tmp_path: Path) -> None:
    model = json.dumps([[[1.5, -1, 0.25]]])
    printed = run_parties(tmp_path, "private_inference", read_input(), [model, "1, 1\n0, 1", "-0.125 0; 0 0.25; 2 -3"])
    assert printed == [
        "the model was applied to the rows of the others\n",
        "classes: 1 0\n",
        "classes: 1 0 1\n",
    ]
