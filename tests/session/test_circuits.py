"""Links over several circuits: their number is agreed, each party sets a limit, and the best circuit is shown."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from onionmpc.identity import Onion
from onionmpc.levels import Level
from onionmpc.mesh.network import OwnPath, Stream
from onionmpc.mesh.runner import LinkRunner
from onionmpc.session.agreement import Agreement
from onionmpc.session.computation import SessionResult
from onionmpc.session.events import DialRetry, LinkMeasured
from onionmpc.session.local import Plan, max_circuits
from onionmpc.session.messages import AnyMessage, Offer, OwnSide, Rendezvous, encode_message
from tests.support.direct import DirectNetwork
from tests.support.session import (
    Hostile,
    Person,
    Room,
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
    async with mpc:
        answer(int(await mpc.output(mpc.sum(mpc.input(mpc.SecInt(32)(mpc.pid))))))
mpc.run(main())
"""


def raced(person: Person) -> dict[int, int]:
    """The number of circuits that raced for each link, as far as events report it."""
    return {event.party: event.raced for event in person.heard(LinkMeasured)}


def after_races(person: Person, expected: dict[int, int]) -> Callable[[Agreement], Awaitable[bool]]:
    """Consents once the races are over."""

    async def consent(_agreement: Agreement) -> bool:
        while raced(person) != expected:
            await person.hears(LinkMeasured, len(person.heard(LinkMeasured)) + 1)
        return True

    return consent


async def compute(place: Room, expected: dict[int, dict[int, int]]) -> list[SessionResult]:
    """Let a host compute with the others; wait until the races are as expected, and check that all end well."""
    for number, of_links in expected.items():
        place.persons[number].consent = after_races(place.persons[number], of_links)
    place.start_hosted()
    results = []
    for number, ending in enumerate(await place.endings()):
        assert isinstance(ending, SessionResult)
        assert {peer: link.raced for peer, link in ending.links.items()} == expected[number]
        results.append(ending)
    return results


def plans(tmp_path: Path, *circuits: int | None) -> tuple[Plan, dict[int, Plan]]:
    """Return a plan for each party, with the number of circuits that it wants."""
    plan = listed_plan(write_script(tmp_path / "sum.py", SUM))
    each = give_answer_files(plan, tmp_path, len(circuits))
    return plan, {number: replace(each[number], circuits=wanted) for number, wanted in enumerate(circuits)}


def test_links_are_raced_over_three_circuits_by_default(tmp_path: Path) -> None:
    plan, each = plans(tmp_path, None, None, None)

    async def main() -> None:
        async with room(3, plan, each) as place:
            results = await compute(place, {0: {1: 3, 2: 3}, 1: {0: 3, 2: 3}, 2: {0: 3, 1: 3}})
            assert [own.max_circuits for own in results[0].own] == [3, 3, 3]

    run(main())
    assert answers(tmp_path, 3) == [(3,)] * 3


def test_each_link_has_as_many_circuits_as_both_its_parties_allow(tmp_path: Path) -> None:
    # The joiners go along with the eight of the host: one wants them too, and one is at long and did not ask for any.
    plan, each = plans(tmp_path, 8, 8, None, None)

    async def main() -> None:
        async with room(4, plan, each) as place:
            place.set_level(2, Level.LONG)
            results = await compute(
                place,
                {0: {1: 8, 2: 1, 3: 3}, 1: {0: 8, 2: 1, 3: 3}, 2: dict.fromkeys((0, 1, 3), 1), 3: {0: 3, 1: 3, 2: 1}},
            )
            assert [own.max_circuits for own in results[2].own] == [8, 8, 1, 3]

    run(main())
    assert answers(tmp_path, 4) == [(6,)] * 4


def test_a_party_at_long_that_asks_for_races_has_them(tmp_path: Path) -> None:
    plan, _ = plans(tmp_path, None)
    assert [max_circuits(plan, level) for level in (Level.SHORT, Level.STANDARD, Level.LONG)] == [3, 3, 1]
    assert max_circuits(replace(plan, circuits=2), Level.LONG) == 2


