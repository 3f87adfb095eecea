"""The reason of a failure is printed first, even where asyncio or MPyC would hide it."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from onionmpc.errors import ProgramError
from onionmpc.program.code.catalogue import find_program
from tests.support.session import listed_plan, room, run, same_sentence

REFUSED_TYPE = """
from mpyc.runtime import mpc

class Vote:
    pass

async def main():
    async with mpc:
        await mpc.transfer(Vote() if mpc.pid == 1 else "none")

mpc.run(main())
"""
# MPyC runs this coroutine of the script. Its error message is private and stays at its party.
FAILED_COROUTINE = """
from mpyc.runtime import mpc

secint = mpc.SecInt(32)

@mpc.coroutine
async def part(x) -> secint:
    await mpc.transfer("all are here")
    if mpc.pid == 1:
        raise ValueError("the private 4711")
    return x

async def main():
    async with mpc:
        await mpc.output(part(secint(1)))

mpc.run(main())
"""


def end_of(folder: Path, body: str) -> str:
    """Run a session; return the sentence that all parties end with."""
    (folder / "script.py").write_text(textwrap.dedent(body))
    sentences = []

    async def main() -> None:
        async with room(3, listed_plan(find_program(str(folder / "script.py")))) as place:
            place.start_listed()
            ended = await place.endings()
            assert {type(ending) for ending in ended} == {ProgramError}
            sentences.append(same_sentence(ended))

    run(main())
    return sentences[0]


# Issue 12.
def test_all_parties_report_a_type_that_must_not_be_sent_and_its_party_prints_it_first(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sent = "the program sends a __main__.Vote, which the other parties would refuse"
    assert end_of(tmp_path, REFUSED_TYPE).startswith(f"the program failed at party 1 while the program ran: {sent};")
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == f"onionmpc: the program failed: {sent}"
    assert lines[1].startswith(
        "onionmpc: hint: send its numbers; or, if the program defines it, every party adds --allow"
    )
    assert not [line for line in lines if "Event loop stopped" in line]


# Issue 12.
def test_an_error_in_a_coroutine_of_mpyc_is_printed_first_and_only_at_its_own_party(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert "the program failed at party 1 while the program ran: it exited with status 1;" in end_of(
        tmp_path, FAILED_COROUTINE
    )
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines()[0] == "onionmpc: the program failed: ValueError: the private 4711"
    assert 'script.py", line 10, in part' in err
    assert "Event loop stopped" not in err


OTHER_LOOPS = {
    "asyncio.run": """
        import asyncio
        from mpyc.runtime import mpc

        async def main():
            async with mpc:
                pass

        asyncio.run(main())
    """,
    "start alone": """
        import asyncio
        from mpyc.runtime import mpc

        asyncio.run(mpc.start())
    """,
    "a new loop": """
        import asyncio
        from mpyc.runtime import mpc

        loop = asyncio.new_event_loop()
        loop.run_until_complete(mpc.start())
    """,
}


# Issue 12.
@pytest.mark.parametrize("how", OTHER_LOOPS)
def test_a_script_that_uses_another_event_loop_is_reported(tmp_path: Path, how: str) -> None:
    assert "the script runs MPyC in an event loop that is not MPyC's, as asyncio.run(main()) does: write mpc.run" in (
        end_of(tmp_path, OTHER_LOOPS[how])
    )


# Issue 12.
def test_another_event_loop_after_the_start_brings_a_hint(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    body = """
        import asyncio
        from mpyc.runtime import mpc

        async def main():
            return await mpc.output(mpc.input(mpc.SecInt(32)(1), senders=0))

        mpc.run(mpc.start())
        asyncio.run(main())
    """
    end_of(tmp_path, body)
    assert "onionmpc: hint: the script runs MPyC in an event loop that is not MPyC's" in capfd.readouterr().err
