# /// script
# dependencies = ["mpyc"]
#
# [tool.onionmpc]
# version = 1
# title = "Who wants to meet whom"
# reveals = "each party learns which of its wishes are mutual, and so which are not; all learn the names of all parties"
#
# [[tool.onionmpc.input]]
# name = "name"
# label = "Your name, which all parties see"
# type = "text"
# max-length = 50
# option = "--input"
#
# [[tool.onionmpc.input]]
# name = "wishes"
# label = "The names of those you wish to meet"
# help = "Enter your own name if you wish to meet no one."
# type = "text"
# many = true
#
# [tool.onionmpc.output]
# type = "pairs"
# ///
"""Who wants to meet whom: of all wishes, only mutual ones are revealed.

Each party gives its name, and the names of those it wishes to meet. A party learns which of these wish to meet it, too.
So it also learns which do not. It learns nothing about those that it did not wish for, and a wish that is not returned
stays unknown to everyone else. The names are public.

hops: 8 with three parties, and as many with more.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Collection, Sequence

import numpy as np
from mpyc.runtime import mpc
from private_input import add_private_arguments, private_text

PRIME = 257
LONGEST_NAME = 50
INPUT = "name and wishes"
DEMO_NAMES = ("Ann", "Bob", "Cleo")


async def exchange(name: str) -> list[str]:
    """Tell all parties this party's name; return the names by party."""
    names = await mpc.transfer(name)
    if not all(isinstance(name, str) and is_name(name) for name in names):
        raise ValueError("a party's name is not valid")
    if len(set(names)) < len(names):
        sys.exit("two parties have the same name: one of them must use another name")
    return names


async def mutual(names: Sequence[str], wishes: Collection[str]) -> list[str]:
    """Return the names of the parties that this party wishes for and that wish for it.

    Args:
        names: the names of all parties, by party.
        wishes: names that this party wishes for; its own does not count.
    """
    field = mpc.SecFld(modulus=PRIME)
    mine = np.array([int(other in wishes and party != mpc.pid) for party, other in enumerate(names)])
    wished = mpc.np_vstack(mpc.input(field.array(mine)))
    both = wished * wished.T
    rows = [mpc.output(both[party], receivers=party) for party in range(len(names))]
    row = await rows[mpc.pid]
    # Anything but 0 counts. If a party shares a 2 instead of a 1, the other one must learn about the match, too.
    return [other for other, product in zip(names, row, strict=True) if int(product)]


def is_name(name: str) -> bool:
    """Tell whether this can be a party's name."""
    return 0 < len(name) <= LONGEST_NAME and name.isprintable() and name == name.strip() and "," not in name


def parse(text: str) -> tuple[str, list[str]]:
    """Return the name and the wishes, which are separated by commas or line ends, or end with a sentence."""
    name, *wishes = [part.strip() for part in re.split(r"[,\n]", text)]
    if not is_name(name):
        sys.exit(f"the first of the names must be your own, with 1 to {LONGEST_NAME} printable characters")
    return name, [wish for wish in wishes if wish]


def made_up() -> str:
    """Return a name and wishes for this party: all want to meet the next one, and the first two are a match."""
    names = [*DEMO_NAMES, *(f"party {party}" for party in range(len(DEMO_NAMES), len(mpc.parties)))][: len(mpc.parties)]
    following = names[(mpc.pid + 1) % len(names)]
    return f"{names[mpc.pid]}, {following}, {names[0]}"


async def main(name: str, wishes: list[str]) -> None:
    """Find the mutual wishes, and print this party's own."""
    async with mpc:
        names = await exchange(name)
        if unknown := [wish for wish in wishes if wish not in names]:
            print(f"no party is called: {', '.join(unknown)}")
        matches = await mutual(names, wishes)
    print(f"{name} meets: {', '.join(matches) or 'no one'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_private_arguments(parser, INPUT, nargs="*")
    text = private_text(parser.parse_args(), INPUT, [made_up()])
    mpc.run(main(*parse(text)))
