"""The circuits of one link: what is known of each, what a peer may claim, and which one is shown."""

from __future__ import annotations

from onionmpc.mesh.network import OwnPath
from onionmpc.session.ledger import CircuitLedger, LinkSummary
from onionmpc.session.messages import OwnSide, Rendezvous

PATH = OwnPath(3, "A" * 40)


def summary(ledger: CircuitLedger, best: int | None, *, compared: int = 0) -> LinkSummary:
    return ledger.summary(best, compared=compared, round_trip_s=0.5)


def test_the_dialler_introduces_a_circuit() -> None:
    ledger = CircuitLedger()
    ledger.open(1, PATH, dialled=True)
    ledger.open(2, None, dialled=False)
    ledger.open(3, None, dialled=True)  # tor did not say where it runs
    introductions = []
    for stream in (1, 2, 3):
        record = ledger.note_round_trip(stream)
        assert record is not None
        introductions.append(record.introduction())
    assert introductions == [(Rendezvous(1, "A" * 40), OwnSide(1, 3)), (), ()]


def test_only_the_first_round_trip_of_a_stream_is_news() -> None:
    ledger = CircuitLedger()
    ledger.open(1, PATH, dialled=True)
    assert ledger.note_round_trip(1) is not None
    assert ledger.note_round_trip(1) is None


def test_a_peer_names_the_rendezvous_point_of_an_accepted_circuit_once() -> None:
    ledger = CircuitLedger()
    ledger.open(1, None, dialled=False)
    assert ledger.note_rendezvous(1) is not None
    assert ledger.note_rendezvous(1) is None
    assert ledger.note_rendezvous(2) is None  # no such stream


def test_a_peer_cannot_name_the_rendezvous_point_of_our_own_dials() -> None:
    ledger = CircuitLedger()
    ledger.open(1, PATH, dialled=True)
    assert ledger.note_rendezvous(1) is None


def test_a_peer_claims_one_length_for_each_stream() -> None:
    ledger = CircuitLedger()
    ledger.open(1, PATH, dialled=True)
    assert ledger.note_claim(OwnSide(1, 5)) is not None
    assert ledger.note_claim(OwnSide(1, 7)) is None
    assert ledger.note_claim(OwnSide(2, 8)) is None
    assert summary(ledger, 1).claimed_relays == 5


def test_the_circuit_of_the_best_stream_is_shown_once_it_is_measured() -> None:
    ledger = CircuitLedger()
    ledger.open(1, PATH, dialled=True)
    ledger.open(2, OwnPath(4, "B" * 40), dialled=True)
    first, second = ledger.fastest(1), ledger.fastest(2)
    assert not ledger.shows(first, 1)
    ledger.note_round_trip(1)
    ledger.note_round_trip(2)
    assert ledger.shows(first, 1)
    assert not ledger.shows(second, 1)
    assert ledger.shows(second, 2)


def test_nothing_is_shown_while_the_race_lasts() -> None:
    ledger = CircuitLedger()
    ledger.open(1, PATH, dialled=True)
    ledger.note_round_trip(1)
    ledger.start_race()
    assert not ledger.shows(ledger.fastest(1), 1)
    assert summary(ledger, 1, compared=2).raced == 2
    assert summary(ledger, 1, compared=0).raced == 1
    ledger.end_race(3)
    assert ledger.shows(ledger.fastest(1), 1)
    assert summary(ledger, 1, compared=0).raced == 3


def test_without_a_stream_the_summary_describes_the_last_circuit() -> None:
    ledger = CircuitLedger()
    assert summary(ledger, None) == LinkSummary(None, None, 0.5, 1, 0, 0.0)
    ledger.open(1, PATH, dialled=True)
    ledger.open(2, None, dialled=False)
    ledger.close(2)
    ledger.close(1)
    assert summary(ledger, None).own_relays == 3
    ledger.open(3, OwnPath(1, "B" * 40), dialled=True)
    assert summary(ledger, 3).own_relays == 1


def test_gaps_are_counted_and_added_up() -> None:
    ledger = CircuitLedger()
    ledger.add_gap(1.5)
    ledger.add_gap(2.0)
    assert (summary(ledger, None).gaps, summary(ledger, None).gap_s) == (2, 3.5)
