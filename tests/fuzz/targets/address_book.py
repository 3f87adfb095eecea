"""Address books: a usage error that names a line, or a book that reads the same once written again, a name a key."""

from __future__ import annotations

import datetime

from hypothesis import strategies as st

from onionmpc.errors import UsageError
from onionmpc.identity import parse_onion
from onionmpc.names.address_book import CONTACT_NAME, AddressBook, decode_book, encode_book
from tests.fuzz.mutations import mutated
from tests.support.identities import identity

ONIONS = [identity(number).onion for number in range(3)]
BOOK = AddressBook().with_contact("acme.example", ONIONS[0]).with_contact("bank", ONIONS[1])
MET = BOOK.after_meeting(ONIONS[:1], "average_salary", datetime.date(2026, 5, 3))
BOOKS = [AddressBook(), BOOK, MET, MET.keeping_history(keep=False)]
TOKENS = [
    *(b"\n", b"\r", b" ", b"  ", b"\0", b"\xff", b"#", b"history off\n", b"onionmpc contacts 2", b"999999", b"0"),
    *("\u0430".encode(), "\u212a".encode(), "\u202e".encode(), b"\x1b[2J", b"2026-02-30", b"2026-W01-1", b"acme"),
    *(f"{onion}".encode() for onion in ONIONS),
    f"bank {ONIONS[2]} 7 2026-05-03 vote\n".encode(),
]
INPUTS = mutated(st.sampled_from(BOOKS).map(encode_book), TOKENS)
REFUSALS = (UsageError,)


def check(data: bytes) -> tuple[int, bool]:
    try:
        book = decode_book(data, "book")
    except UsageError as error:
        assert error.message.startswith(("line ", "the address book book has version"))
        assert (error.message + error.hint).isprintable()
        raise
    assert encode_book(book) == data or sorted(encode_book(book).splitlines()) == sorted(data.splitlines())
    assert decode_book(encode_book(book), "book") == book
    assert all(name == contact.name and CONTACT_NAME.fullmatch(name) for name, contact in book.contacts.items())
    assert all(parse_onion(contact.onion) == contact.onion for contact in book.contacts.values())
    assert all(str(contact.met).isprintable() for contact in book.contacts.values())
    assert len(book.by_onion()) == len(book.contacts)
    return len(book.contacts), book.history
