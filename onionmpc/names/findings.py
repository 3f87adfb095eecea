"""What a piece of evidence proves to this user.

onionmpc.names.examine finds it out, and loads libraries for that.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto


class Grade(Enum):
    """What a piece of evidence proves."""

    NAMES = auto()  # who the party is
    VOUCHES = auto()  # that an issuer which this user trusts counts it as a member
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
