"""The address book: this user's own names for addresses, and how often they met. As values, and as text.

Names are the user's own. Nothing here is sent to a peer or taken from one. Text is read whole, or refused with the
number of the line at fault. Does not know where the text is kept: that is `onionmpc.names.contacts`. Format:
docs/reference/files.md.
"""

from __future__ import annotations

import datetime
import difflib
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from onionmpc.errors import InvalidAddress, UsageError
from onionmpc.identity import Onion, looks_like_onion, parse_onion
from onionmpc.text import printable

# ASCII, so that no letter passes for another script's. Lower case, so that a name is typed in one way. At most 32
# characters, since 50 to 60 letters and digits are taken for a mistyped address. No slash (a path), no @ (a list), and
# no dash in front (an option). A letter or digit at the end, since full stops there are punctuation of a pasted text.
CONTACT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9](?:[a-z0-9._-]{0,30}[a-z0-9])?")
NAME_HINT = "use 1 to 32 of a-z, 0-9, dot, dash and underscore, with a letter in it, and no sign at either end"
# Parts of names that people read alike.
ALIKE = (("0", "o"), ("1", "l"), ("rn", "m"), ("vv", "w"))
BOOK_HEADER = "onionmpc contacts "
BOOK_VERSION = "1"
HISTORY = {"history on": True, "history off": False}
FIELDS = re.compile(r"(?P<name>\S+) (?P<onion>\S+)(?: (?P<count>[1-9][0-9]{0,5}) (?P<last>\S{10}) (?P<program>.+))?")
MAX_CONTACTS = 500  # a millisecond or two for the key of each, whenever the book is read
MAX_COUNT = 999_999
MAX_PROGRAM_CHARACTERS = 60
MAX_BOOK_BYTES = 2**18  # above 500 of the longest lines, of four-byte characters


@dataclass(frozen=True, slots=True)
class Meetings:
    """How often this user computed with a contact.

    Attributes:
        count: in how many computations.
        last: the day of the last one.
        program: the name of its program.
    """

    count: int
    last: datetime.date
    program: str

    def __str__(self) -> str:
        """Say it in words."""
        times = "once" if self.count == 1 else f"{self.count} times, last"
        return f"met {times} in {self.program} on {self.last.day} {self.last:%B %Y}"


@dataclass(frozen=True, slots=True)
class Contact:
    """An address under this user's name for it.

    Attributes:
        met: None if they did not compute together, or no history is kept.
    """

    name: str
    onion: Onion
    met: Meetings | None = None


@dataclass(frozen=True, slots=True)
class AddressBook:
    """All contacts, by name and sorted by it, and whether their meetings are kept."""

    contacts: Mapping[str, Contact] = field(default_factory=dict)
    history: bool = True

    def by_onion(self) -> dict[Onion, Contact]:
        """Return the contacts by address."""
        return {contact.onion: contact for contact in self.contacts.values()}

    def names(self) -> dict[Onion, str]:
        """Return the name of each address."""
        return {contact.onion: contact.name for contact in self.contacts.values()}

    def onion(self, name: str) -> Onion:
        """Return the address of a contact.

        Raises:
            UsageError: no contact has that name.
        """
        return self.contact(name).onion

    def contact(self, name: str) -> Contact:
        """Return a contact.

        Raises:
            UsageError: no contact has that name.
        """
        if (found := self.contacts.get(name)) is None:
            raise UsageError(
                f"there is no contact named {printable(ascii(name), 60)}",
                hint=nearest_hint(name, self.contacts) or '"onionmpc contact list" shows yours',
            )
        return found

    def with_contact(self, name: str, onion: Onion, *, replacing: bool = False) -> AddressBook:
        """Return the book with a contact more, or with another address for a contact.

        Args:
            replacing: whether a contact of that name may get another address. Its meetings were with the old one, so
                they are forgotten.

        Raises:
            UsageError: the name is invalid or looks like another one, it has another address, the address has another
                name, or the book is full.
        """
        check_contact_name(name)
        before = self.contacts.get(name)
        if before is not None and before.onion == onion:
            return self
        if before is not None and not replacing:
            raise changed(before, onion)
        if (other := self.by_onion().get(onion)) is not None:
            raise UsageError(f"this address is kept already, under the name {other.name}", hint=f"use {other.name}")
        if before is None:
            _check_unlike(name, self.contacts)
        if before is None and len(self.contacts) >= MAX_CONTACTS:
            raise UsageError(f"there are {MAX_CONTACTS} contacts, the most that are kept", hint="remove some")
        return self.holding([*(each for each in self.contacts.values() if each is not before), Contact(name, onion)])

    def without(self, name: str) -> AddressBook:
        """Return the book without a contact.

        Raises:
            UsageError: no contact has that name.
        """
        gone = self.contact(name)
        return self.holding(each for each in self.contacts.values() if each is not gone)

    def after_meeting(self, onions: Collection[Onion], program: str, day: datetime.date) -> AddressBook:
        """Return the book after a computation with these parties. Only contacts are noted, and only with history."""
        if not self.history:
            return self
        program = _plain(program)
        return self.holding(
            replace(each, met=Meetings(min(_count(each) + 1, MAX_COUNT), day, program))
            if each.onion in onions
            else each
            for each in self.contacts.values()
        )

    def keeping_history(self, *, keep: bool) -> AddressBook:
        """Return the book with its history on, or off and all meetings forgotten."""
        if keep:
            return replace(self, history=True)
        return replace(self.holding(replace(each, met=None) for each in self.contacts.values()), history=False)

    def holding(self, contacts: Iterable[Contact]) -> AddressBook:
        """Return a book with these contacts instead."""
        return replace(self, contacts={each.name: each for each in sorted(contacts, key=lambda each: each.name)})


