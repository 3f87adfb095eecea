"""Multiplies one after the other, and prints as JSON what a round took and how large this process was.

The program of `scale`. Usage: rounds.py ROUNDS. Knows mpyc, and nothing of how the parties are connected.
"""

from __future__ import annotations

import json
import sys
import time

from common import memory_of
from mpyc.runtime import mpc


async def main(rounds: int) -> None:
    """Share a one, multiply it with itself, and print."""
    secint = mpc.SecInt(32)
    async with mpc:
        (one,) = mpc.input([secint(1)], senders=0)
        # All parties compute from here on: the slowest process to start is no round.
        await mpc.output(one)
        before_s = time.monotonic()
        product = one
        for _ in range(rounds):
            product = product * one
        if await mpc.output(product) != 1:
            raise ArithmeticError("a product of ones is not one")
        took_s = time.monotonic() - before_s
    # The last output is a round as well.
    print(json.dumps({"round_s": took_s / (rounds + 1), **memory_of("self")}))


if __name__ == "__main__":
    mpc.run(main(int(sys.argv[1])))
