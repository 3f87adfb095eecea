"""An invite is read completely or not at all, and no error repeats it."""

from __future__ import annotations

import string
import sys
import unicodedata

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from onionmpc.errors import InvalidAddress, InvalidInvite, UsageError
from onionmpc.identity import Identity, onion_from_public_key, public_key_from_onion
from onionmpc.names.paste import decode_text
from onionmpc.session.invite import Invite, format_invite, looks_like_invite, parse_invite
from tests.support.invites import HOST, SECRET, TEXT, as_invite


def refusal(text: str) -> UsageError:
    with pytest.raises(UsageError) as raised:
        parse_invite(text)
    error = raised.value
    for start in range(len(TEXT) - 12):  # the prefix is no secret, and shorter than this
        assert TEXT[start : start + 12] not in error.message + error.hint
    return error


def test_known_invite() -> None:
    assert as_invite(public_key_from_onion(HOST) + SECRET) == TEXT
    assert len(TEXT) == 93
    assert set(TEXT) <= set(string.ascii_lowercase + string.digits)
    # The psk of PROTOCOL 4.
    kdf = HKDF(algorithm=SHA256(), length=32, salt=public_key_from_onion(HOST), info=b"onionmpc/1 seat")
    assert parse_invite(TEXT).psk() == kdf.derive(SECRET)


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=16, max_size=16))
def test_round_trip(seed: bytes, secret: bytes) -> None:
    invite = Invite(Identity(seed).onion, secret)
    text = format_invite(invite)
    assert parse_invite(text) == invite
    assert format_invite(parse_invite(text)) == text
    assert looks_like_invite(text)


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16))
def test_another_secret_is_another_psk(one: bytes, other: bytes) -> None:
    assert (Invite(HOST, one).psk() == Invite(HOST, other).psk()) == (one == other)


def test_case_and_surrounding_space_do_not_matter() -> None:
    assert parse_invite(f"  {TEXT.upper()}\n") == parse_invite(TEXT)
    assert looks_like_invite(f" {TEXT.upper()}")


@pytest.mark.parametrize("length", range(len(TEXT)))
def test_an_invite_truncated_anywhere_is_refused(length: int) -> None:
    error = refusal(TEXT[:length])
    assert isinstance(error, InvalidInvite)
    assert f"{length} characters, expected 93" in error.message or length < 9
    assert "paste the whole line" in error.hint


# Issue 12: of any text, the first 84 characters after the prefix are the invite, and its check decides.
@pytest.mark.parametrize("tail", ["a", "2", " a", "====", TEXT, ".", "\n-- \nAlice", "\u200b", "onionmpc1", "\0"])
@pytest.mark.parametrize("head", ["", "take this: ", "<", "onionmpc1 is the prefix of ", "Onion", TEXT[:50] + " "])
def test_surrounding_text_does_not_matter(head: str, tail: str) -> None:
    assert parse_invite(head + TEXT + tail) == parse_invite(TEXT)
    assert looks_like_invite(head + TEXT + tail)


UNSEEN = [chr(code) for code in range(sys.maxunicode) if unicodedata.category(chr(code)) in ("Cf", "Zs", "Zl", "Zp")]
QUOTE_MARKS = [chr(code) for code in range(sys.maxunicode) if unicodedata.category(chr(code)) in ("Pi", "Pf")]
SPELT_OUT = list(
    "\"'`\u00b4\u201e\u201a\u2032\u2033\u300c\u300d\u300e\u300f>\t\n\r\x0b\x0c\ufe0f\ufeff\u00a0\u200b\u00ad"
)


# Issue 12.
@pytest.mark.parametrize("column", range(1, len(TEXT)))
def test_an_invite_wrapped_at_any_column_is_read(column: int) -> None:
    for line_end in ("\n", "\r\n", "\n> ", "\n> > ", "\u00ad\n", " \n\t", "\n\n", "\u2028"):
        wrapped = line_end.join(TEXT[start : start + column] for start in range(0, len(TEXT), column))
        assert parse_invite(wrapped) == parse_invite(f"> {wrapped}.") == parse_invite(TEXT)


