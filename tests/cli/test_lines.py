"""A program's output is split into lines as a terminal shows them, no matter how it arrives."""

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
def test_an_overwritten_line_counts_with_its_last_state(written: bytes, shown: list[str]) -> None:
    assert cut(written) == shown
    assert cut(*(bytes([byte]) for byte in written)) == shown


@given(st.lists(st.text("ab\r\n").map(str.encode)))
def test_the_chunks_in_which_output_arrives_do_not_matter(chunks: list[bytes]) -> None:
    assert cut(*chunks) == cut(b"".join(chunks))


def test_an_endless_line_does_not_fill_memory_unless_whole_lines_are_kept() -> None:
    long = b"x" * 3 * 2**20
    assert cut(long, long, b"\nnext\n") == ["x" * SHOWN_LINE_BYTES, "next"]
    assert cut(long, long, b"\nnext\n", whole=True) == ["x" * 6 * 2**20, "next"]


def test_an_incomplete_line_is_visible() -> None:
    lines = Lines()
    for written, state, overwritten in ((b"a\n10 %", "10 %", False), (b"\r", "10 %", True), (b"20", "20", True)):
        list(lines.feed(written))
        assert (lines.state, lines.overwritten) == (state, overwritten)
    assert list(lines.feed(b" %\n")) == ["20 %"]
    assert (lines.state, lines.overwritten) == ("", False)


def test_of_a_long_incomplete_line_only_the_shown_part_is_visible() -> None:
    lines = Lines(whole=True)
    list(lines.feed(b"x" * 3 * 2**20))
    assert lines.state == "x" * SHOWN_LINE_BYTES
