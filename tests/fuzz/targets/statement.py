"""Statements: refused with a line, or one that is written the same again."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from onionmpc.errors import InvalidEvidence
from onionmpc.names.statement import MAX_DAYS, StatementPurpose, format_statement, parse_statement
from tests.fuzz.mutations import mutated
from tests.support.evidence import OTHER, REVIEW, STATEMENT

STATEMENTS = [
    STATEMENT,
    REVIEW,
    replace(STATEMENT, program=None, roster=None),
    replace(STATEMENT, onion=OTHER, purpose=StatementPurpose.ISSUER),
]
TOKENS = [
    *(b"\n", b"\r\n", b" ", b"any", b"\0", b"\xff", b"-", b"program", b"issuer", b"purpose party\n", b"address any\n"),
    *("\u0430".encode(), "\u212a".encode(), b"2027-02-30", b"24:00", b"9999-12-31T23:59Z", b"0001-01-01T00:00Z"),
    *(OTHER.encode(), OTHER.upper().encode(), b"sha256:", b"roster ", b"onionmpc statement 2\n"),
]
INPUTS = mutated(st.sampled_from(STATEMENTS).map(lambda each: format_statement(each).encode()), TOKENS)
REFUSALS = (InvalidEvidence,)


def check(data: bytes) -> tuple[StatementPurpose, bool, bool]:
    text = data.decode("utf-8", "replace")
    try:
        statement = parse_statement(text)
    except InvalidEvidence as error:
        assert (error.message + error.hint).isprintable()
        raise
    assert format_statement(statement) == text
    assert 0 < (statement.until - statement.start).total_seconds() <= MAX_DAYS * 24 * 60 * 60
    return statement.purpose, statement.program is None, statement.roster is None
