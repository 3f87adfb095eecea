"""Pages that post addresses: what they may say, each mistake, and which address is chosen."""

from __future__ import annotations

import datetime

import pytest

from onionmpc.errors import InvalidPosting, UsageError
from onionmpc.names.posting import (
    MAX_DAYS_AHEAD,
    MAX_LINES,
    MAX_PAGE_BYTES,
    MAX_PURPOSE_CHARACTERS,
    PostedAddress,
    Posting,
    parse_posting,
)
from tests.support.commands import A, B, C

TODAY = datetime.date(2026, 12, 1)
YESTERDAY, LATEST = TODAY - datetime.timedelta(days=1), TODAY + datetime.timedelta(days=MAX_DAYS_AHEAD)


def parse(*lines: str) -> Posting:
    return parse_posting("\n".join(lines).encode(), TODAY)


def refusal(content: bytes) -> str:
    with pytest.raises(InvalidPosting) as raised:
        parse_posting(content, TODAY)
    assert (raised.value.message + raised.value.hint).isprintable()
    return raised.value.message


def test_a_page_has_addresses_comments_and_empty_lines() -> None:
    page = (
        f"\ufeff# Adressen der Käserei\r\n\r\n  {A.upper()}\t2027-02-28   salary  comparison # 7 \r\n{B} {TODAY} Käse"
    )
    assert parse_posting(page.encode(), TODAY) == Posting(
        (
            PostedAddress(A, datetime.date(2027, 2, 28), "salary  comparison # 7"),
            PostedAddress(B, TODAY, "Käse"),
        ),
        (),
    )
    assert parse() == parse("# nothing yet") == Posting((), ())


def test_an_address_counts_until_the_end_of_its_last_day() -> None:
    found = parse(f"{A} {YESTERDAY} old", f"{B} {TODAY} now", f"{C} {LATEST} later")
    assert [each.onion for each in found.valid] == [B, C]
    assert [each.onion for each in found.expired] == [A]
    assert str(found.expired[0]) == f"{A} until 30 November 2026: old"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (A, "expected an address, a day and a purpose"),
        (f"{A} 2027-02-28", "expected an address, a day and a purpose"),
        (f"{A} 28.2.2027 x", "'28.2.2027' is not a day, expected one such as 2027-02-28"),
        (f"{A} 20270228 x", "'20270228' is not a day"),
        (f"{A} 2027-W01-1 x", "'2027-W01-1' is not a day"),
        (f"{A} 2027-02-30 x", "'2027-02-30' is not a day"),
        (f"{A} 2027-02-\u0662\u0668 x", "is not a day"),
        (f"{A} {LATEST + datetime.timedelta(days=1)} x", "is more than 366 days ahead"),
        (f"{A} 9999-12-31 x", "is more than 366 days ahead"),
        (f"{A} 2027-02-28 " + "x" * (MAX_PURPOSE_CHARACTERS + 1), "the purpose has more than 80 characters"),
        (f"{A} 2027-02-28 \x1b[2Jx", "the purpose has characters that cannot be printed"),
        (f"{A} 2027-02-28 \u202egnp", "the purpose has characters that cannot be printed"),
        (f"{A[:-7]} 2027-02-28 x", 'the address does not end in ".onion"'),
        (f"b{A[1:]} 2027-02-28 x", "the checksum is wrong"),
        (f"http://{A} 2027-02-28 x", "this is a link, not an address"),
        (f"{B.upper()} 2027-02-28 again", "an earlier line has the same address"),
    ],
)
def test_one_wrong_line_refuses_the_page_and_is_named(line: str, words: str) -> None:
    message = refusal(f"# a page\n{B} {YESTERDAY} fine\n{line}\n{C} {TODAY} fine\n".encode())
    assert message.startswith("line 3 of the page: ")
    assert words in message


def test_a_page_that_is_no_list_is_refused_in_words() -> None:
    assert refusal(b"\n <!DOCTYPE html>\n<html>").startswith("the page is HTML, expected lines with an address")
    assert refusal(b"# \n\xff\n") == "line 2 of the page: it is not UTF-8"


def test_a_page_has_a_greatest_size() -> None:
    parse(*["#"] * MAX_LINES)
    parse_posting(b"#\n" * MAX_LINES, TODAY)
    assert refusal(b"#\n" * (MAX_LINES + 1)) == "the page has more than 100 lines"
    parse_posting(b"#" * MAX_PAGE_BYTES, TODAY)
    assert refusal(b"#" * (MAX_PAGE_BYTES + 1)) == "the page has more than 65536 bytes"


def test_one_address_is_chosen_and_of_several_the_wanted_or_the_kept_one() -> None:
    one, two = parse(f"{A} {TODAY} x"), parse(f"{A} {TODAY} x", f"{B} {TODAY} y", f"{C} {YESTERDAY} z")
    assert one.choose(wanted=None, kept=None).onion == A
    assert one.choose(wanted=None, kept=B).onion == A  # the caller finds that it has changed
    assert two.choose(wanted=B, kept=None).onion == B
    assert two.choose(wanted=B, kept=A).onion == B
    assert two.choose(wanted=None, kept=B).onion == B
    with pytest.raises(UsageError, match="posts 2 addresses") as raised:
        two.choose(wanted=None, kept=None)
    assert raised.value.hint == "choose one with --address ADDRESS"
    for posting, wanted in ((one, B), (two, C)):
        with pytest.raises(UsageError, match=f"does not post {wanted}, or no longer"):
            posting.choose(wanted=wanted, kept=None)


def test_a_page_without_an_address_that_counts_gives_none() -> None:
    with pytest.raises(UsageError, match="the page has no address"):
        parse("#").choose(wanted=None, kept=A)
    with pytest.raises(UsageError, match="every address of the page has expired, the last on 2026-11-30"):
        parse(f"{A} {YESTERDAY} x").choose(wanted=A, kept=A)
