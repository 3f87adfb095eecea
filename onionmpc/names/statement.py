"""Statements: a few lines of text that say what an address is, for what and for how long. An SSH key signs them.

One statement has one spelling. Text is parsed whole, or refused with the number of the line at fault. Does not know
signatures or whose key counts. Format: docs/reference/evidence.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import TypeVar

from onionmpc.errors import InvalidAddress, InvalidEvidence
from onionmpc.identity import Onion, parse_onion
from onionmpc.text import printable

STATEMENT_HEADER = "onionmpc statement 1"
ANY = "any"
PROGRAM_PREFIX = "program sha256:"
PROGRAM_BYTES = 32
ROSTER_PREFIX = "roster "
# The ten words of docs/PROTOCOL.md section 4, joined by dashes.
ROSTER = re.compile(r"[a-z]+(?:-[a-z]+){9}")
STATEMENT_FIELDS = ("address", "purpose", "scope", "audience", "from", "until")
MAX_DAYS = 90
MAX_STATEMENT_BYTES = 2048
WRITE_HINT = "write statements with onionmpc id statement, and sign them unchanged"

Value = TypeVar("Value")


class StatementPurpose(Enum):
    """What a statement says of its address."""

    PARTY = "party"  # it is the signer's
    ISSUER = "issuer"  # the signer counts its owner as a member
    PROGRAM = "program"  # nothing: the signer has reviewed a program


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement.

    Attributes:
        onion: the address that it is about; None for a review.
        program: the digest of the only program that it is for, 32 bytes; None for any.
        roster: the ten words of the only parties that it is for, joined by dashes; None for any.
        start: from when it counts, in UTC, in whole minutes.
        until: until when: at most 90 days later.
    """

    onion: Onion | None
    purpose: StatementPurpose
    program: bytes | None
    roster: str | None
    start: datetime
    until: datetime

    def __post_init__(self) -> None:
        for moment in (self.start, self.until):
            if moment.tzinfo is not UTC or moment.second or moment.microsecond:
                raise ValueError("the times of a statement are whole minutes in UTC")
        if self.program is not None and len(self.program) != PROGRAM_BYTES:
            raise ValueError(f"the digest of a program has {PROGRAM_BYTES} bytes")
        if self.roster is not None and not ROSTER.fullmatch(self.roster):
            raise InvalidEvidence(
                "the audience is not the ten words of a roster, joined by dashes", hint="copy them from the screen"
            )
        if not self.start < self.until <= self.start + timedelta(days=MAX_DAYS):
            raise InvalidEvidence(f"a statement ends after it begins, and at most {MAX_DAYS} days later")
        self._check_purpose()

    def _check_purpose(self) -> None:
        if self.purpose is not StatementPurpose.PROGRAM:
            if self.onion is None:
                raise InvalidEvidence('only a statement with the purpose "program" can have no address')
        elif self.onion is not None or self.roster is not None or self.program is None:
            raise InvalidEvidence(
                'a statement with the purpose "program" names a program, and neither an address nor an audience'
            )


def format_statement(statement: Statement) -> str:
    """Return the text of a statement, which an SSH key signs byte for byte."""
    program, roster = statement.program, statement.roster
    values = (
        statement.onion or ANY,
        statement.purpose.value,
        ANY if program is None else PROGRAM_PREFIX + program.hex(),
        ANY if roster is None else ROSTER_PREFIX + roster,
        _format_moment(statement.start),
        _format_moment(statement.until),
    )
    lines = [STATEMENT_HEADER, *(f"{name} {value}" for name, value in zip(STATEMENT_FIELDS, values, strict=True))]
    return "".join(f"{line}\n" for line in lines)


def looks_like_statement(text: str) -> bool:
    """Return whether a text is meant as a statement, of any version."""
    return text.startswith("onionmpc statement")


def parse_statement(text: str) -> Statement:
    """Parse the text of a statement.

    Raises:
        InvalidEvidence: it is not spelt as `format_statement` does, or says what no statement can.
    """
    if len(text) > MAX_STATEMENT_BYTES:
        raise InvalidEvidence(f"the statement has more than {MAX_STATEMENT_BYTES} bytes", hint=WRITE_HINT)
    header, *lines = text.split("\n")
    if header != STATEMENT_HEADER:
        raise _damaged(1, f'expected "{STATEMENT_HEADER}"')
    if len(lines) != len(STATEMENT_FIELDS) + 1 or lines[-1]:
        raise InvalidEvidence(f"the statement does not have {len(STATEMENT_FIELDS) + 1} whole lines", hint=WRITE_HINT)
    address, purpose, scope, audience, start, until = (
        _value(number, name, line)
        for number, (name, line) in enumerate(zip(STATEMENT_FIELDS, lines, strict=False), start=2)
    )
    return Statement(
        onion=None if address == ANY else _read(2, address, _parse_address),
        purpose=_read(3, purpose, StatementPurpose),
        program=None if scope == ANY else _read(4, scope, _parse_program),
        roster=None if audience == ANY else _read(5, audience, _parse_roster),
        start=_read(6, start, _parse_moment),
        until=_read(7, until, _parse_moment),
    )


def roster_in_statement(fingerprint: str) -> str:
    """Return the ten words of a roster, which have a space between two, as a statement has them."""
    return fingerprint.replace(" ", "-")


def _value(number: int, name: str, line: str) -> str:
    if not line.startswith(f"{name} "):
        raise _damaged(number, f'expected "{name}" and a value')
    return line.removeprefix(f"{name} ")


def _read(number: int, text: str, parse: Callable[[str], Value]) -> Value:
    try:
        return parse(text)
    except ValueError as error:
        raise _damaged(number, f"{printable(ascii(text), 80)} is not a value that it can have") from error
    except InvalidAddress as error:
        raise _damaged(number, error.message) from error


def _parse_address(text: str) -> Onion:
    onion = parse_onion(text)
    if onion != text:
        raise ValueError("an address is in lower case")
    return onion


def _parse_program(text: str) -> bytes:
    digits = text.removeprefix(PROGRAM_PREFIX)
    if not text.startswith(PROGRAM_PREFIX) or not re.fullmatch(r"[0-9a-f]{64}", digits):
        raise ValueError("a program is sha256: and 64 digits")
    return bytes.fromhex(digits)


def _parse_roster(text: str) -> str:
    words = text.removeprefix(ROSTER_PREFIX)
    if not text.startswith(ROSTER_PREFIX) or not ROSTER.fullmatch(words):
        raise ValueError("a roster is ten words")
    return words


def _parse_moment(text: str) -> datetime:
    moment = datetime.strptime(text, "%Y-%m-%dT%H:%MZ").replace(tzinfo=UTC)
    if _format_moment(moment) != text:
        raise ValueError("a time is written in one way")
    return moment


def _format_moment(moment: datetime) -> str:
    return moment.replace(tzinfo=None).isoformat(timespec="minutes") + "Z"


def _damaged(number: int, what: str) -> InvalidEvidence:
    return InvalidEvidence(f"line {number} of the statement is damaged: {what}", hint=WRITE_HINT)