def check_contact_name(name: str) -> None:
    """Check that a name can be typed wherever an address can, and means nothing else there.

    Raises:
        UsageError: it cannot.
    """
    shown = printable(ascii(name), 60)
    if not CONTACT_NAME.fullmatch(name):
        raise UsageError(f"{shown} cannot name a contact", hint=NAME_HINT)
    if looks_like_onion(name) or name.endswith(".py") or name.startswith("onionmpc"):
        raise UsageError(
            f"{shown} cannot name a contact: it looks like an address, an invite or a program",
            hint="choose a name that does not end in .onion or .py, and does not start with onionmpc",
        )


def changed(contact: Contact, onion: Onion) -> UsageError:
    """Return the error for a name that comes with another address than the one that is kept."""
    return UsageError(
        f"the contact {contact.name} has another address: you keep {contact.onion}, and this is {onion}",
        hint="another address is another key, and may be another person: ask them over a channel that you trust, then "
        f"use onionmpc contact add {contact.name} ADDRESS --replace",
    )


def nearest_hint(word: str, names: Iterable[str]) -> str:
    """Return a hint at the contact whose name is most like a word, or an empty text."""
    found = difflib.get_close_matches(word[:60].lower(), names, n=1)
    return f"did you mean your contact {found[0]}?" if found else ""


def encode_book(book: AddressBook) -> bytes:
    """Return the text of the file."""
    lines = [BOOK_HEADER + BOOK_VERSION, f"history {'on' if book.history else 'off'}"]
    for each in book.contacts.values():
        met = f" {each.met.count} {each.met.last.isoformat()} {each.met.program}" if each.met else ""
        lines.append(f"{each.name} {each.onion}{met}")
    return "".join(f"{line}\n" for line in lines).encode()


def decode_book(content: bytes, file: str) -> AddressBook:
    """Parse the text of the file.

    Args:
        file: its path, for errors.

    Raises:
        UsageError: it is damaged. Names the line, and how to repair it.
    """
    if len(content) > MAX_BOOK_BYTES:
        raise _damaged(file, 1, f"the file has more than {MAX_BOOK_BYTES} bytes")
    first, *lines = content.split(b"\n")
    _check_header(first, file)
    if lines and lines[-1] == b"":
        lines.pop()
    else:
        raise _damaged(file, 1 + len(lines), "it is cut short")
    history = HISTORY.get(lines[0].decode("ascii", "replace")) if lines else None
    if history is None:
        raise _damaged(file, 2, 'expected "history on" or "history off"')
    contacts: dict[str, Contact] = {}
    places: dict[str, int] = {}
    for number, line in enumerate(lines[1:], start=3):
        if len(contacts) >= MAX_CONTACTS:
            raise _damaged(file, number, f"more than {MAX_CONTACTS} contacts")
        try:
            contact = _parse(line)
        except UsageError as error:
            raise _damaged(file, number, error.message) from error
        for key in (contact.name, contact.onion):
            if first_place := places.get(key):
                raise _damaged(file, number, f"line {first_place} has the same name or address")
            places[key] = number
        if contact.met is not None and not history:
            raise _damaged(file, number, "history is off, but this line has some")
        contacts[contact.name] = contact
    return AddressBook(history=history).holding(contacts.values())


def _check_header(line: bytes, file: str) -> None:
    text = line.decode("ascii", "replace")
    version = text.removeprefix(BOOK_HEADER)
    if not text.startswith(BOOK_HEADER) or not version.isdecimal():
        raise _damaged(file, 1, f'expected "{BOOK_HEADER}{BOOK_VERSION}"')
    if version != BOOK_VERSION:
        raise UsageError(
            f"the address book {file} has version {printable(version, 20)}, expected {BOOK_VERSION}",
            hint="install the release of onionmpc that wrote it",
        )


def _parse(line: bytes) -> Contact:
    try:
        found = FIELDS.fullmatch(line.decode())
    except UnicodeDecodeError as error:
        raise UsageError("it is not UTF-8") from error
    if found is None:
        raise UsageError("expected a name and an address, and perhaps a count, a day and a program")
    check_contact_name(found["name"])
    onion = parse_onion(found["onion"])
    if onion != found["onion"]:
        raise InvalidAddress("the address is not in lower case")
    if found["count"] is None:
        return Contact(found["name"], onion)
    try:
        last = datetime.date.fromisoformat(found["last"])
    except ValueError as error:
        raise UsageError("the day is not a date, such as 2026-05-03") from error
    if last.isoformat() != found["last"] or _plain(found["program"]) != found["program"]:
        raise UsageError("the day or the program is not as onionmpc writes it")
    return Contact(found["name"], onion, Meetings(int(found["count"]), last, found["program"]))


def _check_unlike(name: str, names: Iterable[str]) -> None:
    for other in names:
        if _shape(other) == _shape(name):
            raise UsageError(f"{name} is too easily read as {other}, which you keep", hint="choose another name")


def _shape(name: str) -> str:
    for seen, read in ALIKE:
        name = name.replace(seen, read)
    return name


def _count(contact: Contact) -> int:
    return contact.met.count if contact.met else 0


def _plain(program: str) -> str:
    """Return a program's name as one line of text that is safe on a terminal."""
    return printable(" ".join(program.split()) or "?", MAX_PROGRAM_CHARACTERS)


def _damaged(file: str, line: int, what: str) -> UsageError:
    return UsageError(
        f"line {line} of the address book {file} is damaged: {what}",
        hint="correct that line or delete it; without the whole file you start with an empty book",
    )
