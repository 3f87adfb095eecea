"""A secret ballot.

The candidates are public. Each party votes for one of them. All learn how many votes each candidate got. A vote is a
secret-shared row of zeros with a single one. If a party shares anything else, such as a two or two ones, its vote does
not count, and nobody learns whose vote that was.
"""

# /// script
# dependencies = ["mpyc"]
#
# [tool.onionmpc]
# version = 1
# title = "Secret ballot"
# reveals = "how many votes each candidate got, and how many votes were invalid, to all parties"
# min-parties = 3
#
# [[tool.onionmpc.public]]
# name = "candidates"
# label = "The candidates"
# type = "text"
# many = true
# min-count = 2
# max-count = 100
# demo = "yes,no"
#
# [[tool.onionmpc.input]]
# name = "vote"
# label = "Your vote"
# type = "choice"
# choices-from = "candidates"
# option = "--input"
#
# [tool.onionmpc.output]
# type = "pairs"
# label = "Votes"
# chart = "bars"
# ///

from __future__ import annotations

import argparse
import sys
from typing import Any

from mpyc.runtime import mpc
from private_input import add_private_arguments, different_names, private_text

PRIME = 257  # above the number of parties, so that no total wraps around; small, so that is_zero() takes few steps
MOST_CANDIDATES = 100


def one_if_valid(vote: list[Any]) -> Any:
    """Return a secret one if `vote` is a single one among zeros, otherwise a secret zero."""
    # Both checks are needed: [2, -1, 0] has the sum 1, and [1, 1, 0] has only bits.
    not_a_bit = [entry * (entry - 1) for entry in vote]
    not_one_vote = mpc.sum(vote) - 1
    return mpc.prod([mpc.is_zero(mistake) for mistake in [*not_a_bit, not_one_vote]])


async def main(candidates: list[str], choice: int) -> None:
    """Add up the valid votes in secret and print the totals."""
    field = mpc.SecFld(modulus=PRIME)
    async with mpc:
        votes = mpc.input([field(int(number == choice)) for number in range(len(candidates))])
        counted = [mpc.scalar_mul(one_if_valid(vote), vote) for vote in votes]
        sums = [mpc.sum(list(column)) for column in zip(*counted, strict=True)]
        totals = [int(total) for total in await mpc.output(sums)]
    for candidate, total in zip(candidates, totals, strict=True):
        print(f"{candidate}: {total}")
    print(f"invalid: {len(mpc.parties) - sum(totals)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("candidates", help="names, separated by commas; the same for all parties")
    add_private_arguments(parser, "vote")
    arguments = parser.parse_args()
    names = different_names(arguments.candidates, "candidates", 2, MOST_CANDIDATES)
    chosen = private_text(arguments, "vote", [names[0], names[-1], names[0]])
    if chosen not in names:
        sys.exit(f"the vote must be for one of: {', '.join(names)}")
    mpc.run(main(names, names.index(chosen)))
