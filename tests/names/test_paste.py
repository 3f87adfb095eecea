"""Text as people paste it: encodings, quotes, and surrounding words."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onionmpc.names.paste import decode_text, squeeze, words_of

ADDRESS = "a" * 56 + ".onion"


@pytest.mark.parametrize("encoding", ["ascii", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1))
def test_plain_text_is_read_in_every_encoding_that_editors_write(encoding: str, text: str) -> None:
    assert decode_text(text.encode(encoding)) == text


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufeff\ufffe\0")))
def test_any_text_is_read_as_utf_8_and_with_a_byte_order_mark_as_utf_16(text: str) -> None:
    assert decode_text(text.encode()) == text
    assert decode_text(text.encode("utf-16")) == text


@given(st.binary())
def test_any_bytes_decode_to_some_text(content: bytes) -> None:
    assert isinstance(decode_text(content), str)
    assert list(words_of(decode_text(content))) is not None


@given(st.text())
def test_squeezing_keeps_other_characters_and_is_idempotent(text: str) -> None:
    squeezed = squeeze(text)
    assert squeeze(squeezed) == squeezed
    kept = [c for c in text if c.isascii() and c.isalnum()]
    assert [c for c in squeezed if c.isascii() and c.isalnum()] == kept


@pytest.mark.parametrize(
    "line",
    [
        f"<{ADDRESS}>",
        f"`{ADDRESS}`",
        f"\u201e{ADDRESS}\u201c",
        f"\u00ab\u00a0{ADDRESS}\u00a0\u00bb",
        f"\u300c{ADDRESS}\u300d",
        f"> > {ADDRESS}",
        f">{ADDRESS}",
        f"- {ADDRESS},",
        f"1. {ADDRESS};",
        f"\u2022 **{ADDRESS}**",
        f"({ADDRESS}).",
        f'["{ADDRESS}"]',
        f"\ufeff{ADDRESS}\u200b",
        f"{ADDRESS[:20]}\u00ad{ADDRESS[20:]} # Bob's",
    ],
)
def test_an_address_is_one_word_no_matter_what_surrounds_it(line: str) -> None:
    assert list(words_of(f"# ours\n\n{line}\r\n")) == [(3, ADDRESS)]


def test_every_quote_mark_of_unicode_is_stripped() -> None:
    for code in range(sys.maxunicode):
        if unicodedata.category(chr(code)) in ("Pi", "Pf", "Cf"):
            assert list(words_of(f"{chr(code)}{ADDRESS}{chr(code)}")) == [(1, ADDRESS)], f"U+{code:04X}"
