"""How long a mesh waits before it dials, redials and gives up, and how often peers may dial."""

from __future__ import annotations

from dataclasses import dataclass

from onionmpc.wire.limits import DEFAULT_LINK_LIMITS, LinkLimits


@dataclass(frozen=True, slots=True)
class MeshTimings:
    """Times in seconds, and counts. Tests make them smaller.

    Attributes:
        retry_first_s: from a failed dial to the next one, at first. It grows with each failure.
        retry_last_s: the most that it grows to.
        refused_for_s: how long a refusal may be temporary. A peer that has not heard of the session yet refuses just as
            one that never will.
        grace_s: how long the party that did not dial first leaves a broken link to the other. It is usually enough for
            a dial and a handshake.
        quiet_every_s: how often to report that a link is still silent.
        race_s: how long a race of several streams for one link may take. It is usually enough for a dial and five round
            trips. A stream that comes later still counts, but nobody waits for it.
        let_go_after_s: the least and the most time until a stream that lost the race is closed. Each has its own random
            time, so that they close neither together nor when the race ends.
        next_dial_s: the least and the most time until another dial begins beside a silent one. In between, it is twice
            the time that dials usually take. A dial stays silent for ever if the service cannot build its side of the
            circuit, and another one usually succeeds.
        spare_dials_at_once: how many dials of streams beyond a link's first may run, for all links together. Each needs
            a circuit to an introduction point and one to a rendezvous point, and tor builds at most 32 at once for its
            clients.
        accepted_per_hour: how often a peer may resume its link, by our clock. An honest one stays below (270, see
            `Pace`), even if every circuit breaks.
        last_words_s: how long we wait for a CLOSE or an ABORT to leave and to be answered. If our tor ended sooner, the
            bytes that are still in it would be lost.
        link: the limits of each link.
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
