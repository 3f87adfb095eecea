"""Links to addresses: found in any text, and refused where they are not whole."""

from __future__ import annotations

import pytest

from onionmpc.errors import InvalidAddress
from onionmpc.names.address_link import format_link, looks_like_link, parse_link
from onionmpc.session.invite import looks_like_invite
from tests.support.commands import INVITE, A, B

LINK = format_link(A)
BARE = LINK.removesuffix(".onion")


@pytest.mark.parametrize(
    "text",
    [
        LINK,
        BARE,
        LINK.upper(),
        f"Hi!\n\n> mine is \u201c{BARE[:30]}\n> {BARE[30:]}\u201d, see you",
        f"\u200b{LINK}\u00a0",
        f"{BARE}and no space",
        f"welcome to onionmpc: {LINK} and again {BARE}",
    ],
)
def test_a_link_is_found_in_any_text(text: str) -> None:
    assert looks_like_link(text)
    assert parse_link(text) == A


def test_a_link_that_is_not_whole_is_refused_by_what_is_wrong() -> None:
    for text, sentence in (
        (BARE[:-3], "the link has 53 characters after onionmpc:, expected 56"),
        (BARE.replace("hnv", "bnv"), "the checksum is wrong"),
        (f"{LINK}\n{format_link(B)}", "links to 2 different addresses"),
        (A, 'starts with "onionmpc:"'),
        (LINK.replace("k", "\u212a"), "the link has 4[0-9] characters"),  # the Kelvin sign is no k
    ):
        with pytest.raises(InvalidAddress, match=sentence):
            parse_link(text)


def test_neither_an_invite_nor_a_word_of_a_text_is_a_link() -> None:
    assert not looks_like_link(INVITE)
    assert not looks_like_invite(LINK)
    assert not looks_like_link("see the manual of onionmpc: it has examples")
