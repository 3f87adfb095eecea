"""Pages that post addresses: an error that can be printed, or addresses of which each counts or has expired, once."""

from __future__ import annotations

import datetime

from hypothesis import strategies as st

from onionmpc.errors import InvalidPosting, UsageError
from onionmpc.identity import parse_onion
from onionmpc.names.posting import MAX_DAYS_AHEAD, MAX_LINES, MAX_PURPOSE_CHARACTERS, parse_posting
from tests.fuzz.mutations import mutated
from tests.support.identities import identity

TODAY = datetime.date(2026, 12, 1)
ONIONS = [identity(number).onion for number in range(3)]
PAGES = [
    f"# a page\n{ONIONS[0]} 2027-02-28 salary comparison\n".encode(),
    f"{ONIONS[0]} 2026-12-01 a\r\n\r\n{ONIONS[1]}\t2026-11-30 b\n{ONIONS[2]}  2027-12-02 K\u00e4se # c".encode(),
]
TOKENS = [
    *(
        b"\n",
        b"\r",
        b"\t",
        b" ",
        b"\0",
        b"\xff",
        b"#",
        b"<",
        b"\xef\xbb\xbf",
        b"2027-02-30",
        b"9999-12-31",
        b"0000-01-01",
    ),
    *("\u2028".encode(), "\u212a".encode(), "\u202e".encode(), "\u0662".encode(), b"\x1b[2J", b"2026-W01-1"),
    *(f"{onion}".encode() for onion in ONIONS),
    f"{ONIONS[2]} 2027-01-01 x\n".encode(),
]
INPUTS = mutated(st.sampled_from(PAGES), TOKENS)
REFUSALS = (InvalidPosting,)


def check(data: bytes) -> tuple[int, int, bool]:
    try:
        posting = parse_posting(data, TODAY)
    except InvalidPosting as error:
        assert (error.message + error.hint).isprintable()
        raise
    every = [*posting.valid, *posting.expired]
    assert len({each.onion for each in every}) == len(every) <= MAX_LINES
    for each in every:
        assert parse_onion(each.onion) == each.onion
        assert each.onion[:56] in data.decode().lower()
        assert str(each).isprintable()
        assert 0 < len(each.purpose) <= MAX_PURPOSE_CHARACTERS
        assert (each in posting.valid) == (0 <= (each.until - TODAY).days <= MAX_DAYS_AHEAD)
    try:
        chosen = posting.choose(wanted=None, kept=None)
    except UsageError:
        assert len(posting.valid) != 1
        return len(posting.valid), len(posting.expired), False
    assert posting.valid == (chosen,)
    return 1, len(posting.expired), True
