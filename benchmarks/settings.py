"""What `benchmarks.privacy_speed` compares: circuit lengths and padding of three parties, and what each promises."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from benchmarks.common import Failed
from onionmpc.levels import Level

# Where the parties are, by number. A party dials those of higher numbers.
REGIONS = ("europe-central", "america-east", "asia")
PARTIES = range(len(REGIONS))
PAIRS = tuple(itertools.combinations(PARTIES, 2))


@dataclass(frozen=True, slots=True)
class Setting:
    """What is compared.

    Attributes:
        levels: of the parties, by number; empty without tor. The first and the last are those of a pinged link.
        padding: records a second.
    """

    levels: tuple[Level, ...]
    padding: int = 0


SHORT, STANDARD, LONG = Level.SHORT, Level.STANDARD, Level.LONG
SETTINGS = {
    "no tor": Setting(()),
    "short": Setting((SHORT,) * 3),
    "standard": Setting((STANDARD,) * 3),
    "long when dialling": Setting((LONG, STANDARD, STANDARD)),
    "long when listening": Setting((STANDARD, STANDARD, LONG)),
    "long": Setting((LONG,) * 3),
    "standard, padded": Setting((STANDARD,) * 3, padding=20),
}


def check_promise(dialler: Level, listener: Level, own: int | None, accepted: int | None) -> None:
    """Check that both sides of a circuit were counted, and are no shorter than promised.

    Args:
        own, accepted: relays that the dialler's and the listener's tor counted, the rendezvous point in both.

    Raises:
        Failed: they were not, or are.
    """
    promised = (dialler.promise.dialled, listener.promise.accepted)
    if own is None or accepted is None or own < promised[0] or accepted < promised[1]:
        raise Failed(f"{own} and {accepted} relays were counted, expected {promised[0]} and {promised[1]} or more")


def total(own: int | None, accepted: int | None) -> int:
    """Return the relays between two parties: the rendezvous point, which both count, counts once."""
    return 0 if own is None or accepted is None else own + accepted - 1


def profile(number: int, level: Level) -> str:
    """Return which profile a party's tor has at a level: tors of several levels run side by side, and share none."""
    return f"party-{number}-{level.value}"
