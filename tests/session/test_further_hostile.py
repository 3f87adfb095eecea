"""Peers that break the rules between two computations and in the second: the others name them, or go on without."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from onionmpc.errors import AgreementError, PeerLeft, RemoteProtocolError
from onionmpc.levels import Level
from onionmpc.session.agreement import SharedTerms
from onionmpc.session.computation import SessionResult
from onionmpc.session.events import Left, Trouble
from onionmpc.session.messages import Commit, Done, Further, Leaving, Offer, Signed, Waiting
from onionmpc.session.session import Session
from tests.support.further import QUICK, Several, Step, all_gone, hears, peers_of, plans, says
from tests.support.messages import EXAMPLES
from tests.support.session import HASTY, room, run, same_sentence

pytestmark = pytest.mark.usefixtures("instant")
HOSTILE = 2
WAITING = next(message for message in EXAMPLES if isinstance(message, Waiting))
Change = Callable[[SharedTerms], SharedTerms]


def changed(**terms: Any) -> Change:
    return lambda common: msgspec.structs.replace(common, **terms)


def offer_of(session: Session, *, of: int | None = None, change: Change = lambda common: common) -> Offer:
    """An offer of this party's for a further computation, on the terms of its last one, proposed by party `of`."""
    own = session._own
    return Offer(change(own.shared), own.terms, Further(own.roster[own.number if of is None else of], "5a" * 16))


def offers(**named: Any) -> Step:
    return says(lambda session: offer_of(session, **named))


async def flood(session: Session) -> None:
    """Propose, and then send what would have to wait, a little at a time: the link has a window."""
    await offers(of=0)(session)
    for peer in peers_of(session):
        while peer.alive:
            peer.runner.send_control(bytes(2**18))
            await peer.runner._room.freed.until(lambda peer=peer: not peer.alive or peer.runner.link.flushed())


async def data(session: Session) -> None:
    for peer in peers_of(session):
        peer.runner.link.send_data(b"a share")
        peer.runner._sender.wake()


async def an_end(session: Session) -> None:
    for peer in peers_of(session):
        await peer.runner.end_data(last=True)


def with_roster(terms: SharedTerms, *, add: str = "", leave_out: Any = (), backwards: bool = False) -> SharedTerms:
    addresses = [onion for number, onion in enumerate(terms.addresses) if number not in leave_out]
    addresses = sorted([*addresses, *([add] if add else [])], reverse=backwards)
    return msgspec.structs.replace(terms, addresses=tuple(addresses))


# -- between two computations

BETWEEN: dict[str, tuple[Step, str]] = {
    "first offer again": (says(lambda session: Offer(session._own.shared, session._own.terms)), "another computation"),
    "commit": (says(Commit("00" * 32)), "it sent Commit when that was not expected"),
    "done": (says(Done()), "it sent Done when that was not expected"),
    "signed": (says(Signed("00" * 32, "00" * 64)), "it sent Signed when that was not expected"),
    "waiting": (says(WAITING), "it sent Waiting when that was not expected"),
    "nonsense": (says(b"\x00\x00\x00\x01{"), "cannot be decoded"),
    "after leaving": (says(Leaving(), Commit("00" * 32)), "it sent Commit when that was not expected"),
    "data": (data, "it sent bytes of the program before the agreement"),
    "end": (an_end, "it sent bytes of the program before the agreement"),
    "a flood ahead": (flood, "bytes for the next computation"),
    "strangers": (offers(change=lambda terms: with_roster(terms, add="z" * 56 + ".onion")), "of another session"),
    "unsorted": (offers(change=lambda terms: with_roster(terms, backwards=True)), "not in order"),
    "twice": (offers(change=lambda terms: with_roster(terms, add=terms.addresses[-1])), "not in order"),
    "without us": (offers(change=lambda terms: with_roster(terms, leave_out=[0, 1, 3])), "without itself, or without"),
    "without itself": (offers(change=lambda terms: with_roster(terms, leave_out=[HOSTILE])), "without itself, or"),
    "threshold": (offers(change=changed(threshold=2)), "it proposed threshold 2 with 4 parties"),
    "below zero": (offers(change=changed(threshold=-1)), "it proposed threshold -1 with 4 parties"),
}
OFTEN = ("commit", "nonsense", "data", "strangers", "without us", "threshold")


@pytest.mark.parametrize(
    "what", [pytest.param(what, marks=[] if what in OFTEN else pytest.mark.weekly) for what in BETWEEN], ids=str
)
def test_the_others_go_on_without_a_party_that_breaks_the_rules_between_computations(tmp_path: Path, what: str) -> None:
    step, said = BETWEEN[what]

    async def main() -> None:
        first = plans(tmp_path, "quick", QUICK, 4)
        async with room(4, first[0], first) as place:
            several = Several(place)
            ready = [asyncio.Event() for _ in place.numbers]

            def is_ready(number: int) -> Step:
                async def note(_session: Session) -> None:
                    ready[number].set()

                return note

            async def all_ready(_session: Session) -> None:
                for event in ready:
                    await event.wait()

            several.computes(HOSTILE, is_ready(HOSTILE), all_ready, step, all_gone)
            honest = [number for number in place.numbers if number != HOSTILE]
            for number in honest:
                several.computes(number, is_ready(number), hears(place.persons[number], Left), first[number])
            place.start_listed()
            endings = [await place.tasks[number] for number in honest]
            assert all(isinstance(ending, SessionResult) for ending in endings), endings
            for number in honest:
                person = place.persons[number]
                assert Left(HOSTILE) in person.heard(Left)
                if what != "after leaving":
                    (trouble,) = person.heard(Trouble)
                    assert f"party {HOSTILE} broke the rules: " in trouble.what
                    assert said in trouble.what

    run(main())


