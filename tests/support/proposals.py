"""What a party is asked to consent to, and the text of it."""

from __future__ import annotations

from typing import Any

from onionmpc.api.questions import Proposal
from onionmpc.program.spec import NO_WALLS
from onionmpc.session.agreement import Agreement, PartyTerms, SharedTerms

PADDED = Agreement(
    SharedTerms(
        protocol=1,
        addresses=("a.onion", "b.onion", "c.onion"),
        threshold=1,
        program="vote",
        files={"vote.py": "00" * 32},
        public_arguments=(),
        mpyc_version="0.11",
        mpyc_options=(),
        python="CPython 64-bit",
        numpy=None,
        padding_rate=10,
    ),
    (PartyTerms(), PartyTerms(), PartyTerms()),
    ("00" * 16, "01" * 16, "02" * 16),
)


def proposal(agreement: Agreement, number: int = 0, **changes: Any) -> Proposal:
    """A proposal with nothing special."""
    usual: dict[str, Any] = {
        "walls": NO_WALLS,
        "private_arguments": 0,
        "by_invite": False,
        "allow_subprocess": False,
    }
    return Proposal(agreement, number, **(usual | changes))


def lines_of(agreement: Agreement, number: int = 0, **changes: Any) -> list[str]:
    """The lines that are shown."""
    return str(proposal(agreement, number, **changes)).splitlines()
