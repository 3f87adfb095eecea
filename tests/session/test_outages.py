"""Sessions outlive their streams."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from onionmpc.mesh.pace import DIALS_IN_A_ROW
from onionmpc.session.computation import SessionResult
from onionmpc.session.events import LinkResumed
from tests.support.session import answers, give_answer_files, listed_plan, room, run, write_script
from tests.support.stages import ROUNDS, STAGES, held_at


@pytest.mark.parametrize("stage", STAGES)
def test_a_session_outlives_its_streams_at_any_step(tmp_path: Path, stage: str) -> None:
    async def main() -> None:
        async with held_at(stage, tmp_path) as place:
            for network in place.networks:
                await network.cut_all()
            if stage == "connect":
                place.start_listed([1])
            for number in (0, 2):
                await place.persons[number].hears(LinkResumed)

    run(main())


# Issue 3: a rendezvous point was named of a stream that its listener never saw, and that was taken for an offence.
@pytest.mark.usefixtures("with_paths")
def test_a_session_whose_streams_are_cut_all_the_time_computes_the_same(tmp_path: Path) -> None:
    plan = listed_plan(write_script(tmp_path / "rounds.py", ROUNDS))

    async def main() -> None:
        async with room(3, plan) as place:
            place.plans = give_answer_files(plan, tmp_path, 3)

            async def cut() -> None:
                choose = random.Random(1)
                # Fewer than a party may dial in a row.
                for _ in range(DIALS_IN_A_ROW // 2):
                    await asyncio.sleep(0.2 * choose.random())
                    await choose.choice(place.networks).cut_all()

            place.start_listed()
            cutting = asyncio.create_task(cut())
            endings = await place.endings()
            cutting.cancel()
            for ending in endings:
                assert isinstance(ending, SessionResult), ending
            assert answers(tmp_path, 3) == [(201,)] * 3
            assert any(person.heard(LinkResumed) for person in place.persons)

    run(main())
