"""The result of a computation at one party."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from onionmpc.errors import OnionMPCError
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
    """The result of a computation that ended well at all parties.

    Attributes:
        outputs: what this party's program wrote to its standard output, at most 64 MiB. It is decoded as UTF-8 with
            "surrogateescape", so `outputs.encode("utf-8", "surrogateescape")` returns the same bytes. Empty if the
            program used the terminal.
        errors: the same for its standard error.
        session: the result as the session layer returns it.
    """

    outputs: str = field(repr=False)
    errors: str = field(repr=False)
    session: SessionResult

    @property
    def number(self) -> int:
        """This party's number in the session."""
        return self.session.own_number

    @property
    def links(self) -> Mapping[int, LinkSummary]:
        """A summary of the link to each other party, by that party's number: relays, round trip, gaps."""
        return self.session.links

    @property
    def times(self) -> Times:
        """How long the steps took."""
        return Times(self.session.connect_s, self.session.agree_s, self.session.run_s)

    @property
    def receipt(self) -> Receipt | None:
        """What the parties signed at the end, None if they did not agree on a receipt."""
        return self.session.receipt

    @property
    def flaw(self) -> OnionMPCError | None:
        """What is wrong with this party's output or receipt, None if nothing is. The computation itself ended well."""
        return self.session.output_flaw or self.session.receipt_flaw
