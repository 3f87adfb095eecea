"""What is known of the circuit below each stream of one link: where its halves join, and how long they are.

Knows what was measured here and what the peer claims. Does not measure: lengths and times come in as arguments. Rules:
docs/PROTOCOL.md section 4.
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
        gaps: how often nothing came for a while, for `gap_s` seconds in all.
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
        path: our half of it; None where that is not known.
        is_joint_known: whether the listener knows where the two halves join.
        claimed_relays: how many relays the other half has, as the peer says.
        measured: whether a round trip has come back.
    """

    stream: int
    path: OwnPath | None = None
    is_joint_known: bool = False
    claimed_relays: int | None = None
    measured: bool = False

    def introduction(self) -> tuple[Rendezvous | OwnSide, ...]:
        """Return what its dialler tells the listener of it."""
        if self.path is None or not self.is_joint_known:
            return ()
        return Rendezvous(self.stream, self.path.rendezvous), OwnSide(self.stream, self.path.relays)


class CircuitLedger:
    """The records of one link, each by the number of its stream."""

    def __init__(self) -> None:
        self._records: dict[int, CircuitRecord] = {}
        self._last = CircuitRecord(0)  # the one whose stream broke last
        self._raced: int | None = 1  # how many were compared; None while the race lasts
        self._gaps = 0
        self._gap_s = 0.0

    # -- what happens to the link

    def open(self, stream: int, path: OwnPath | None, *, dialled: bool) -> None:
        """Add the circuit of a new stream.

        Args:
            path: our half, where this party dialled and its tor says it.
        """
        self._records[stream] = CircuitRecord(stream, path, is_joint_known=dialled)

    def close(self, stream: int) -> None:
        """Drop the circuit of a stream that has ended."""
        self._last = self._records.pop(stream)

    def start_race(self) -> None:
        """Note that it is being found out which one is the fastest."""
        self._raced = None

    def end_race(self, compared: int) -> None:
        """Note how many were compared."""
        self._raced = compared

    def add_gap(self, seconds: float) -> None:
        """Count a time in which nothing came."""
        self._gaps += 1
        self._gap_s += seconds

    # -- what is learnt of one circuit: each method returns its record if that is news, and None otherwise

    def note_round_trip(self, stream: int) -> CircuitRecord | None:
        """Note that a round trip came back over this stream."""
        record = self._records[stream]
        if record.measured:
            return None
        record.measured = True
        return record

    # A peer has one word of each kind for each stream, or it could keep us busy and fill our screen. What it says of a
    # stream that is gone says nothing.

    def note_rendezvous(self, stream: int) -> CircuitRecord | None:
        """Note that the peer, which dialled this stream, says where the halves join, so that ours can be found."""
        record = self._records.get(stream)
        if record is None or record.is_joint_known:
            return None
        record.is_joint_known = True
        return record

    def note_claim(self, claim: OwnSide) -> CircuitRecord | None:
        """Note how long the peer says that its half is."""
        record = self._records.get(claim.stream)
        if record is None or record.claimed_relays is not None:
            return None
        record.claimed_relays = claim.relays
        return record

    # -- what there is to show

    def fastest(self, best: int | None) -> CircuitRecord:
        """Return the circuit of this stream, the link's best; while it has none, the one that was there last."""
        return self._last if best is None else self._records.get(best, self._last)

    def shows(self, record: CircuitRecord, best: int | None) -> bool:
        """Return whether a circuit is the one that a person is shown, now that it is measured and no race goes on."""
        return record is self.fastest(best) and record.measured and self._raced is not None

    def summary(self, best: int | None, *, compared: int, round_trip_s: float | None) -> LinkSummary:
        """Sum up the link.

        Args:
            compared: how many streams have been compared so far: a short session may end before its race does.
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