def test_a_joiner_that_proposes_breaks_the_rules(tmp_path: Path) -> None:
    async def main() -> None:
        first = plans(tmp_path, "quick", QUICK, 4)
        async with room(4, first[0], first) as place:
            several = Several(place)
            several.computes(HOSTILE, offers(), all_gone)
            honest = [number for number in place.numbers if number != HOSTILE]
            for number in honest:
                several.computes(number, hears(place.persons[number], Left), first[number])
            place.start_hosted()
            endings = [await place.tasks[number] for number in honest]
            assert all(isinstance(ending, SessionResult) for ending in endings), endings
            for number in honest:
                (trouble,) = place.persons[number].heard(Trouble)
                assert trouble.what.endswith("it offered terms that the host did not propose")

    run(main())


# -- in the second computation


def with_level(offer: Offer, level: Level) -> Offer:
    return msgspec.structs.replace(offer, own=msgspec.structs.replace(offer.own, circuit_length=level))


async def proposed(session: Session) -> None:
    await session._proposal()


async def commits_again(session: Session) -> None:
    for peer in peers_of(session):
        assert peer.session.commit is not None
        peer.send(peer.session.commit)


SECOND: dict[str, tuple[list[Step], type[Exception], str]] = {
    "the first commit again": (
        [offers(of=0), commits_again],
        AgreementError,
        "do not agree: it committed to another session",
    ),
    "commit before offer": ([says(Commit("00" * 32))], RemoteProtocolError, "it sent Commit when that was not exp"),
    "an offer of the first": (
        [says(lambda session: Offer(session._own.shared, session._own.terms))],
        RemoteProtocolError,
        "it sent an offer of another computation",
    ),
    "data before commit": ([offers(of=0), data], RemoteProtocolError, "before the agreement"),
    "leaving before it offers": ([says(Leaving())], PeerLeft, "left while the parties agreed"),
    "leaving after its offer": (
        [offers(of=0), says(Leaving())],
        RemoteProtocolError,
        "it sent Leaving when that was not expected",
    ),
    "a proposal of its own": ([offers()], RemoteProtocolError, "it offered terms that the host did not propose"),
    "the same offer again": (
        [offers(of=0), offers(of=0)],
        RemoteProtocolError,
        "but not those of a lower party",
    ),
    "another padding rate": (
        [offers(of=0, change=changed(padding_rate=7))],
        AgreementError,
        "padding rate differs",
    ),
    "another circuit length": (
        [says(lambda session: with_level(offer_of(session, of=0), Level.LONG))],
        AgreementError,
        "it changed its circuit length within the session",
    ),
    "a receipt": ([offers(of=0, change=changed(receipt=True))], AgreementError, "receipt differs"),
    "evidence without its digest": (
        [says(lambda session: msgspec.structs.replace(offer_of(session, of=0), evidence=("anything",)))],
        RemoteProtocolError,
        "it showed other evidence than its terms say",
    ),
    "an uninvited party": (
        [offers(of=0, change=lambda terms: terms.seating(terms.addresses[1:2]))],
        AgreementError,
        "uninvited parties differs",
    ),
    "more circuits": ([offers(of=0, change=changed(circuits=7))], AgreementError, "circuits per link differs"),
}
OFTEN_SECOND = (
    "evidence without its digest",
    "the first commit again",
    "data before commit",
    "leaving before it offers",
    "the same offer again",
)


@pytest.mark.parametrize(
    "what", [pytest.param(what, marks=[] if what in OFTEN_SECOND else pytest.mark.weekly) for what in SECOND], ids=str
)
def test_a_party_that_breaks_the_rules_in_the_second_computation_is_named_by_all(tmp_path: Path, what: str) -> None:
    steps, kind, said = SECOND[what]

    async def main() -> None:
        first = plans(tmp_path, "quick", QUICK, 3, timings=HASTY)
        async with room(3, first[0], first) as place:
            several = Several(place)
            for number in (0, 1):
                several.computes(number, first[number])

            several.computes(HOSTILE, proposed, *steps, all_gone)
            place.start_hosted()
            endings = [await place.tasks[number] for number in (0, 1)]
            assert {type(ending) for ending in endings} == {kind}
            assert said in same_sentence(endings)
            assert f"party {HOSTILE}" in same_sentence(endings)
            assert all(len(several.results[number]) == 1 for number in (0, 1))

    run(main())
