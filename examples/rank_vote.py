# /// script
# dependencies = ["mpyc"]
#
# [tool.onionmpc]
# version = 1
# title = "Instant run-off"
# reveals = "all parties learn the winner, but no totals, no order in which the others left, and no ranking"
# min-parties = 3
#
# [[tool.onionmpc.public]]
# name = "candidates"
# label = "The candidates"
# type = "text"
# many = true
# min-count = 2
# max-count = 8
# demo = "tea,coffee,cocoa,water"
#
# [[tool.onionmpc.input]]
# name = "ranking"
# label = "Your ranking, the best candidate first"
# type = "text"
# many = true
# max-count = 8
# option = "--input"
#
# [tool.onionmpc.output]
# type = "pairs"
# ///
"""A secret ballot with rankings: the winner of an instant run-off.

All learn the winner, and nothing else: no totals, no order in which the others left, and no ranking.

The candidates are public. Each party ranks some or all of them, the best first. In each round, a ballot counts for the
best of its candidates that are left, and the candidate with the fewest ballots leaves. Of equals, the one that is last
in the list of candidates leaves.

hops: 14 with three parties and four candidates. One round after the other would take several hops a round, so this
program prepares all rounds at once. Each party works out by itself for whom its ballot counts among each possible set
of candidates that are left, and shares that. The totals of all sets are then compared in the same few hops.
"""

from __future__ import annotations

import argparse
import itertools
import re
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from mpyc.runtime import mpc
from private_input import add_private_arguments, different_names, private_text

MOST_CANDIDATES = 8  # there are 2**8 sets of them


def contests(candidates: int) -> list[tuple[int, ...]]:
    """Return each set of two or more candidates, the largest first."""
    numbers = range(candidates)
    return [left for size in range(candidates, 1, -1) for left in itertools.combinations(numbers, size)]


def ballots(ranking: Sequence[int], candidates: int) -> list[int]:
    """Return, for each contest and each candidate in it, 1 if the ballot counts for this candidate, otherwise 0."""
    entries = []
    for left in contests(candidates):
        choice = next((candidate for candidate in ranking if candidate in left), None)
        entries += [int(candidate == choice) for candidate in left]
    return entries


def losers(totals: Any, candidates: int) -> Any:
    """Return, for each contest and each candidate in it, a secret 1 if this candidate leaves, otherwise 0."""
    lefts = contests(candidates)
    starts = itertools.accumulate(map(len, lefts), initial=0)
    pairs = {
        (left, one, other): (start + left.index(one), start + left.index(other))
        for left, start in zip(lefts, starts, strict=False)
        for one, other in itertools.combinations(left, 2)
    }
    first, second = np.array([*pairs.values()]).T
    bits = len(mpc.parties).bit_length() + 1  # of a difference between two totals, with its sign
    fewer = mpc.np_sgn(totals[first] - totals[second], l=bits, LT=True)
    # Three rows in one: "the first has fewer", "the second has no more", and ones to fill up smaller contests.
    count = len(pairs)
    known = mpc.np_concatenate((fewer, 1 - fewer, fewer[:1] * 0 + 1))
    place = {(left, one, other): number for number, (left, one, other) in enumerate(pairs)}
    place |= {(left, other, one): count + number for number, (left, one, other) in enumerate(pairs)}
    factors = [
        [place.get((left, candidate, other), 2 * count) for left in lefts for candidate in left]
        for other in range(candidates)
    ]
    return mpc.np_prod(known[np.array(factors)], axis=0)


def follow(leaves: list[Any], candidates: int) -> Any:
    """Return the secret number of the winner: start with all candidates, and take one loser out at a time."""
    entries = iter(leaves)
    leaving = {left: [next(entries) for _ in left] for left in contests(candidates)}
    reached: dict[tuple[int, ...], Any] = {}  # whether a contest takes place
    for size in range(candidates, 1, -1):
        lefts = [left for left in leaving if len(left) == size]
        moves = [bit for left in lefts for bit in leaving[left]]
        if reached:  # the first contest always takes place
            moves = mpc.schur_prod([reached[left] for left in lefts for _ in left], moves)
        following: dict[tuple[int, ...], Any] = {}
        for (left, place), move in zip(((left, place) for left in lefts for place in range(size)), moves, strict=True):
            rest = left[:place] + left[place + 1 :]
            following[rest] = following[rest] + move if rest in following else move
        reached = following
    return mpc.sum([bit * number for (number,), bit in reached.items()])


async def winner(ranking: Sequence[int], candidates: int) -> int:
    """Return the number of the winner.

    Args:
        ranking: the candidates' numbers on this party's ballot, the best first.
    """
    secint = mpc.SecInt(16)
    shared = mpc.input(secint.array(np.array(ballots(ranking, candidates))))
    leaves = losers(sum(shared), candidates)
    return int(await mpc.output(follow(mpc.np_tolist(leaves), candidates)))


def parse_ranking(text: str, names: list[str]) -> list[int]:
    """Return the numbers of the ranked candidates, or end with a sentence that does not repeat them."""
    ranked = [name.strip() for name in re.split(r"[,>\n]", text) if name.strip()]
    if not ranked or not set(ranked) <= set(names):
        sys.exit(f"the ranking must name some of these, the best first, with > between them: {', '.join(names)}")
    if len(set(ranked)) < len(ranked):
        sys.exit("the ranking must name each candidate at most once")
    return [names.index(name) for name in ranked]


async def main(names: list[str], ranking: list[int]) -> None:
    """Find the winner in secret, and print it."""
    async with mpc:
        number = await winner(ranking, len(names))
    print(f"winner of {len(mpc.parties)} ballots: {names[number]}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("candidates", help="names, separated by commas; the same for all parties")
    add_private_arguments(parser, "ranking")
    arguments = parser.parse_args()
    names = different_names(arguments.candidates, "candidates", 2, MOST_CANDIDATES)
    if ">" in "".join(names):
        sys.exit("the name of a candidate must not have a >, which separates the candidates of a ranking")
    samples = [" > ".join(names), names[-1], " > ".join(names[1:])]
    mpc.run(main(names, parse_ranking(private_text(arguments, "ranking", samples), names)))
