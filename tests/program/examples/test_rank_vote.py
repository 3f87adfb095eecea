"""The run-off has the winner that counting open ballots gives."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.examples import call_parties, read_input, run_parties


def winner_in_the_clear(rankings: Sequence[Sequence[int]], candidates: int) -> int:
    left = list(range(candidates))
    while len(left) > 1:
        choices = [next((candidate for candidate in ranking if candidate in left), None) for ranking in rankings]
        fewest = min(choices.count(candidate) for candidate in left)
        left.remove([candidate for candidate in left if choices.count(candidate) == fewest][-1])
    return left[0]


@pytest.mark.parametrize(("parties", "candidates"), [(1, 3), (3, 2), (3, 4), (5, 4), (5, 5)])
def test_the_winner_is_that_of_open_ballots(tmp_path: Path, parties: int, candidates: int) -> None:
    source = random.Random(f"{parties} {candidates}")
    elections = [
        [source.sample(range(candidates), source.randint(1, candidates)) for _ in range(parties)] for _ in range(12)
    ]
    cases = [[(ranking, candidates) for ranking in rankings] for rankings in elections]
    found = call_parties(tmp_path, "rank_vote", "winner", cases)
    assert found == [[winner_in_the_clear(rankings, candidates)] * parties for rankings in elections]


# The candidate with the most first places loses once the ballots of a third one move on.
def test_ballots_of_a_candidate_that_leaves_count_for_the_next(tmp_path: Path) -> None:
    rankings = ["tea", "tea", "coffee > cocoa", "coffee > cocoa", "cocoa > coffee"]
    printed = run_parties(tmp_path, "rank_vote", read_input("tea,coffee,cocoa"), rankings)
    assert printed == ["winner of 5 ballots: coffee\n"] * 5
