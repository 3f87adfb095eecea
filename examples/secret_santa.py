"""Who gives a present to whom.

No party draws itself, each is drawn once, and each learns only whom it drew. There is no input.
"""

# /// script
# dependencies = ["mpyc"]
#
# [tool.onionmpc]
# version = 1
# title = "Who gives a present to whom"
# reveals = "to each party, only whom it gives a present to"
#
# [tool.onionmpc.output]
# type = "value"
# ///

from __future__ import annotations

import argparse
import sys

from mpyc.runtime import mpc

SMALLEST_PRIME = 257  # above the number of parties


async def main() -> None:
    """Draw a random permutation without a fixed point in secret, and give each party its own entry."""
    field = mpc.SecFld(modulus=SMALLEST_PRIME)
    async with mpc:
        drawn = mpc.random.random_derangement(field, len(mpc.parties))
        mine = [await mpc.output(entry, receivers=party) for party, entry in enumerate(drawn)][mpc.pid]
    print(f"party {mpc.pid} gives a present to party {int(mine)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--demo", action="store_true", help="has no effect: there is no input to make up")
    parser.parse_args()
    if len(mpc.parties) < 2:
        sys.exit("secret_santa needs at least two parties")
    mpc.run(main())
