"""The result of a computation at one party."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from onionmpc.errors import OnionMPCError
from onionmpc.names.standing import Seat
from onionmpc.session.agreement import PartyTerms
from onionmpc.session.computation import SessionResult
from onionmpc.session.ledger import LinkSummary
from onionmpc.session.receipt import Receipt


@dataclass(frozen=True, slots=True)
class Times:
    """How long the steps of a session took, in seconds.

    Attributes:
        connect_s: until every link was up.
        agree_s: from then until all parties had agreed.
        run_s: how long the program ran.
    """

    connect_s: float
    agree_s: float
    run_s: float


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a computation that succeeded at all parties.

    Attributes:
        outputs: what this party's program wrote to its standard output, at most 64 MiB. It is decoded as UTF-8 with
            "surrogateescape", so `outputs.encode("utf-8", "surrogateescape")` returns the same bytes. Empty if the
            program used the terminal.
        errors: the same for its standard error.
        number: this party's number in the session.
        session: the session id, 64 hex digits, as in the `Proposal`.
        party_terms: what each party stated about itself, in party order.
        links: a summary of the link to each other party, by that party's number: relays, round trip, gaps.
        times: how long the steps took.
        receipt: what the parties signed at the end, None if they did not agree on a receipt.
        flaw: what is wrong with this party's output or receipt, None if nothing is. The computation itself succeeded.
        seats: what each other party was to this party's user, as in the `Proposal`.
    """

    outputs: str = field(repr=False)
    errors: str = field(repr=False)
    number: int
    session: str
    party_terms: tuple[PartyTerms, ...]
    links: Mapping[int, LinkSummary]
    times: Times
    receipt: Receipt | None = None
    flaw: OnionMPCError | None = None
    seats: tuple[Seat, ...] = ()


def result_of(session: SessionResult, outputs: str = "", errors: str = "") -> Result:
    """Return the result of a session, and what this party's program wrote."""
    return Result(
        outputs,
        errors,
        session.own_number,
        session.session.hex(),
        session.own,
        session.links,
        Times(session.connect_s, session.agree_s, session.run_s),
        session.receipt,
        session.output_flaw or session.receipt_flaw,
    )
