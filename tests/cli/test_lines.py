"""What a program writes is cut into lines as a terminal shows them, however it arrives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onionmpc.cli.lines import SHOWN_LINE_BYTES, Lines


def cut(*chunks: bytes, whole: bool = False) -> list[str]:
    lines = Lines(whole=whole)
    return [line for chunk in chunks for line in lines.feed(chunk)] + list(lines.end())


# Issue 12: the survival analysis of MPyC shows its progress a hundred times before each result, in the same line.
PROGRESS = b"".join(b"Progress ... %d%%\r" % percent for percent in range(100))


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        (b"", []),
        (b"one\ntwo\n", ["one", "two"]),
        (b"one\n\ntwo", ["one", "", "two"]),
        (b"no end", ["no end"]),
        (PROGRESS + b"Chi2=5.494, p=0.019\n", ["Chi2=5.494, p=0.019"]),
        (PROGRESS + b"Chi2=5.494, p=0.019", ["Chi2=5.494, p=0.019"]),
        (b"\r 10 %\r 100 %\n", [" 100 %"]),
        (PROGRESS, ["Progress ... 99%"]),
        (b"of another system\r\nand more\r\n", ["of another system", "and more"]),
        (b"\r\n", [""]),
        (b"r\xc3\xa9sultat \xff\n", ["résultat \N{REPLACEMENT CHARACTER}"]),
    ],
)
def test_a_line_counts_by_its_last_state(written: bytes, shown: list[str]) -> None:
    assert cut(written) == shown
    assert cut(*(bytes([byte]) for byte in written)) == shown


@given(st.lists(st.text("ab\r\n").map(str.encode)))
def test_how_it_arrives_does_not_matter(chunks: list[bytes]) -> None:
    assert cut(*chunks) == cut(b"".join(chunks))


def test_a_line_without_end_fills_no_memory_unless_all_of_it_is_wanted() -> None:
    long = b"x" * 3 * 2**20
    assert cut(long, long, b"\nnext\n") == ["x" * SHOWN_LINE_BYTES, "next"]
    assert cut(long, long, b"\nnext\n", whole=True) == ["x" * 6 * 2**20, "next"]


def test_what_is_not_a_line_yet_can_be_seen() -> None:
    lines = Lines()
    for written, state, overwritten in ((b"a\n10 %", "10 %", False), (b"\r", "10 %", True), (b"20", "20", True)):
        list(lines.feed(written))
        assert (lines.state, lines.overwritten) == (state, overwritten)
    assert list(lines.feed(b" %\n")) == ["20 %"]
    assert (lines.state, lines.overwritten) == ("", False)


def test_of_a_line_that_goes_on_as_much_is_seen_as_is_shown() -> None:
    lines = Lines(whole=True)
    list(lines.feed(b"x" * 3 * 2**20))
    assert lines.state == "x" * SHOWN_LINE_BYTES
