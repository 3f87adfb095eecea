"""Says what a piece of evidence proves to this user about the party that shows it.

The party has proved its address by its link before. So evidence counts only for the address that shows it, and names
come only from this user's own files. Does not decide what follows: that is onionmpc.names.standing.
Rules: docs/reference/evidence.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from onionmpc.identity import Onion
from onionmpc.names.findings import Finding, Grade
from onionmpc.names.trust import Trust


@dataclass(frozen=True, slots=True)
class Context:
    """The session in which a party shows its evidence.

    Attributes:
        onion: the address of the party that shows it.
        program: the digest of the program, 32 bytes.
        roster: the ten words of all parties.
        now: the time, in UTC.
    """

    onion: Onion
    program: bytes
    roster: str
    now: datetime


def examine(piece: str, context: Context, trust: Trust) -> Finding:  # noqa: ARG001
    """Say what a piece of evidence proves to this user. Raises no error for anything that a peer sends."""
    return Finding(Grade.NOTHING, "", "evidence that this version cannot read", None)


def examine_review(piece: str, program: bytes, trust: Trust, now: datetime) -> Finding:  # noqa: ARG001
    """Say whose review of a program a signed statement is: NAMES its signer, or proves NOTHING.

    Args:
        piece: a statement with purpose program, and its signature.
        program: the digest of the program, 32 bytes.
    """
    return Finding(Grade.NOTHING, "", "evidence that this version cannot read", None)
