"""Sends bytes from party 0 to each other party, some times over, and prints as JSON what each time took.

The program of `bulk`. Usage: transfer.py BYTES TURNS. Knows mpyc, and nothing of how the parties are connected.
"""

from __future__ import annotations

import json
import os
import sys
import time

from mpyc.runtime import mpc


async def main(size: int, turns: int) -> None:
    """Send, be told by all that it is there, and print, at party 0."""
    took_s = []
    payload = os.urandom(size) if mpc.pid == 0 else None
    async with mpc:
        await mpc.transfer(b"", receivers=0)  # all parties are there
        for _ in range(turns):
            before_s = time.monotonic()
            sent = await mpc.transfer(payload, senders=0)
            if len(sent) != size:
                raise ValueError(f"{len(sent)} bytes came, expected {size}")
            await mpc.transfer(b"", receivers=0)
            took_s.append(time.monotonic() - before_s)
    if mpc.pid == 0:
        print(json.dumps(took_s))


if __name__ == "__main__":
    mpc.run(main(int(sys.argv[1]), int(sys.argv[2])))
