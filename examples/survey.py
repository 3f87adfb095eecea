# /// script
# dependencies = ["mpyc"]
#
# [tool.onionmpc]
# version = 1
# title = "Statistics of a survey"
# reveals = """all parties learn the count, mean, spread, median and histogram of the answers of each group to each \
# question, or that there are too few answers"""
# min-parties = 3
#
# [[tool.onionmpc.public]]
# name = "questions"
# label = "The questions, with their lowest and highest answers"
# help = "Such as satisfaction:1-5,hours:0-59. Answers are whole numbers."
# type = "text"
# many = true
# max-count = 100
# demo = "satisfaction:1-5,hours:0-59"
#
# [[tool.onionmpc.public]]
# name = "by"
# label = "The column that groups the rows, and its groups"
# help = "Such as team:lab/office/field. Without it, all rows are one group."
# type = "text"
# max-length = 1000
# option = "--by"
# optional = true
# demo = "team:lab/office/field"
#
# [[tool.onionmpc.public]]
# name = "smallest"
# label = "The smallest number of answers that gets statistics"
# type = "integer"
# min = 2
# max = 100_000
# warn-min = 5
# warning = "a small group says much about each person in it"
# option = "--smallest"
# optional = true
#
# [[tool.onionmpc.public]]
# name = "bins"
# label = "The largest number of bins of a histogram"
# type = "integer"
# min = 1
# max = 100
# option = "--bins"
# optional = true
#
# [[tool.onionmpc.input]]
# name = "table"
# label = "Your table of answers, a CSV file with headings"
# type = "file"
# max-bytes = 67_108_864
# option = "--input"
#
# [tool.onionmpc.output]
# type = "pairs"
# ///
"""Statistics of a survey over the rows of all parties: counts, mean, spread, median and histogram of each question.

All learn, for each group and question, whether there are fewer than --smallest answers. If not, they learn exactly
what is printed. Nobody learns how many rows a party has. A bin of a histogram may hold a single answer: choose few
--bins.

Each party has a CSV file with a row for each person and a column for each question. Answers are whole numbers in a
public range; an empty cell is no answer. With --by, each group of people gets statistics of its own, and there are none
over all groups: subtracting the printed groups from these would reveal a group that was refused.

hops: 14 with three parties, and as many with more, for any number of rows, questions and groups.
"""

from __future__ import annotations

import argparse
import csv
import io
import math
import random
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from mpyc.runtime import mpc
from private_input import add_private_arguments, private_text

MOST_ROWS = 100_000  # of a party
MOST_ANSWERS = 1000  # different ones to a question
MOST_COUNTERS = 10_000  # a count for each group, question and answer
MOST_BINS = 100
EXAMPLE_QUESTIONS = "satisfaction:1-5,hours:0-59"
EXAMPLE_GROUPS = "team:lab/office/field"
DEMO_ROWS = 8

Row = tuple[int, Sequence[int | None]]  # the number of the person's group, and for each question an answer or None


@dataclass(frozen=True, slots=True)
class Question:
    """A column of the table, with the lowest and the highest answer."""

    name: str
    lowest: int
    highest: int

    @property
    def answers(self) -> int:
        """How many different answers there are."""
        return self.highest - self.lowest + 1


@dataclass(frozen=True, slots=True)
class Survey:
    """What all parties agree on.

    Attributes:
        column: the column that says to which group a person belongs; empty if all are one group.
        groups: what this column may say.
        smallest: a group with fewer answers to a question gets no statistics of it.
        bins: the largest number of bins of a histogram.
    """

    questions: Sequence[Question]
    column: str
    groups: Sequence[str]
    smallest: int
    bins: int

    @property
    def most_answers(self) -> int:
        """The largest number of different answers to a question."""
        return max(question.answers for question in self.questions)

    def bin_width(self, question: Question) -> int:
        """Return how many different answers share a bin."""
        return math.ceil(question.answers / self.bins)


def counts(rows: Sequence[Row], survey: Survey) -> np.ndarray:
    """Count a party's answers. Return a row for each group and question, with a column for each answer."""
    table = np.zeros((len(survey.groups), len(survey.questions), survey.most_answers), dtype=int)
    for group, answers in rows:
        for number, (question, answer) in enumerate(zip(survey.questions, answers, strict=True)):
            if answer is not None:
                table[group, number, answer - question.lowest] += 1
    return table.reshape(-1, survey.most_answers)


