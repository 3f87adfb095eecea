"""Several computations of the same parties over the same links."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from onionmpc.session.agreement import Agreement
from onionmpc.session.computation import SessionResult
from onionmpc.session.events import Agreed, LinkUp, RosterKnown
from onionmpc.session.local import Plan
from onionmpc.session.session import Session
from tests.support.session import (
    Room,
    Then,
    answers,
    give_answer_files,
    listed_plan,
    room,
    run,
    write_script,
)

SUM = """
from mpyc.runtime import mpc
async def main():
    secint = mpc.SecInt(32)
    async with mpc:
        answer(len(mpc.parties), int(await mpc.output(mpc.sum(mpc.input(secint(10 ** mpc.pid))))))
mpc.run(main())
"""
PRODUCT = SUM.replace("mpc.sum(", "mpc.prod(").replace("10 ** mpc.pid", "mpc.pid + 2")


def plans(folder: Path, name: str, body: str, parties: int, **changes: object) -> dict[int, Plan]:
    """A plan for each party; it answers in a file of this program."""
    place = folder / name
    place.mkdir(exist_ok=True)
    return give_answer_files(listed_plan(write_script(place / f"{name}.py", body), **changes), place, parties)


def computes(place: Room, number: int, *further: Plan, results: dict[int, list[SessionResult]]) -> Then:
    async def then(session: Session) -> SessionResult:
        results[number] = [await session.first()]
        for plan in further:
            results[number].append(await session.next(plan, place.persons[number]))
        return results[number][-1]

    return then


@pytest.mark.parametrize("start", [Room.start_hosted, Room.start_listed], ids=["hosted", "listed"])
def test_the_same_parties_compute_again_over_the_same_links(tmp_path: Path, start: Callable[[Room], None]) -> None:
    async def main() -> None:
        first, second = plans(tmp_path, "sum", SUM, 3), plans(tmp_path, "product", PRODUCT, 3)
        results: dict[int, list[SessionResult]] = {}
        agreements: list[list[Agreement]] = [[], [], []]
        async with room(3, first[0], first) as place:
            for number in place.numbers:
                place.then[number] = computes(place, number, second[number], second[number], results=results)

                async def consent(agreement: Agreement, number: int = number) -> bool:
                    agreements[number].append(agreement)
                    return True

                place.persons[number].consent = consent
            start(place)
            for ending in await place.endings():
                assert isinstance(ending, SessionResult), ending
        assert answers(tmp_path / "sum", 3) == [(3, 111)] * 3
        assert answers(tmp_path / "product", 3) == [(3, 24)] * 3
        sessions = {tuple(result.session for result in of_party) for of_party in results.values()}
        assert len(sessions) == 1
        assert len(set(sessions.pop())) == 3
        assert agreements[0] == agreements[1] == agreements[2]
        once, again, last = (agreement.nonces for agreement in agreements[0])
        assert len({*once, *again, *last}) == 9
        for number, person in enumerate(place.persons):
            assert len(person.heard(LinkUp)) == 2
            assert len(person.heard(Agreed)) == 3
            (roster,) = person.heard(RosterKnown)
            assert roster.own_number == number

    run(main())
