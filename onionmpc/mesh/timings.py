"""How long a mesh waits before it dials, dials again and gives up."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MeshTimings:
    """Limits in seconds. Tests shorten them.

    Attributes:
        retry_first_s: from a failed dial to the next one. It grows with each failure.
        retry_last_s: the most that it grows to.
        refused_for_s: how long a refusal may pass. A peer that has not heard of the session yet refuses like one that
            never will; for so long we cannot tell.
        grace_s: how long the party that did not dial first leaves a broken link to the other: a dial and its handshake,
            most often.
        quiet_every_s: how often a party that has dialled in vain for long says so.
        race_s: how long a race of several streams for one link may take: a dial and five round trips, most often. A
            stream that comes later is as good, and no longer waited for.
        let_go_after_s: when each stream goes that was raced and is not kept, at least and at most: apart, and not when
            the race ends.
    """

    retry_first_s: float = 1.0
    retry_last_s: float = 15.0
    refused_for_s: float = 30.0
    grace_s: float = 5.0
    quiet_every_s: float = 15.0
    race_s: float = 15.0
    let_go_after_s: tuple[float, float] = (10.0, 60.0)


DEFAULT_MESH_TIMINGS = MeshTimings()
