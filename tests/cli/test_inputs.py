"""Inputs of --input, and questions whose answers the terminal does not show."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from onionmpc.api.inputs import InputQuestion, OwnInputs, question_about
from onionmpc.cli.display import TextDisplay
from onionmpc.cli.inputs import read_inputs
from onionmpc.cli.prompt import ask_unseen
from onionmpc.errors import AgreementError, UsageError
from onionmpc.program.block import FileField, IntegerField, TextField
from onionmpc.program.block_parser import parse_metadata
from onionmpc.program.inputs import CheckedInput
from tests.support.blocks import SALARY_INPUT, script_of
from tests.support.commands import Refused


def test_inputs_are_read_from_files_and_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a b").write_bytes(b"\xff\n")
    monkeypatch.setattr("onionmpc.cli.inputs.take_terminal", lambda: None)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"4200\n")))
    assert read_inputs([f"letter=@{tmp_path}/a b", "salary=-"]) == {"letter": b"\xff\n", "salary": b"4200\n"}
    assert read_inputs([]) == {}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["salary=4242"], "--input salary: the value itself is on the command line"),
        (["4242"], "--input: expected NAME=@FILE or NAME=-"),
        (["=@4242"], "--input: expected NAME=@FILE or NAME=-"),
        (["a=@/absent"], "--input a: cannot read /absent: No such file or directory"),
        (["a=@/dev/null", "a=@/dev/null"], "--input a was given twice"),
    ],
)
def test_another_form_is_refused_without_repeating_a_value(words: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_inputs(words)
    assert message in caught.value.message
    assert "4242" not in caught.value.message + caught.value.hint


SALARY = script_of(
    f"""\
[tool.onionmpc]
version = 1
title = "Average salary"
reveals = "the average"

{SALARY_INPUT}"""
)
HOST = ("host", "average-salary", "--parties", "3", "--yes")


def test_mistakes_are_found_before_a_network_is_needed(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "salary").write_text("4200")
    given = f"--input=salary=@{tmp_path}/salary"
    assert "other users of this machine can see" in refused(*HOST, "--input", "salary=4200")
    assert refused(*HOST, given, "--", "4200").startswith("--input and arguments after -- exclude each other")


# Issue 15: this was found after consent.
def test_without_a_person_a_missing_input_is_found_before_a_network_is_needed(refused: Refused) -> None:
    assert refused(*HOST).splitlines() == [
        "the program needs an input salary (Your salary)",
        "pass --input salary=@FILE; it is a whole number from 0 to 1000000000",
    ]


# Issue 15: soft bounds did not apply to --input.
def test_without_a_person_an_unusual_input_is_refused_unless_it_is_allowed(refused: Refused, tmp_path: Path) -> None:
    script, salary = tmp_path / "my.py", tmp_path / "salary"
    script.write_text(SALARY)
    salary.write_text("2500000")
    host = ("host", str(script), "--parties", "3", "--yes", f"--input=salary=@{salary}")
    words, hint = refused(*host).splitlines()
    assert words == (
        "salary: an unusual value, expected a whole number from 0 to 1000000000 EUR; "
        "usually from 500 to 50000: monthly, not yearly?"
    )
    assert hint == "if it is right, pass --allow-unusual"
    assert refused(*host, "--allow-unusual", "--identity", "absent").startswith("there is no identity named absent")


def echoes(person: int) -> bool:
    return bool(termios.tcgetattr(person)[3] & termios.ECHO)


def test_what_is_typed_is_not_shown_and_the_terminal_is_as_before(person: int) -> None:
    async def main() -> None:
        asking = asyncio.create_task(ask_unseen("salary: "))
        asyncio.get_running_loop().call_soon(os.write, person, b"4200\n")
        assert await asking == "4200\n"
        asking = asyncio.create_task(ask_unseen("salary: "))
        await asyncio.sleep(0)
        assert not echoes(person)
        asking.cancel()
        await asyncio.wait({asking})

    assert echoes(person)
    asyncio.run(asyncio.wait_for(main(), 30))
    assert echoes(person)


NAMES: dict[str, Any] = {"name": "salary", "label": "Your salary"}
WAGE = question_about(IntegerField(**NAMES, max=10_000, warn_max=5000, warning="Monthly, not yearly?"), ())
OPTIONAL = question_about(TextField(**NAMES, optional=True), ())
LETTER = question_about(FileField(**NAMES), ())


@contextlib.contextmanager
def types(person: int, typed: list[bytes]) -> Iterator[None]:
    """Type one line at each question."""
    loop = asyncio.get_running_loop()
    lines = iter(typed)
    add_reader = loop.add_reader

    def typing(descriptor: int, ready: Any) -> None:
        add_reader(descriptor, ready)
        os.write(person, next(lines))

    loop.add_reader = typing  # type: ignore[method-assign, assignment]
    yield
    assert next(lines, None) is None


async def answers(person: int, question: InputQuestion, typed: list[bytes]) -> str | bytes | None:
    with types(person, typed):
        return await asyncio.wait_for(TextDisplay(yes=False).gives(question), 30)


def test_a_person_is_asked_until_the_value_is_valid(person: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert asyncio.run(answers(person, WAGE, [b"lots\n", b"\n", b"6001\n"])) == "6001"
    shown = capsys.readouterr().err
    assert "Your salary (a whole number up to 10000; usually up to 5000)" in shown
    assert shown.count("salary: expected a whole number up to 10000") == 1
    assert not any(value in shown for value in ("lots", "6001"))


def test_a_person_is_asked_about_an_unusual_value_and_sees_how_far_off_it_is(
    person: int, capsys: pytest.CaptureFixture[str]
) -> None:
    # Issue 15: the question did not say how far off.
    async def main() -> dict[str, CheckedInput]:
        display = TextDisplay(yes=False)
        block = parse_metadata(SALARY, "my.py").about
        assert block is not None
        with types(person, [b"2500000\n", b"n\n", b"4200\n"]):
            inputs = OwnInputs(None, {}, replaced=False, ask=display.gives, confirm=display.confirms)
            return await asyncio.wait_for(inputs.collect(block, ()), 30)

    assert asyncio.run(main()) == {"salary": CheckedInput(b"4200")}
    shown = capsys.readouterr().err
    assert "salary: this is 50 times more than usual: monthly, not yearly? Use it? [y/N]" in shown
    assert shown.count("Your monthly gross salary (") == 2
    assert "2500000" not in shown


def test_an_optional_input_may_be_left_out_and_a_file_is_read(person: int, tmp_path: Path) -> None:
    assert asyncio.run(answers(person, OPTIONAL, [b"\n"])) is None
    (tmp_path / "letter").write_bytes(b"hello")
    typed = [b"/absent/file\n", f"{tmp_path}/letter\n".encode()]
    assert asyncio.run(answers(person, LETTER, typed)) == b"hello"


def test_the_end_of_input_is_no_consent(person: int) -> None:
    with pytest.raises(AgreementError, match="its user gave no input"):
        asyncio.run(answers(person, WAGE, [b"\x04"]))
