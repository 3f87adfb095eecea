"""`python -m benchmarks.guard_discovery`: how long until those who run some of the relays know a party's guard. No tor.

A seeded simulation of the pinned layers of relays behind a guard. The adversary runs a share of the relays' bandwidth,
which is its chance at each draw of a relay, and waits. It is also a peer, or pays one, and so can have the party build
one circuit after another over its pinned relays; the hours that this takes count as nothing. A relay in layer 2 sees
the guard next to it. It has found it as soon as it knows that the circuit is this party's:

* by timing: at once. The peer sends a pattern and the relay recognises it. The vanguards specification assumes this
  too, and that it never fails.
* by a neighbour: when the next relay on that circuit is the adversary's too. In the standard level that is no obstacle:
  the relay after layer 2 is another for each circuit. In the long level it has to be in layer 3.

Against timing a third layer is no help, and the table says so. It helps against layer 2 itself becoming known, whose
relays may then be broken into or forced to speak; that is not simulated. Nor is anyone who needs no guard, because he
watches both ends: no level delays him.

All start fresh: at day 0 every pinned relay is drawn, as in a new profile, and for tor's own layer 2, which it does not
keep, at each start of tor. If the attack begins later, with relays that were there before, the pinned ones are through
with a part of their lives: that is some days faster.

Proposal 333 has 126, 28 and 14 days, the continuous model 139, 23 and 10, though both know that one half takes 69, 14
and 7 draws. The proposal counts whole rotations of four, and the last of them at its end, when its relays have been in
use for 7 days: from the first draw on day 0 they are 119, 21 and 7 days. Relays that are replaced one by one need no
whole rotation, but they live longer: the mean of max(X,X) from 1 to 12 days is 8.33 and not 7. The longer life decides
for 1 %, who need many lives, and the missing rotation at the end for 5 and 10 %. What tor does is a third thing: a life
is one uniform draw, with a mean of 6.5 days.

Sources: Tor proposals 292 (sections 3.1 and 3.3) and 333 (sections 1 and 3), the vanguards specification, the source of
tor 0.4.9.11. Knows nothing of onionmpc. Its tests
compare it with a closed form (tests/support/guard_model.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from benchmarks.benchmark import Aim, Benchmark, Turn, main, no_setup

Days = NDArray[np.float64]
Numbers = NDArray[np.intp]

SHARES = {"1 %": 0.01, "5 %": 0.05, "10 %": 0.10}
CHANCES = (0.1, 0.5, 0.9)
SEED = 1
TRIALS = 100_000


@dataclass(frozen=True, slots=True)
class Layer:
    """Pinned relays at one position of all circuits. Each is replaced by a new one at the end of its own life.

    Attributes:
        larger_of: a life is the largest of so many uniform draws; 2 is what the vanguards design calls max(X,X).
    """

    relays: int
    shortest_days: float
    longest_days: float
    larger_of: int = 2

    def draw_lives(self, random: Generator, count: int) -> Days:
        """Draw the lives of some relays."""
        drawn: Days = random.random((self.larger_of, count)).max(axis=0)
        return self.shortest_days + (self.longest_days - self.shortest_days) * drawn


# Proposal 333, section 1.
PROPOSAL_LAYER_2 = Layer(4, 1, 12)
# tor 0.4.9.11, entrynodes.c, get_layer2_hs_guard_lifetime: one uniform draw, though a comment above it says max(x,x).
TOR_LAYER_2 = Layer(4, 1, 12, larger_of=1)
# Four new ones at each start of tor, and none that ends before the next.
DAILY_LAYER_2 = Layer(4, 1, 1)
# As onionmpc/tor/circuit/layers.py has it from the vanguards specification, "Full Vanguards".
LONG_LAYER_2 = Layer(4, 30, 60, larger_of=1)
LONG_LAYER_3 = Layer(8, 1 / 24, 2)

# How a guard is found: the adversary must have a relay in each of these layers, in all at the same time.
CASES: dict[str, tuple[Layer, ...]] = {
    # No guard between the party and the others: its address is shown.
    "short": (),
    "standard, tor started anew each day": (DAILY_LAYER_2,),
    "standard, lives as in tor 0.4.9.11": (TOR_LAYER_2,),
    "standard, lives as in proposal 333": (PROPOSAL_LAYER_2,),
    "long, by timing": (LONG_LAYER_2,),
    "long, by a neighbour": (LONG_LAYER_2, LONG_LAYER_3),
    # The guard is not found yet. The same in the standard level takes 69, 14 and 7 circuits: minutes.
    "long, only layer 2 becomes known": (LONG_LAYER_3,),
}


class Stays:
    """When the adversary's relays are in a layer: for each of its places in each trial, the next stay.

    Attributes:
        begin, end: days, by trial and place.
    """

    def __init__(self, random: Generator, layer: Layer, share: float, trials: int) -> None:
        self._random, self._layer, self._share = random, layer, share
        shape = (trials, layer.relays)
        begin, end = self._after(np.zeros(trials * layer.relays))
        self.begin, self.end = begin.reshape(shape), end.reshape(shape)

    def go_on(self, trials: Numbers, places: Numbers) -> None:
        """End the stays in some places, and find the next ones there."""
        self.begin[trials, places], self.end[trials, places] = self._after(self.end[trials, places])

    def _after(self, drawn: Days) -> tuple[Days, Days]:
        """Return the first stays in places that are drawn anew at some days."""
        draws = self._random.geometric(self._share, drawn.size)
        order = draws.argsort()
        waited = np.zeros(drawn.size)
        # Where the next relay is honest too: fewer places each time, at the end of the order.
        for first in np.searchsorted(draws[order], np.arange(1, draws.max(initial=1)), side="right"):
            waited[first:] += self._layer.draw_lives(self._random, drawn.size - first)
        begin = drawn.copy()
        begin[order] += waited
        return begin, begin + self._layer.draw_lives(self._random, drawn.size)


def simulate(random: Generator, layers: Sequence[Layer], share: float, trials: int) -> Days:
    """Return the day, for each trial, when first the adversary has a relay in every layer; there are up to two."""
    match [Stays(random, layer, share, trials) for layer in layers]:
        case []:
            return np.zeros(trials)
        case [only]:
            return np.asarray(only.begin.min(axis=1))
        case [second, third]:
            return first_meetings(second, third)
    raise ValueError(f"{len(layers)} layers, expected up to 2")


def first_meetings(second: Stays, third: Stays) -> Days:
    """Return the day, for each trial, when first a stay in one layer and a stay in the other are at the same time."""
    met = np.empty(len(second.begin))
    alone = np.arange(met.size)
    while alone.size:
        # By their beginnings: whom a later stay meets before an earlier one is over, the earlier one has met as well.
        place = second.begin[alone].argmin(axis=1)
        begin, end = second.begin[alone, place], second.end[alone, place]
        while (over := third.end[alone] <= begin[:, None]).any():
            rows, places = np.nonzero(over)
            third.go_on(alone[rows], places)
        together = np.maximum(begin, third.begin[alone].min(axis=1))
        found = together < end
        met[alone[found]] = together[found]
        alone, place = alone[~found], place[~found]
        second.go_on(alone, place)
    return met


def quantiles(values: Days) -> tuple[float, ...]:
    """Return, for each of CHANCES, the lowest value that so many do not exceed."""
    return tuple(float(value) for value in np.quantile(values, CHANCES, method="inverted_cdf"))


def discovery(case: str, seed: int = SEED, trials: int = TRIALS) -> dict[str, tuple[float, ...]]:
    """Return the days until an adversary of each of SHARES has found so many as in CHANCES."""
    # The same luck in all cases: what differs between two of them is the layers alone.
    return {
        words: quantiles(simulate(np.random.default_rng((seed, number)), CASES[case], share, trials))
        for number, (words, share) in enumerate(SHARES.items())
    }


async def take(turn: Turn) -> None:
    """Simulate a case; its three quantiles become a median with a range."""
    found = discovery(turn.name)
    for days in zip(*found.values(), strict=True):
        turn.note(turn.name, **dict(zip(found, days, strict=True)))


BENCHMARK = Benchmark(
    name="guard_discovery",
    question="After how many days are half of all guards found (10 to 90 %) by a share of the relays' bandwidth?",
    turns=list(CASES),
    opened=no_setup(take),
    figures={share: (share, 1) for share in SHARES},
    aims=[
        Aim(f"half of all guards found by 5 % of the relays: {case}", case, "5 %", unit="days")
        for case in ("standard, lives as in tor 0.4.9.11", "long, by timing")
    ],
)

if __name__ == "__main__":
    main(BENCHMARK)
