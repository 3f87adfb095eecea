"""Reads addresses, invites and contacts from words on the command line, from files, and from standard input.

onionmpc.session.invite finds an invite in a text, and onionmpc.names.address_link a link to an address.
"""

from __future__ import annotations

import itertools
import operator
import re
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from onionmpc.cli.prompt import take_terminal
from onionmpc.errors import InvalidInvite, UsageError
from onionmpc.identity import looks_like_onion, parse_onion
from onionmpc.names.address_book import AddressBook, changed, nearest_hint
from onionmpc.names.address_link import looks_like_link, parse_link
from onionmpc.names.paste import decode_text, without_comments, words_of
from onionmpc.program.code.catalogue import find_shipped
from onionmpc.session.invite import format_invite, looks_like_invite, parse_invite
from onionmpc.text import printable

MAX_LIST_BYTES = 2**20
LIST_HINT = "one address or contact per line, or one invite; # starts a comment"
WHOLE_ADDRESS = re.compile(r"[a-z2-7]{56}\.onion", re.IGNORECASE)


def expand(words: Sequence[str], book: AddressBook) -> list[str]:
    """Replace contacts, @FILE, - and names of files, except programs, with the addresses or the invite behind them.

    A contact's name always means the contact, even if a file or a program has that name too: someone else may have put
    the file there. ./NAME and @NAME mean the file.

    Raises:
        UsageError: a file cannot be read, or holds neither, or has another address for a contact. The message does not
            quote the file, except for that: it may be secret.
    """
    return [part for word in words for part in _expand_word(word, book)]


def _expand_word(word: str, book: AddressBook) -> Iterator[str]:
    name = printable(word)
    if word in book.contacts:
        yield book.onion(word)
    elif word == "-":
        text = decode_text(_read_stdin(name))
        take_terminal()
        yield from _entries(text, name, book)
    elif word.startswith("@"):
        yield from _entries(decode_text(_read_file(word[1:], name)), name, book)
    elif _may_be_list(word) and _holds_entries(text := decode_text(_read_file(word, name))):
        yield from _entries(text, name, book)
    else:
        # A pasted word may have quotes or brackets around it.
        entries = [entry for _, entry in words_of(word)]
        yield from map(_address, entries) if entries and all(map(_is_address, entries)) else [word]


def _may_be_list(word: str) -> bool:
    """Return whether a word names an existing file whose name is not that of a program."""
    if looks_like_onion(word) or word.endswith(".py") or find_shipped(word.replace("-", "_")):
        return False
    try:
        mode = Path(word).stat().st_mode
    except (OSError, ValueError):  # a pasted text may be too long for a file name
        return False
    return stat.S_ISREG(mode) or stat.S_ISFIFO(mode)


def _holds_entries(text: str) -> bool:
    return looks_like_invite(text) or looks_like_link(text) or any(looks_like_onion(word) for _, word in words_of(text))


def _is_address(word: str) -> bool:
    return looks_like_link(word) or looks_like_onion(word)


def _address(word: str) -> str:
    """Return the address of a link; any other word as it is, for a later check to name what is wrong with it."""
    return parse_link(word) if looks_like_link(word) else word


def _entries(text: str, name: str, book: AddressBook) -> Iterator[str]:
    """Yield the invite of a text, or the link in a text of any kind, or each entry of a list."""
    if looks_like_invite(text):
        try:
            yield format_invite(parse_invite(text))
        except InvalidInvite:
            # Only in a comment, it may be the rest of an old invite: the list below it counts.
            if looks_like_invite(without_comments(text)):
                raise
        else:
            return
    words = list(words_of(text))
    if _is_message(without_comments(text), [word for _, word in words], book):
        yield parse_link(without_comments(text))
        return
    if not words:
        raise UsageError(f"{name} contains neither an address nor an invite", hint=LIST_HINT)
    for line, group in itertools.groupby(words, key=operator.itemgetter(0)):
        yield from _line_entries(line, [word for _, word in group], name, book)


def _is_message(text: str, words: Sequence[str], book: AddressBook) -> bool:
    """Return whether a text is not a list, but a message with a link in it.

    Whole addresses beside the link make it a list with a mistake. Ignoring one would leave out a party.
    """
    return (
        looks_like_link(text)
        and not all(_is_address(word) or word in book.contacts for word in words)
        and not any(WHOLE_ADDRESS.fullmatch(word) for word in words)
    )


def _line_entries(line: int, words: Sequence[str], name: str, book: AddressBook) -> Iterator[str]:
    contacts, addresses = list[str](), list[str]()
    for word in words:
        if word in book.contacts:
            contacts.append(word)
        elif _is_address(word):
            addresses.append(_address(word))
        else:
            raise UsageError(
                f"line {line} of {name} contains neither an address nor an invite",
                hint=nearest_hint(word, book.contacts) or LIST_HINT,
            )
    if not (contacts and addresses):
        yield from addresses
        yield from map(book.onion, contacts)
        return
    # A name beside an address says whose it is.
    if len(contacts) > 1 or len(addresses) > 1:
        raise UsageError(f"line {line} of {name} has several names or addresses, expected one of each", hint=LIST_HINT)
    onion = parse_onion(addresses[0])
    if onion != book.onion(contacts[0]):
        raise changed(book.contact(contacts[0]), onion)
    yield onion


def _read_stdin(name: str) -> bytes:
    try:
        return _bounded(sys.stdin.buffer.read(MAX_LIST_BYTES + 1), name)
    except OSError as error:
        raise UsageError(f"cannot read {name}: {error.strerror}") from error


def _read_file(file: str, name: str) -> bytes:
    try:
        with Path(file).open("rb") as opened:
            return _bounded(opened.read(MAX_LIST_BYTES + 1), name)
    except OSError as error:
        raise UsageError(f"cannot read {name}: {error.strerror}") from error
    except ValueError as error:  # a zero byte
        raise UsageError(f"cannot read {name}: a file cannot have this name") from error


def _bounded(content: bytes, name: str) -> bytes:
    if len(content) > MAX_LIST_BYTES:
        raise UsageError(f"{name} has more than {MAX_LIST_BYTES} bytes", hint=LIST_HINT)
    return content
