"""Links to an address: "onionmpc:" and the address, for messages and QR codes. They hold no secret.

Rules: docs/PROTOCOL.md section 4.
"""

from __future__ import annotations

import re

from onionmpc.errors import InvalidAddress
from onionmpc.identity import Onion, parse_onion
from onionmpc.names.paste import lower, squeeze

SCHEME = "onionmpc:"
ADDRESS_CHARACTERS = 56
# Fewer characters are a word of the text around it, as in "onionmpc: see the manual".
LINK = re.compile(rf"{SCHEME}([a-z2-7]{{40,}})")
LINK_HINT = "copy the whole link again: onionmpc: and 56 characters"


def format_link(onion: Onion) -> str:
    """Return the link to an address."""
    return SCHEME + onion


def looks_like_link(text: str) -> bool:
    """Return whether `text` seems to hold a link to an address, even a damaged one."""
    return LINK.search(_plain(text)) is not None


def parse_link(text: str) -> Onion:
    """Find the link in a text, ignoring what surrounds it, line breaks and quote marks (PROTOCOL 4).

    Raises:
        InvalidAddress: it was cut short or altered, or there are several.
    """
    onions, failures = set[Onion](), list[InvalidAddress]()
    for found in LINK.finditer(_plain(text)):
        try:
            onions.add(_parse(found[1]))
        except InvalidAddress as error:
            failures.append(error)
    if len(onions) > 1:
        raise InvalidAddress(
            f"this contains links to {len(onions)} different addresses, expected one",
            hint="use the one that is meant, or write a list with one link on each line and nothing else",
        )
    if onions:
        return onions.pop()
    raise failures[0] if failures else InvalidAddress(f'a link to an address starts with "{SCHEME}"', hint=LINK_HINT)


def _parse(characters: str) -> Onion:
    if len(characters) < ADDRESS_CHARACTERS:
        raise InvalidAddress(
            f"the link has {len(characters)} characters after {SCHEME}, expected {ADDRESS_CHARACTERS}", hint=LINK_HINT
        )
    # What follows is the next word: its white space is gone.
    return parse_onion(characters[:ADDRESS_CHARACTERS] + ".onion")


def _plain(text: str) -> str:
    return lower(squeeze(text))
