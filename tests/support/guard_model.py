"""The closed forms that hold the simulation of `benchmarks.guard_discovery` to account."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from benchmarks.guard_discovery import CHANCES, Days, Layer

# In the longest life. With twice as many no figure moves by a tenth of a thousandth.
GRID_STEPS = 300
# Proposal 333, section 3: 4 relays, all replaced every 7 days.
ROTATION = Layer(4, 7, 7)


def ended_by(layer: Layer, days: NDArray[np.floating]) -> Days:
    """Return the chance that the life of a relay in a layer is over after some days."""
    lived = (days - layer.shortest_days) / (layer.longest_days - layer.shortest_days)
    return np.asarray(lived.clip(0, 1) ** layer.larger_of, dtype=np.float64)


def rotations_needed(share: float, relays: int, chance: float) -> int:
    """Return how many times all relays of a layer are drawn until one is the adversary's with this chance.

    Source: Tor proposal 292, section 3.1.
    """
    rotations = 0
    while 1 - (1 - share) ** (relays * rotations) < chance:
        rotations += 1
    return rotations


@functools.cache
def exact_days(layer: Layer, share: float) -> tuple[float, ...]:
    """Calculate, for each of CHANCES, by which day the adversary has had a relay in a layer with this chance.

    With a chance of S(t) one place has seen no relay of the adversary in t days. Then its first relay is honest, and
    either lives still, or has lived l days and left the rest to its successor:
    S(t) = (1 - share) * (P(life > t) + integral of S(t - l) dP(l)).
    Places are independent: none of them has seen one with a chance of S(t) ** relays.
    """
    if layer.shortest_days == layer.longest_days:
        return tuple((rotations_needed(share, layer.relays, chance) - 1) * layer.longest_days for chance in CHANCES)
    step = layer.longest_days / GRID_STEPS
    # By then each place has been drawn often enough even if all lives are the longest.
    horizon = layer.longest_days * np.log(1 - max(CHANCES)) / (layer.relays * np.log(1 - share))
    days = np.arange(int(horizon / step) + 2) * step
    ended = ended_by(layer, days)
    in_step = np.diff(ended[: GRID_STEPS + 1])
    unseen = np.empty(days.size)
    for now in range(days.size):
        # A life that ends in step k is between k and k + 1 long. None is as short as one step.
        steps = np.arange(1, min(now, in_step.size))
        rest = (unseen[now - steps] + unseen[now - steps - 1]) / 2
        unseen[now] = (1 - share) * (1 - ended[now] + in_step[steps] @ rest)
    seen = 1 - unseen**layer.relays
    return tuple(0.0 if chance <= seen[0] else float(np.interp(chance, seen, days)) for chance in CHANCES)
