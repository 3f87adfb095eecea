"""How far a private network is on its way up."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class NetworkPhase(enum.Enum):
    """The steps to a network, with the share of the way that is behind us when each begins."""

    LEFTOVERS = (0, "waiting for the tors of a killed network to end")
    KEYS = (1, "making keys")
    START = (15, "starting relays")
    DESCRIPTORS = (35, "relays introduce themselves")
    VOTE = (50, "authorities vote")
    FETCH = (75, "relays fetch the consensus")
    READY = (100, "ready")

    @property
    def percent(self) -> int:
        """Share of the way, in percent."""
        return self.value[0]

    @property
    def words(self) -> str:
        """What is going on."""
        return self.value[1]


@dataclass(frozen=True, slots=True)
class NetworkProgress:
    """How far the network is; done and total count tors within the phase (0 of 0 if they do not count)."""

    phase: NetworkPhase
    elapsed_s: float
    done: int = 0
    total: int = 0
