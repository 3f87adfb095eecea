"""Links to addresses: an invalid address, or one that is in the text, whatever is between its characters."""

from __future__ import annotations

from hypothesis import strategies as st

from onionmpc.errors import InvalidAddress
from onionmpc.identity import check_public_key, public_key_from_onion
from onionmpc.names.address_link import SCHEME, format_link, looks_like_link, parse_link
from onionmpc.names.paste import decode_text
from tests.fuzz.mutations import mutated
from tests.fuzz.targets.addresses import ADDRESSES

LINKS = ADDRESSES.map(lambda onion: SCHEME + onion)
INPUTS = mutated(
    st.one_of(
        LINKS.map(str.encode),
        LINKS.map(lambda link: f" {link.upper()}\n".encode()),
        LINKS.map(lambda link: link.removesuffix(".onion").encode("utf-16")),
        st.lists(LINKS, max_size=3).map(lambda links: "\n".join(links).encode()),
    ),
    [
        *("\u200b".encode(), "\u201c".encode(), b"\n> ", b"\xff\xfe", b" ", b"\n", b"=", b"1", b"8", b"\xff", b"\0"),
        *("\u212a".encode(), "\u0130".encode(), SCHEME.encode(), b"onionmpc1", b".onion", b":", b"//"),
    ],
)
REFUSALS = (InvalidAddress,)


def check(data: bytes) -> bool:
    text = decode_text(data)
    try:
        onion = parse_link(text)
    except InvalidAddress as error:
        assert (error.message + error.hint).isprintable()
        raise
    assert looks_like_link(text)
    check_public_key(public_key_from_onion(onion))
    assert onion[:56] in "".join(c for c in text if c.isascii() and c.isalnum()).lower()
    assert parse_link(format_link(onion)) == onion
    return onion[:56] in text
