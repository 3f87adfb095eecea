"""The average salary of all parties.

Each party puts in its salary. All learn the total, and so the average, but nothing else. With two parties, each can
work out the other's salary from that.
"""

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
