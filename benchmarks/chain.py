"""Multiplies secret numbers, one product after the other: a program of many rounds in which little is computed.

Usage: chain.py ROUNDS WIDTH: so many rounds of so many products side by side. Each product is a message of its own to
each peer, as in a program that computes on many values.
"""

from __future__ import annotations

import sys

from mpyc.runtime import mpc


async def main(rounds: int, width: int) -> None:
    """Share ones, multiply, and print the products."""
    secint = mpc.SecInt(32)
    async with mpc:
        factors = mpc.input([secint(1)] * width, senders=0)
        products = factors
        for _ in range(rounds):
            products = [product * factor for product, factor in zip(products, factors, strict=True)]
        print(await mpc.output(products))


if __name__ == "__main__":
    mpc.run(main(int(sys.argv[1]), int(sys.argv[2])))
