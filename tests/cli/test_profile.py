"""The table of `estimate --profile`: what it shows of a chain, and when it gives a hint."""

from __future__ import annotations

import pytest

from onionmpc.cli.profile import SHOWN_ROWS, hint_for_all, rows_of, table
from onionmpc.program.chain import Hop
from onionmpc.program.spec import Origin, Place

CODE = {"/far/script.py": b"first\n  second  \nthird \xff\x1b[2J\n", "/far/parts/more.py": b"more\n"}


def hops(
    line: int, operation: str, *, calls: int = 1, each: int = 1, bits: int = 32, file: str = "script.py"
) -> list[Hop]:
    return [Hop(0, Origin(Place(file, line), operation, bits, call)) for call in range(calls) for _ in range(each)]


def hint(chain: list[Hop]) -> str:
    [row] = rows_of(chain, "/far", CODE)
    return row.hint


def test_a_row_has_the_source_and_its_share() -> None:
    rows = rows_of([*hops(2, "output", calls=3), *hops(1, "__mul__", file="parts/more.py")], "/far", CODE)
    assert [(row.text, row.hops, row.share) for row in rows] == [("second", 3, 0.75), ("more", 1, 0.25)]
    assert list(table(rows))[1] == "    3    75%  script.py:2      second"
    assert list(table(rows))[-1] == "    4   100%  in all"


# A program's own report says where it is; nothing but the agreed files is shown.
@pytest.mark.parametrize("place", [Place("script.py", 99), Place("script.py", 0), Place("../etc/passwd", 1), None])
def test_a_line_that_there_is_not_has_no_text(place: Place | None) -> None:
    [row] = rows_of([Hop(0, Origin(place, "output", 0, 0) if place else None)], "/far", CODE)
    assert row.text == ""
    assert row.as_data()["hops"] == 1


def test_source_cannot_control_the_terminal() -> None:
    assert "\x1b" not in "".join(table(rows_of(hops(3, "output"), "/far", CODE)))


def test_many_lines_are_cut_and_summed_up() -> None:
    chain = [hop for line in range(1, SHOWN_ROWS + 6) for hop in hops(line, "__mul__")]
    lines = list(table(rows_of(chain, "/far", CODE)))
    assert len(lines) == 1 + SHOWN_ROWS + 2
    assert lines[-2] == "    5    20%  on 5 more lines"
    assert lines[-1] == "   25   100%  in all"


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        ("output", "4 results are opened one after another: collect them in a list"),
        ("__lt__", "4 comparisons run one after another: make all before you open any"),
        ("__mul__", "4 products run one after another: mpc.prod()"),
        ("input", "4 inputs are shared one after another: mpc.input() takes a list"),
        ("transfer", "4 transfers run one after another: transfer one list"),
    ],
)
def test_what_is_done_again_and_again_has_a_hint(operation: str, words: str) -> None:
    assert hint(hops(1, operation, calls=4)).startswith(words)
    assert hint(hops(1, operation, calls=2)) == ""
    assert hint(hops(1, operation, each=4)) == ""


def test_a_hint_is_about_what_takes_most_hops() -> None:
    comparisons = hops(1, "__lt__", calls=4, each=10)
    assert hint([*comparisons, *hops(1, "output", calls=4)]).startswith("4 comparisons")


@pytest.mark.parametrize(
    ("operation", "bits", "words"),
    [
        ("__lt__", 64, "comparing numbers of 64 bits"),
        ("max", 128, "comparing numbers of 128 bits"),
        ("__lt__", 32, ""),
        ("output", 64, ""),
        ("sorted", 32, "sorting makes many comparisons in a row"),
        ("__truediv__", 32, "dividing by a secret number"),
        ("random_derangement", 9, ""),
    ],
)
def test_a_costly_operation_has_a_hint(operation: str, bits: int, words: str) -> None:
    assert hint(hops(1, operation, each=10, bits=bits))[: len(words) or None] == words


def test_results_opened_on_many_lines_have_one_hint() -> None:
    chain = [hop for line in range(1, 6) for hop in hops(line, "output")]
    rows = rows_of(chain, "/far", CODE)
    assert not any(row.hint for row in rows)
    assert hint_for_all(chain, rows).startswith("5 results are opened one after another")
    assert hint_for_all(chain, rows).endswith("(on 5 lines)")
    assert hint_for_all(chain[:2], rows_of(chain[:2], "/far", CODE)) == ""
