"""The summary of a computation, as text and as data for machines. It keeps peers' claims apart from measurements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onionmpc import Seat
from onionmpc.api.outcome import Result


def summary_data(result: Result, number: int) -> dict[str, Any]:
    """Return the summary of a session's computation with this number, from 1: what `--json` writes, and `ended`."""
    return {
        "computation": number,
        "session": result.session,
        "own_number": result.number,
        "parties": [
            {
                "circuit_length": own.circuit_length.value,
                "min_circuit_length": own.min_circuit_length.value,
                "max_circuits": own.max_circuits,
            }
            for own in result.party_terms
        ],
        "seats": seats_data(result.seats),
        "links": {
            str(number): {
                "own_relays": link.own_relays,
                "claimed_relays": link.claimed_relays,
                "round_trip_s": link.round_trip_s,
                "raced": link.raced,
                "gaps": link.gaps,
                "gap_s": link.gap_s,
            }
            for number, link in result.links.items()
        },
        "connect_s": result.times.connect_s,
        "agree_s": result.times.agree_s,
        "run_s": result.times.run_s,
        "signed": None if result.receipt is None else [signature.party for signature in result.receipt.signatures],
    }


def seats_data(seats: Sequence[Seat]) -> list[dict[str, Any]]:
    """Return what each other party is to this user, as data."""
    return [
        {
            "party": seat.number,
            "onion": seat.onion,
            "standing": seat.standing.value,
            "names": seat.names,
            "words": seat.words,
        }
        for seat in seats
    ]


def describe_link(
    party: int | str, own_relays: int | None, claimed_relays: int | None, round_trip_s: float | None, raced: int
) -> str:
    """Describe in words what is known of a link.

    Args:
        party: the peer's number.
        own_relays, claimed_relays, round_trip_s, raced: see `LinkMeasured`.
    """
    relays = "1 relay" if own_relays == 1 else f"{own_relays} relays"
    words = ["own side not measured" if own_relays is None else f"own side: {relays}"]
    if claimed_relays is not None:
        words.append(f"party {party} claims {claimed_relays} on its side")
    if round_trip_s is not None:
        words.append(f"round trip {round_trip_s * 1000:.0f} ms")
    if raced > 1:
        words.append(f"the fastest of {raced}")
    return ", ".join(words)
