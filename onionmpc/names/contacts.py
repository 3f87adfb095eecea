"""Stores this user's address book: one private file, changed by one process at a time.

What is in it, and its format: `onionmpc.names.address_book`.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Collection
from pathlib import Path

from onionmpc import files
from onionmpc.errors import UsageError
from onionmpc.identity import Onion
from onionmpc.names.address_book import MAX_BOOK_BYTES, AddressBook, decode_book, encode_book
from onionmpc.program.code.catalogue import find_shipped

BOOK_NAME = "contacts"
BOOK_LOCK_NAME = "contacts.lock"
# Parties of one user may end a computation at the same moment, and each writes for a few milliseconds.
BOOK_LOCK_WAIT_S = 2.0


def load_book() -> AddressBook:
    """Read the address book; an empty one if there is no file.

    Raises:
        UsageError: the file is damaged, open to others, or cannot be read.
    """
    path = _path()
    # Another user who can write it could change an address under its name, and one who can read it learns the names.
    content = files.read_private(path, MAX_BOOK_BYTES, "the address book")
    return AddressBook() if content is None else decode_book(content, str(path))


def add_contact(name: str, onion: Onion, *, replacing: bool = False) -> None:
    """Keep an address under a name.

    Raises:
        UsageError: see `AddressBook.with_contact` and `load_book`; or a program that comes with onionmpc has that name.
    """
    if find_shipped(name.replace("-", "_")):
        raise UsageError(
            f"{name} cannot name a contact: a program that comes with onionmpc has that name",
            hint="choose another name",
        )
    _change(lambda book: book.with_contact(name, onion, replacing=replacing))


def remove_contact(name: str) -> None:
    """Forget a contact, and its meetings. The disk may still hold them.

    Raises:
        UsageError: no contact has that name; see `load_book`.
    """
    _change(lambda book: book.without(name))


def keep_history(*, keep: bool) -> None:
    """Keep meetings from now on, or none, and forget those that were kept.

    Raises:
        UsageError: see `load_book`.
    """
    _change(lambda book: book.keeping_history(keep=keep))


def note_meeting(onions: Collection[Onion], program: str, day: datetime.date) -> None:
    """Note a computation that succeeded, for those of its parties that are contacts. Without contacts, write nothing.

    Raises:
        UsageError: see `load_book`.
    """
    if _path().exists():
        _change(lambda book: book.after_meeting(onions, program, day))


def _path() -> Path:
    return files.state_directory() / BOOK_NAME


def _change(edit: Callable[[AddressBook], AddressBook]) -> None:
    directory = files.private_directory(files.state_directory())
    with files.lock_in_time(directory / BOOK_LOCK_NAME, BOOK_LOCK_WAIT_S, "the address book"):
        before = load_book()
        after = edit(before)
        if after != before:
            files.write_private(_path(), encode_book(after))
