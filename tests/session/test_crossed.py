"""Proposals of a full list that cross: the lowest party's counts, everyone runs the same, and is asked once."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from onionmpc.program.code.catalogue import find_program
from onionmpc.program.spec import ProgramSpec
from onionmpc.session.agreement import Agreement
from onionmpc.session.computation import SessionResult
from onionmpc.session.events import Proposed
from onionmpc.session.local import Plan
from onionmpc.session.session import Session
from tests.support.further import QUICK, Several, Step, hears, plans
from tests.support.session import Room, room, run


async def crossing(place: Room, several: Several, second: dict[int, Plan], steps: dict[int, list[Step]]) -> list[str]:
    """Have all parties go on after these steps of theirs; return the public argument that all agreed on."""
    asked: dict[int, list[Agreement]] = {number: [] for number in place.numbers}
    for number in place.numbers:

        async def consent(agreement: Agreement, number: int = number) -> bool:
            asked[number].append(agreement)
            return True

        place.persons[number].consent = consent
        several.computes(number, *steps.get(number, []), second[number])
    place.start_listed()
    for ending in await place.endings():
        assert isinstance(ending, SessionResult), ending
    assert [len(agreements) for agreements in asked.values()] == [2] * len(place.numbers)
    assert all(agreements == asked[0] for agreements in asked.values())
    assert len({results[1].session for results in several.results.values()}) == 1
    return list(asked[0][1].common.public_arguments)


def own_proposals(tmp_path: Path, parties: int) -> tuple[dict[int, Plan], dict[int, Plan]]:
    """The same program for the first computation; a public argument of each party's own for the second."""
    first = plans(tmp_path, "quick", QUICK, parties, public=("first",))
    return first, {number: replace(plan, public=(f"of {number}",)) for number, plan in first.items()}


@pytest.mark.parametrize(
    "proposers",
    [
        pytest.param(who, marks=[] if who in ((0, 1, 2), (1, 2), (2,)) else pytest.mark.weekly)
        for size in (1, 2, 3)
        for who in itertools.combinations(range(3), size)
    ],
    ids=str,
)
def test_of_three_the_lowest_proposer_wins(
    tmp_path: Path, proposers: tuple[int, ...], instant: list[ProgramSpec]
) -> None:
    async def main() -> None:
        first, second = own_proposals(tmp_path, 3)
        async with room(3, first[0], first) as place:
            others = [number for number in place.numbers if number not in proposers]
            steps: dict[int, list[Step]] = {number: [hears(place.persons[number], Proposed)] for number in others}
            won = await crossing(place, Several(place), second, steps)
            # A party that proposes may hear of a lower proposal first, and then follows it.
            assert won in [[f"of {number}"] for number in proposers]
            if len(proposers) == 1:
                assert won == [f"of {proposers[0]}"]

    run(main())
    assert [spec.arguments[0] for spec in instant[:3]] == ["first"] * 3
    assert len({spec.arguments[0] for spec in instant[3:]}) == 1


def all_at_once(parties: int) -> Step:
    """A step that ends for all parties in the same turn of the loop, so that none has heard of a proposal."""
    barrier = asyncio.Barrier(parties)

    async def step(_session: Session) -> None:
        await barrier.wait()

    return step


@pytest.mark.parametrize("parties", [3, pytest.param(4, marks=pytest.mark.weekly)])
@pytest.mark.usefixtures("instant")
def test_proposals_of_all_at_once(tmp_path: Path, parties: int) -> None:
    async def main() -> None:
        first, second = own_proposals(tmp_path, parties)
        async with room(parties, first[0], first) as place:
            together = all_at_once(parties)
            steps = {number: [together] for number in place.numbers}
            assert await crossing(place, Several(place), second, steps) == ["of 0"]

    run(main())


# Who cannot reach whom while all propose: their proposals come last.
PARTED = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]


@pytest.mark.parametrize(
    "parted",
    [
        pytest.param(pairs, marks=[] if pairs in (((0, 3),), ((0, 2), (1, 3))) else pytest.mark.weekly)
        for size in (1, 2)
        for pairs in itertools.combinations(PARTED, size)
    ],
    ids=str,
)
@pytest.mark.usefixtures("instant")
def test_proposals_that_arrive_in_any_order(tmp_path: Path, parted: tuple[tuple[int, int], ...]) -> None:
    async def main() -> None:
        first, second = own_proposals(tmp_path, 4)
        async with room(4, first[0], first) as place:
            together = all_at_once(4)

            async def part(_session: Session) -> None:
                for low, high in parted:
                    await place.part(low, high)

            async def heal() -> None:
                # All others have proposed, and followed what they know of, before the last proposals arrive.
                reached = {frozenset(pair) for pair in PARTED} - {frozenset(pair) for pair in parted}
                for pair in reached:
                    low, high = sorted(pair)
                    await offers[high].wait()
                    await offers[low].wait()
                for network in place.networks:
                    network.parted.clear()

            offers = [asyncio.Event() for _ in place.numbers]

            def has_begun(number: int) -> Step:
                async def step(_session: Session) -> None:
                    offers[number].set()

                return step

            steps: dict[int, list[Step]] = {number: [together, has_begun(number)] for number in place.numbers}
            steps[0].insert(0, part)
            healing = asyncio.create_task(heal())
            assert await crossing(place, Several(place), second, steps) == ["of 0"]
            await healing

    run(main())


@pytest.mark.usefixtures("instant")
def test_proposals_of_other_programs(tmp_path: Path) -> None:
    async def main() -> None:
        first = plans(tmp_path, "quick", QUICK, 3)
        names = ("vote", "sort", "secret_santa")
        async with room(3, first[0], first) as place:
            together = all_at_once(3)
            second = {
                number: replace(plan, program=find_program(name), public=("tea,coffee",) if name == "vote" else ())
                for (number, plan), name in zip(first.items(), names, strict=True)
            }
            won = await crossing(place, Several(place), second, {number: [together] for number in place.numbers})
            assert won == ["tea,coffee"]

    run(main())
