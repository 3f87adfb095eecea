"""What a program says about itself: every key, every refusal with its line, and the block where PEP 723 has it."""

from __future__ import annotations

import re
import tomllib
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onionmpc.errors import UsageError
from onionmpc.program.block import (
    MAX_FIELDS,
    NO_METADATA,
    ChoiceField,
    DecimalField,
    FileField,
    Give,
    IntegerField,
    ProgramBlock,
    TableField,
    TextField,
    YesNoField,
)
from onionmpc.program.block_parser import parse_metadata
from onionmpc.program.metadata import MAX_BLOCK_CHARACTERS, MAX_BLOCK_LINES, find_script_block
from tests.support.blocks import EVERY_KEY, script_of

# The regular expression of the specification.
REFERENCE = re.compile(r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$")
LEAST = 'version = 1\ntitle = "T"\nreveals = "R"\n'


def block_of(toml: str) -> ProgramBlock:
    about = parse_metadata(script_of(f"[tool.onionmpc]\n{toml}"), "my.py").about
    assert about is not None
    return about


def refusal_of(toml: str) -> UsageError:
    """Return the error of a block. Its first line, [tool.onionmpc], is line 4 of the script."""
    with pytest.raises(UsageError) as caught:
        block_of(toml)
    assert caught.value.message.isprintable()
    return caught.value


def test_a_script_without_a_block_says_nothing() -> None:
    assert parse_metadata("import os\n", "my.py") == NO_METADATA
    assert parse_metadata(script_of('dependencies = ["mpyc"]'), "my.py").dependencies == ("mpyc",)
    assert parse_metadata(script_of("[tool.uv]\nodd = [nan]"), "my.py").about is None


def test_the_least_block_has_a_title_and_what_is_revealed() -> None:
    assert block_of(LEAST) == ProgramBlock(version=1, title="T", reveals="R")


def test_every_key_is_read() -> None:
    metadata = parse_metadata(EVERY_KEY, "my.py")
    block = metadata.about
    assert block is not None
    assert metadata.dependencies == ("mpyc>=0.11", "numpy")
    assert (block.min_parties, block.threshold, block.packages) == (3, 1, "equal")
    candidates, rounds = block.public
    assert isinstance(candidates, TextField)
    assert (candidates.many, candidates.min_count, candidates.max_count, candidates.max_length) == (True, 2, 10, 30)
    assert isinstance(rounds, IntegerField)
    assert (rounds.option, rounds.optional) == ("--rounds", True)
    vote, salary, share, sure, letter, rows = block.input
    assert isinstance(vote, ChoiceField)
    assert vote.choices_from == "candidates"
    assert isinstance(salary, IntegerField)
    assert (salary.unit, salary.min, salary.max, salary.warn_min, salary.warn_max) == ("EUR", 0, 10**9, 500, 50_000)
    assert salary.warning == "monthly, not yearly?"
    assert isinstance(share, DecimalField)
    assert (share.min, share.max, share.places) == (Decimal("0.05"), 1, 2)
    assert isinstance(sure, YesNoField)
    assert isinstance(letter, FileField)
    assert (letter.give, letter.max_bytes, letter.help) == (Give.FILE, 1000, "Any format.")
    assert isinstance(rows, TableField)
    assert (rows.columns, rows.cells, rows.min, rows.max) == (("age", "income"), "integer", -5, 5)
    assert (rows.min_rows, rows.max_rows) == (2, 9)
    assert block.output is not None
    assert (block.output.type, block.output.chart) == ("pairs", "bars")


NUMBER = '[[tool.onionmpc.input]]\nname = "n"\nlabel = "N"\ntype = "integer"\n'
CHOICE = '[[tool.onionmpc.input]]\nname = "c"\nlabel = "C"\ntype = "choice"\n'
PUBLIC = '[[tool.onionmpc.public]]\nname = "p"\nlabel = "P"\ntype = "text"\n'


CANDIDATES = '[[tool.onionmpc.public]]\nname = "candidates"\nlabel = "C"\ntype = "text"\nmany = true\n'
CHOSEN = '[[tool.onionmpc.input]]\nname = "c"\nlabel = "C"\ntype = "choice"\nchoices-from = "candidates"\n'


@pytest.mark.parametrize(
    ("toml", "line", "words", "hint"),
    [
        ('title = "T"', 4, "version is missing, expected version = 1", "a newer release"),
        ("version = 2\nodd = 1", 5, "version: expected 1", "a newer release"),
        ("version = true", 5, "version: expected 1", ""),
        ('version = "1"', 5, "version: expected 1", ""),
        ('version = 1\ntitle = "T"', 4, "the key reveals is missing, expected a text of 1 to 300 characters", ""),
        (LEAST + "\n# why\ntitel = 1", 10, "there is no key titel", "did you mean title?"),
        (LEAST + "qqq = 1", 8, "there is no key qqq", "expected one of input, min-parties"),
        ('version = 1\ntitle = ""', 6, "title: expected a text of 1 to 80 characters", ""),
        (LEAST + "min-parties = 1", 8, "min-parties: expected a whole number from 2 to 256", ""),
        (LEAST + "min-parties = 3.0", 8, "min-parties: expected a whole number", ""),
        (LEAST + "threshold = 1", 8, "threshold: 1 needs at least 3 parties", "add min-parties = 3"),
        (LEAST + 'packages = "any"', 8, 'packages: expected "equal"', ""),
        (LEAST + "input = 3", 8, "input: expected at most 32 tables, written [[tool.onionmpc.input]]", ""),
        (LEAST + NUMBER + "lable = 3", 12, "there is no key lable of an input of type integer", "mean label?"),
        (LEAST + NUMBER + 'choices = ["a"]', 12, "there is no key choices of an input of type integer", ""),
        (LEAST + NUMBER + "min = 0.5", 12, "min: expected a number of the field's type", ""),
        (LEAST + NUMBER + 'min = "1"', 12, "min: expected a number of the field's type, not a text", ""),
        (LEAST + NUMBER + "min = 2\nmax = 1", 12, "min: 2 is above max, 1", ""),
        (LEAST + NUMBER + 'warning = "yearly?"', 12, "warning: needs warn-min or warn-max", ""),
        (LEAST + NUMBER + "demo = 3", 12, "demo: expected a text of 1 to 1000 characters", ""),
        (LEAST + NUMBER + 'demo = "x"', 12, "demo: expected a whole number", ""),
        (LEAST + NUMBER + 'warn-max = 5\ndemo = "9"', 13, "demo: 80 % more than usual", ""),
        (LEAST + CANDIDATES + CHOSEN + 'demo = "tea"', 18, "demo: needs a demo of candidates", ""),
        (LEAST + CANDIDATES + 'demo = "tea,rum"\n' + CHOSEN + 'demo = "x"', 19, "demo: expected one of: tea, rum", ""),
        (LEAST + NUMBER + "max-count = 3", 12, "max-count: needs many = true", ""),
        (LEAST + NUMBER + NUMBER, 13, "name: two fields are called n", ""),
        (LEAST + NUMBER + 'option = "-L"', 12, "option: expected a long option in lower case", ""),
        (LEAST + NUMBER + 'give = "argument"', 12, 'give: expected "stdin" or "file"', ""),
        (LEAST + NUMBER.replace("integer", "number"), 11, "type: expected integer, decimal, text, choice", ""),
        (LEAST + NUMBER.replace('"integer"', "[1,\n2]"), 11, "type: expected integer", ""),
        (LEAST + NUMBER.replace('label = "N"', ""), 8, "the key label of input 1 is missing", ""),
        (LEAST + NUMBER.replace('"n"', '"N"'), 9, "name: expected up to 40 lower-case letters", ""),
        (LEAST + NUMBER.replace("integer", "decimal") + "max = inf", 12, "max: expected a number that can", ""),
        (LEAST + CHOICE, 8, "the choice c needs either choices or choices-from", ""),
        (LEAST + CHOICE + 'choices = ["a",\n"a"]', 12, "choices: two of them are equal", ""),
        (LEAST + CHOICE + 'choices = ["a"]', 12, "choices: expected 2 to 200 texts", ""),
        (LEAST + CHOICE + 'choices = ["a", "\\u202e"]', 12, "choices: expected visible characters", ""),
        (LEAST + CHOICE + 'choices-from = "p"', 12, "choices-from: p is not a required public argument", ""),
        (LEAST + CHOICE + 'choices-from = "p"\n' + PUBLIC, 12, "choices-from: p is not a required public", ""),
        (LEAST + PUBLIC + 'give = "stdin"', 12, "give: a public argument is always an argument", ""),
        (LEAST + PUBLIC.replace("text", "file"), 11, "type: a public argument is neither a file nor", "see --with"),
        (LEAST + PUBLIC + "optional = true\n" + PUBLIC.replace('"p"', '"q"'), 13, "q follows the optional p", ""),
        (
            LEAST + NUMBER.replace("integer", "table") + NUMBER.replace('"n"', '"m"'),
            8,
            "n has several lines, and another input follows it",
            "move it to the end",
        ),
        (
            LEAST + NUMBER.replace("integer", "table") + "min = 1",
            12,
            "min: needs cells that are numbers of the same type",
            "",
        ),
        (LEAST + NUMBER + "optional = true\n" + NUMBER.replace('"n"', '"m"'), 8, "n is optional, so no other", ""),
        (LEAST + '[tool.onionmpc.output]\ntype = "number"', 9, 'type: expected "value", "pairs" or "table"', ""),
        (LEAST + '[tool.onionmpc.output]\ntype = "value"\nchart = "bars"', 10, "chart: a value cannot be drawn", ""),
        (LEAST + "[tool.onionmpc.output]", 8, "the key type of output is missing", ""),
        ("version == 1", 5, "the block is not TOML: invalid value", ""),
        (LEAST + 'x = "', 9, "the block is not TOML: ", ""),
        (LEAST + "x = " + "[" * 3000, 5, "the block is not TOML: ", ""),
    ],
)
def test_a_mistake_is_refused_with_its_line_its_key_and_what_is_expected(
    toml: str, line: int, words: str, hint: str
) -> None:
    error = refusal_of(toml)
    at = r"\d+" if "[[[" in toml else str(line)
    assert re.match(rf"my\.py, line {at}: {re.escape(words)}", error.message), error.message
    assert hint in error.hint


def test_dependencies_are_a_list_of_texts() -> None:
    with pytest.raises(UsageError, match=r"my\.py, line 5: dependencies: expected a list of texts"):
        parse_metadata(script_of("requires-python = '>=3.11'\ndependencies = [1]"), "my.py")


def test_the_table_must_be_a_table() -> None:
    with pytest.raises(UsageError, match=r"my\.py, line 5: onionmpc: expected a table"):
        parse_metadata(script_of("[tool]\nonionmpc = 1"), "my.py")


def test_two_blocks_are_refused_with_both_lines() -> None:
    with pytest.raises(UsageError, match=r"my\.py has 2 blocks of script metadata \(lines 3 and 8\), expected one"):
        parse_metadata(script_of("a = 1") + script_of("a = 1"), "my.py")


def test_a_long_block_and_many_fields_are_refused() -> None:
    with pytest.raises(UsageError, match=r"my\.py, line 3: the block of script metadata has more than 16384 char"):
        parse_metadata(script_of("#" * (MAX_BLOCK_CHARACTERS + 1)), "my.py")
    with pytest.raises(UsageError, match="or 400 lines"):
        parse_metadata(script_of("\n" * MAX_BLOCK_LINES), "my.py")
    fields = [f'{{ name = "n{number}", label = "N", type = "file", give = "file" }}' for number in range(33)]
    assert len(block_of(LEAST + f"input = [{', '.join(fields[:MAX_FIELDS])}]").input) == MAX_FIELDS
    assert "at most 32 tables" in refusal_of(LEAST + f"input = [{', '.join(fields)}]").message


LINES = st.sampled_from(
    [
        "# /// script",
        "# ///",
        "# /// other",
        "#",
        "# a",
        "#b",
        "",
        " # ///",
        "# /// script ",
        "x = 1",
        "# a\x0cb",
        "# \u2028",
    ]
)


@given(st.lists(LINES, max_size=12).map("\n".join))
def test_a_block_is_where_the_specification_finds_it(text: str) -> None:
    found = [match for match in REFERENCE.finditer(text) if match["type"] == "script"]
    if len(found) > 1:
        with pytest.raises(UsageError, match="blocks of script metadata"):
            find_script_block(text, "my.py")
        return
    block = find_script_block(text, "my.py")
    if not found:
        assert block is None
        return
    assert block is not None
    content = found[0]["content"].removesuffix("\n").split("\n")
    assert list(block.lines) == [line[2:] if line.startswith("# ") else line[1:] for line in content]
    assert text.split("\n")[block.first_line - 2] == "# /// script"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_make_no_difference(end: str) -> None:
    block = find_script_block(EVERY_KEY.replace("\n", end), "my.py")
    assert block is not None
    assert tomllib.loads("\n".join(block.lines))
    assert block == find_script_block(EVERY_KEY, "my.py")
