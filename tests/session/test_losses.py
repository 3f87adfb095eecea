"""Parties that are lost, leave or fail: the others end, all with the same error."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from onionmpc.errors import LinkExpired, PeerLeft, UsageError
from onionmpc.identity import Onion
from onionmpc.mesh.mesh import Mesh
from onionmpc.mesh.network import Stream
from onionmpc.session.dispatch import Dispatcher
from onionmpc.session.messages import Report, encode_message
from onionmpc.session.timings import DEFAULT_TIMINGS
from tests.support.session import HASTY, Hostile, Room, listed_plan, room, run, same_sentence, write_script
from tests.support.stages import DURING, QUICK, STAGES, held_at, says, survivors, with_hostile


@pytest.mark.parametrize("stage", STAGES)
def test_a_party_whose_network_dies_is_lost_to_all_others(tmp_path: Path, stage: str) -> None:
    async def main() -> None:
        async with held_at(stage, tmp_path, patience_s=1.0, timings=HASTY) as place, asyncio.timeout(10):
            await place.networks[2].kill()
            endings = await survivors(place, 2)
            assert {type(ending) for ending in endings} == {LinkExpired}
            sentence = same_sentence(endings, [0] if stage == "connect" else [0, 1])
            assert sentence.startswith("party 2 is lost: no other party reaches it (party ")
            assert DURING["run" if stage == "finish" else stage] in sentence  # party 1's program ran still
            own = await place.tasks[2]
            assert isinstance(own, LinkExpired)
            assert "is lost: no other party reaches it (this party (party 2) lost it first" in own.message

    run(main())


@pytest.mark.parametrize("stage", ["agree", "run", "finish"])
def test_two_parties_whose_link_is_cut_lost_each_other(tmp_path: Path, stage: str) -> None:
    async def main() -> None:
        async with held_at(stage, tmp_path, patience_s=1.0, timings=HASTY) as place, asyncio.timeout(10):
            await place.part(0, 2)
            endings = await place.endings()
            assert {type(ending) for ending in endings} == {LinkExpired}
            sentence = same_sentence(endings)
            assert "party 0" in sentence
            assert "party 2" in sentence
            assert f"lost each other {DURING[stage]}" in sentence

    run(main())


@pytest.mark.parametrize("stage", STAGES)
def test_an_interrupted_party_has_left_as_the_others_report(tmp_path: Path, stage: str) -> None:
    async def main() -> None:
        async with held_at(stage, tmp_path, timings=HASTY) as place, asyncio.timeout(10):
            place.tasks[2].cancel()
            await asyncio.wait([place.tasks[2]])
            assert place.tasks[2].cancelled()
            endings = await survivors(place, 2)
            assert {type(ending) for ending in endings} == {PeerLeft}
            sentence = same_sentence(endings, [0] if stage == "connect" else [0, 1])
            assert sentence.startswith(f"party 2 left {DURING[stage]}")

    run(main())


# Issue 12. Whatever fails beside the steps of a session ends it with that error, and the others hear of it.


async def fail(*_: object) -> None:
    raise RuntimeError("a bug")


async def a_task_of_the_mesh(place: Room, mesh: Mesh) -> None:
    mesh._start(fail())


async def a_dial_in_the_wrong_words(place: Room, mesh: Mesh) -> None:
    async def dial(onion: Onion, timeout_s: float) -> Stream:
        raise UsageError("cannot write layers.json: No space left on device")

    place.networks[0].dial = dial  # type: ignore[method-assign]
    await place.networks[0].cut(place.onions[2])


async def sending(place: Room, mesh: Mesh) -> None:
    def transmit(number: int, now: float) -> bytes:
        raise RuntimeError("a bug")

    runner = mesh._links[2].runner
    runner.link.transmit = transmit  # type: ignore[method-assign]
    runner.ping()


async def an_alarm(place: Room, mesh: Mesh) -> None:
    def stale(now: float) -> list[int]:
        raise RuntimeError("a bug")

    runner = mesh._links[2].runner
    runner.link.stale = stale  # type: ignore[method-assign]
    runner._alarm.drop()
    runner._alarm.set_by(time.monotonic())


async def upkeep(place: Room, mesh: Mesh) -> None:
    mesh._links[2].reconnector._until_back = fail  # type: ignore[assignment, method-assign]
    await place.networks[0].cut(place.onions[2])


async def counting_a_circuit(place: Room, mesh: Mesh) -> None:
    place.networks[0].accepted_path = fail  # type: ignore[assignment, method-assign]
    dispatcher = mesh._observer
    assert isinstance(dispatcher, Dispatcher)
    peer = dispatcher._peers[1]
    dispatcher._background.start(dispatcher._find_own_half(peer, peer.ledger.fastest(None), "F" * 40))


@pytest.mark.parametrize(
    "what",
    [
        a_task_of_the_mesh,
        a_dial_in_the_wrong_words,
        sending,
        an_alarm,
        upkeep,
        counting_a_circuit,
    ],
)
def test_a_failed_background_task_ends_the_session_and_the_others_are_notified(
    tmp_path: Path, meshes: dict[int, Mesh], what: Callable[[Room, Mesh], Awaitable[None]]
) -> None:
    async def main() -> None:
        async with held_at("run", tmp_path, timings=HASTY) as place, asyncio.timeout(10):
            await what(place, meshes[0])
            (ending,) = await asyncio.gather(place.tasks[0], return_exceptions=True)
            assert str(ending) in ("a bug", "cannot write layers.json: No space left on device")
            endings = await survivors(place, 0)
            assert same_sentence(endings, [1, 2]).startswith("party 0 left while the program ran")

    run(main())


def test_a_party_that_left_is_not_waited_for_even_if_its_close_is_lost(tmp_path: Path) -> None:
    def leaving(hostile: Hostile) -> bytes:
        onion = hostile.mesh.roster[hostile.number]
        return hostile.offer() + encode_message(Report(onion, onion, "left", "agree"))

    async def main() -> None:
        began_s = time.monotonic()
        _, endings = await with_hostile(tmp_path, 2, says(leaving), DEFAULT_TIMINGS)
        assert time.monotonic() - began_s < DEFAULT_TIMINGS.probe_s
        assert {type(ending) for ending in endings} == {PeerLeft}

    run(main())


def test_a_party_that_never_connects_is_lost(tmp_path: Path) -> None:
    plan = listed_plan(write_script(tmp_path / "script.py", QUICK), wait_s=0.5, timings=HASTY)

    async def main() -> None:
        async with room(3, plan) as place:
            place.start_listed([0, 2])
            endings = await place.endings()
            assert {type(ending) for ending in endings} == {LinkExpired}
            assert "party 1 is lost: no other party reaches it" in same_sentence(endings, [0, 2])

    run(main())
