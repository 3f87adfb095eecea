"""How soon and how often peers are dialled, and may dial us; and when a record goes out in constant-rate mode.

Knows counts and times; the time comes in as an argument. Does not dial, nor send. Rules: docs/PROTOCOL.md section 3.
"""

from __future__ import annotations

import asyncio
import collections
import math
import statistics

from onionmpc.mesh.timings import DEFAULT_MESH_TIMINGS, MeshTimings

# Each dial makes both tors draw a relay next to a pinned one (docs/THREATS.md). Thirty in a row are allowed and then
# one each 15 s: at most 270 within an hour. A peer that cuts each stream at once gets no more out of us.
DIALS_IN_A_ROW = 30
DIAL_EVERY_S = 15.0
HOUR_S = 3600.0
# Records that a busy machine or a full stream made late are made up for: how many went out must not tell how busy we
# were. A longer delay was seen as a gap anyway: a burst after it would hide nothing, and could be more than the stream
# takes. This much is 200 records at the highest rate, 100 kB.
CATCH_UP_S = 1.0
# Of these, the median tells how long a dial usually takes.
REMEMBERED_DIALS = 9
# Spacing of messages that strangers can cause: the second follows after a minute at the earliest, and each later one
# after twice as long as the one before.
TOLD_AGAIN_AFTER_S = 60.0


class Pace:
    """Lets a number of steps go at once, and further ones at an even pace."""

    def __init__(self, in_a_row: int = DIALS_IN_A_ROW, every_s: float = DIAL_EVERY_S) -> None:
        self._room_s = in_a_row * every_s
        self._every_s = every_s
        self._spent_until = 0.0

    def step(self, now: float, *, leaving: int = 0) -> float:
        """Take a step; return for how many seconds to wait before it, if so many are to be left to go at once."""
        self._spent_until = max(self._spent_until, now) + self._every_s
        return max(0.0, self._spent_until - now - self._room_s + leaving * self._every_s)


class SharedDials:
    """What the dials of all links of a party share.

    Attributes:
        spare: held by each dial for a further stream.
    """

    def __init__(self, timings: MeshTimings = DEFAULT_MESH_TIMINGS) -> None:
        self.spare = asyncio.Semaphore(timings.spare_dials_at_once)
        self._bounds_s = timings.next_dial_s
        self._lately_s: collections.deque[float] = collections.deque(maxlen=REMEMBERED_DIALS)

    def add(self, seconds: float) -> None:
        """Note how long a dial took that got through."""
        self._lately_s.append(seconds)

    def next_after_s(self) -> float:
        """Return after how many seconds of silence the next dial may begin."""
        soonest_s, latest_s = self._bounds_s
        return min(latest_s, max(soonest_s, 2 * statistics.median(self._lately_s))) if self._lately_s else latest_s


class Visits:
    """Counts the streams that a peer has resumed with, within the last hour."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._times: list[float] = []

    def add(self, now: float) -> bool:
        """Count one; return whether it is within the limit."""
        self._times = [at for at in self._times if now - at < HOUR_S]
        self._times.append(now)
        return len(self._times) <= self._limit


class Seldom:
    """Keeps what strangers do from filling the screen."""

    def __init__(self) -> None:
        self._due_at = -math.inf
        self._wait_s = TOLD_AGAIN_AFTER_S

    def is_due(self, now: float) -> bool:
        """Return whether a message may be shown now; if so, the next one has to wait longer."""
        if now < self._due_at:
            return False
        self._due_at, self._wait_s = now + self._wait_s, 2 * self._wait_s
        return True


class Ticks:
    """An even schedule: tick n, from 0, is due at `start` + n / `per_s`, however late those before it were."""

    def __init__(self, per_s: int, start: float) -> None:
        self._per_s = per_s
        self._start = start
        self._past = 0

    @property
    def next_at(self) -> float:
        """When the next one is due."""
        return self._start + self._past / self._per_s

    def take(self, now: float) -> int:
        """Let the ticks that are due pass; return for how many of them a record goes out."""
        due = max(0, math.floor((now - self._start) * self._per_s) + 1 - self._past)
        self._past += due
        return min(due, max(1, math.floor(CATCH_UP_S * self._per_s)))
