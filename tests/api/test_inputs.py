"""Inputs that a program declares are collected after consent, checked, and handed over by a pipe or a private file."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from onionmpc import ALLOW_UNUSUAL, InputQuestion, Proposal, Table, UnusualInput
from onionmpc.api.inputs import OwnInputs
from onionmpc.errors import AgreementError, UsageError
from tests.api.test_table import agree
from tests.support.api import local_parties
from tests.support.blocks import script_of
from tests.support.session import run

BLOCK = script_of(
    """\
[tool.onionmpc]
version = 1
title = "Echo"
reveals = "all inputs to all parties"

[[tool.onionmpc.public]]
name = "drinks"
label = "Drinks"
type = "text"
many = true

[[tool.onionmpc.input]]
name = "drink"
label = "Your drink"
type = "choice"
choices-from = "drinks"

[[tool.onionmpc.input]]
name = "letter"
label = "Your letter"
type = "file"
give = "file"
option = "--letter"

[[tool.onionmpc.input]]
name = "number"
label = "Your number"
type = "integer"
max = 100
warn-max = 10
"""
)
ECHO = (
    BLOCK
    + """
import os, stat, sys
from pathlib import Path
from mpyc.runtime import mpc
async def main():
    async with mpc:
        drinks, option, path = sys.argv[1:]
        mode = stat.S_IMODE(os.stat(path).st_mode)
        read = [sys.stdin.readline(), sys.stdin.readline(), sys.stdin.read()]
        everything = await mpc.transfer([read, Path(path).read_text(), option, oct(mode), path])
    print([each[:4] for each in everything])
    print(everything[mpc.pid][4])
