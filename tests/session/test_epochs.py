"""Programs that start MPyC several times, as they may without onionmpc."""

from __future__ import annotations

from pathlib import Path

import pytest

from onionmpc.errors import OnionMPCError, ProgramError
from onionmpc.session.computation import SessionResult
from tests.support.machine import open_descriptors
from tests.support.session import (
    Ending,
    answers,
    give_answer_files,
    listed_plan,
    room,
    run,
    same_sentence,
    write_script,
)

WITH_TWICE = """
from mpyc.runtime import mpc
async def main():
    results = []
    for base in (10, 100):
        async with mpc:
            secint = mpc.SecInt(32)
            results.append(int(await mpc.output(mpc.sum(mpc.input(secint(base + mpc.pid))))))
    answer(results)
mpc.run(main())
"""
# One party computes alone between two epochs: its peers' bytes of the next one come before it has begun it.
START_IN_A_LOOP = """
import time
from mpyc.runtime import mpc
results = []
for number in range(5):
    if mpc.pid == number % 3:
        time.sleep(0.2)
    mpc.run(mpc.start())
    secint = mpc.SecInt(32)
    product = mpc.prod(mpc.input(secint(mpc.pid + number + 1)))
    results.append(int(mpc.run(mpc.output(product))))
    told = mpc.run(mpc.transfer(bytes(200_000) + bytes([mpc.pid])))
    assert [one[-1] for one in told] == [0, 1, 2]
    mpc.run(mpc.shutdown())
answer(results)
"""
MANY = """
from mpyc.runtime import mpc
for _ in range(int(sys.argv[1])):
    mpc.run(mpc.start())
    mpc.run(mpc.shutdown())
answer(len(__import__("os").listdir("/dev/fd")))
"""
UNEQUAL = """
from mpyc.runtime import mpc
for _ in range(2 if sys.argv[1] == "more" else 1):
    mpc.run(mpc.start())
    mpc.run(mpc.shutdown())
"""
# The second start never ends: one party waits elsewhere for ever.
STUCK_AT_THE_SECOND_START = """
import asyncio
from mpyc.runtime import mpc
async def main():
    async with mpc:
        pass
    if sys.argv[1] == "more":
        await asyncio.get_running_loop().create_future()
    async with mpc:
        pass
mpc.run(main())
"""


async def computed(tmp_path: Path, body: str, *arguments: str, parties: int = 3) -> list[Ending]:
    plan = listed_plan(write_script(tmp_path / "script.py", body))
    plans = give_answer_files(plan, tmp_path, parties, dict.fromkeys(range(parties), arguments))
    async with room(parties, plan, plans) as place:
        place.start_listed()
        return await place.endings()


@pytest.mark.parametrize(
    ("body", "result"),
    [
        (WITH_TWICE, [33, 303]),
        (START_IN_A_LOOP, [6, 24, 60, 120, 210]),
    ],
    ids=["async with", "start in a loop"],
)
def test_a_script_may_start_mpyc_again(tmp_path: Path, body: str, result: list[int]) -> None:
    endings = run(computed(tmp_path, body))
    assert [type(ending) for ending in endings] == [SessionResult] * 3, endings
    assert answers(tmp_path, 3) == [(result,)] * 3


def test_a_hundred_starts_leave_no_more_descriptors_open_than_two(tmp_path: Path) -> None:
    open_ones = []
    for starts in ("2", "100"):
        before = open_descriptors()
        endings = run(computed(tmp_path, MANY, starts))
        assert all(isinstance(ending, SessionResult) for ending in endings), endings
        assert open_descriptors() <= before
        open_ones.append(answers(tmp_path, 3))
    assert open_ones[0] == open_ones[1]


@pytest.mark.parametrize("number", [0, 2])
def test_programs_of_unequal_epochs_end_with_a_sentence(tmp_path: Path, number: int) -> None:
    async def main() -> list[Ending]:
        plan = listed_plan(write_script(tmp_path / "script.py", UNEQUAL))
        more: dict[int, tuple[str, ...]] = {other: ("more" if other == number else "-",) for other in range(3)}
        async with room(3, plan, give_answer_files(plan, tmp_path, 3, more)) as place:
            place.start_listed()
            return await place.endings()

    endings = run(main())
    assert {type(ending) for ending in endings} == {ProgramError}
    sentence = same_sentence(endings)
    assert "its program ended after start 1 of MPyC, and another party's has begun start 2" in sentence


def test_programs_that_are_stuck_at_a_later_start_are_reported_as_stuck(tmp_path: Path) -> None:
    async def main() -> list[Ending]:
        plan = listed_plan(
            write_script(tmp_path / "script.py", STUCK_AT_THE_SECOND_START), stuck_after_s=0.6, patience_s=1.0
        )
        more: dict[int, tuple[str, ...]] = {number: ("more" if number == 1 else "-",) for number in range(3)}
        async with room(3, plan, give_answer_files(plan, tmp_path, 3, more)) as place:
            place.start_listed()
            return await place.endings()

    endings = run(main())
    assert all(isinstance(ending, OnionMPCError) for ending in endings)
    assert "wait for each other" in same_sentence(endings)
