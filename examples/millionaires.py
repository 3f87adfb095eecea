"""Who is the richest?

Each party puts in the amount that it owns. All learn the number of the richest party, or of all richest ones if they
own the same. Nobody learns an amount.
"""

# /// script
# dependencies = ["mpyc"]
#
# [tool.onionmpc]
# version = 1
# title = "Who is the richest?"
# reveals = "which party owns the most, or which parties if they own the same, to all parties"
#
# [[tool.onionmpc.input]]
# name = "amount"
# label = "The amount that you own"
# type = "integer"
# min = 0
# max = 1_000_000_000_000
# option = "--input"
#
# [tool.onionmpc.output]
# type = "value"
# ///

from __future__ import annotations

import argparse

from mpyc.runtime import mpc
from private_input import add_private_arguments, private_integer

HIGHEST = 10**12
SAMPLES = (1_500_000, 7_250_000, 3_000_000)


async def main(amount: int) -> None:
    """Compare each amount with the highest one in secret, and print who owns that."""
    secint = mpc.SecInt(HIGHEST.bit_length() + 2)
    async with mpc:
        amounts = mpc.input(secint(amount))
        highest = mpc.max(amounts)
        richest = await mpc.output([owned >= highest for owned in amounts])
    print("richest:", ", ".join(f"party {number}" for number, is_richest in enumerate(richest) if is_richest))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_private_arguments(parser, "amount")
    mpc.run(main(private_integer(parser.parse_args(), "amount", SAMPLES, HIGHEST)))
