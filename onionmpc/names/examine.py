"""Says what a piece of evidence proves to this user about the party that shows it.

The party has proved its address by its link before. So evidence counts only for the address that shows it, and names
come only from this user's own files. Does not decide what follows: that is onionmpc.names.standing.
Rules: docs/reference/evidence.md.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import datetime

from onionmpc.errors import InvalidEvidence
from onionmpc.identity import Onion
from onionmpc.names.certificates import BEGIN_CERTIFICATE, find_address, parse_certificates, public_roots
from onionmpc.names.certificates import verify as verify_chain
from onionmpc.names.findings import Finding, Grade
from onionmpc.names.ssh import BEGIN_SIGNATURE, SshSignature, parse_signature
from onionmpc.names.ssh import verify as verify_signature
from onionmpc.names.statement import (
    Statement,
    StatementPurpose,
    looks_like_statement,
    parse_statement,
    roster_in_statement,
)
from onionmpc.names.trust import Trust
from onionmpc.text import printable

MAX_DOMAINS_SHOWN = 3


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


def examine(piece: str, context: Context, trust: Trust) -> Finding:
    """Say what a piece of evidence proves to this user. Raises no error for anything that a peer sends."""
    try:
        if piece.startswith(BEGIN_CERTIFICATE):
            return _by_certificate(piece, context, trust)
        return _by_statement(piece, context, trust)
    except InvalidEvidence as error:
        return Finding(Grade.NOTHING, "", error.message, None)


def examine_review(piece: str, program: bytes, trust: Trust, now: datetime) -> Finding:
    """Say whose review of a program a signed statement is: NAMES its signer, or proves NOTHING.

    Args:
        piece: a statement with the purpose "program", and its signature.
        program: the digest of the program, 32 bytes.
        now: the time, in UTC.
    """
    try:
        return _by_review(piece, program, trust, now)
    except InvalidEvidence as error:
        return Finding(Grade.NOTHING, "", error.message, None)


def _by_certificate(piece: str, context: Context, trust: Trust) -> Finding:
    found = find_address(parse_certificates(piece), context.onion)
    until = found.until
    for name, roots in trust.companies.items():
        with contextlib.suppress(InvalidEvidence):
            verify_chain(found, roots, context.now)
            return Finding(Grade.NAMES, name, f"certificate of your CA {name}, until {_day(until)}", until)
    verify_chain(found, public_roots() if trust.public_roots is None else trust.public_roots, context.now)
    for domain in found.domains:
        if (listed := trust.domain_of(domain)) is not None:
            words = f"certificate of {found.issuer}, until {_day(until)}: controls {domain}"
            return Finding(Grade.NAMES, listed, words, until)
    if not found.domains:
        raise InvalidEvidence("a valid public certificate, but it names no domain beside the address")
    domains = ", ".join(printable(domain, 80) for domain in found.domains[:MAX_DOMAINS_SHOWN])
    raise InvalidEvidence(
        f"a valid public certificate for {domains}, which you do not list: "
        "add a line with the domain to the file domains of your trust folder (onionmpc trust) if that names a party"
    )


def _by_statement(piece: str, context: Context, trust: Trust) -> Finding:
    signed = _Signed.parse(piece)
    statement = signed.statement
    if statement.purpose is StatementPurpose.PROGRAM:
        raise InvalidEvidence("a review of a program, which says nothing about an address")
    if statement.onion != context.onion:
        raise InvalidEvidence(f"a statement about another address, {statement.onion}")
    if statement.roster not in (None, roster_in_statement(context.roster)):
        raise InvalidEvidence("a statement for other parties")
    signed.check_scope(context.program, context.now)
    limits = ["for this program"] * (statement.program is not None) + ["for these parties"] * bool(statement.roster)
    limited = ", ".join([*limits, f"until {_day(statement.until)}"])
    if statement.purpose is StatementPurpose.ISSUER:
        issuer = verify_signature(signed.text, signed.signature, trust.issuers, context.now).principal
        return Finding(Grade.VOUCHES, issuer, f"{issuer}, your issuer, says it is a member, {limited}", statement.until)
    name = verify_signature(signed.text, signed.signature, trust.people, context.now).principal
    return Finding(Grade.NAMES, name, f"SSH key in your list, {limited}", statement.until)


def _by_review(piece: str, program: bytes, trust: Trust, now: datetime) -> Finding:
    signed = _Signed.parse(piece)
    if signed.statement.purpose is not StatementPurpose.PROGRAM:
        raise InvalidEvidence("a statement about an address, and no review of a program")
    signed.check_scope(program, now)
    signer = verify_signature(signed.text, signed.signature, trust.people, now)
    until = signed.statement.until
    return Finding(Grade.NAMES, signer.principal, f"reviewed this program, until {_day(until)}", until)


@dataclass(frozen=True, slots=True)
class _Signed:
    """A statement, its text, and its signature, which nobody has verified."""

    text: str
    statement: Statement
    signature: SshSignature

    @classmethod
    def parse(cls, piece: str) -> _Signed:
        if not looks_like_statement(piece):
            raise InvalidEvidence("neither certificates nor a signed statement")
        text, begin, rest = piece.partition(BEGIN_SIGNATURE)
        return cls(text, parse_statement(text), parse_signature(begin + rest))

    def check_scope(self, program: bytes, now: datetime) -> None:
        if self.statement.program not in (None, program):
            raise InvalidEvidence("a statement for another program")
        if now < self.statement.start:
            raise InvalidEvidence(f"a statement that counts from {_day(self.statement.start)} on")
        if now > self.statement.until:
            raise InvalidEvidence(f"a statement that expired on {_day(self.statement.until)}")


def _day(moment: datetime) -> str:
    return f"{moment.day} {moment:%b %Y}"
