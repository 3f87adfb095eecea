"""The choice of stream: which of a link's streams is the fastest, and which ones share bulk data.

Rules: docs/PROTOCOL.md section 3.
"""

from __future__ import annotations

import collections
import math
import statistics
from dataclasses import dataclass, field

# This many round trips, one after the other, tell how fast a stream is. After that it is measured once each 30 s.
ROUND_TRIPS = 5
# A stream should be replaced if its latest round trips all took more than this many times its first ones. Round trips
# during bulk data, or this soon after it, do not count: they measure a queue.
SLOWED_TIMES = 2
LOADED_FOR_S = 10.0
# What waits to be sent goes over the fastest stream alone while it is less than this, about tor's first flight (124
# cells of 498 bytes): all of it is awaited, and would wait for the slowest. Of more, others too take a chunk at a time.
BULK_BYTES = 64 * 2**10
CHUNK_BYTES = 16 * 2**10
MAX_STRIPES = 4


@dataclass(slots=True, eq=False)
class Path:
    """How fast one stream is.

    Attributes:
        round_trips: in seconds, the latest.
        usual_s: their median; infinite before there is one.
        first_s: the median of the first ones; infinite before they are there.
        loaded_at: when much data went or came over it.
        late: whether it owes a sign of life.
    """

    round_trips: collections.deque[float] = field(default_factory=lambda: collections.deque(maxlen=ROUND_TRIPS))
    usual_s: float = math.inf
    first_s: float = math.inf
    loaded_at: float = -math.inf
    late: bool = False

    @property
    def compared(self) -> bool:
        """True if there were enough round trips to tell how fast it is."""
        return len(self.round_trips) == ROUND_TRIPS

    @property
    def slowed(self) -> bool:
        """True if its round trips stay far above the first ones."""
        return min(self.round_trips, default=0.0) > SLOWED_TIMES * self.first_s

    def load(self, size: int, now: float) -> None:
        """Note how much data goes or comes over it at a time."""
        if size >= CHUNK_BYTES // 2:
            self.loaded_at = now

    def measure(self, seconds: float, now: float) -> None:
        """Note a round trip that ended now."""
        # Beside much data, a round trip measures the queue and not the circuit. The first ones count all the same: a
        # new stream cannot be ranked without them.
        if self.compared and now - seconds < self.loaded_at + LOADED_FOR_S:
            return
        self.round_trips.append(seconds)
        self.usual_s = statistics.median(self.round_trips)
        if self.compared and math.isinf(self.first_s):
            self.first_s = self.usual_s


class PathSelector:
    """The paths of one link, by the number of their stream, in their order.

    Call `rank` after a change of any path.

    Attributes:
        best: the stream for urgent data; None while there is no stream.
    """

    def __init__(self) -> None:
        self.best: int | None = None
        self._paths: dict[int, Path] = {}
        self._ranking: list[int] = []

    def add(self, number: int) -> Path:
        """Return the path of a new stream."""
        path = self._paths[number] = Path()
        self.rank()
        return path

    def remove(self, number: int) -> None:
        """Forget a stream that broke."""
        del self._paths[number]
        self.rank()

    def rank(self) -> None:
        """Put late streams last, and the faster before the slower; of unmeasured ones, the newer first."""
        newest_first = reversed(self._paths.items())
        self._ranking = [number for number, _ in sorted(newest_first, key=lambda item: (item[1].late, item[1].usual_s))]
        self.best = self._ranking[0] if self._ranking else None

    def ranking(self) -> list[int]:
        """Return the streams, the best first."""
        return self._ranking.copy()

    def usual_s(self, number: int) -> float | None:
        """Return how long a round trip over this stream usually takes; None if it is not known."""
        path = self._paths.get(number)
        return None if path is None or math.isinf(path.usual_s) else path.usual_s

    def compared(self) -> int:
        """Return over how many streams there were enough round trips to tell how fast they are."""
        return sum(path.compared for path in self._paths.values())

    def slowed(self) -> list[int]:
        """Return the streams whose round trips stay far above the first ones."""
        return [number for number, path in self._paths.items() if path.slowed]

    def takes_bulk(self, number: int, unsent_bytes: int) -> bool:
        """Return whether a stream other than the best carries some of what waits."""
        if unsent_bytes < BULK_BYTES:
            return False
        path = self._paths[number]
        return not path.late and path.usual_s < math.inf and number in self._ranking[:MAX_STRIPES]
