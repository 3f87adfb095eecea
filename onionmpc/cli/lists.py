"""Reads addresses and invites from words on the command line, from files, and from standard input.

onionmpc.session.invite finds an invite in a text.
"""

from __future__ import annotations

import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from onionmpc.cli.prompt import take_terminal
from onionmpc.errors import InvalidInvite, UsageError
from onionmpc.identity import looks_like_onion
from onionmpc.program.code.catalogue import find_shipped
from onionmpc.session.invite import format_invite, looks_like_invite, parse_invite
from onionmpc.session.paste import decode_text, without_comments, words_of
from onionmpc.text import printable

MAX_LIST_BYTES = 2**20
LIST_HINT = "one address per line, or one invite; # starts a comment"


def expand(words: Sequence[str]) -> list[str]:
    """Replace @FILE, - and names of files, except programs, with the addresses or the invite in them.

    Raises:
        UsageError: a file cannot be read, or holds neither. The message does not quote the file: it may be secret.
    """
    return [part for word in words for part in _expand_word(word)]


def _expand_word(word: str) -> Iterator[str]:
    name = printable(word)
    if word == "-":
        text = decode_text(_read_stdin(name))
        take_terminal()
        yield from _entries(text, name)
    elif word.startswith("@"):
        yield from _entries(decode_text(_read_file(word[1:], name)), name)
    elif _may_be_list(word) and _holds_entries(text := decode_text(_read_file(word, name))):
        yield from _entries(text, name)
    else:
        # A pasted word may have quotes or brackets around it.
        entries = [entry for _, entry in words_of(word)]
        yield from entries if entries and all(map(looks_like_onion, entries)) else [word]


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
    return looks_like_invite(text) or any(looks_like_onion(word) for _, word in words_of(text))


def _entries(text: str, name: str) -> Iterator[str]:
    """Yield the invite of a text, or each word of a list of addresses."""
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
    if not words:
        raise UsageError(f"{name} contains neither an address nor an invite", hint=LIST_HINT)
    for line, word in words:
        if not looks_like_onion(word):
            raise UsageError(f"line {line} of {name} contains neither an address nor an invite", hint=LIST_HINT)
        yield word


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
