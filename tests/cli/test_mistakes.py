"""A forgotten lone --, or an option of MPyC, is explained."""

from __future__ import annotations

import pytest

from onionmpc.cli.main import run

# Issue 12.
FOLLOWS = "put the program's own arguments after a lone --, as in: onionmpc {} PROGRAM ... -- {}"
PARTIES = "for the number of parties, use --parties or -m"
WIRE = "pass MPyC's options that change the wire as in --mpyc=-L64"
OURS = "leave it out: onionmpc sets up MPyC's connections itself"


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        (["host", "my.py", "-M3"], PARTIES),
        (["estimate", "my.py", "-M", "3"], PARTIES),
        (["host", "my.py", "-m3", "-T1"], "for the threshold, use --threshold or -t"),
        (["demo", "my.py", "-L64"], WIRE),
        (["host", "my.py", "-m3", "--no-prss"], WIRE),
        (["host", "my.py", "-m3", "--bit-length=64"], WIRE),
        (["host", "my.py", "-m3", "-I0"], OURS),
        (["host", "my.py", "-m3", "--table", "x"], FOLLOWS.format("host", "--table ...")),
        (["host", "my.py", "-m3", "--table=x"], FOLLOWS.format("host", "--table ...")),
        (["demo", "--input", "x"], "put the program's own --input after a lone --, as in: PROGRAM ... -- --input ..."),
        (["estimate", "my.py", "-m3", "-ix"], FOLLOWS.format("estimate", "-i ...")),
        (["host", "my.py", "data.txt", "-m3"], FOLLOWS.format("host", "...")),
        (["demo", "my.py", "data.txt", "more"], FOLLOWS.format("demo", "...")),
        (["join", "@x", "my.py", "--table", "x"], FOLLOWS.format("join", "--table ...")),
        (
            ["host", "my.py", "--", "--parties", "3"],
            "put --parties before the lone --: what follows goes to the program",
        ),
        (["host", "my.py", "-m3", "--threshhold", "1"], "onionmpc host --help"),
        (["levels", "--input", "x"], "onionmpc levels --help"),
        (["levels", "x"], "onionmpc levels --help"),
    ],
)
def test_a_mistake_is_reported_with_its_most_likely_cause(
    capfd: pytest.CaptureFixture[str], typed: list[str], hint: str
) -> None:
    assert run(typed) == 2
    out, err = capfd.readouterr()
    assert out == ""
    error, told = err.splitlines()
    assert told == f"onionmpc: hint: {hint}"
    assert "Did you mean one of" not in error


def test_a_misspelt_option_gets_a_suggestion(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["host", "my.py", "--threshhold", "1"]) == 2
    assert "Did you mean '--threshold'?" in capfd.readouterr().err


def test_the_value_of_an_option_that_was_not_ours_is_not_repeated(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["host", "my.py", "-m3", "--salary", "4200"]) == 2
    assert run(["host", "my.py", "-m3", "--salary=4200"]) == 2
    assert "4200" not in capfd.readouterr().err
