"""Questions at a terminal, and which input answers them."""

from __future__ import annotations

import asyncio
import os

import pytest

from onionmpc.api.questions import Joiner
from onionmpc.cli.display import TextDisplay
from onionmpc.cli.prompt import confirm
from onionmpc.identity import Identity
from onionmpc.session.events import JoinerLeft

JOINER = Identity(bytes(32)).onion


async def asked(person: int, typed: bytes, *, default: bool) -> bool:
    asking = asyncio.create_task(confirm("Well?", default=default))
    asyncio.get_running_loop().call_soon(os.write, person, typed)  # after the question was shown
    return await asking


@pytest.mark.parametrize("default", [True, False])
@pytest.mark.parametrize(
    ("typed", "answer"), [(b"y\n", True), (b" YES \n", True), (b"n\n", False), (b"maybe\nno\n", False), (b"\n", None)]
)
def test_answers(person: int, typed: bytes, answer: bool | None, default: bool) -> None:
    expected = default if answer is None else answer
    assert asyncio.run(asked(person, typed, default=default)) is expected


# Issue 12: an answer to an earlier question, or an impatient second one, must not let in who comes next.
@pytest.mark.parametrize("typed", [b"y\n", b"y\ny\n", b"y", b"\n\n\n"])
def test_input_typed_before_a_question_does_not_answer_it(person: int, typed: bytes) -> None:
    os.write(person, typed)
    assert asyncio.run(asked(person, b"n\n", default=True)) is False


# Issue 12.
def test_the_answer_to_a_withdrawn_question_does_not_answer_the_next(person: int) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await confirm("The first?", default=True)
        os.write(person, b"y\n")
        assert await asked(person, b"n\n", default=True) is False

    asyncio.run(main())


# Issue 12.
def test_a_user_asked_about_a_joiner_that_leaves_sees_that_before_answering(
    person: int, capsys: pytest.CaptureFixture[str]
) -> None:
    async def main() -> None:
        display = TextDisplay(yes=False)
        asking = asyncio.create_task(display.admits(Joiner(JOINER, 1)))
        await asyncio.sleep(0)
        display.tell(JoinerLeft(1, JOINER))
        assert "This party has left for now" in capsys.readouterr().err
        os.write(person, b"\n")
        assert await asking
        display.tell(JoinerLeft(1, JOINER))
        assert "gave up seat 1; its invite works again" in capsys.readouterr().err

    asyncio.run(main())