mpc.run(main())
"""
)
INPUTS: dict[str, Any] = {"drink": "tea", "letter": b"hello", "number": 7}


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "echo.py"
    path.write_text(ECHO)
    return path


def computed(script: Path, *given: dict[str, Any]) -> list[Any]:
    """Let as many parties as there are arguments compute; return how each ended."""
    endings: list[Any] = []

    async def compute(table: Table, arguments: dict[str, Any]) -> Any:
        async with table:
            return await table.compute(**({"consent": agree} | arguments))

    async def main() -> None:
        async with local_parties(len(given)) as parties, AsyncExitStack() as stack:
            table = await stack.enter_async_context(parties[0].host(script, parties=len(given), public=["tea,coffee"]))
            guests = [one.join(invite, script) for one, invite in zip(parties[1:], table.invites, strict=True)]
            hosting = table.compute(**({"consent": agree} | given[0]))
            joining = [compute(guest, arguments) for guest, arguments in zip(guests, given[1:], strict=True)]
            endings.extend(await asyncio.gather(hosting, *joining, return_exceptions=True))

    run(main())
    return endings


def test_a_program_at_the_terminal_gets_its_inputs_after_one_whose_output_was_kept(
    script: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async def twice(table: Table) -> None:
        kept = await table.compute(consent=agree, inputs=INPUTS)
        assert "tea" in kept.outputs
        shown = await table.compute(consent=agree, inputs=INPUTS | {"number": 9}, terminal=True)
        assert shown.outputs == table.program_errors == ""

    async def joins(table: Table) -> None:
        async with table:
            await twice(table)

    async def main() -> None:
        async with AsyncExitStack() as stack:
            host, *guests = await stack.enter_async_context(local_parties(3))
            table = await stack.enter_async_context(host.host(script, parties=3, public=["tea,coffee"]))
            joining = await stack.enter_async_context(asyncio.TaskGroup())
            for guest, invite in zip(guests, table.invites, strict=True):
                joining.create_task(joins(guest.join(invite, script)))
            await twice(table)

    run(main())
    # Three programs show what three parties gave.
    assert capfd.readouterr().out.count(repr("9\n")) == 9


def test_inputs_reach_the_program_by_a_pipe_and_by_a_private_file_that_is_removed(script: Path) -> None:
    results = computed(script, *({"inputs": INPUTS | {"number": number}} for number in (1, 2, 3)))
    first, paths = results[0].outputs.splitlines()[0], {result.outputs.splitlines()[1] for result in results}
    for number in (1, 2, 3):
        assert f"[['tea\\n', '{number}\\n', ''], 'hello', '--letter', '0o600']" in first
    assert len(paths) == 3
    assert not any(Path(path).exists() for path in paths)


def test_a_person_is_asked_after_consent_and_in_the_order_of_the_block(script: Path) -> None:
    said: list[str] = []

    async def consent(_proposal: Proposal) -> bool:
        said.append("consent")
        return True

    async def ask(question: InputQuestion) -> str | bytes:
        said.append(f"{question.label}: {question.expected}")
        return b"hello" if question.is_file else {"drink": "coffee", "number": "5"}[question.name]

    others = {"inputs": INPUTS}
    results = computed(script, {"consent": consent, "ask": ask}, others, others)
    assert "[['coffee\\n', '5\\n', ''], 'hello'" in results[0].outputs
    assert said == [
        "consent",
        "Your drink: one of: tea, coffee",
        "Your letter: a file of at most 1048576 bytes",
        "Your number: a whole number up to 100; usually up to 10",
    ]


def test_a_choice_that_is_not_one_ends_the_session_before_any_program_starts(script: Path) -> None:
    results = computed(script, {"inputs": INPUTS | {"drink": "rum 4242"}}, {"inputs": INPUTS}, {"inputs": INPUTS})
    assert [type(result) for result in results] == [AgreementError] * 3
    assert str(results[0]) == "drink: expected one of: tea, coffee"
    assert all("its user gave no valid input" in str(result) for result in results[1:])
    assert not any("4242" in str(result) or "drink" in str(result) for result in results[1:])


def test_a_joiner_that_learns_only_now_what_is_missing_fails_before_its_consent() -> None:
    async def never(_proposal: Proposal) -> bool:
        pytest.fail("it was asked")

    endings: list[Any] = []

    async def main() -> None:
        async with local_parties(3) as parties, AsyncExitStack() as stack:
            table = await stack.enter_async_context(parties[0].host("average-salary", parties=3))
            first, second = [
                await stack.enter_async_context(one.join(invite))
                for one, invite in zip(parties[1:], table.invites, strict=True)
            ]
            computing = (
                table.compute(inputs={"salary": 4200}, consent=agree),
                first.compute(consent=never),
                second.compute(inputs={"salary": 4300}, consent=agree),
            )
            endings.extend(await asyncio.gather(*computing, return_exceptions=True))

    run(main())
    assert [type(ending) for ending in endings] == [AgreementError] * 3
    assert str(endings[1]) == "the program needs an input salary (Your salary)"
    assert all("its user gave no valid input" in str(endings[number]) for number in (0, 2))


def test_an_unusual_input_is_confirmed_and_after_a_no_it_is_asked_for_again(script: Path) -> None:
    said: list[str] = []
    numbers = iter(["99", "20", "50"])

    async def ask(question: InputQuestion) -> str | bytes:
        return b"hello" if question.is_file else {"drink": "tea"}.get(question.name) or next(numbers)

    async def confirm(unusual: UnusualInput) -> bool:
        said.append(f"{unusual.label}: {unusual.sentence}")
        assert "times" not in repr(unusual)
        return unusual.sentence.startswith("this is 5 ")

    asked: dict[str, Any] = {"ask": ask, "confirm": confirm}
    results = computed(script, asked, {"inputs": INPUTS}, {"inputs": INPUTS | {"number": 60}, "confirm": ALLOW_UNUSUAL})
    assert "['tea\\n', '50\\n', '']" in results[0].outputs
    assert "['tea\\n', '60\\n', '']" in results[0].outputs
    assert said == [
        "Your number: this is 9.9 times more than usual.",
        "Your number: this is 2 times more than usual.",
        "Your number: this is 5 times more than usual.",
    ]


def test_an_unusual_input_that_was_given_needs_a_yes(script: Path) -> None:
    async def confirm(_unusual: UnusualInput) -> bool:
        return False

    unusual = {"inputs": INPUTS | {"number": 42}, "confirm": confirm}
    results = computed(script, {"inputs": INPUTS}, unusual, {"inputs": INPUTS})
    assert [type(result) for result in results] == [AgreementError] * 3
    assert str(results[1]) == "number: an unusual value, expected a whole number up to 100; usually up to 10"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"inputs": {"numbr": 1}}, "the program declares no input numbr"),
        ({"inputs": {"number": 4242}}, "number: expected a whole number up to 100"),
        ({"inputs": {"number": object()}}, "number: object, expected a text"),
        ({"inputs": {"letter": Path("/absent")}}, "letter: cannot read /absent: No such file"),
        ({}, "the program needs an input drink (Your drink)"),
        ({"inputs": {"drink": "tea"}}, "the program needs an input letter (Your letter)"),
        ({"inputs": INPUTS | {"number": 42}}, "number: an unusual value, expected a whole number up to 100"),
        ({"inputs": {}, "confirm": 3}, "confirm: int, expected a function"),
        ({"inputs": [1]}, "inputs: list, expected a dict of values by their names"),
        ({"inputs": {}, "input": "4242"}, "inputs cannot be combined with input or arguments"),
        ({"inputs": {}, "arguments": ["x"]}, "inputs cannot be combined with input or arguments"),
        ({"ask": 3}, "ask: int, expected a function"),
    ],
)
def test_a_mistake_is_found_before_anyone_is_met_and_shows_no_value(
    script: Path, given: dict[str, Any], words: str
) -> None:
    async def main() -> None:
        async with local_parties(1) as (me,), me.host(script, parties=3, public=["tea,coffee"]) as table:
            with pytest.raises(UsageError) as caught:
                await table.compute(consent=agree, **given)
            assert words in caught.value.message
            assert "4242" not in caught.value.message

    run(main())


READS = """
import getpass, os, sys, warnings
from mpyc.runtime import mpc
async def main():
    async with mpc:
        pass
    try:
        os.close(os.open("/dev/tty", os.O_RDWR))
        terminal = "terminal"
    except OSError:
        terminal = "no terminal"
    print(terminal, sys.argv[1:], repr(sys.stdin.read()))
