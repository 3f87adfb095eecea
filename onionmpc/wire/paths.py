"""The choice of stream: which of a link's streams is the fastest, and which ones share bulk data.

Rules: docs/PROTOCOL.md section 3.
"""

from __future__ import annotations

import collections
import math
import statistics
from dataclasses import dataclass, field

from onionmpc.wire.limits import DEFAULT_LINK_LIMITS, LinkLimits

# A stream's speed is the median of this many round trips. The first ones follow each other at once; later, a stream is
# measured every 30 s.
ROUND_TRIPS = 5
# A stream should be replaced if all of its latest round trips took more than this many times its first ones. Round
# trips during bulk data, or this soon after it, do not count: they measure a queue.
SLOWED_TIMES = 2
LOADED_FOR_S = 10.0


@dataclass(slots=True, eq=False)
class Path:
    """How fast one stream is.

    Attributes:
        loading_bytes: the least that counts as bulk data.
        round_trips: the latest ones, in seconds.
        usual_s: their median; infinite before there is one.
        first_s: the median of the first ROUND_TRIPS; infinite before they are complete.
        loaded_at: when it last carried bulk data, in either direction.
        late: whether it should have delivered something by now.
    """

    loading_bytes: int
    round_trips: collections.deque[float] = field(default_factory=lambda: collections.deque(maxlen=ROUND_TRIPS))
    usual_s: float = math.inf
    first_s: float = math.inf
    loaded_at: float = -math.inf
    late: bool = False

    @property
    def measured(self) -> bool:
        """True if there were enough round trips to tell its speed."""
        return len(self.round_trips) == ROUND_TRIPS

    @property
    def slowed(self) -> bool:
        """True if its round trips stay far above the first ones."""
        return min(self.round_trips, default=0.0) > SLOWED_TIMES * self.first_s

    def load(self, size: int, now: float) -> None:
        """Note the size of a piece of data that it carries, in either direction."""
        if size >= self.loading_bytes:
            self.loaded_at = now

    def measure(self, seconds: float, now: float) -> None:
        """Note a round trip that ended now."""
        # During bulk data, a round trip measures the queue and not the circuit. The first ones count even then: a new
        # stream cannot be ranked without them.
        if self.measured and now - seconds < self.loaded_at + LOADED_FOR_S:
            return
        self.round_trips.append(seconds)
        self.usual_s = statistics.median(self.round_trips)
        if self.measured and math.isinf(self.first_s):
            self.first_s = self.usual_s


class PathSelector:
    """The paths of one link, by stream number, oldest first.

    Call `rank` after any path has changed.

    Attributes:
        best: the stream for urgent data; None while there is no stream.
    """

    def __init__(self, limits: LinkLimits = DEFAULT_LINK_LIMITS) -> None:
        self.best: int | None = None
        self._paths: dict[int, Path] = {}
        self._ranking: list[int] = []
        self._limits = limits

    def add(self, number: int) -> Path:
        """Return the path of a new stream."""
        path = self._paths[number] = Path(loading_bytes=self._limits.chunk_bytes // 2)
        self.rank()
        return path

    def remove(self, number: int) -> None:
        """Forget a stream that broke."""
        del self._paths[number]
        self.rank()

    def rank(self) -> None:
        """Rank the streams: late ones last, faster before slower, and of those not yet measured the newer first."""
        newest_first = reversed(self._paths.items())
        self._ranking = [number for number, _ in sorted(newest_first, key=lambda item: (item[1].late, item[1].usual_s))]
        self.best = self._ranking[0] if self._ranking else None

    def ranking(self) -> list[int]:
        """Return the streams, best first."""
        return self._ranking.copy()

    def usual_s(self, number: int) -> float | None:
        """Return how many seconds a round trip over this stream usually takes; None if that is not known."""
        path = self._paths.get(number)
        return None if path is None or math.isinf(path.usual_s) else path.usual_s

    def measured(self) -> int:
        """Return how many streams have had enough round trips to tell their speed."""
        return sum(path.measured for path in self._paths.values())

    def slowed(self) -> list[int]:
        """Return the streams whose round trips have stayed far above the first ones."""
        return [number for number, path in self._paths.items() if path.slowed]

    def takes_bulk(self, number: int, unsent_bytes: int) -> bool:
        """Return whether a stream other than the best should carry some of what waits."""
        if unsent_bytes < self._limits.bulk_bytes:
            return False
        path = self._paths[number]
        return not path.late and path.usual_s < math.inf and number in self._ranking[: self._limits.max_stripes]
