"""Several computations of the same parties over the same links, and parties that leave in between."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from onionmpc.errors import (
    AgreementError,
    LinkExpired,
    PeerLeft,
    ProgramError,
    RemoteProtocolError,
    SessionOver,
    SystemRefused,
)
from onionmpc.identity import Identity, Onion
from onionmpc.session import signing
from onionmpc.session.agreement import Agreement
from onionmpc.session.computation import SessionResult
from onionmpc.session.events import Agreed, Left, LinkResumed, LinkUp, Proposed, RosterKnown
from onionmpc.session.messages import Leaving
from onionmpc.session.receipt import Opening, Receipt, decode_receipt, sign
from onionmpc.session.session import Session
from onionmpc.wire.link import ControlBytes, EpochEnd, Event, ProgramBytes, ProgramEnd
from tests.support.further import FAIL, PRODUCT, QUICK, SUM, Several, all_gone, for_ever, hears, peers_of, plans
from tests.support.session import HASTY, Room, answers, room, run, same_sentence

HOSTED_FIRST = pytest.mark.parametrize(
    "start", [Room.start_hosted, pytest.param(Room.start_listed, marks=pytest.mark.weekly)], ids=["hosted", "listed"]
)
STARTS = pytest.mark.parametrize("start", [Room.start_hosted, Room.start_listed], ids=["hosted", "listed"])
Start = Callable[[Room], None]


@HOSTED_FIRST
def test_the_same_parties_compute_again_over_the_same_links(tmp_path: Path, start: Start) -> None:
    async def main() -> None:
        first, second = plans(tmp_path, "sum", SUM, 3), plans(tmp_path, "product", PRODUCT, 3)
        agreements: list[list[Agreement]] = [[], [], []]
        async with room(3, first[0], first) as place:
            several = Several(place)
            for number in place.numbers:
                several.computes(number, second[number], second[number])

                async def consent(agreement: Agreement, number: int = number) -> bool:
                    agreements[number].append(agreement)
                    return True

                place.persons[number].consent = consent
            start(place)
            for ending in await place.endings():
                assert isinstance(ending, SessionResult), ending
        assert answers(tmp_path / "sum", 3) == [(3, 1, number, 111) for number in range(3)]
        assert answers(tmp_path / "product", 3) == [(3, 1, number, 24) for number in range(3)]
        sessions = {tuple(result.session for result in results) for results in several.results.values()}
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


# -- parties that leave


@HOSTED_FIRST
def test_the_others_go_on_without_a_party_that_left_on_terms_of_their_own(tmp_path: Path, start: Start) -> None:
    async def main() -> None:
        first, second = plans(tmp_path, "quick", QUICK, 4), plans(tmp_path, "sum", SUM, 4)
        async with room(4, first[0], first) as place:
            several = Several(place)
            several.computes(1)
            stayed = [0, 2, 3]
            for number in stayed:
                several.computes(number, hears(place.persons[number], Left), second[number])
            start(place)
            for ending in await place.endings():
                assert isinstance(ending, SessionResult), ending
            for new, old in enumerate(stayed):
                person = place.persons[old]
                assert person.heard(Left)[0] == Left(1)
                before, after = person.heard(RosterKnown)
                assert (before.own_number, after.own_number) == (old, new)
                assert after.addresses == tuple(place.onions[number] for number in stayed)
                # MPyC's number of parties, threshold and own number are those of the second computation.
                assert (tmp_path / "sum" / f"answer{old}").read_text() == repr((3, 1, new, 111))

    run(main())


@pytest.mark.usefixtures("instant")
@STARTS
def test_without_enough_parties_for_privacy_the_session_ends_for_all(tmp_path: Path, start: Start) -> None:
    async def main() -> None:
        first = plans(tmp_path, "quick", QUICK, 3)
        async with room(3, first[0], first) as place:
            several = Several(place)
            several.computes(2)
            for number in (0, 1):
                several.computes(number, hears(place.persons[number], Left), first[number])
            start(place)
            *others, leaver = await place.endings()
            assert isinstance(leaver, SessionResult)
            assert {type(other).__name__ for other in others} <= {"UnsafeSetting", "SessionOver"}
            assert type(others[0]).__name__ == "UnsafeSetting"

    run(main())


@pytest.mark.usefixtures("instant")
def test_when_the_host_leaves_the_session_is_over_for_joiners_that_wait(tmp_path: Path) -> None:
    async def main() -> None:
        first = plans(tmp_path, "quick", QUICK, 3)
        async with room(3, first[0], first) as place:
            several = Several(place)
            for number in (1, 2):
                several.computes(number, first[number])
            place.start_hosted()
            host, *joiners = await place.endings()
            assert isinstance(host, SessionResult)
            for number, joiner in enumerate(joiners, 1):
                assert isinstance(joiner, SessionOver)
                assert joiner.message == "the host has left, so there is no further computation"
                assert Left(0) in place.persons[number].heard(Left)

    run(main())


@pytest.mark.usefixtures("instant")
def test_when_all_others_have_left_nobody_can_go_on(tmp_path: Path) -> None:
    async def main() -> None:
        first = plans(tmp_path, "quick", QUICK, 3)
        async with room(3, first[0], first) as place:
            several = Several(place)
            several.computes(0, hears(place.persons[0], Left, 2), first[0])
            place.start_listed()
            alone, *others = await place.endings()
            assert isinstance(alone, SessionOver)
            assert alone.message == "the other parties have left, so there is no further computation"
            assert all(isinstance(other, SessionResult) for other in others)

    run(main())


@pytest.mark.usefixtures("instant")
@STARTS
def test_leaving_crosses_a_proposal(tmp_path: Path, start: Start) -> None:
    async def main() -> None:
        first = plans(tmp_path, "quick", QUICK, 4, timings=replace(HASTY, farewell_s=1.0))
        async with room(4, first[0], first) as place:
            several = Several(place)
            # Party 3 leaves, and only party 2 knows it yet: the others' links to it are down.
            is_parted = asyncio.Event()

            async def part(_session: Session) -> None:
                for number in (0, 1):
                    await place.part(number, 3)
                is_parted.set()

            async def wait_until_parted(_session: Session) -> None:
                await is_parted.wait()

            several.computes(0, part, first[0])
            several.computes(1, wait_until_parted, first[1])
            several.computes(2, hears(place.persons[2], Left), first[2])
            several.computes(3, wait_until_parted)
            start(place)
            *others, leaver = await place.endings()
            assert isinstance(leaver, SessionResult)
            assert {type(other) for other in others} == {PeerLeft}
            assert same_sentence(others) == "party 2 says that party 3 left while the parties agreed"
            assert all(len(results) == 1 for results in several.results.values())

    run(main())


@pytest.mark.usefixtures("instant")
@STARTS
def test_a_party_that_is_interrupted_between_computations_leaves(tmp_path: Path, start: Start) -> None:
    async def main() -> None:
        first = plans(tmp_path, "quick", QUICK, 4)
        async with room(4, first[0], first) as place:
            several = Several(place)

            several.computes(3, for_ever)
            for number in range(3):
                several.computes(number, hears(place.persons[number], Left), first[number])
            start(place)
            await several.gets(3, 1)
            place.tasks[3].cancel()
            endings = [await place.tasks[number] for number in range(3)]
            assert all(isinstance(ending, SessionResult) for ending in endings), endings
            assert all(len(several.results[number]) == 2 for number in range(3))

    run(main())


@pytest.mark.usefixtures("instant")
def test_a_joiner_that_is_interrupted_while_it_waits_for_the_host_leaves(tmp_path: Path) -> None:
    async def main() -> None:
        first = plans(tmp_path, "quick", QUICK, 4)
        async with room(4, first[0], first) as place:
            several = Several(place)
            several.computes(0, hears(place.persons[0], Left), first[0])
            for number in (1, 2, 3):
                several.computes(number, first[number])
            place.start_hosted()
            await several.gets(3, 1)
            place.tasks[3].cancel()
            endings = [await place.tasks[number] for number in range(3)]
            assert all(isinstance(ending, SessionResult) for ending in endings), endings

    run(main())


# -- links


@pytest.mark.usefixtures("instant")
def test_links_that_break_between_computations_resume(tmp_path: Path) -> None:
    async def main() -> None:
        first, second = plans(tmp_path, "quick", QUICK, 3), plans(tmp_path, "sum", SUM, 3)
        async with room(3, first[0], first) as place:
            several = Several(place)

            async def cut(_session: Session) -> None:
                await place.networks[0].cut_all()

            several.computes(0, cut, second[0])
            for number in (1, 2):
                several.computes(number, second[number])
            place.start_hosted()
            assert all(isinstance(ending, SessionResult) for ending in await place.endings())
            assert all(link.gaps >= 1 for link in several.results[0][1].links.values())

    run(main())


def test_links_that_break_within_the_second_computation_resume(tmp_path: Path) -> None:
    async def main() -> None:
        first, second = plans(tmp_path, "quick", QUICK, 3), plans(tmp_path, "sum", SUM, 3)
        async with room(3, first[0], first) as place:
            several = Several(place)
            asked = 0

            async def cut(_agreement: Agreement) -> bool:
                nonlocal asked
                asked += 1
                if asked == 2:
                    await place.networks[0].cut_all()
                    await place.persons[0].hears(LinkResumed, 2)
                return True

            place.persons[0].consent = cut
            for number in place.numbers:
                several.computes(number, second[number])
            place.start_listed()
            assert all(isinstance(ending, SessionResult) for ending in await place.endings())
        assert [answer[-1] for answer in answers(tmp_path / "sum", 3)] == [111] * 3

    run(main())


@pytest.mark.usefixtures("instant")
def test_a_party_that_is_gone_for_good_between_computations_counts_as_left_when_patience_ends(tmp_path: Path) -> None:
    async def main() -> None:
        first = plans(tmp_path, "quick", QUICK, 4, timings=HASTY, patience_s=0.5)
        async with room(4, first[0], first) as place:
            several = Several(place)

            async def gone(_session: Session) -> None:
                await place.networks[3].kill()

            several.computes(3, gone, for_ever)
            for number in range(3):
                several.computes(number, hears(place.persons[number], Left), first[number])
            place.start_hosted()
            endings = [await place.tasks[number] for number in range(3)]
            assert all(isinstance(ending, SessionResult) for ending in endings), endings
            assert all(person.heard(Left)[0] == Left(3) for person in place.persons[:3])

    run(main())


@pytest.mark.usefixtures("instant")
def test_a_party_that_is_gone_for_good_when_the_next_computation_begins_ends_it(tmp_path: Path) -> None:
    async def main() -> None:
        first = plans(tmp_path, "quick", QUICK, 4, timings=HASTY, patience_s=0.5)
        async with room(4, first[0], first) as place:
            several = Several(place)
            is_gone = asyncio.Event()

            async def gone(_session: Session) -> None:
                await place.networks[3].kill()
                is_gone.set()
                await asyncio.get_running_loop().create_future()

            async def wait(_session: Session) -> None:
                await is_gone.wait()

            several.computes(3, gone)
            for number in range(3):
                several.computes(number, wait, first[number])
            place.start_listed()
            endings = [await place.tasks[number] for number in range(3)]
            assert {type(ending) for ending in endings} == {LinkExpired}
            assert "party 3 is lost" in same_sentence(endings)

    run(main())


# -- a second computation that fails


@pytest.mark.usefixtures("instant")
def test_a_user_that_declines_the_second_computation_ends_it_for_all(tmp_path: Path) -> None:
    async def main() -> None:
        first = plans(tmp_path, "quick", QUICK, 3, timings=HASTY)
        async with room(3, first[0], first) as place:
            several = Several(place)
            answers_of = iter([True, False])

            async def once(_agreement: Agreement) -> bool:
                return next(answers_of)

            place.persons[1].consent = once
            for number in place.numbers:
                several.computes(number, first[number])
            place.start_hosted()
            endings = await place.endings()
            assert {type(ending) for ending in endings} == {AgreementError}
            assert same_sentence(endings) == "party 1 did not agree: its user declined"
            assert all(len(results) == 1 for results in several.results.values())

    run(main())


def test_a_program_that_fails_in_the_second_computation_leaves_the_first_result(tmp_path: Path) -> None:
    async def main() -> None:
        first, second = plans(tmp_path, "quick", QUICK, 3, timings=HASTY), plans(tmp_path, "fail", FAIL, 3)
        async with room(3, first[0], first) as place:
            several = Several(place)
            for number in place.numbers:
                several.computes(number, second[number])
            place.start_listed()
            endings = await place.endings()
            assert {type(ending) for ending in endings} == {ProgramError}
            # It fails at all, so any of them may be the first.
            assert re.match("the program failed at party [012] while the program ran", same_sentence(endings))
            assert all(len(results) == 1 for results in several.results.values())

    run(main())


@pytest.mark.usefixtures("instant")
def test_a_joiner_that_does_not_have_the_next_program_objects_and_all_learn_why(tmp_path: Path) -> None:
    async def main() -> None:
        first, second = plans(tmp_path, "quick", QUICK, 3, timings=HASTY), plans(tmp_path, "other", QUICK, 3)
        async with room(3, first[0], first) as place:
            several = Several(place)
            several.computes(0, second[0])
            several.computes(1, second[1])
            several.computes(2, first[2])
            place.start_hosted()
            endings = await place.endings()
            assert {(type(ending), ending.exit_code) for ending in endings if isinstance(ending, AgreementError)} == {
                (AgreementError, AgreementError.exit_code)
            }
            sentence = same_sentence(endings)
            assert "party 2 did not agree: the program other does not come with this onionmpc" in sentence

    run(main())


@pytest.mark.usefixtures("instant")
def test_another_file_under_the_name_of_the_next_program_is_a_difference(tmp_path: Path) -> None:
    async def main() -> None:
        first, second = plans(tmp_path, "quick", QUICK, 3, timings=HASTY), plans(tmp_path, "other", QUICK, 3)
        (tmp_path / "mine").mkdir()
        mine = plans(tmp_path / "mine", "other", FAIL, 3)
        async with room(3, first[0], first) as place:
            several = Several(place)
            for number in place.numbers:
                several.computes(number, (mine if number == 2 else second)[number])
            place.start_hosted()
            endings = await place.endings()
            assert {type(ending) for ending in endings} == {AgreementError}
            assert "program file other.py differs" in same_sentence(endings)

    run(main())


@pytest.mark.usefixtures("instant")
@STARTS
def test_a_party_that_is_interrupted_in_the_second_computation_ends_it_for_all(tmp_path: Path, start: Start) -> None:
    async def main() -> None:
        first = plans(tmp_path, "quick", QUICK, 3, timings=HASTY)
        async with room(3, first[0], first) as place:
            several = Several(place)
            asked = asyncio.Semaphore(0)

            async def consent(_agreement: Agreement) -> bool:
                asked.release()
                if len(several.results[2]) == 1:
                    await asyncio.get_running_loop().create_future()
                return True

            place.persons[2].consent = consent
            for number in place.numbers:
                several.computes(number, first[number])
            start(place)
            for _ in range(2):
                await asked.acquire()
            place.tasks[2].cancel()
            endings = [await place.tasks[number] for number in range(2)]
            assert {type(ending) for ending in endings} == {PeerLeft}
            assert same_sentence(endings) == "party 2 left while the parties agreed"

    run(main())


def test_a_party_that_is_left_out_while_its_links_stay_up_receives_nothing_of_what_the_others_compute(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        first, second = plans(tmp_path, "quick", QUICK, 4), plans(tmp_path, "sum", SUM, 4)
        received: list[Event] = []

        async def leave_party_0_alone(session: Session) -> None:
            dispatcher = session._dispatcher
            link_event = dispatcher.link_event

            def note(party: int, event: Event) -> None:
                if isinstance(event, ControlBytes | ProgramBytes | EpochEnd | ProgramEnd):
                    received.append(event)
                link_event(party, event)

            dispatcher.link_event = note  # type: ignore[method-assign]
            (party_0,) = (peer for peer in peers_of(session) if peer.number == 0)
            party_0.send(Leaving())

        async with room(4, first[0], first) as place:
            several = Several(place)
            everyone_is_done = asyncio.Barrier(4)

            async def all_done(_session: Session) -> None:
                await everyone_is_done.wait()

            several.computes(0, all_done, hears(place.persons[0], Left), second[0])
            for number in (1, 2):  # to which party 3 is still there
                several.computes(number, all_done, hears(place.persons[number], Proposed), second[number])
            several.computes(3, all_done, leave_party_0_alone, all_gone)
            place.start_listed()
            for ending in await place.endings():
                assert isinstance(ending, SessionResult), ending
        for number in range(3):
            assert (tmp_path / "sum" / f"answer{number}").read_text() == repr((3, 1, number, 111))
        assert received == []

    run(main())


# -- receipts


@pytest.mark.usefixtures("instant")
@pytest.mark.parametrize("flaw", ["not written", "a wrong signature"])
def test_a_computation_after_a_flawed_receipt_has_a_good_one(
    tmp_path: Path, flaw: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed: list[Onion] = []

    def sign_badly_at_first(identity: Identity, agreement: Agreement, opening: Opening) -> Receipt:
        signed.append(identity.onion)
        again = signed.count(identity.onion) > 1
        return sign(identity if again or flaw == "not written" else Identity(bytes(32)), agreement, opening)

    monkeypatch.setattr(signing, "sign", sign_badly_at_first)

    async def main() -> None:
        first, second = plans(tmp_path, "quick", QUICK + "print(1)\n", 3), plans(tmp_path, "sum", SUM, 3)
        folder = tmp_path / "no such folder" if flaw == "not written" else tmp_path
        first = {number: replace(plan, receipt=folder / f"first{number}") for number, plan in first.items()}
        second = {number: replace(plan, receipt=tmp_path / f"second{number}") for number, plan in second.items()}
        async with room(3, first[0], first) as place:
            several = Several(place)
            for number in place.numbers:
                several.computes(number, second[number])
            place.start_listed()
            endings = await place.endings()
            assert all(isinstance(ending, SessionResult) for ending in endings), endings
        kind = SystemRefused if flaw == "not written" else RemoteProtocolError
        for number, (flawed, good) in several.results.items():
            assert type(flawed.receipt_flaw) is kind
            assert good.receipt_flaw is None
            assert len(decode_receipt((tmp_path / f"second{number}").read_bytes()).signatures) == 3

    run(main())


@pytest.mark.usefixtures("instant")
def test_each_computation_has_a_receipt_of_its_own(tmp_path: Path) -> None:
    async def main() -> None:
        first, second = plans(tmp_path, "quick", QUICK + "print(1)\n", 3), plans(tmp_path, "sum", SUM, 3)
        first = {number: replace(plan, receipt=tmp_path / f"first{number}") for number, plan in first.items()}
        second = {number: replace(plan, receipt=tmp_path / f"second{number}") for number, plan in second.items()}
        async with room(3, first[0], first) as place:
            several = Several(place)
            for number in place.numbers:
                several.computes(number, second[number])
            place.start_hosted()
            endings = await place.endings()
            assert all(isinstance(ending, SessionResult) for ending in endings), endings
        for number, results in several.results.items():
            receipts = [decode_receipt((tmp_path / f"{name}{number}").read_bytes()) for name in ("first", "second")]
            assert [result.receipt for result in results] == receipts
            assert all(len(receipt.signatures) == 3 for receipt in receipts)
            one, other = (receipt.opening for receipt in receipts)
            assert one is not None
            assert other is not None
            assert one.salt != other.salt
            assert receipts[0].agreement.nonces != receipts[1].agreement.nonces
            assert results[0].session != results[1].session

    run(main())
