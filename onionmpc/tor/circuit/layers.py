"""Layer guards: the second and third relays of every circuit at level long, and when each of them is replaced.

These are the rules: which relays qualify, how they are drawn, how long each stays. tor's list of relays, the time and
randomness come in as arguments. pinning.py writes the layers to disk and sets them in a tor.

Source: Tor vanguards-spec, "Full Vanguards" (Stable and Fast, one life per guard, kept on disk, replaced when a relay
no longer qualifies; the lives of both layers). The numbers of guards are those of arti and of the vanguards add-on.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

import msgspec

from onionmpc.errors import TorFailed

HOUR_S = 3600
DAY_S = 24 * HOUR_S
STANDARD_HINT = "--circuit-length standard needs no such setting"
FINGERPRINT = re.compile(r"[0-9A-F]{40}")


@dataclass(frozen=True, slots=True)
class LayerRule:
    """How many guards a layer has, and how long one stays: the longest of `draws` uniform draws."""

    layer: int
    guards: int
    shortest_s: int
    longest_s: int
    draws: int


# Layer 2 rotates slowly, because each new relay next to our guard may be an attacker's. Layer 3 rotates fast, so that
# it is gone before an attacker that has found one of its relays can compromise it.
LAYER_2 = LayerRule(2, 4, 30 * DAY_S, 60 * DAY_S, draws=1)
LAYER_3 = LayerRule(3, 8, 1 * HOUR_S, 48 * HOUR_S, draws=2)


@dataclass(frozen=True, slots=True)
class GuardCandidate:
    """A relay that can be a layer guard: Fast, Stable, Running and Valid.

    Attributes:
        fingerprint: 40 hex digits, upper case.
        nickname: not unique.
        network: the /16 of its IPv4 address, e.g. "192.0".
        bandwidth: its weight in the consensus, 0 to 2**32 - 1.
    """

    fingerprint: str
    nickname: str
    network: str
    bandwidth: int


@dataclass(frozen=True, slots=True)
class Family:
    """What a relay states about its operator.

    Attributes:
        members: relays it names as run by the same people: fingerprints in upper case, or nicknames in lower case.
        ids: keys that it has proved to share with them (proposal 321, tor 0.4.9).
    """

    members: frozenset[str] = frozenset()
    ids: frozenset[str] = frozenset()

    def names(self, relay: GuardCandidate) -> bool:
        """Return whether this family names the relay as a member."""
        return relay.fingerprint in self.members or relay.nickname.lower() in self.members


# Returns what tor knows of a relay's family; None if tor has no descriptor of the relay, and so would not use it
# either.
FamilyOf = Callable[[str], Awaitable[Family | None]]


class Guard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A layer guard.

    Attributes:
        fingerprint: 40 hex digits, upper case.
        until_s: when its life ends, in seconds since 1970.
    """

    fingerprint: str
    until_s: int

    def __post_init__(self) -> None:
        if not FINGERPRINT.fullmatch(self.fingerprint):
            raise ValueError("a fingerprint is 40 hex digits in upper case")


class Layers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The guards of both layers, as they are drawn and stored in a file. A relay may be in both."""

    layer2: tuple[Guard, ...] = ()
    layer3: tuple[Guard, ...] = ()
    version: Literal[1] = 1

    def __post_init__(self) -> None:
        for rule, guards in ((LAYER_2, self.layer2), (LAYER_3, self.layer3)):
            if len({guard.fingerprint for guard in guards}) != len(guards) or len(guards) > rule.guards:
                raise ValueError(f"layer {rule.layer} has up to {rule.guards} guards, all different")

    @property
    def next_end_s(self) -> int:
        """When the next life of a guard ends, in seconds since 1970; 0 if there are no guards."""
        return min((guard.until_s for guard in (*self.layer2, *self.layer3)), default=0)


async def renewed(
    layers: Layers, relays: Mapping[str, GuardCandidate], now_s: int, random: Random, family_of: FamilyOf
) -> Layers:
    """Return the layers with the guards that may stay, and new ones in place of the others.

    A guard is replaced when its life is over, or when its relay no longer qualifies: tor would not choose it either.

    Args:
        layers: the previous ones; `Layers()` the first time.
        relays: the candidates of the consensus, by fingerprint.
        now_s: seconds since 1970.
        random: the system's own, except in tests.
        family_of: asked about each relay that is drawn, and about the guards that stay if any are drawn.
    Raises:
        TorFailed: the consensus has too few relays.
    """
    return Layers(
        layer2=await _renewed_layer(LAYER_2, layers.layer2, relays, now_s, random, family_of),
        layer3=await _renewed_layer(LAYER_3, layers.layer3, relays, now_s, random, family_of),
    )


async def _renewed_layer(
    rule: LayerRule,
    guards: Sequence[Guard],
    relays: Mapping[str, GuardCandidate],
    now_s: int,
    random: Random,
    family_of: FamilyOf,
) -> tuple[Guard, ...]:
    kept = [
        # Limit the life from now on: if the clock was ahead when the guard was drawn, its life would be too long.
        Guard(guard.fingerprint, min(guard.until_s, now_s + rule.longest_s))
        for guard in guards
        if guard.until_s > now_s and guard.fingerprint in relays
    ]
    if len(kept) == rule.guards:
        return tuple(kept)
    # No two guards of a layer share a /16 or a family: one operator should not own several of them.
    # The network of a guard that stays excludes the guard itself.
    chosen = [(relays[guard.fingerprint], await family_of(guard.fingerprint) or Family()) for guard in kept]
    pool = list(relays.values())
    while len(kept) < rule.guards:
        networks = {relay.network for relay, _ in chosen}
        pool = [relay for relay in pool if relay.network not in networks]
        if not pool:
            raise TorFailed(
                f"the consensus has {len(relays)} relays that can be layer guards, in {len(chosen)} networks (/16) and "
                f"families; layer {rule.layer} needs {rule.guards}",
                hint=STANDARD_HINT,
            )
        relay = _drawn(pool, random)
        pool.remove(relay)
        family = await family_of(relay.fingerprint)
        if family is None or any(_related(relay, family, *other) for other in chosen):
            continue
        chosen.append((relay, family))
        kept.append(Guard(relay.fingerprint, now_s + life_s(rule, random)))
    return tuple(kept)


def _drawn(relays: Sequence[GuardCandidate], random: Random) -> GuardCandidate:
    """Draw a relay by bandwidth, or any relay if none has bandwidth.

    The consensus also has weights for each position in a circuit (bandwidth-weights), but GETINFO ns/all omits them.
    They balance load between relays of different flags, and do not affect safety.
    """
    weights = [relay.bandwidth for relay in relays]
    return random.choices(relays, weights if any(weights) else None)[0]


def life_s(rule: LayerRule, random: Random) -> int:
    """Draw the life of a guard, in seconds."""
    return max(random.randint(rule.shortest_s, rule.longest_s) for _ in range(rule.draws))


def _related(one: GuardCandidate, ones: Family, other: GuardCandidate, others: Family) -> bool:
    """Return whether two relays belong to one family: each names the other, or they share a proved key.

    One side's word is not enough, since anyone can name any relay.
    """
    return bool(ones.ids & others.ids) or (ones.names(other) and others.names(one))
