"""The address book as values and as text: a name has one address; a damaged text is refused by its line."""

from __future__ import annotations

import datetime

import pytest

from onionmpc.errors import UsageError
from onionmpc.identity import Identity, Onion
from onionmpc.names.address_book import (
    MAX_BOOK_BYTES,
    MAX_CONTACTS,
    AddressBook,
    Contact,
    Meetings,
    check_contact_name,
    decode_book,
    encode_book,
    nearest_hint,
)
from tests.support.commands import A, B, C

DAY = datetime.date(2026, 5, 3)
BOOK = AddressBook().with_contact("bank", B).with_contact("acme.example", A)
MET = BOOK.after_meeting([A, C], "average_salary", DAY)
TEXT = f"onionmpc contacts 1\nhistory on\nacme.example {A} 1 2026-05-03 average_salary\nbank {B}\n"


@pytest.mark.parametrize("name", ["acme", "a", "acme.example", "team-2", "2nd_bank", "x" * 32])
def test_a_name_is_of_plain_letters(name: str) -> None:
    check_contact_name(name)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            "Acme",
            "\u0430cme",
            "ac\u200bme",
            "\uff41cme",
            "a cme",
            "a/b",
            "@a",
            "-a",
            "--yes",
            ".a",
            "a.",
            "a-",
            "_a",
        ),
        *("42", "a\n", "\x1b[2Ja", "a,b", "a#b", "x" * 33, A, A[:56], "onionmpc1abc", "my.py", "x.onion", "onionmpc:a"),
    ],
)
def test_a_name_is_no_address_option_path_list_program_or_letter_of_another_script(name: str) -> None:
    with pytest.raises(UsageError, match="cannot name a contact") as raised:
        AddressBook().with_contact(name, A)
    assert raised.value.message.replace("…", "").isascii()
    assert raised.value.message.isprintable()


def test_a_name_with_another_address_is_refused_with_both_shown_unless_it_is_replaced() -> None:
    with pytest.raises(UsageError, match=f"you keep {B}, and this is {C}"):
        BOOK.with_contact("bank", C)
    assert BOOK.with_contact("bank", B) == BOOK
    replaced = MET.with_contact("acme.example", C, replacing=True)
    assert replaced.contact("acme.example") == Contact("acme.example", C)  # the meetings were with another key


def test_an_address_has_one_name() -> None:
    for name, replacing in (("other", False), ("bank", True)):
        with pytest.raises(UsageError, match=r"kept already, under the name acme\.example"):
            BOOK.with_contact(name, A, replacing=replacing)


@pytest.mark.parametrize(
    ("name", "other"), [("teaml", "team1"), ("corner", "comer"), ("vvest", "west"), ("b0nd", "bond")]
)
def test_a_name_that_is_easily_read_as_another_one_is_refused(name: str, other: str) -> None:
    book = AddressBook().with_contact(other, A)
    with pytest.raises(UsageError, match=f"{name} is too easily read as {other}"):
        book.with_contact(name, B)


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="there is no contact named 'bnak'") as raised:
        BOOK.onion("bnak")
    assert raised.value.hint == nearest_hint("BNAK", BOOK.contacts) == "did you mean your contact bank?"
    assert nearest_hint("zebra", BOOK.contacts) == ""
    with pytest.raises(UsageError, match="no contact named"):
        BOOK.without("nobody")


def test_meetings_are_counted_for_contacts_alone() -> None:
    assert MET.contact("acme.example").met == Meetings(1, DAY, "average_salary")
    assert MET.contact("bank").met is None
    assert str(MET.contact("acme.example").met) == "met once in average_salary on 3 May 2026"
    again = MET.after_meeting([A, B], "my\x1b[2J  programme\n" + "x" * 99, datetime.date(2026, 12, 30))
    met = again.contact("acme.example").met
    assert met is not None
    assert met.count == 2
    assert met.program.startswith("my\\x1b[2J programme xxx")
    assert str(met).startswith("met 2 times, last in my")
    assert str(met).endswith("on 30 December 2026")
    assert decode_book(encode_book(again), "book") == again


def test_with_history_off_nothing_is_kept_and_what_was_is_gone() -> None:
    off = MET.keeping_history(keep=False)
    assert "average_salary" not in encode_book(off).decode()
    assert off.after_meeting([A], "vote", DAY) == off
    assert off.keeping_history(keep=True) == BOOK
    assert decode_book(encode_book(off), "book") == off


def test_the_text_is_as_documented_and_reads_the_same() -> None:
    assert encode_book(MET).decode() == TEXT
    assert decode_book(TEXT.encode(), "book") == MET
    assert encode_book(AddressBook()) == b"onionmpc contacts 1\nhistory on\n"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", 'line 1 of the address book book is damaged: expected "onionmpc contacts 1"'),
        ("hello\n", "line 1 of"),
        ("onionmpc contacts 2\nanything\n", "has version 2, expected 1"),
        ("onionmpc contacts 1\n", "line 2 of"),
        ("onionmpc contacts 1\nhistory maybe\n", 'line 2 of .*: expected "history on" or "history off"'),
        (TEXT[:-9], "line 4 of .*: it is cut short"),
        (TEXT[:-9] + "\n", r"line 4 of .*: the address does not end in"),
        (TEXT + "bank2\n", "line 5 of .*: expected a name and an address"),
        (TEXT + f"acme2 {A}\n", "line 5 of .*: line 3 has the same name or address"),
        (TEXT + f"bank {C}\n", "line 5 of .*: line 4 has the same"),
        (TEXT + f"Caro {C}\n", "line 5 of .*: 'Caro' cannot name a contact"),
        (TEXT + f"caro {C.upper()}\n", "line 5 of .*: the address is not in lower case"),
        (TEXT + f"caro {C} 0 2026-05-03 vote\n", "line 5 of .*: expected"),
        (TEXT + f"caro {C} 1 2026-02-30 vote\n", "line 5 of .*: the day is not a date"),
        (TEXT + f"caro {C} 1 2026-W01-1 vote\n", "line 5 of .*: the day or the program is not as"),
        (TEXT + f"caro {C} 1 2026-05-03  vote\n", "line 5 of .*: the day or the program is not as"),
        (TEXT + f"caro {C} 1 2026-05-03 a\x1bb\n", "line 5 of .*: the day or the program is not as"),
        (TEXT + f"caro {C}\r\n", "line 5 of"),
        (TEXT + "\n", "line 5 of"),
        (TEXT.replace("history on", "history off"), "line 3 of .*: history is off"),
    ],
)
def test_a_damaged_text_is_refused_with_its_line(text: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence) as raised:
        decode_book(text.encode(), "book")
    assert raised.value.hint


def test_a_text_has_bounds() -> None:
    with pytest.raises(UsageError, match=r"line 5 of .*: it is not UTF-8"):
        decode_book(TEXT.encode() + b"\xff\n", "book")
    with pytest.raises(UsageError, match="more than"):
        decode_book(bytes(MAX_BOOK_BYTES + 1), "book")
    onions = [Onion(f"{number}.onion") for number in range(MAX_CONTACTS)]
    full = AddressBook().holding(Contact(f"c{number}", onion) for number, onion in enumerate(onions))
    with pytest.raises(UsageError, match="500 contacts, the most"):
        full.with_contact("one-more", Identity(bytes(32)).onion)
