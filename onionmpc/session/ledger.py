"""Records the circuit below each stream of one link: how long its two halves are, and where they join.

What this party measured and what the peer claims stay apart. Rules: docs/PROTOCOL.md section 4.
"""

from __future__ import annotations

from dataclasses import dataclass

from onionmpc.mesh.network import OwnPath
from onionmpc.session.messages import OwnSide, Rendezvous


@dataclass(frozen=True, slots=True)
class LinkSummary:
    """What is known of a link.

    Attributes:
        own_relays, claimed_relays, round_trip_s, raced: see `onionmpc.session.events.LinkMeasured`.
        gaps: how often the link was silent for a while, for `gap_s` seconds in all.
    """

    own_relays: int | None
    claimed_relays: int | None
    round_trip_s: float | None
    raced: int
    gaps: int
    gap_s: float


@dataclass(slots=True)
class CircuitRecord:
    """What is known of one circuit.

    Attributes:
        stream: the number of the stream that it carries.
        path: our half of it; None if it is not known.
        is_joint_known: whether the listener knows where the two halves join.
        claimed_relays: the length of the other half in relays, as the peer claims.
        measured: whether a round trip has come back.
    """

    stream: int
    path: OwnPath | None = None
    is_joint_known: bool = False
    claimed_relays: int | None = None
    measured: bool = False

    def introduction(self) -> tuple[Rendezvous | OwnSide, ...]:
        """Return the messages with which the dialler describes this circuit to the listener."""
        if self.path is None or not self.is_joint_known:
            return ()
        return Rendezvous(self.stream, self.path.rendezvous), OwnSide(self.stream, self.path.relays)


class CircuitLedger:
    """The circuit records of one link, by the number of the stream."""

    def __init__(self) -> None:
        self._records: dict[int, CircuitRecord] = {}
        self._last = CircuitRecord(0)  # that of the last stream that broke; of none at first
        self._raced: int | None = 1  # how many streams the race compared; None while it lasts
        self._gaps = 0
        self._gap_s = 0.0

    # -- what happens to the link

    def open(self, stream: int, path: OwnPath | None, *, dialled: bool) -> None:
        """Add the circuit of a new stream.

        Args:
            path: our half, if this party dialled and its tor reports it.
        """
        self._records[stream] = CircuitRecord(stream, path, is_joint_known=dialled)

    def close(self, stream: int) -> None:
        """Drop the circuit of a stream that has ended."""
        self._last = self._records.pop(stream)

    def start_race(self) -> None:
        """Note that a race for the fastest circuit has begun."""
        self._raced = None

    def end_race(self, compared: int) -> None:
        """Note that the race is over, and how many streams it compared."""
        self._raced = compared

    def add_gap(self, seconds: float) -> None:
        """Count a gap in which nothing arrived."""
        self._gaps += 1
        self._gap_s += seconds

    # -- what this party learns of one circuit: each method returns the record if something changed, and None otherwise

    def note_round_trip(self, stream: int) -> CircuitRecord | None:
        """Note that a round trip came back over this stream."""
        record = self._records[stream]
        if record.measured:
            return None
        record.measured = True
        return record

    # Each stream takes one message of each kind: with more, a peer could keep us busy and fill our screen. Messages
    # about a stream that is gone are ignored.

    def note_rendezvous(self, stream: int) -> CircuitRecord | None:
        """Note that the peer, which dialled this stream, has named the rendezvous point. It identifies our half."""
        record = self._records.get(stream)
        if record is None or record.is_joint_known:
            return None
        record.is_joint_known = True
        return record

    def note_claim(self, claim: OwnSide) -> CircuitRecord | None:
        """Note the length that the peer claims for its half."""
        record = self._records.get(claim.stream)
        if record is None or record.claimed_relays is not None:
            return None
        record.claimed_relays = claim.relays
        return record

    # -- what there is to show

    def fastest(self, best: int | None) -> CircuitRecord:
        """Return the circuit of the link's best stream; without a stream, the circuit that was lost last."""
        return self._last if best is None else self._records.get(best, self._last)

    def shows(self, record: CircuitRecord, best: int | None) -> bool:
        """Return whether to show this circuit: it is the best one, it is measured, and no race is running."""
        return record is self.fastest(best) and record.measured and self._raced is not None

    def summary(self, best: int | None, *, compared: int, round_trip_s: float | None) -> LinkSummary:
        """Sum up the link.

        Args:
            compared: how many streams were compared so far. A short session may end before its race does.
        """
        record = self.fastest(best)
        return LinkSummary(
            record.path.relays if record.path is not None else None,
            record.claimed_relays,
            round_trip_s,
            max(1, compared if self._raced is None else self._raced),
            self._gaps,
            self._gap_s,
        )
