"""Invites: a usage error that echoes none of it, or it stands in the text, whatever stands between its characters."""

from __future__ import annotations

from hypothesis import strategies as st

from onionmpc.errors import InvalidAddress, InvalidInvite
from onionmpc.identity import Identity, check_public_key
from onionmpc.names.paste import decode_text
from onionmpc.session.invite import PREFIX, format_invite, parse_invite
from tests.fuzz.mutations import mutated
from tests.support.identities import SMALL_ORDER
from tests.support.invites import SECRET, TEXT, as_invite

CONTENTS = mutated(
    st.sampled_from([Identity(bytes([number]) * 32).public_key + SECRET for number in range(3)]),
    [bytes.fromhex(point) for point in SMALL_ORDER],
)
RIGHT_CHECK = CONTENTS.map(lambda content: as_invite(content).encode())
# The last character has bits to spare.
SPARE = st.builds(lambda text, last: text[:-1] + bytes([last]), RIGHT_CHECK, st.sampled_from(b"abcdefghijklmnopq27"))
INPUTS = mutated(
    RIGHT_CHECK | SPARE | st.sampled_from([TEXT.encode(), f" {TEXT.upper()}\n".encode(), TEXT.encode("utf-16")]),
    [
        "\u200b".encode(),
        "\u201c".encode(),
        b"\n> ",
        b"\xff\xfe",
        b" ",
        b"\n",
        b"=",
        b"1",
        b"8",
        "\u212a".encode(),
        "\u0130".encode(),
        b"\xff",
        PREFIX.encode(),
        b"\0",
    ],
)
REFUSALS = (InvalidInvite, InvalidAddress)
SHOWN = 12  # more than the prefix, which is no secret


def check(data: bytes) -> None:
    text = decode_text(data)
    try:
        invite = parse_invite(text)
    except REFUSALS as error:
        said = error.message + error.hint
        assert not any(text[start : start + SHOWN].lower() in said for start in range(len(text) - SHOWN + 1))
        raise
    assert format_invite(invite) in "".join(c for c in text if c.isascii() and c.isalnum()).lower()
    assert str(invite.secret) not in repr(invite)
    check_public_key(bytes.fromhex(public_key_in(format_invite(invite))))


def public_key_in(text: str) -> str:
    """The host's key, by another decoder than ours."""
    bits = "".join(f"{'abcdefghijklmnopqrstuvwxyz234567'.index(letter):05b}" for letter in text.strip().lower()[9:])
    return f"{int(bits[:256], 2):064x}"