# Issue 12.
@pytest.mark.parametrize("position", [0, 5, 9, 50, len(TEXT)])
def test_quote_marks_of_any_language_and_invisible_characters_do_not_matter(position: int) -> None:
    for mark in [*UNSEEN, *QUOTE_MARKS, *SPELT_OUT]:
        assert parse_invite(TEXT[:position] + mark + TEXT[position:]) == parse_invite(TEXT), f"U+{ord(mark):04X}"


# Issue 12.
@given(
    st.lists(st.sampled_from([*SPELT_OUT, *QUOTE_MARKS, "\u2066", "> "]), min_size=len(TEXT), max_size=len(TEXT)),
    st.booleans(),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"]),
)
def test_an_invite_changed_by_mail_and_editors_is_read(between: list[str], upper: bool, encoding: str) -> None:
    text = TEXT.upper() if upper else TEXT
    # Every tenth character gets something behind it.
    spoilt = "".join(c + (between[place] if place % 10 == 0 else "") for place, c in enumerate(text))
    bom = "\ufeff" if encoding.startswith("utf-16-") else ""
    mail = f"{bom}Dear Bob,\nhere is your invite: \u201c{spoilt}\u201d.\n\nAlice\n"
    assert parse_invite(decode_text(mail.encode(encoding))) == parse_invite(TEXT)


# Issue 12.
def test_an_invite_of_another_version_is_reported_as_such() -> None:
    text = TEXT.replace("onionmpc1", "onionmpc2")
    assert looks_like_invite(f"> {text}")
    assert refusal(f"> {text}").message == "the invite has version 2, expected 1"
    assert parse_invite(f"{text} {TEXT}") == parse_invite(TEXT)
    assert not looks_like_invite("onionmpc2")


# Issue 12.
def test_the_same_invite_twice_counts_once_and_two_different_ones_are_refused() -> None:
    other = format_invite(Invite(HOST, bytes(16)))
    assert parse_invite(f"> {TEXT}\n\nthanks!\n{TEXT}") == parse_invite(f"{TEXT[:60]}\n{TEXT}") == parse_invite(TEXT)
    for text in (f"{TEXT} {other}", f"{TEXT}{other}", f"{TEXT[:40]} {TEXT} {other}"):
        error = refusal(text)
        assert error.message == "this contains 2 different invites, expected one"
        assert other[12:24] not in error.message + error.hint


@pytest.mark.parametrize("position", range(len(TEXT)))
def test_an_invite_changed_anywhere_is_refused(position: int) -> None:
    for new in set("a27018=-é\x00 \u212a\uff41") - {TEXT[position]}:
        changed = TEXT[:position] + new + TEXT[position + 1 :]
        assert isinstance(refusal(changed), InvalidInvite)


@pytest.mark.parametrize("position", range(9, len(TEXT) - 1))
def test_an_invite_with_two_characters_swapped_is_refused(position: int) -> None:
    swapped = TEXT[:position] + TEXT[position + 1] + TEXT[position] + TEXT[position + 2 :]
    if swapped != TEXT:
        refusal(swapped)


@pytest.mark.parametrize(
    "key",
    [bytes(32), b"\x01" + bytes(31), b"\xff" * 32, b"\x02" + bytes(31)],
    ids=["small order", "neutral element", "not canonical", "not on the curve"],
)
def test_a_right_checksum_over_an_invalid_key_is_refused(key: bytes) -> None:
    error = refusal(as_invite(key + SECRET))
    assert isinstance(error, InvalidAddress | InvalidInvite)


@given(st.text(max_size=120))
def test_random_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidInvite):
        parse_invite(text)


@given(st.text(st.sampled_from("abcdefghijklmnopqrstuvwxyz234567"), min_size=84, max_size=84))
def test_random_text_of_the_right_form_is_refused(text: str) -> None:
    with pytest.raises(InvalidInvite):
        parse_invite("onionmpc1" + text)


def test_secret_is_not_in_the_repr() -> None:
    shown = repr(parse_invite(TEXT))
    assert repr(SECRET) not in shown
    assert SECRET.hex() not in shown


@pytest.mark.parametrize(
    "text", ["", "onionmpc", "onion", HOST, onion_from_public_key(public_key_from_onion(HOST)), "vote"]
)
def test_other_words_do_not_look_like_an_invite(text: str) -> None:
    assert not looks_like_invite(text)
