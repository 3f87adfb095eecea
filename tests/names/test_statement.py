"""Statements: one spelling for each, and each error with its line."""

from __future__ import annotations

import datetime
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onionmpc.errors import InvalidEvidence
from onionmpc.names.statement import (
    MAX_STATEMENT_BYTES,
    Statement,
    StatementPurpose,
    format_statement,
    parse_statement,
    roster_in_statement,
)
from onionmpc.session.roster_words import roster_fingerprint, word_list
from tests.support.evidence import ME, OTHER, REVIEW, STATEMENT

TEXT = f"""\
onionmpc statement 1
address {ME}
purpose party
scope program sha256:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f
audience roster acid-adam-alarm-album-alert-alex-alice-alpha-amber-anna
from 2026-12-01T00:00Z
until 2027-02-28T00:00Z
"""
MOMENTS = st.datetimes(datetime.datetime(1000, 1, 1), datetime.datetime(9000, 1, 1)).map(  # noqa: DTZ001 (next)
    lambda moment: moment.replace(second=0, microsecond=0, tzinfo=datetime.UTC)
)
ABOUT_PARTIES = st.builds(
    lambda onion, purpose, program, roster, start, minutes: Statement(
        onion, purpose, program, roster, start, start + datetime.timedelta(minutes=minutes)
    ),
    st.sampled_from([ME, OTHER]),
    st.sampled_from([StatementPurpose.PARTY, StatementPurpose.ISSUER]),
    st.none() | st.binary(min_size=32, max_size=32),
    st.none() | st.lists(st.sampled_from(word_list()), min_size=10, max_size=10).map("-".join),
    MOMENTS,
    st.integers(1, 90 * 24 * 60),
)
REVIEWS = st.builds(replace, st.just(REVIEW), program=st.binary(min_size=32, max_size=32))


def test_a_statement_is_these_lines() -> None:
    assert format_statement(STATEMENT) == TEXT
    assert parse_statement(TEXT) == STATEMENT


def test_what_is_not_limited_is_any() -> None:
    text = format_statement(replace(STATEMENT, program=None, roster=None))
    assert text == TEXT.replace(TEXT.split("\n")[3], "scope any").replace(TEXT.split("\n")[4], "audience any")
    review = format_statement(REVIEW).split("\n")
    assert review[1:5] == ["address any", "purpose program", TEXT.split("\n")[3], "audience any"]


@given(ABOUT_PARTIES | REVIEWS)
def test_what_is_written_is_read_again(statement: Statement) -> None:
    text = format_statement(statement)
    assert parse_statement(text) == statement
    assert text.isascii()
    assert len(text) <= MAX_STATEMENT_BYTES / 2


@given(ABOUT_PARTIES | REVIEWS, st.data())
def test_a_changed_text_is_another_statement_or_none(statement: Statement, data: st.DataObject) -> None:
    text = format_statement(statement)
    place = data.draw(st.integers(0, len(text)))
    removed = data.draw(st.integers(0, 2))
    changed = text[:place] + data.draw(st.text(max_size=2)) + text[place + removed :]
    try:
        parsed = parse_statement(changed)
    except InvalidEvidence:
        return
    assert format_statement(parsed) == changed
    assert (parsed == statement) == (changed == text)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("statement 1", "statement 2", 'line 1 of the statement is damaged: expected "onionmpc statement 1"'),
        (f"address {ME}", "address", 'line 2 of the statement is damaged: expected "address" and a value'),
        (ME, "x.onion", "line 2 .*: the address has 1 characters"),
        (ME, ME.upper(), "line 2 "),
        ("purpose party", "purpose friend", "line 3 .*: 'friend' is not a value that it can have"),
        ("party\nscope", "party\n\nscope", "does not have 7 whole lines"),
        ("sha256:0001", "sha256:001", "line 4 "),
        ("sha256", "sha512", "line 4 "),
        ("program sha256", "sha256", "line 4 "),
        ("-anna", "", "line 5 "),
        ("roster ", "", "line 5 "),
        ("acid-adam", "acid adam", "line 5 "),
        ("2026-12-01T00:00Z", "2026-12-01", "line 6 "),
        ("2026-12-01T00:00Z", "2026-12-01T00:00+00:00", "line 6 "),
        ("2027-02-28", "2027-02-30", "line 7 "),
        ("2027-02-28", "2027-03-02", "at most 90 days"),
        ("2027-02-28", "2026-12-01", "ends after it begins"),
        ("T00:00Z\n", "T00:00Z", "7 whole lines"),
        ("purpose party", "purpose program", "names a program, and neither an address nor an audience"),
        (f"address {ME}", "address any", "can have no address"),
        ("Z\n", f"Z\n{'x' * MAX_STATEMENT_BYTES}", "more than 2048 bytes"),
    ],
)
def test_a_damaged_statement_is_refused_with_its_line(old: str, new: str, words: str) -> None:
    with pytest.raises(InvalidEvidence, match=words) as refusal:
        parse_statement(TEXT.replace(old, new))
    assert (refusal.value.message + refusal.value.hint).isprintable()


@pytest.mark.parametrize("change", [{"program": b"short"}, {"start": STATEMENT.start.replace(second=1)}])
def test_a_statement_that_has_no_text_cannot_be_made(change: Any) -> None:
    with pytest.raises(ValueError, match=r"statement|program"):
        replace(STATEMENT, **change)


def test_the_words_of_a_roster_are_an_audience() -> None:
    words = roster_in_statement(roster_fingerprint((ME, OTHER)))
    assert replace(STATEMENT, roster=words).roster == words
