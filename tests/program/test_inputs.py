"""Private inputs are checked against their fields, and arranged as the program reads them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onionmpc.errors import UsageError
from onionmpc.program.block import (
    AnyField,
    ChoiceField,
    DecimalField,
    FileField,
    IntegerField,
    TableField,
    TextField,
    YesNoField,
)
from onionmpc.program.block_parser import parse_metadata
from onionmpc.program.code.catalogue import find_program
from onionmpc.program.inputs import CheckedInput, arrange, check_input, check_public, choices_of, unusual_public
from tests.support.blocks import EVERY_KEY

N: Any = {"name": "n", "label": "N"}
WAGE = IntegerField(**N, min=0, max=10**6, warn_min=500, warn_max=50_000)
FAR = IntegerField(**N, warn_max=50_000, many=True)
BELOW_ZERO = DecimalField(**N, warn_min=-50, warn_max=-2)
NUMBERS = IntegerField(**N, min=-9, max=9, many=True, max_count=3)
SHARE = DecimalField(**N, min=Decimal("0.05"), max=1, places=2)
TEXT = TextField(**N, max_length=5)
TEXTS = TextField(**N, max_length=5, many=True)
TABLE = TableField(**N, cells="integer", min=-5, max=5, max_rows=3, max_bytes=50)
NAMED = TableField(**N, columns=("a", "b"))
CHOICE = ChoiceField(**N, choices=("tea", "coffee"))


@pytest.mark.parametrize(
    ("field", "content", "expected"),
    [
        (WAGE, b" 4200\n", b"4200"),
        (NUMBERS, b"1, -2 9", b"1,-2,9"),
        (SHARE, b"0.05", b"0.05"),
        (SHARE, b"1", b"1"),
        (TEXT, "größe".encode(), "größe".encode()),
        (TEXT, b"a,b", b"a,b"),
        (TEXTS, b"a , b,c", b"a,b,c"),
        (CHOICE, b"tea\r\n", b"tea"),
        (YesNoField(**N), b"Y", b"yes"),
        (YesNoField(**N), b"no", b"no"),
        (FileField(**N, max_bytes=3), b"\xff\0\n", b"\xff\0\n"),
        (TABLE, b"1,2\n-5, 5\n\n", b"1,2\n-5, 5\n\n"),
        (NAMED, b'x,"y, z"', b'x,"y, z"\n'),
    ],
)
def test_a_valid_input_is_handed_over(field: AnyField, content: bytes, expected: bytes) -> None:
    assert check_input(field, content, ("tea", "coffee")) == CheckedInput(expected)


@pytest.mark.parametrize(
    ("field", "content"),
    [
        (WAGE, b""),
        (WAGE, b"1000001"),
        (WAGE, b"-1"),
        (WAGE, b"1 2"),
        (WAGE, b"4e3"),
        (WAGE, b"0x10"),
        (WAGE, "٣".encode()),
        (WAGE, b"\xff"),
        (WAGE, b"9" * 5000),
        (NUMBERS, b"1,2,3,4"),
        (NUMBERS, b"1,10"),
        (SHARE, b"0.049"),
        (SHARE, b"0.125"),
        (SHARE, b"nan"),
        (SHARE, b".5"),
        (TEXT, b"123456"),
        (TEXT, b""),
        (TEXT, b"a\x1bb"),
        (TEXTS, b"a,,b"),
        (CHOICE, b"beer"),
        (YesNoField(**N), b"perhaps"),
        (FileField(**N, max_bytes=3), b"1234"),
        (TABLE, b""),
        (TABLE, b"1\n2\n3\n4"),
        (TABLE, b"1,2\n3"),
        (TABLE, b"1,6"),
        (TABLE, b"1,x"),
        (TABLE, b"1" * 51),
        (NAMED, b"a,b,c"),
        (NAMED, b'a,"b'),
    ],
)
def test_an_invalid_input_is_refused_without_repeating_it(field: AnyField, content: bytes) -> None:
    with pytest.raises(UsageError) as caught:
        check_input(field, content, ("tea", "coffee"))
    assert caught.value.message.startswith("n: ")
    assert caught.value.message.isprintable()
    assert len(content) < 5 or content.decode("utf-8", "replace") not in caught.value.message


@pytest.mark.parametrize(
    ("field", "content", "words"),
    [
        (WAGE, b"500", ""),
        (WAGE, b"50000", ""),
        (WAGE, b"50001", "1 % more than usual"),
        (WAGE, b"99999", "100 % more than usual"),
        (WAGE, b"100000", "2 times more than usual"),
        (WAGE, b"123456", "about 2.5 times more than usual"),
        (WAGE, b"499", "1 % less than usual"),
        (WAGE, b"250", "2 times less than usual"),
        (WAGE, b"1", "500 times less than usual"),
        (WAGE, b"0", "less than usual"),
        (FAR, b"2500000", "50 times more than usual"),
        (FAR, b"61728395", "about 1,200 times more than usual"),
        (FAR, b"9" * 300, "over 1,000,000 times more than usual"),
        (FAR, b"7,8,2500000,50001", "50 times more than usual"),
        (BELOW_ZERO, b"1", "more than usual"),
        (BELOW_ZERO, b"-0.5", "more than usual"),
        (BELOW_ZERO, b"-100", "less than usual"),
    ],
)
def test_a_value_beyond_a_soft_bound_is_unusual_and_words_say_how_far(
    field: AnyField, content: bytes, words: str
) -> None:
    assert check_input(field, content).unusual == words


@given(st.binary(max_size=20), st.sampled_from([WAGE, NUMBERS, SHARE, TEXT, TEXTS, CHOICE, TABLE, NAMED]))
def test_what_is_handed_over_is_valid_again_and_the_same(content: bytes, field: AnyField) -> None:
    try:
        checked = check_input(field, content, ("tea", "coffee"))
    except UsageError:
        return
    assert check_input(field, checked.content, ("tea", "coffee")) == checked


def test_nothing_private_is_in_a_repr() -> None:
    about = parse_metadata(EVERY_KEY, "my.py").about
    assert about is not None
    delivery = arrange(about, {"salary": CheckedInput(b"424242"), "letter": CheckedInput(b"424242")})
    assert "424242" not in repr(delivery) + repr(CheckedInput(b"424242"))


def test_inputs_are_arranged_in_the_order_of_the_block() -> None:
    about = parse_metadata(EVERY_KEY, "my.py").about
    assert about is not None
    inputs = {"rows": b"1,2\n3,4\n", "salary": b"4200", "letter": b"hello", "vote": b"tea"}
    delivery = arrange(about, {name: CheckedInput(content) for name, content in inputs.items()})
    assert delivery.stdin == b"tea\n4200\n1,2\n3,4\n"
    assert delivery.options == ()
    assert [(file.name, file.option, file.content) for file in delivery.files] == [("letter", "--letter", b"hello")]
    vote = find_program("vote").metadata.about
    assert vote is not None
    assert arrange(vote, {"vote": CheckedInput(b"tea")}).options == ("--input", "-")


@pytest.mark.parametrize(
    "public", [["tea, coffee"], ["--rounds=3", "tea,coffee"], ["--rounds", "3", "tea,coffee"], ["tea,coffee", "more"]]
)
def test_choices_come_from_a_public_argument(public: list[str]) -> None:
    about = parse_metadata(EVERY_KEY, "my.py").about
    assert about is not None
    assert choices_of(about.input[0], about, public) == ("tea", "coffee")
    assert choices_of(about.input[1], about, public) == ()
    assert choices_of(CHOICE, about, public) == ("tea", "coffee")


@pytest.mark.parametrize(
    ("public", "words"),
    [
        ([], "the program needs a public argument candidates (Candidates, separated by commas)"),
        (["--rounds=3"], "the program needs a public argument candidates"),
        (["tea"], 'candidates: "tea", expected 2 to 10 values'),
        (["tea,coffee", "--rounds=many"], 'rounds: "many", expected a whole number'),
        (
            ["tea,co\udcffffee"],
            'candidates: "tea,co\\udcffffee", expected 2 to 10 values, each a text of at most 30 characters, in UTF-8',
        ),
    ],
)
def test_public_arguments_are_checked_before_anyone_is_invited(public: list[str], words: str) -> None:
    about = parse_metadata(EVERY_KEY, "my.py").about
    assert about is not None
    with pytest.raises(UsageError) as caught:
        check_public(about, public)
    assert caught.value.message.startswith(words)
    check_public(about, ["--rounds", "3", "tea,coffee", "--undeclared"])


def test_an_unusual_public_argument_is_described_with_the_warning_of_the_block() -> None:
    survey = find_program("survey").metadata.about
    assert survey is not None
    assert list(unusual_public(survey, ["age:0-99", "--smallest=5"])) == []
    (words,) = unusual_public(survey, ["age:0-99", "--smallest=2"])
    assert words == "smallest is 2.5 times less than usual: a small group says much about each person in it"
