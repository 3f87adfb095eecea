"""The levels: how long a party's own half of every circuit is.

onionmpc.tor sets up and measures a level. docs/THREATS.md says what each level protects against.
"""

from __future__ import annotations

import enum
import functools
from dataclasses import dataclass


@functools.total_ordering
class Level(enum.Enum):
    """A circuit length. A greater level protects more."""

    SHORT = "short"
    STANDARD = "standard"
    LONG = "long"

    def __lt__(self, other: Level) -> bool:
        """Return whether this level protects less."""
        order = list(Level)
        return order.index(self) < order.index(other)

    @property
    def promise(self) -> Promise:
        """How many relays of our own a circuit needs at least before it may carry a stream."""
        return _PROMISES[self]

    @property
    def usual_round_trip_s(self) -> float:
        """A typical round trip between parties of this level, in seconds, for estimates before a link is measured."""
        return _ROUND_TRIPS_S[self]


@dataclass(frozen=True, slots=True)
class Promise:
    """How many relays are on this party's side of a circuit, including the rendezvous point.

    Attributes:
        dialled: for a circuit that this party dialled.
        accepted: for a circuit that a peer dialled.
    """

    dialled: int
    accepted: int


# C is the dialler, S the service, G the guard, L2 and L3 layer guards, M any relay, R the rendezvous point.
# Source: tor's circuitbuild.c, route_len_for_purpose; measured with tor 0.4.9.11.
_PROMISES = {
    Level.SHORT: Promise(dialled=3, accepted=1),  # C-G-L2-R and S-R
    Level.STANDARD: Promise(dialled=3, accepted=4),  # C-G-L2-R and S-G-L2-M-R
    Level.LONG: Promise(dialled=4, accepted=5),  # C-G-L2-L3-R and S-G-L2-L3-M-R
}

# Medians of 24 paths each between three regions of a private network (benchmarks/results/privacy_speed.json). The
# public network was not measured.
_ROUND_TRIPS_S = {Level.SHORT: 0.34, Level.STANDARD: 0.49, Level.LONG: 0.64}
