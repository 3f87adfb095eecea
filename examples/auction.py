"""A sealed-bid auction in which the winner pays the second-highest bid (Vickrey).

Each party bids. All learn who wins, and the price: the highest bid of the others. Nobody learns the winning bid, or who
bid the price. If the highest bids are equal, the party with the lowest number wins.
"""

# /// script
# dependencies = ["mpyc"]
#
# [tool.onionmpc]
# version = 1
# title = "Sealed-bid auction"
# reveals = "who wins, and the price, which is the second-highest bid, to all parties"
#
# [[tool.onionmpc.input]]
# name = "bid"
# label = "Your bid"
# type = "integer"
# min = 0
# max = 1_000_000_000
# option = "--input"
#
# [tool.onionmpc.output]
# type = "value"
# ///

from __future__ import annotations

import argparse

from mpyc.runtime import mpc
from private_input import add_private_arguments, private_integer

HIGHEST = 10**9
SAMPLES = (310, 450, 275)


async def main(bid: int) -> None:
    """Find the highest bid in secret, then the highest of the other bids."""
    secint = mpc.SecInt(HIGHEST.bit_length() + 2)
    async with mpc:
        bids = mpc.input(secint(bid))
        winner = int(await mpc.output(mpc.argmax(bids)[0]))
        others = bids[:winner] + bids[winner + 1 :]
        price = int(await mpc.output(mpc.max(others))) if others else 0
    print(f"winner: party {winner}, price: {price}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_private_arguments(parser, "bid")
    mpc.run(main(private_integer(parser.parse_args(), "bid", SAMPLES, HIGHEST)))
