"""Says what a piece of evidence proves to this user about the party that shows it.

The party has proved its address by its link before. So evidence counts only for the address that shows it, and names
come only from this user's own files. Does not decide what follows: that is onionmpc.names.standing.
Rules: docs/reference/evidence.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto

from onionmpc.identity import Onion
from onionmpc.names.trust import Trust


class Grade(Enum):
    """What a piece of evidence proves."""

    NAMES = auto()  # who the party is
    VOUCHES = auto()  # that someone whom this user trusts counts it as a member
    NOTHING = auto()


@dataclass(frozen=True, slots=True)
class Finding:
    """What a piece of evidence proves to this user.

    Attributes:
        name: this user's own name: the principal of a key in allowed_signers, a listed domain, or the name of a
            company's file. The principal of the issuer if `grade` is VOUCHES; "" if it is NOTHING.
        words: how that is known, or why it proves nothing. Safe to print.
        until: when the evidence expires; None if it proves nothing.
    """

    grade: Grade
    name: str
    words: str
    until: datetime | None


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