def test_padded_links_are_not_raced(tmp_path: Path) -> None:
    plan, each = plans(tmp_path, None, None)
    plan = replace(plan, allow_no_privacy=True)
    each = {n: replace(own, padding=200, padding_bucket_s=0.1, allow_no_privacy=True) for n, own in each.items()}

    async def main() -> None:
        async with room(2, plan, each) as place:
            await compute(place, {0: {1: 1}, 1: {0: 1}})
            # To gather, and for the link; again where the host answered that it was not so far yet.
            retries = [retry for person in place.persons for retry in person.heard(DialRetry)]
            dials = 2 + sum("answered" in retry.reason for retry in retries)
            assert sum(len(network._dialled) for network in place.networks) == dials

    run(main())


def test_a_link_is_described_by_its_fastest_circuit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dial, dialled = DirectNetwork.dial, 0

    async def dial_with_path(network: DirectNetwork, onion: Onion, timeout_s: float) -> Stream:
        # Circuit n, from 1: n relays on the dialler's side, and n + 3 on the listener's.
        nonlocal dialled
        dialled += 1
        number = (dialled - 1) % 3 + 1
        return replace(await dial(network, onion, timeout_s), path=OwnPath(number, str(number) * 40))

    async def accepted_path(_network: DirectNetwork, rendezvous: str) -> OwnPath:
        return OwnPath(int(rendezvous[0]) + 3, rendezvous)

    monkeypatch.setattr(DirectNetwork, "dial", dial_with_path)
    monkeypatch.setattr(DirectNetwork, "accepted_path", accepted_path)
    plan, each = plans(tmp_path, None, None)
    plan = replace(plan, allow_no_privacy=True)
    each = {number: replace(own, allow_no_privacy=True) for number, own in each.items()}

    async def main() -> None:
        async with room(2, plan, each) as place:
            first, second = await compute(place, {0: {1: 3}, 1: {0: 3}})
            ours, theirs = first.links[1], second.links[0]
            # On local sockets two circuits may be equally fast, and each side choose another; its own two halves fit.
            for link in (ours, theirs):
                assert link.own_relays is not None
                assert link.claimed_relays is not None
                assert abs(link.own_relays - link.claimed_relays) == 3
            # In the end, and not whenever something was known of some circuit.
            for person in place.persons:
                told = [event for event in person.heard(LinkMeasured) if event.claimed_relays and event.raced == 1]
                assert len(told) <= 1

    run(main())


def test_a_peer_can_describe_each_stream_once_and_no_unknown_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def accepted_path(_network: DirectNetwork, rendezvous: str) -> None:
        asked.append(rendezvous)

    monkeypatch.setattr(DirectNetwork, "accepted_path", accepted_path)
    plan, _ = plans(tmp_path, None)
    plan = replace(plan, circuits=1, allow_no_privacy=True)

    async def main() -> None:
        consented = asyncio.Event()

        async def consent(_agreement: Agreement) -> bool:
            consented.set()
            return True

        async with room(2, plan) as place:
            place.persons[1].consent = consent
            # The lower party: it dials.
            hostile = Hostile(place, 0, place.party(0).full_list(place.others(0)))

            def answer(_party: int, runner: LinkRunner, message: AnyMessage) -> None:
                if isinstance(message, Offer):
                    (stream,) = runner.link.ranking()
                    words: list[AnyMessage] = [
                        Rendezvous(stream, "A" * 40),
                        Rendezvous(stream, "B" * 40),
                        Rendezvous(stream + 1, "C" * 40),
                    ]
                    claims = [OwnSide(stream, 5), OwnSide(stream, 7), OwnSide(stream + 1, 8)]
                    for said in (*words, *claims):
                        runner.send_control(encode_message(said))
                    runner.send_control(hostile.offer())

            hostile.on_message = answer
            async with hostile.there():
                place.start_listed([1])
                person = place.persons[1]
                while not any(event.claimed_relays for event in person.heard(LinkMeasured)):
                    await person.hears(LinkMeasured, len(person.heard(LinkMeasured)) + 1)
                await consented.wait()
            assert {event.claimed_relays for event in person.heard(LinkMeasured)} <= {None, 5}
            assert asked == ["A" * 40]

    run(main())