def sums(table: np.ndarray, survey: Survey) -> np.ndarray:
    """Return for each row of the counts: the sum of the answers, of their squares, and the bins. The lowest is 0."""
    places = np.arange(survey.most_answers)
    columns = [table @ places, table @ places**2]
    widths = [survey.bin_width(question) for question in survey.questions] * len(survey.groups)
    for number in range(survey.bins):
        in_bin = np.array([places // width == number for width in widths])
        columns.append((table * in_bin).sum(axis=1))
    return np.column_stack(columns)


async def statistics(rows: Sequence[Row], survey: Survey) -> list[list[int] | None]:
    """Add up the counts of all parties in secret, and open what has enough answers.

    Returns:
        for each group and question, None if there are too few answers; otherwise their sum, the sum of their squares,
        twice their median, and the count of each bin, all as if the lowest answer were 0.
    """
    secint = mpc.SecInt(64)
    mine = counts(rows, survey)
    both = sum(mpc.input(secint.array(np.hstack((mine, sums(mine, survey))))))
    table, to_open = both[:, : survey.most_answers], both[:, survey.most_answers :]
    up_to = np.cumsum(table, axis=1)
    answered = up_to[:, -1:]
    # The two middle answers (or the one, twice) are the first with at least, and with more than, half of all up to it.
    before = 2 * up_to - answered
    compared = mpc.np_hstack((answered - survey.smallest, before, before - 1))
    bits = (len(mpc.parties) * MOST_ROWS).bit_length() + 1
    negative = mpc.np_sgn(compared, l=bits, LT=True)
    # Nothing else is opened before it is known which groups are large enough.
    too_few = await mpc.output(negative[:, 0])
    enough = [row for row, refused in enumerate(too_few) if not refused]
    results: list[list[int] | None] = [None] * len(mine)
    if enough:
        medians = np.sum(negative[:, 1:], axis=1).reshape(len(mine), 1)
        revealed = mpc.np_hstack((to_open[:, :2], medians, to_open[:, 2:]))
        for row, values in zip(enough, await mpc.output(revealed[np.array(enough)]), strict=True):
            results[row] = [int(value) for value in values]
    return results


def describe(question: Question, opened: Sequence[int], survey: Survey) -> str:
    """Return the statistics of a question in words, from what was opened."""
    total, squares, twice_median, *bins = opened
    count = sum(bins)
    mean = total / count
    spread = math.sqrt((count * squares - total**2) / count**2)
    width = survey.bin_width(question)
    starts = range(question.lowest, question.highest + 1, width)
    ranges = [(start, min(start + width - 1, question.highest)) for start in starts]
    bars = [
        f"{low}: {bar}" if low == high else f"{low} to {high}: {bar}"
        for (low, high), bar in zip(ranges, bins, strict=False)
    ]
    return (
        f"{count} answers, mean {question.lowest + mean:.2f}, spread {spread:.2f}, "
        f"median {question.lowest + twice_median / 2:g} | {', '.join(bars)}"
    )


def parse_questions(text: str) -> list[Question]:
    """Return the questions in `name:lowest-highest,name:lowest-highest`, or end with a sentence."""
    parts = text.split(",")
    found = [re.fullmatch(r"\s*([^:,]*[^:,\s])\s*:(-?\d{1,6})-(-?\d{1,6})\s*", part) for part in parts]
    questions = [Question(part[1], int(part[2]), int(part[3])) for part in found if part]
    if len({question.name for question in questions}) < len(parts):
        sys.exit(f"expected different questions with their lowest and highest answers, such as {EXAMPLE_QUESTIONS}")
    if not all(1 <= question.answers <= MOST_ANSWERS for question in questions):
        sys.exit(f"a question must have 1 to {MOST_ANSWERS} different answers")
    return questions


def parse_groups(text: str) -> tuple[str, list[str]]:
    """Return the column and the groups in `column:group/group`, or end with a sentence."""
    column, _, groups = text.partition(":")
    names = [name.strip() for name in groups.split("/")]
    if not column.strip() or "" in names or len(set(names)) < len(names):
        sys.exit(f"expected a column and its different groups, such as {EXAMPLE_GROUPS}")
    return column.strip(), names


def parse_rows(text: str, survey: Survey) -> list[Row]:
    """Return the rows of a CSV file, or end with a sentence. It never repeats the file, which is private."""
    lines = csv.reader(io.StringIO(text))
    heads = [head.strip() for head in next(lines, [])]
    wanted = [question.name for question in survey.questions] + ([survey.column] if survey.column else [])
    if missing := [name for name in wanted if heads.count(name) != 1]:
        sys.exit(f"the first line of the table must name each of these columns once: {', '.join(missing)}")
    rows = []
    for number, cells in enumerate(lines, start=2):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(heads):
            sys.exit(f"line {number} of the table has {len(cells)} cells, expected {len(heads)}")
        row = dict(zip(heads, map(str.strip, cells), strict=True))
        if survey.column and row[survey.column] not in survey.groups:
            sys.exit(f"{survey.column} in line {number} of the table must be one of: {', '.join(survey.groups)}")
        group = survey.groups.index(row[survey.column]) if survey.column else 0
        rows.append((group, [parse_answer(row[question.name], question, number) for question in survey.questions]))
    if len(rows) > MOST_ROWS:
        sys.exit(f"the table must have at most {MOST_ROWS} rows")
    return rows


def parse_answer(cell: str, question: Question, line: int) -> int | None:
    """Return the answer in a cell, None for an empty cell, or end with a sentence."""
    if not cell:
        return None
    answer = int(cell) if re.fullmatch(r"-?\d{1,6}", cell, re.ASCII) else question.lowest - 1
    if not question.lowest <= answer <= question.highest:
        sys.exit(
            f"{question.name} in line {line} of the table must be a whole number "
            f"from {question.lowest} to {question.highest}, or empty"
        )
    return answer


def made_up(survey: Survey) -> str:
    """Return a table for this party, the same one at each run."""
    source = random.Random(mpc.pid)
    heads = [question.name for question in survey.questions] + [survey.column]
    lines = [",".join(heads)]
    for _ in range(DEMO_ROWS):
        answers = [str(source.randint(question.lowest, question.highest)) for question in survey.questions]
        # The first groups are the larger ones, so that the last one may be refused.
        group = survey.groups[min(source.choices(range(len(survey.groups)), k=2))]
        lines.append(",".join([*answers, group]))
    return "\n".join(lines)


async def main(rows: list[Row], survey: Survey) -> None:
    """Compute the statistics in secret, and print them."""
    async with mpc:
        results = iter(await statistics(rows, survey))
    for group in survey.groups:
        for question in survey.questions:
            name = f"{question.name}, {survey.column} {group}" if survey.column else question.name
            opened = next(results)
            if opened is None:
                print(f"{name}: refused, fewer than {survey.smallest} answers")
            else:
                print(f"{name}: {describe(question, opened, survey)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("questions", help=f"such as {EXAMPLE_QUESTIONS}; the same for all parties")
    parser.add_argument("--by", metavar="COLUMN:GROUP/GROUP", help=f"group the rows, such as --by {EXAMPLE_GROUPS}")
    parser.add_argument("--smallest", type=int, default=5, help="refuse groups with fewer answers (5)")
    parser.add_argument("--bins", type=int, default=6, help="bins of a histogram, at most (6)")
    add_private_arguments(parser, "table")
    arguments = parser.parse_args()
    column, groups = parse_groups(arguments.by) if arguments.by else ("", [""])
    questions = parse_questions(arguments.questions)
    survey = Survey(questions, column, groups, arguments.smallest, arguments.bins)
    if not 2 <= survey.smallest <= MOST_ROWS or not 1 <= survey.bins <= MOST_BINS:
        sys.exit(f"--smallest must be from 2 to {MOST_ROWS}, --bins from 1 to {MOST_BINS}")
    if len(groups) * len(questions) * survey.most_answers > MOST_COUNTERS:
        sys.exit(f"groups times questions times answers must be at most {MOST_COUNTERS}: use fewer, or a coarser scale")
    text = private_text(arguments, "table", [made_up(survey)])
    mpc.run(main(parse_rows(text, survey), survey))
