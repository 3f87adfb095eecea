"""The progress of a private network while it starts."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class NetworkPhase(enum.Enum):
    """The steps of a start, with the percentage that is done when each begins."""

    LEFTOVERS = (0, "waiting for the tors of a killed network to end")
    KEYS = (1, "making keys")
    START = (15, "starting relays")
    DESCRIPTORS = (35, "relays upload their descriptors")
    VOTE = (50, "authorities vote")
    FETCH = (75, "relays fetch the consensus")
    READY = (100, "ready")

    @property
    def percent(self) -> int:
        """The percentage that is done."""
        return self.value[0]

    @property
    def words(self) -> str:
        """A description for users."""
        return self.value[1]


@dataclass(frozen=True, slots=True)
class NetworkProgress:
    """The progress of a network. `done` and `total` count tors within the phase; both are 0 if it counts none."""

    phase: NetworkPhase
    elapsed_s: float
    done: int = 0
    total: int = 0
