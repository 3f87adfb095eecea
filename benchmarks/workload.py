"""The MPyC program of the benchmarks: does loads of one kind each, and prints as JSON what each took at this party.

Usage: workload.py LOAD...
    rounds=N,W    multiply W secret numbers N times, one product after the other: a round each, of W small messages
    array=N       share an array of N numbers of 16 bytes with all others, and open one number of the sum
    transfer=B    send B bytes from party 0 to each other party, and wait until all have them

Knows mpyc, and nothing of how the parties are connected. Checks its results.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
from mpyc.runtime import mpc


async def rounds(count: int, width: int = 1) -> bool:
    """Multiply ones."""
    ones = mpc.input([mpc.SecInt(32)(1)] * width, senders=0)
    products = ones
    for _ in range(count):
        products = [product * one for product, one in zip(products, ones, strict=True)]
    return [int(product) for product in await mpc.output(products)] == [1] * width


async def array(elements: int) -> bool:
    """Share 1, 2, 3 ..., times the number of the party."""
    numbers = np.arange(1, elements + 1, dtype=object)
    arrays = mpc.input(mpc.SecFld(2**127 - 1).array(numbers * (mpc.pid + 1)))
    opened = int(await mpc.output(sum(arrays)[elements - 1]))
    return opened == elements * sum(range(1, len(mpc.parties) + 1))


async def transfer(size: int) -> bool:
    """Send random bytes, which no one can compress."""
    sent = await mpc.transfer(os.urandom(size) if mpc.pid == 0 else None, senders=0)
    await mpc.transfer(b"", receivers=0)  # all have them
    return len(sent) == size


LOADS: dict[str, Callable[..., Awaitable[bool]]] = {"rounds": rounds, "array": array, "transfer": transfer}


async def main(loads: list[str]) -> None:
    """Do all loads, and print a list of what each took, by CLOCK_MONOTONIC, which all parties share."""
    took: list[dict[str, Any]] = []
    async with mpc:
        for load in loads:
            kind, _, sizes = load.partition("=")
            # No party begins before all are there: the start of the slowest process is no part of a load.
            await mpc.output(mpc.input(mpc.SecInt(32)(1), senders=0))
            began_s = time.monotonic()
            if not await LOADS[kind](*map(int, sizes.split(","))):
                raise ArithmeticError(f"{load} came out wrong")
            took.append({"load": load, "began_s": began_s, "ended_s": time.monotonic()})
    print(json.dumps({"loads": took}))


if __name__ == "__main__":
    mpc.run(main(sys.argv[1:]))
