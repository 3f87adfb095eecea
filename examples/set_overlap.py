# /// script
# dependencies = ["mpyc"]
#
# [tool.onionmpc]
# version = 1
# title = "Entries that all lists have in common"
# reveals = """all parties learn how many entries each list has (with pad-to: at most), how many are on all lists, and \
# if which is yes, those entries themselves"""
#
# [[tool.onionmpc.public]]
# name = "which"
# label = "Reveal which entries are on all lists, not only how many?"
# type = "yes/no"
# option = "--which"
# optional = true
#
# [[tool.onionmpc.public]]
# name = "pad-to"
# label = "Hide how many entries each list has: at most this many"
# type = "integer"
# min = 1
# max = 2000
# option = "--pad-to"
# optional = true
#
# [[tool.onionmpc.input]]
# name = "list"
# label = "Your list, one entry on each line"
# type = "file"
# option = "--input"
#
# [tool.onionmpc.output]
# type = "value"
# ///
"""How many entries all parties have in common, for example customers.

All learn how many different entries each list has (with --pad-to, only that it has at most so many), and how many are
on all lists. With --which yes, they also learn which. All else stays unknown: other entries, how often and in which
order a list has them, and what only some of the lists have in common.

Each party has a list with one entry on each line. Upper and lower case, and spaces at the ends, make no difference.

hops: 15 with three parties, and as many with more; 10 with --which yes. A party turns its list into a polynomial that
is zero at its entries alone. The sum of these polynomials, each times a random number, is zero where all of them are.
The program evaluates it at each entry of the shortest list, in two multiplications, and counts the zeros.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import secrets
import sys
import unicodedata
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from mpyc.runtime import mpc
from private_input import add_private_arguments, private_text

PRIME = 2**127 - 1  # two of 10,000 entries have the same digest with a probability of less than 10**-30
MOST_SECURITY = 41  # MPyC's -K; with more, it would use another test for zero, which fails for large numbers
MOST_ENTRIES = 2000
SAMPLES = ("ann\nbob\ncleo\ndan", "Bob\neve\ndan\ndan\nfred", "gus\nDan\nbob")


def digest(entry: str) -> int:
    """Return the hash that stands for an entry. It is shared as a secret, so nobody can try out entries."""
    return int.from_bytes(hashlib.sha256(entry.encode()).digest()) % PRIME


def normal(entry: str) -> str:
    """Return the form in which entries are compared."""
    return unicodedata.normalize("NFC", " ".join(entry.split())).casefold()


def polynomial(roots: Collection[int], length: int) -> list[int]:
    """Return the coefficients, the lowest first, of a random multiple of the product of all (x - root)."""
    coefficients = np.array([1 + secrets.randbelow(PRIME - 1)], dtype=object)
    for root in roots:
        shifted = np.concatenate(([0], coefficients))
        shifted[:-1] -= root * coefficients
        coefficients = shifted % PRIME
    return [*coefficients] + [0] * (length - len(coefficients))


def powers(numbers: Sequence[int], step: int, count: int) -> np.ndarray:
    """Return for each number x the row 1, x**step, x**(2 * step), ... of the given length."""
    return np.array([[pow(x, step * i, PRIME) for i in range(count)] for x in numbers], dtype=object)


def values(roots: Collection[int], numbers: Sequence[int], counts: Sequence[int]) -> tuple[Any, Any]:
    """Return the entries of the shortest list, and the value of the sum of all polynomials at each, as secret arrays.

    Args:
        roots: this party's entries.
        numbers: the same, filled up, and in any order.
        counts: the length of each party's list, filled up.
    """
    # Not mpc.SecFld: its test for zero takes as many hops as the prime has bits. That of mpc.SecInt takes seven,
    # and works for all numbers below the prime, not only for those of this length.
    secint = mpc.SecInt(PRIME.bit_length() - 2 - mpc.options.sec_param, PRIME)
    # The coefficients fill a square: a small and a large power of an entry make each of its powers, and there are few
    # of both.
    side = math.isqrt(max(counts)) + 1
    coefficients = np.array(polynomial(roots, side * side), dtype=object).reshape(side, side)
    total = sum(mpc.input(secint.array(coefficients)))
    shortest = counts.index(min(counts))
    known = numbers if mpc.pid == shortest else [0] * counts[shortest]  # only the sender's values count
    small, large = (mpc.input(secint.array(powers(known, step, side)), senders=shortest) for step in (1, side))
    return small[:, 1], np.sum((small @ total.T) * large, axis=1)


async def overlap(entries: Collection[str], pad_to: int, which: bool) -> list[str] | int:
    """Return how many entries all parties have in common, or which, if that is asked for.

    Args:
        entries: this party's, in the form in which they are compared; repetitions do not count.
        pad_to: how many entries each party has at most, which hides how many it has; 0 to reveal how many.
    """
    by_digest = {digest(entry): entry for entry in entries}
    # What fills a list up is random, so no other list has it. The order must not say anything about the entries.
    mine = [*by_digest, *(secrets.randbelow(PRIME) for _ in range(pad_to - len(by_digest)))]
    secrets.SystemRandom().shuffle(mine)
    counts = await mpc.transfer(len(mine))
    if not all(isinstance(count, int) and 0 < count <= MOST_ENTRIES for count in counts):
        raise ValueError(f"a party has no entries, or more than {MOST_ENTRIES}")
    digests, zero_if_common = values(by_digest, mine, counts)
    if not which:
        return int(await mpc.output(np.sum(zero_if_common == 0)))
    # Each value is multiplied by a random number before it is opened: only whether it is zero remains.
    is_common = await mpc.np_is_zero_public(zero_if_common)
    if not is_common.any():
        return []
    return sorted(by_digest[int(number) % PRIME] for number in await mpc.output(digests[np.flatnonzero(is_common)]))


async def main(entries: Collection[str], pad_to: int, which: bool) -> None:
    """Find the common entries in secret, and print them or their number."""
    async with mpc:
        common = await overlap(entries, pad_to, which)
    if isinstance(common, int):
        print(f"entries that all {len(mpc.parties)} parties have: {common}")
    else:
        print(f"entries that all {len(mpc.parties)} parties have: {len(common)}", *common, sep="\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--which", choices=["yes", "no"], default="no", help="reveal which entries are on all lists, too"
    )
    parser.add_argument("--pad-to", type=int, default=0, help="hide how many entries each has, up to this many")
    add_private_arguments(parser, "list")
    arguments = parser.parse_args()
    if not 8 <= mpc.options.sec_param <= MOST_SECURITY:
        sys.exit(f"-K must be from 8 to {MOST_SECURITY}")
    if not 0 <= arguments.pad_to <= MOST_ENTRIES:
        sys.exit(f"--pad-to must be from 1 to {MOST_ENTRIES}")
    lines = private_text(arguments, "list", SAMPLES).splitlines()
    entries = {entry for line in lines if (entry := normal(line))}
    if not 0 < len(entries) <= (arguments.pad_to or MOST_ENTRIES):
        sys.exit(f"the list must have 1 to {arguments.pad_to or MOST_ENTRIES} different entries, one on each line")
    mpc.run(main(entries, arguments.pad_to, arguments.which == "yes"))
