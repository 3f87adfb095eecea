"""The overlap is that of Python's sets, for lists of any sizes, with and without padding."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.support.examples import call_parties, read_input, run_parties


def made_up(parties: int, cases: int) -> list[list[list[str]]]:
    """Return lists of quite different lengths, with repetitions, that have some entries in common, or none."""
    source = random.Random(parties)
    return [
        [
            [str(source.randint(0, size)) for _ in range(source.choice([1, 5, 30]))] + ["x"] * source.randint(0, 1)
            for _ in range(parties)
        ]
        for size in source.choices([3, 20], k=cases)
    ]


@pytest.mark.parametrize("pad_to", [0, 40])
@pytest.mark.parametrize("parties", [1, 2, 3, pytest.param(5, marks=pytest.mark.weekly)])
def test_the_overlap_is_that_of_sets(tmp_path: Path, parties: int, pad_to: int) -> None:
    lists = made_up(parties, 8)
    expected = [set.intersection(*map(set, each)) for each in lists]
    for which in (False, True):
        cases = [[(entries, pad_to, which) for entries in each] for each in lists]
        found = call_parties(tmp_path, "set_overlap", "overlap", cases)
        assert found == [[sorted(common) if which else len(common)] * parties for common in expected]


def test_case_spaces_and_repetitions_make_no_difference(tmp_path: Path) -> None:
    lists = ["Ann  Smith\nbob\n", " bob \nann smith\nANN SMITH\n\n", "cleo\nAnn Smith"]
    head = "entries that all 3 parties have: 1\n"
    assert run_parties(tmp_path, "set_overlap", read_input(), lists) == [head] * 3
    assert run_parties(tmp_path, "set_overlap", read_input("--which", "yes"), lists) == [head + "ann smith\n"] * 3
