"""Notices that this machine was asleep.

The caller decides what a sleep of the machine means for its links.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator

TICK_S = 1.0
# Far above what a busy machine makes a tick late, far below what peers take for suspicious.
ASLEEP_S = 5.0


def clock_s() -> float:
    """Return seconds of a clock that goes on while the machine sleeps; time.monotonic() stands still then."""
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.time()


async def wakings(tick_s: float = TICK_S) -> AsyncIterator[float]:
    """Yield, each time that this process was asleep, for how many seconds; never ends.

    Args:
        tick_s: how often to look.
    """
    before = clock_s()
    while True:
        await asyncio.sleep(tick_s)
        now = clock_s()
        if now - before >= tick_s + ASLEEP_S:
            yield now - before - tick_s
        before = clock_s()
