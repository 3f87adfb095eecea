"""The statistics are those of Python's own, and groups that are too small are not opened."""

from __future__ import annotations

import random
import statistics
from pathlib import Path

import pytest

from tests.support.examples import read_input, run_parties

GROUPS = ("lab", "office", "field")
QUESTIONS = {"mood": (1, 5), "change": (-20, 30)}
PUBLIC = ["mood:1-5,change:-20-30", "--by", "team:lab/office/field", "--smallest", "4", "--bins", "5"]
Person = dict[str, str]


def made_up(source: random.Random, count: int) -> list[Person]:
    """Return rows with gaps, of groups with quite different sizes."""
    people = []
    for _ in range(count):
        answers = {
            name: str(source.randint(*bounds)) if source.random() < 0.8 else "" for name, bounds in QUESTIONS.items()
        }
        people.append({"team": source.choices(GROUPS, (6, 3, 1))[0], "salary": "secret", **answers})
    return people


def csv_of(people: list[Person], columns: list[str]) -> str:
    return "\n".join([",".join(columns), *(",".join(person[column] for column in columns) for person in people)])


def line_in_the_clear(people: list[Person], group: str, name: str) -> str:
    answers = [int(person[name]) for person in people if person["team"] == group and person[name]]
    head = f"{name}, team {group}: "
    if len(answers) < 4:
        return head + "refused, fewer than 4 answers"
    low, high = QUESTIONS[name]
    width = -(-(high - low + 1) // 5)
    starts = range(low, high + 1, width)
    bars = [sum(start <= answer < start + width for answer in answers) for start in starts]
    ends = [min(start + width - 1, high) for start in starts]
    bins = [
        f"{start}: {bar}" if start == end else f"{start} to {end}: {bar}"
        for start, end, bar in zip(starts, ends, bars, strict=True)
    ]
    return head + (
        f"{len(answers)} answers, mean {statistics.mean(answers):.2f}, spread {statistics.pstdev(answers):.2f}, "
        f"median {statistics.median(answers):g} | {', '.join(bins)}"
    )


@pytest.mark.parametrize(("sizes", "seed"), [((9,), 1), ((40, 1, 7), 2), ((3, 0, 12, 5, 1), 3), ((2, 1, 1), 4)])
def test_the_statistics_are_those_of_python(tmp_path: Path, sizes: tuple[int, ...], seed: int) -> None:
    source = random.Random(seed)
    people = [made_up(source, size) for size in sizes]
    columns = ["team", *QUESTIONS, "salary"]
    tables = [csv_of(each, source.sample(columns, len(columns))) for each in people]
    everyone = [person for each in people for person in each]
    expected = [line_in_the_clear(everyone, group, name) for group in GROUPS for name in QUESTIONS]
    assert run_parties(tmp_path, "survey", read_input(*PUBLIC), tables) == ["\n".join(expected) + "\n"] * len(sizes)


def test_a_group_of_the_smallest_size_is_not_refused(tmp_path: Path) -> None:
    printed = run_parties(
        tmp_path, "survey", read_input("mood:1-3", "--smallest", "3"), ["mood\n1", "mood\n2", "mood\n1"]
    )
    assert printed == ["mood: 3 answers, mean 1.33, spread 0.47, median 1 | 1: 2, 2: 1, 3: 0\n"] * 3
