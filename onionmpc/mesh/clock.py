"""Notices that this machine was asleep.

The caller decides what a sleep of the machine means for its links.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator

TICK_S = 1.0
# Far longer than a busy machine delays a tick, and far shorter than the silence that peers find suspicious.
ASLEEP_S = 5.0


def clock_s() -> float:
    """Return the seconds of a clock that runs while the machine sleeps. time.monotonic() may stop then."""
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    # The wall clock does too. If someone sets it forward, that looks like a sleep, which costs us no more than a dial.
    return time.time()


async def wakeups(tick_s: float = TICK_S) -> AsyncIterator[float]:
    """Yield, each time that this machine wakes up, how many seconds it slept; never end.

    Args:
        tick_s: how often to look at the clock.
    """
    before = clock_s()
    while True:
        await asyncio.sleep(tick_s)
        now = clock_s()
        if now - before >= tick_s + ASLEEP_S:
            yield now - before - tick_s
        before = clock_s()
