"""Sorts the numbers of all parties.

Each party puts in numbers. All learn how many each party has, and all numbers in order, but not whose they are. With
--count, the program makes numbers up, the same ones at each run, to measure how long sorting takes.
"""

# /// script
# dependencies = ["mpyc"]
#
# [tool.onionmpc]
# version = 1
# title = "Sort the numbers of all parties"
# reveals = "how many numbers each party has, and all numbers in order, but not whose they are, to all parties"
#
# [[tool.onionmpc.public]]
# name = "count"
# label = "How many numbers to make up in total, to measure how long sorting takes"
# type = "integer"
# min = 1
# max = 10_000
# option = "--count"
# optional = true
#
# [[tool.onionmpc.input]]
# name = "numbers"
# label = "Your numbers"
# help = "Not needed if they are made up."
# type = "integer"
# many = true
# min = -1_000_000_000
# max = 1_000_000_000
# option = "--input"
# optional = true
#
# [tool.onionmpc.output]
# type = "value"
# ///

from __future__ import annotations

import argparse
import random
import sys

from mpyc.runtime import mpc
from private_input import add_private_arguments, integers, private_text

LIMIT = 10**9
MOST_NUMBERS = 10_000
SAMPLES = ("17 4 -8", "23 4", "0 99 5")


def made_up(count: int) -> list[int]:
    """Return this party's part of `count` made-up numbers, the same ones at each run."""
    numbers = random.Random(count).choices(range(-LIMIT, LIMIT + 1), k=count)
    return numbers[mpc.pid :: len(mpc.parties)]


async def main(numbers: list[int]) -> None:
    """Share the numbers, sort them in secret, and print them."""
    secint = mpc.SecInt(LIMIT.bit_length() + 2)  # one bit for the sign, and one because a comparison subtracts
    async with mpc:
        counts = await mpc.transfer(len(numbers))
        if not all(isinstance(count, int) and 0 < count <= MOST_NUMBERS for count in counts):
            raise ValueError(f"a party has more than {MOST_NUMBERS} numbers")
        shared = []
        for party, count in enumerate(counts):
            values = numbers if party == mpc.pid else [0] * count  # only the sender's values count
            shared += mpc.input([secint(value) for value in values], senders=party)
        in_order = await mpc.output(mpc.sorted(shared))
    print(f"{len(in_order)} numbers in order:", *map(int, in_order))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, help="how many numbers to make up in total; the same for all parties")
    add_private_arguments(parser, "numbers", nargs="*")
    arguments = parser.parse_args()
    if arguments.count is None:
        text = private_text(arguments, "numbers", SAMPLES)
        mpc.run(main(integers(text, "numbers", -LIMIT, LIMIT)))
    elif len(mpc.parties) <= arguments.count <= MOST_NUMBERS:
        mpc.run(main(made_up(arguments.count)))
    else:
        sys.exit(f"--count must be from {len(mpc.parties)} (one for each party) to {MOST_NUMBERS}")
