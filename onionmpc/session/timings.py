"""How long a party stays for the others at the end of a session."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timings:
    """Limits in seconds. Tests shorten them.

    Attributes:
        ending_s: from the probes after a failure to the end, at the latest. Where all parties answer, that takes a
            round trip.
        probe_s: the part of it in which parties that were called lost are looked for: long enough for a link that just
            lost its stream to get another.
        goodbye_s: how long a party that leaves waits until the others have heard so.
        hear_out_s: from the end of a program's last stream to its exit: it may have to write a traceback, on a busy
            machine.
        farewell_s: how long a party that has its result stays for those that have not acknowledged its last words: long
            enough to dial them a few times. Who is missing after that has most likely all it needs.
    """

    ending_s: float = 20.0
    probe_s: float = 10.0
    goodbye_s: float = 3.0
    hear_out_s: float = 3.0
    farewell_s: float = 60.0


DEFAULT_TIMINGS = Timings()
