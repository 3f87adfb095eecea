"""What --then names, and what is refused about it before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from onionmpc.api.options import prepare
from onionmpc.cli.further import Agenda, Wanted, parse_wanted
from onionmpc.errors import UsageError
from onionmpc.session import keystore
from tests.support.commands import HOST, INVITE, B, C, Refused

pytestmark = pytest.mark.usefixtures("alone")

JOIN = ("join", INVITE, "--yes")


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("sort", Wanted("sort")),
        ("vote 'black tea' coffee", Wanted("vote", ("black tea", "coffee"))),
        ("my.py 1 -- --input - --", Wanted("my.py", ("1",), ("--input", "-", "--"))),
        ("-- --demo", Wanted(None, (), ("--demo",))),
        ("", Wanted()),
    ],
)
def test_words_are_split_as_a_shell_does_and_private_ones_follow_a_lone_dash(text: str, choice: Wanted) -> None:
    assert parse_wanted(text) == choice
    assert "--demo" not in repr(choice)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("sotr", "--then 2 (sotr): there is no program sotr"),
        ("sort '", "--then 2: the words cannot be split: no closing quotation"),
        ("nothing.py", "--then 2 (nothing.py): there is no program nothing.py"),
        ("sort -- -M3", "--then 2 (sort): -M3 is a connection option of MPyC"),
        ("sort -T1", "--then 2 (sort): -T1 is a connection option of MPyC"),
    ],
)
def test_a_wrong_then_is_named(refused: Refused, text: str, sentence: str) -> None:
    keystore.create("me", None)
    full_list = ("join", B, C, "sort", "--identity", "me", "--yes")
    for command in (HOST, JOIN, full_list):
        assert refused(*command, "--then", "sort", "--then", text, "--", "--demo").startswith(sentence)


def test_public_arguments_must_fit_where_they_are_chosen(refused: Refused) -> None:
    assert refused(*HOST, "--then", "vote", "--", "--demo").startswith("--then 1 (vote): ")


def test_only_a_joiner_leaves_the_program_to_its_host(refused: Refused) -> None:
    assert refused(*HOST, "--then", "-- --demo", "--", "--demo").startswith("--then 1: no program was named\n")


def test_a_program_that_needs_more_parties_is_refused_with_its_then(refused: Refused, alone: Path) -> None:
    (alone / "four.py").write_text(
        '# /// script\n# [tool.onionmpc]\n# version = 1\n# title = "t"\n# reveals = "r"\n# min-parties = 4\n# ///\n'
        "import mpyc\n"
    )
    assert "3 parties, but four needs at least 4" in refused(*HOST, "--then", "four.py", "--", "--demo")


def test_receipts_of_further_computations_are_checked_beforehand(refused: Refused, alone: Path) -> None:
    (alone / "r-2.json").write_text("")
    further = ("--then", "sort -- --demo", "--", "--demo")
    assert refused(*HOST, "--receipt", "r.json", *further).startswith("--then 1 (sort): r-2.json already exists\n")


def agenda(first: str | None, *then: str, private: tuple[str, ...] = (), inputs: tuple[str, ...] = ()) -> Agenda:
    prepared = prepare(first, joins_host=first is None)
    return Agenda(prepared, private, tuple(map(parse_wanted, then)), dict.fromkeys(inputs, b"1"))


def test_an_input_goes_to_each_program_that_declares_it() -> None:
    plan = agenda("average-salary", "sort", "average-salary -- --demo", inputs=("salary", "numbers"))
    plan.check_inputs(asks=True, confirms=True)
    taken = [sorted(choice.takes(prepared, plan.inputs)) for choice, prepared in plan.prepared()]
    assert taken == [["salary"], ["numbers"], []]


@pytest.mark.parametrize(
    ("plan", "sentence"),
    [
        (agenda("sort", "average-salary", inputs=("age",)), "no program of this session takes an input age"),
        (agenda("sort", "average-salary -- --demo", inputs=("salary",)), "takes an input salary"),
        (agenda(None, "sort", inputs=("numbers",)), "--input with --then needs the first PROGRAM"),
    ],
)
def test_an_input_that_no_program_takes_is_refused(plan: Agenda, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        plan.check_inputs(asks=True, confirms=True)