mpc.run(main())
"""
NOTHING_ELSE = script_of(
    '[tool.onionmpc]\nversion = 1\ntitle = "T"\nreveals = "R"\n'
    '[[tool.onionmpc.input]]\nname = "n"\nlabel = "N"\ntype = "integer"\noption = "--n"'
)


def test_at_a_terminal_the_program_gets_a_pipe_and_cannot_ask(script: Path, capfd: pytest.CaptureFixture[str]) -> None:
    script.write_text(NOTHING_ELSE + READS)

    async def ask(question: InputQuestion) -> str:
        assert question.name == "n"
        return "4200"

    results = computed(script, {"ask": ask, "terminal": True}, {"inputs": {"n": 1}}, {"input": "2", "arguments": ["x"]})
    assert capfd.readouterr().out == "no terminal ['tea,coffee', '--n', '-'] '4200\\n'\n"
    assert [result.outputs for result in results[1:]] == [
        "no terminal ['tea,coffee', '--n', '-'] '1\\n'\n",
        "no terminal ['tea,coffee', 'x'] '2'\n",
    ]


def test_an_input_is_what_is_given_and_a_file_is_its_content(tmp_path: Path) -> None:
    letter = tmp_path / "letter"
    letter.write_bytes(b"hello")
    arguments = ["--bid=7", "-5", "--verbose", "-v", "-", "--letter", str(letter), f"--copy={letter}", str(tmp_path)]
    own = OwnInputs(b"text\n", {"drink": b"tea"}, replaced=False, ask=None, confirm=None)
    given = [b"".join(pieces) for pieces in own.pieces([*arguments, "x" * 5000, "\0"])]
    assert given == [b"text\n", b"tea", b"7", b"-5", b"hello", b"hello", str(tmp_path).encode(), b"x" * 5000, b"\0"]


def test_a_pipe_is_not_read(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    nothing, pieces = OwnInputs(None, {}, replaced=True, ask=None, confirm=None).pieces([str(pipe)])
    assert list(nothing) == [b""]
    assert list(pieces) == [str(pipe).encode()]
