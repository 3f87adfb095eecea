"""How long a party waits for its peers, most of all at the end of a session."""

from __future__ import annotations

from dataclasses import dataclass

from onionmpc.mesh.timings import DEFAULT_MESH_TIMINGS, MeshTimings


@dataclass(frozen=True, slots=True)
class Timings:
    """Limits in seconds. Tests shorten them.

    Attributes:
        ending_s: the longest time from the probes after a failure to the end. If all parties answer, it takes one round
            trip.
        probe_s: the part of `ending_s` in which to look for parties reported lost. Long enough for a link that just
            lost its stream to get another.
        goodbye_s: how long a party that leaves waits until its peers have acknowledged that.
        hear_out_s: how long to wait from the end of a program's last stream to its exit. The program may have to write
            a traceback on a busy machine.
        farewell_s: how long a party with a result stays for peers that have not acknowledged its last messages. Long
            enough to dial them a few times. A peer that is missing after that most likely has all it needs.
        mesh: for dials and links.
    """

    ending_s: float = 20.0
    probe_s: float = 10.0
    goodbye_s: float = 3.0
    hear_out_s: float = 3.0
    farewell_s: float = 60.0
    mesh: MeshTimings = DEFAULT_MESH_TIMINGS


DEFAULT_TIMINGS = Timings()
