"""Mutual wishes are found, and no party is sent anything from which it could learn of another wish."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest

from tests.support.examples import call_parties, read_input, run_parties

NAMES = ["Ann", "Bob", "Cleo", "Dan", "Eve"]


@pytest.mark.parametrize("parties", [2, 3, 5])
def test_each_party_learns_its_mutual_wishes(tmp_path: Path, parties: int) -> None:
    source = random.Random(parties)
    names = NAMES[:parties]
    all_wishes = [[source.sample(names, source.randint(0, parties)) for _ in names] for _ in range(20)]
    found = call_parties(tmp_path, "match", "mutual", [[(names, wishes) for wishes in each] for each in all_wishes])
    for wishes, results in zip(all_wishes, found, strict=True):
        for (one, name), result in zip(enumerate(names), results, strict=True):
            assert result == [
                other
                for two, other in enumerate(names)
                if other != name and other in wishes[one] and name in wishes[two]
            ]


# What a party is sent is its row of the table that is opened to it: these must not depend on wishes it does not share.
def test_the_results_of_a_party_do_not_depend_on_wishes_for_it_that_it_does_not_share(tmp_path: Path) -> None:
    wishes_of_others = [[[], ["Ann"]], [[], ["Ann"]]]
    cases = [
        [(NAMES[:3], []), (NAMES[:3], bob), (NAMES[:3], cleo)] for bob, cleo in itertools.product(*wishes_of_others)
    ]
    assert call_parties(tmp_path, "match", "mutual", cases) == [[[], [], []]] * 4


def test_names_are_exchanged_and_a_mistyped_wish_is_reported_to_its_party_alone(tmp_path: Path) -> None:
    inputs = ["Ann\nBob, Cleo", "Bob\nAnn\nDan", "Cleo"]
    assert run_parties(tmp_path, "match", read_input(), inputs) == [
        "Ann meets: Bob\n",
        "no party is called: Dan\nBob meets: Ann\n",
        "Cleo meets: no one\n",
    ]
