"""How soon and how often we dial peers and they may dial us, and when a record is due in constant-rate mode.

It counts and reckons; the time comes in as an argument. Rules: docs/PROTOCOL.md section 3.
"""

from __future__ import annotations

import asyncio
import collections
import math
import statistics

from onionmpc.mesh.timings import DEFAULT_MESH_TIMINGS, MeshTimings

# Each dial makes both tors draw a relay next to a pinned one, which helps an attacker find guards (docs/THREATS.md). So
# a peer that cuts every stream at once gets thirty dials in a row and then one every 15 s: at most 270 within an hour.
DIALS_IN_A_ROW = 30
DIAL_EVERY_S = 15.0
HOUR_S = 3600.0
# Records that a busy machine or a full stream has delayed are sent after all, or their number would reveal how busy we
# were. A longer delay has been visible as a gap already: a burst after it would hide nothing, and might be more than
# the stream takes. One second is 200 records at the highest rate, 100 kB.
CATCH_UP_S = 1.0
# Their median is how long a dial usually takes.
REMEMBERED_DIALS = 9
# How soon a message that strangers can cause may be repeated, at first. The wait doubles each time.
REPEAT_AFTER_S = 60.0


class Pace:
    """Allows a number of steps at once, and then one at a time at an even pace: a token bucket."""

    def __init__(self, in_a_row: int = DIALS_IN_A_ROW, every_s: float = DIAL_EVERY_S) -> None:
        self._room_s = in_a_row * every_s
        self._every_s = every_s
        self._spent_until = 0.0

    def step(self, now: float, *, leaving: int = 0) -> float:
        """Take a step, and return how many seconds to wait before it.

        Args:
            leaving: how many steps must stay available at once for more urgent callers.
        """
        self._spent_until = max(self._spent_until, now) + self._every_s
        return max(0.0, self._spent_until - now - self._room_s + leaving * self._every_s)


class SharedDials:
    """What the dials of all links of a party share.

    Attributes:
        spare: each dial for a stream beyond a link's first holds it.
    """

    def __init__(self, timings: MeshTimings = DEFAULT_MESH_TIMINGS) -> None:
        self.spare = asyncio.Semaphore(timings.spare_dials_at_once)
        self._bounds_s = timings.next_dial_s
        self._lately_s: collections.deque[float] = collections.deque(maxlen=REMEMBERED_DIALS)

    def add(self, seconds: float) -> None:
        """Note how long a successful dial took."""
        self._lately_s.append(seconds)

    def next_after_s(self) -> float:
        """Return after how many seconds of silence the next dial may begin."""
        soonest_s, latest_s = self._bounds_s
        return min(latest_s, max(soonest_s, 2 * statistics.median(self._lately_s))) if self._lately_s else latest_s


class Visits:
    """Counts the streams with which a peer has resumed its link in the last hour."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._times: list[float] = []

    def add(self, now: float) -> bool:
        """Count one, and return whether the limit allows it."""
        self._times = [at for at in self._times if now - at < HOUR_S]
        self._times.append(now)
        return len(self._times) <= self._limit


class Throttle:
    """Keeps strangers from filling the screen with messages."""

    def __init__(self) -> None:
        self._due_at = -math.inf
        self._wait_s = REPEAT_AFTER_S

    def is_due(self, now: float) -> bool:
        """Return whether a message may be shown now. If so, the next one must wait longer."""
        if now < self._due_at:
            return False
        self._due_at, self._wait_s = now + self._wait_s, 2 * self._wait_s
        return True


class Ticks:
    """An even schedule: tick n (from 0) is due at `start` + n / `per_s`, however late earlier ticks were."""

    def __init__(self, per_s: int, start: float) -> None:
        self._per_s = per_s
        self._start = start
        self._past = 0

    @property
    def next_at(self) -> float:
        """When the next tick is due."""
        return self._start + self._past / self._per_s

    def take(self, now: float) -> int:
        """Count the ticks that are due as passed, and return how many records to send for them."""
        due = max(0, math.floor((now - self._start) * self._per_s) + 1 - self._past)
        self._past += due
        return min(due, max(1, math.floor(CATCH_UP_S * self._per_s)))
