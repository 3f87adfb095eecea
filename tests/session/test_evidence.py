"""What parties show of who they are reaches each other party, in the same words, and the agreement holds its digest."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from onionmpc.errors import AgreementError, OnionMPCError
from onionmpc.names.evidence import evidence_digest
from onionmpc.session.computation import SessionResult
from onionmpc.session.receipt import encode_receipt
from tests.support.further import QUICK, Several, plans
from tests.support.session import HASTY, Room, room, run, same_sentence

EVIDENCE = {1: ("one text\nof two lines",), 2: ("first", "second", "", "~" * 16384)}


def digest(pieces: tuple[str, ...]) -> str:
    # PROTOCOL 4, by other means.
    parts = b"".join(len(piece).to_bytes(4) + piece.encode() for piece in pieces)
    return hashlib.sha256(b"onionmpc/1 evidence" + parts).hexdigest()


def test_the_digest_is_that_of_the_protocol() -> None:
    assert evidence_digest(EVIDENCE[2]).hex() == digest(EVIDENCE[2])
    assert evidence_digest(("ab", "c")) != evidence_digest(("a", "bc"))


@pytest.mark.usefixtures("instant")
def test_all_parties_see_the_evidence_of_each_in_every_computation_and_agree_on_its_digest(tmp_path: Path) -> None:
    async def main() -> None:
        first = plans(tmp_path, "quick", QUICK, 3)
        shown = {number: replace(plan, evidence=EVIDENCE.get(number, ())) for number, plan in first.items()}
        async with room(3, first[0], shown) as place:
            several = Several(place)
            for number in place.numbers:
                several.computes(number, first[number])
            place.start_listed()
            assert all(isinstance(ending, SessionResult) for ending in await place.endings())
            for person in place.persons:
                assert [question.evidence for question in person.asked] == [EVIDENCE, EVIDENCE]
                for question in person.asked:
                    own = question.agreement.own
                    assert own[0].evidence is msgspec.UNSET
                    assert [own[number].evidence for number in EVIDENCE] == [*map(digest, EVIDENCE.values())]
                    assert "one text" not in repr(question)

    run(main())


def test_a_receipt_holds_the_digest_and_no_text(tmp_path: Path) -> None:
    async def main() -> None:
        quick = plans(tmp_path, "quick", QUICK, 3)
        shown = {
            number: replace(plan, evidence=EVIDENCE.get(number, ()), receipt=tmp_path / f"receipt{number}")
            for number, plan in quick.items()
        }
        async with room(3, quick[0], shown) as place:
            place.start_listed()
            for ending in await place.endings():
                assert isinstance(ending, SessionResult)
                assert ending.receipt is not None
                content = encode_receipt(ending.receipt).decode()
                assert digest(EVIDENCE[1]) in content
                assert "one text" not in content

    run(main())


def hosted(place: Room, expected: list[int]) -> None:
    """Let party 0 host an open table that expects some, and the others join by its address."""
    host = place.party(0)
    place.host(0, host, host.open_seats(len(place.identities), [place.onions[n] for n in expected], is_open=True))
    for number in place.numbers[1:]:
        place.join(number, place.onions[0])


@pytest.mark.usefixtures("instant")
def test_the_agreement_names_those_that_anyone_could_have_been(tmp_path: Path) -> None:
    async def main() -> None:
        quick = plans(tmp_path, "quick", QUICK, 4)
        async with room(4, quick[0], quick) as place:
            several = Several(place)
            for number in place.numbers:
                several.computes(number, quick[number])
            hosted(place, expected=[2])
            assert all(isinstance(ending, SessionResult) for ending in await place.endings())
            for person in place.persons:
                strangers = [question.agreement.common.strangers for question in person.asked]
                assert strangers == [{place.onions[1], place.onions[3]}] * 2

    run(main())


def test_a_table_of_invites_and_a_full_list_have_no_uninvited_party(tmp_path: Path) -> None:
    async def main(*, listed: bool) -> None:
        quick = plans(tmp_path, f"quick{listed}", QUICK, 3)
        async with room(3, quick[0], quick) as place:
            place.start_listed() if listed else place.start_hosted()
            assert all(isinstance(ending, SessionResult) for ending in await place.endings())
            for person in place.persons:
                assert person.asked[0].agreement.common.uninvited is msgspec.UNSET

    run(main(listed=True))
    run(main(listed=False))


def test_a_host_cannot_call_an_uninvited_party_invited_in_a_further_computation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> list[SessionResult | OnionMPCError]:
        quick = plans(tmp_path, "quick", QUICK, 3, timings=HASTY)
        async with room(3, quick[0], quick) as place:
            several = Several(place)
            for number in place.numbers[1:]:
                several.computes(number, quick[number])

            async def forget(session: object) -> None:
                monkeypatch.setattr(session, "_uninvited", frozenset())

            several.computes(0, forget, quick[0])
            hosted(place, expected=[])
            return list(await place.endings())

    endings = run(main())
    assert {type(ending) for ending in endings} == {AgreementError}
    assert "the uninvited parties are not those of the first computation" in same_sentence(endings)
