"""Text from strangers does not speak to the terminal, and durations read as people say them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onionmpc.text import duration, printable


@given(st.text(), st.integers(1, 300))
def test_what_is_shown_is_printable_and_bounded(text: str, limit: int) -> None:
    shown = printable(text, limit)
    assert shown.isprintable()
    assert len(shown) <= limit


@given(st.text(st.characters(categories=["L", "N", "P", "S"]), max_size=200))
def test_plain_text_is_shown_as_it_is(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", "\\x1b[2J"),
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("\u202eonion", "\\u202eonion"),
        ("\u200b", "\\u200b"),
        ("\x00\x7f\x9b", "\\x00\\x7f\\x9b"),
        ("\ud800", "\\ud800"),
        ("", ""),
        ("é 日 😀", "é 日 😀"),
    ],
)
def test_what_could_mislead_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_long_text_is_cut_and_says_so() -> None:
    assert printable("a" * 200) == "a" * 200
    assert printable("a" * 201) == "a" * 199 + "…"
    assert printable("\x00" * 200) == ("\\x00" * 50)[:199] + "…"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0.0 s"),
        (0.44, "0.4 s"),
        (9.94, "9.9 s"),
        (9.96, "10.0 s"),
        (42, "42 s"),
        (89.4, "89 s"),
        (89.7, "90 s"),
        (120, "2 min"),
        (200, "3 min 20 s"),
        (3600, "60 min"),
        (5399.6, "1 h 30 min"),
        (5400, "1 h 30 min"),
        (7200, "2 h"),
        (7500, "2 h 5 min"),
        (7499.9, "2 h 5 min"),
    ],
)
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said
