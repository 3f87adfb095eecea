"""Sessions at a constant rate."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from onionmpc.errors import AgreementError
from onionmpc.session.agreement import Agreement
from onionmpc.session.computation import SessionResult
from onionmpc.session.events import LinkResumed, Rounding
from onionmpc.session.session import Session
from tests.support.further import Several
from tests.support.session import Room, answers, give_answer_files, listed_plan, room, run, same_sentence, write_script


def padded_room(tmp_path: Path, bucket_s: float, **changes: Any) -> contextlib.AbstractAsyncContextManager[Room]:
    plan = listed_plan(write_script(tmp_path / "few.py", FEW_ROUNDS), padding_bucket_s=bucket_s, **changes)
    return room(3, plan, give_answer_files(plan, tmp_path, 3))


FEW_ROUNDS = """
from mpyc.runtime import mpc
async def main():
    async with mpc:
        answer(int(await mpc.output(mpc.sum(mpc.input(mpc.SecInt(32)(mpc.pid))))))
mpc.run(main())
"""


def test_a_padded_session_lasts_a_whole_number_of_buckets(tmp_path: Path) -> None:
    bucket_s = 0.4
    consented_at: list[float] = []

    async def note(_agreement: Agreement) -> bool:
        consented_at.append(time.monotonic())
        return True

    async def main() -> None:
        async with padded_room(tmp_path, bucket_s, padding=200) as place:
            for person in place.persons:
                person.consent = note
            place.start_listed()
            endings = await place.endings()
            length_s = time.monotonic() - min(consented_at)
            for person, ending in zip(place.persons, endings, strict=True):
                assert isinstance(ending, SessionResult), ending
                (rounding,) = person.heard(Rounding)
                assert 0 <= rounding.seconds < bucket_s
                # Whoever agreed a moment later than another may end a moment earlier in its bucket.
                assert length_s > bucket_s * math.ceil((ending.run_s - bucket_s / 4) / bucket_s)
        assert answers(tmp_path, 3) == [(3,)] * 3

    run(main())


def test_a_joiner_uses_the_hosts_padding_rate(tmp_path: Path) -> None:
    rates: list[int] = []

    async def note(agreement: Agreement) -> bool:
        rates.append(agreement.common.padding_rate)
        return True

    async def main() -> None:
        async with padded_room(tmp_path, 0.1) as place:
            place.plans[0] = replace(place.plans[0], padding=200)
            for person in place.persons:
                person.consent = note
            place.start_hosted()
            assert all(isinstance(ending, SessionResult) for ending in await place.endings())
            assert rates == [200] * 3

    run(main())


@pytest.mark.usefixtures("no_program")
def test_parties_of_different_rates_do_not_agree(tmp_path: Path) -> None:
    async def main() -> None:
        async with padded_room(tmp_path, 0.1, padding=100) as place:
            place.plans[1] = replace(place.plan, padding=200)
            place.start_listed()
            endings = await place.endings()
            assert {type(ending) for ending in endings} == {AgreementError}
            assert "padding rate differs: " in same_sentence(endings)
            assert "200 at party 1" in same_sentence(endings)

    run(main())


def test_a_party_that_leaves_while_links_only_stay_busy_does_not_fail_the_session(tmp_path: Path) -> None:
    async def main() -> None:
        async with padded_room(tmp_path, 3600.0, padding=200) as place:
            place.start_listed()
            for person in place.persons:
                await person.hears(Rounding)
            for number in (2, 0):
                place.tasks[number].cancel()
                await asyncio.wait([place.tasks[number]])
            # Nobody is left to be busy with.
            assert isinstance(await place.tasks[1], SessionResult)

    run(main())


def test_a_gap_is_counted(tmp_path: Path) -> None:
    async def main() -> None:
        async with padded_room(tmp_path, 0.1, padding=200) as place:
            cut = asyncio.Event()

            async def cut_first(_agreement: Agreement) -> bool:
                if not cut.is_set():
                    cut.set()
                    await place.networks[0].cut_all()
                for peer in place.persons:
                    await peer.hears(LinkResumed)
                return True

            place.persons[0].consent = cut_first
            place.start_listed()
            (result, *others) = await place.endings()
            assert isinstance(result, SessionResult)
            assert [link.gaps for link in result.links.values()] == [1, 1]
            assert all(0 < link.gap_s < 10 for link in result.links.values())
            assert all(isinstance(other, SessionResult) for other in others)

    run(main())


@pytest.mark.usefixtures("instant")
def test_each_computation_of_a_padded_session_ends_on_a_bucket_of_its_own(tmp_path: Path) -> None:
    bucket_s = 0.4
    lasted_s: list[float] = []

    async def main() -> None:
        async with padded_room(tmp_path, bucket_s, padding=200) as place:
            several = Several(place)
            agreed_s: list[float] = []

            async def note(_agreement: Agreement) -> bool:
                agreed_s.append(time.monotonic())
                return True

            async def note_length(_session: Session) -> None:
                lasted_s.append(time.monotonic() - agreed_s[-1])

            place.persons[0].consent = note
            for number in place.numbers:
                several.computes(number, *([note_length] if number == 0 else []), place.plans[number])
            place.start_listed()
            for person, ending in zip(place.persons, await place.endings(), strict=True):
                assert isinstance(ending, SessionResult), ending
                assert len(person.heard(Rounding)) == 2
                assert not person.heard(LinkResumed)
            lasted_s.append(time.monotonic() - agreed_s[-1])
        # From the agreement to the end, each took one whole bucket at least.
        assert len(lasted_s) == 2
        assert all(length_s >= 0.9 * bucket_s for length_s in lasted_s)

    run(main())
