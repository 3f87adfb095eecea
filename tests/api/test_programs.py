"""Programs as a person chooses them: what each needs, and public arguments by their names."""

from __future__ import annotations

import pytest

import onionmpc
from onionmpc.errors import UsageError


def test_each_included_program_says_what_it_is_and_what_the_host_chooses() -> None:
    by_name = {program.name: program for program in onionmpc.programs()}
    vote = by_name["vote"]
    assert (vote.title, vote.min_parties) == ("Secret ballot", 3)
    assert [question.name for question in vote.public] == ["candidates"]
    assert all(program.title and program.reveals for program in by_name.values())


def test_public_arguments_follow_from_values_by_name() -> None:
    assert onionmpc.arguments_for("vote", {"candidates": "tea,coffee"}) == ("tea,coffee",)
    assert onionmpc.arguments_for("survey", {"questions": "age", "smallest": "4"}) == ("age", "--smallest=4")
    assert onionmpc.arguments_for("average_salary", {}) == ()


@pytest.mark.parametrize(
    ("program", "values", "said"),
    [
        ("vote", {}, "needs a public argument candidates"),
        ("survey", {"questions": "age", "smallest": "-1"}, "smallest"),
        ("average_salary", {"salary": "1"}, "has no public argument salary"),
        ("vote", {"candidates": "tea,coffee", "\x1b[2J": "x"}, r"has no public argument \\x1b"),
        ("nothing", {}, "nothing"),
    ],
)
def test_values_that_do_not_fit_are_refused(program: str, values: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        onionmpc.arguments_for(program, values)
