"""An MPyC program of two halves: many rounds of a few bytes each, then a few rounds of many bytes.

Usage: two_loads.py ROUNDS ELEMENTS DIRECTORY; the last is this party's own, the others are the same for all. Checks its
results, and writes notes-NUMBER.json. Knows mpyc, and nothing of how the parties are connected.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import numpy as np
from mpyc.runtime import mpc

FIELD = mpc.SecFld(2**127 - 1)
START = 3
# Of each message, as MPyC sends it.
HEADER_BYTES = 12


async def many_rounds(rounds: int) -> None:
    """Multiply one secret number after the other, then open the product: a round each."""
    factor = FIELD(START)
    product = factor
    for _ in range(rounds - 1):
        product = product * factor
    opened = int(await mpc.output(product))
    if opened != pow(START, rounds, FIELD.field.modulus):
        raise ValueError("a product came out wrong")


async def large_messages(elements: int) -> None:
    """Share an array of each party's with all others in one round, and open one number of their sum."""
    numbers = np.arange(1, elements + 1, dtype=object)
    arrays = mpc.input(FIELD.array(numbers * (mpc.pid + 1)))
    opened = int(await mpc.output(sum(arrays)[elements - 1]))
    if opened != elements * sum(range(1, len(mpc.parties) + 1)):
        raise ValueError("a sum came out wrong")


async def timed(work: Awaitable[None], sent: dict[str, int]) -> dict[str, Any]:
    """Do a half; return when it began and ended by CLOCK_MONOTONIC, and what this party sent in it."""
    # Nobody begins before all are there.
    await mpc.output(mpc.input(FIELD(1), senders=0))
    before, began_s = dict(sent), time.monotonic()
    await work
    ended_s = time.monotonic()
    return {"began_s": began_s, "ended_s": ended_s, **{key: sent[key] - before[key] for key in sent}}


async def main(rounds: int, elements: int, directory: Path) -> None:
    """Do both halves and write down what they took."""
    sent = {"messages": 0, "sent_bytes": 0}
    send = mpc._send_message  # noqa: SLF001 (nothing public counts)

    def counted_send(peer: int, data: bytes) -> None:
        sent["messages"] += 1
        sent["sent_bytes"] += HEADER_BYTES + len(data)
        send(peer, data)

    mpc._send_message = counted_send  # noqa: SLF001
    async with mpc:
        notes = {"rounds": await timed(many_rounds(rounds), sent), "large": await timed(large_messages(elements), sent)}
    (directory / f"notes-{mpc.pid}.json").write_text(json.dumps(notes))


if __name__ == "__main__":
    mpc.run(main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])))
