"""The average salary of all parties.

Each party puts in its salary. All learn the total, and so the average, but nothing else. With two parties, each can
work out the other's salary from that.
"""

# /// script
# dependencies = ["mpyc"]
#
# [tool.onionmpc]
# version = 1
# title = "Average salary"
# reveals = "the total of all salaries, and so the average, to all parties"
# min-parties = 3
#
# [[tool.onionmpc.input]]
# name = "salary"
# label = "Your salary"
# help = "All parties give it in the same unit, such as euros a month."
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
SAMPLES = (3900, 4100, 4600)


async def main(salary: int) -> None:
    """Add the salaries up in secret and print their average."""
    secint = mpc.SecInt(48)  # the total of 256 salaries, MPyC's maximum, still fits
    async with mpc:
        salaries = mpc.input(secint(salary))
        total = await mpc.output(mpc.sum(salaries))
    print(f"average salary of {len(mpc.parties)} parties: {round(total / len(mpc.parties))}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_private_arguments(parser, "salary")
    mpc.run(main(private_integer(parser.parse_args(), "salary", SAMPLES, HIGHEST)))
