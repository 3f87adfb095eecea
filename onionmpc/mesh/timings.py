"""How long a mesh waits before it dials, dials again and gives up, and how often peers may dial."""

from __future__ import annotations

from dataclasses import dataclass

from onionmpc.wire.limits import DEFAULT_LINK_LIMITS, LinkLimits


@dataclass(frozen=True, slots=True)
class MeshTimings:
    """Times in seconds, and counts. Tests make them smaller.

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
        next_dial_s: after how long a silent dial gets company, at least and at most. A dial is silent for ever if the
            service cannot build its side, and the next one most often succeeds. Within these bounds, the next dial
            begins after twice as long as dials usually take.
        spare_dials_at_once: of all links together, for streams that are not the only one: each takes a circuit to an
            introduction point and one to a rendezvous point.
        accepted_per_hour: how often a peer may resume its link, by our clock. An honest one stays below, even if each
            circuit of its breaks (`Pace`).
        last_words_s: how long a CLOSE or an ABORT may take to leave, and to be answered.
        link: of each link.
    """

    retry_first_s: float = 1.0
    retry_last_s: float = 15.0
    refused_for_s: float = 30.0
    grace_s: float = 5.0
    quiet_every_s: float = 15.0
    race_s: float = 15.0
    let_go_after_s: tuple[float, float] = (10.0, 60.0)
    next_dial_s: tuple[float, float] = (3.0, 10.0)
    spare_dials_at_once: int = 12
    accepted_per_hour: int = 300
    last_words_s: float = 2.0
    link: LinkLimits = DEFAULT_LINK_LIMITS


DEFAULT_MESH_TIMINGS = MeshTimings()
