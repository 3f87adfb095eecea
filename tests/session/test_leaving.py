"""Peers leave, and parties end, at every point of a session: nothing waits for a party that has left."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from onionmpc.errors import AgreementError, AuthenticationFailed, LinkExpired, OnionMPCError, PeerLeft
from onionmpc.mesh.runner import LinkRunner
from onionmpc.session.agreement import Agreement
from onionmpc.session.events import JoinerArrived, RosterKnown, SpentInvite
from onionmpc.session.messages import Commit, encode_message
from onionmpc.wire.frames import Ping, encode_frame
from tests.support.mesh import (  # noqa: F401 (fixtures)
    Party,
    in_a_loop,
    knock,
    meshed,
    private_directory,
    still_flows,
)
from tests.support.session import HASTY, Hostile, Room, listed_plan, room, run, same_sentence, write_script

TURNS = 8  # of the loop: by then all that comes of a step has been done


async def turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


# Issue 12: the bringing back of a link that is over began anew, where nothing could run it, and the mesh ended by that.
@pytest.mark.parametrize("after", range(TURNS))
@in_a_loop
async def test_a_network_that_comes_back_does_not_revive_a_link_that_was_given_up(directory: Path, after: int) -> None:
    async with meshed(directory, 3) as (low, _, high):
        low.network.out = True
        await low.cut(1)
        await low.watcher.until(lambda: ("broken", 1) in low.watcher.news)
        low.watcher.up[1].fail(LinkExpired("it stays away"))
        await turns(after)
        low.network.out = False
        low.network.back.set()
        await turns(TURNS)
        assert await low.watcher.until_down(1, LinkExpired) == "it stays away"
        low.watcher.downs.clear()
        await still_flows(low, high)


# Issue 12: it was let in by a mesh whose tasks had ended, which failed as a bug of ours.
@pytest.mark.parametrize("after", range(-TURNS, TURNS))
@in_a_loop
async def test_a_peer_that_connects_as_the_session_ends_causes_no_bug(directory: Path, after: int) -> None:
    async def lasts() -> None:
        async with party.mesh.running(60):
            await asyncio.Event().wait()

    party = Party(directory, 1, 2)
    await party.network.listen(party._serve)
    meshing = asyncio.create_task(lasts())
    try:
        _, secure = await knock(directory, party.identity)
        steps: list[Callable[[], object]] = [meshing.cancel, lambda: secure.send([encode_frame(Ping(0))])]
        for step in steps if after >= 0 else reversed(steps):
            step()
            await turns(abs(after))
        await asyncio.wait([meshing])
        assert meshing.cancelled()
        await secure.close()
        await party.watcher.until(lambda: party.served)
    finally:
        meshing.cancel()
        await party.network.__aexit__(None, None, None)


# --- In a session ---------------------------------------------------------------------------------------------------


async def leave(place: Room, hostile: Hostile, *, politely: bool) -> None:
    if politely:
        for runner in hostile.runners.values():
            runner.close()
    else:
        await place.networks[hostile.number].kill()


# Issue 12: the person's answer and the peer's leaving meet at every turn.
@pytest.mark.usefixtures("no_program")
@pytest.mark.parametrize("politely", [True, False])
@pytest.mark.parametrize("answer", [True, False])
@pytest.mark.parametrize("after", range(-TURNS, TURNS, 3))
def test_a_peer_that_leaves_as_the_user_answers_ends_the_session_with_the_same_error_for_all(
    tmp_path: Path, after: int, answer: bool, politely: bool
) -> None:
    plan = listed_plan(write_script(tmp_path / "script.py", ""), patience_s=1.0, wait_s=5.0, timings=HASTY)

    async def main() -> None:
        async with room(3, plan) as place:
            hostile = Hostile(place, 1, place.party(1).full_list(place.others(1)))
            hostile.on_up = lambda _party, runner: runner.send_control(hostile.offer())
            asked = {number: asyncio.Event() for number in (0, 2)}
            answers = {number: asyncio.get_running_loop().create_future() for number in (0, 2)}

            def consenting(number: int) -> Callable[[Agreement], Awaitable[bool]]:
                async def consent(_agreement: Agreement) -> bool:
                    asked[number].set()
                    return await answers[number]

                return consent

            async with hostile.there():
                for number in (0, 2):
                    place.persons[number].consent = consenting(number)
                place.start_listed([0, 2])
                for event in asked.values():
                    await event.wait()

                async def answering() -> None:
                    if not answers[0].done():  # the question was withdrawn
                        answers[0].set_result(answer)

                steps = [answering, lambda: leave(place, hostile, politely=politely)]
                for step in steps if after >= 0 else reversed(steps):
                    await step()
                    await turns(abs(after))
                endings = await place.endings()
            assert {type(ending) for ending in endings} <= {AgreementError, LinkExpired, PeerLeft}
            same_sentence(endings, [0, 2])

    run(main())


# Issue 12.
@pytest.mark.usefixtures("no_program")
@pytest.mark.parametrize("politely", [True, False])
@pytest.mark.parametrize("said", range(4))
def test_a_peer_that_leaves_after_any_message_ends_the_session_with_the_same_error_for_all(
    tmp_path: Path, said: int, politely: bool
) -> None:
    plan = listed_plan(write_script(tmp_path / "script.py", ""), patience_s=1.0, wait_s=5.0, timings=HASTY)

    async def main() -> None:
        async with room(3, plan) as place:
            hostile = Hostile(place, 1, place.party(1).full_list(place.others(1)))
            messages = [hostile.offer(), encode_message(Commit("0" * 64)), encode_message(Commit("0" * 64))]
            up = asyncio.Event()

            def on_up(_party: int, runner: LinkRunner) -> None:
                for message in messages[:said]:
                    runner.send_control(message)
                if len(hostile.runners) == 2:
                    up.set()

            hostile.on_up = on_up
            async with hostile.there():
                place.start_listed([0, 2])
                await up.wait()
                await leave(place, hostile, politely=politely)
                endings = await place.endings()
            assert all(isinstance(ending, OnionMPCError) and ending.exit_code != 70 for ending in endings)
            same_sentence(endings, [0, 2])

    run(main())


# Issue 12.
@pytest.mark.usefixtures("no_program")
@pytest.mark.parametrize("after", range(0, 3 * TURNS, 3))
def test_a_joiner_that_leaves_as_the_terms_go_out_leaves_nobody_waiting(tmp_path: Path, after: int) -> None:
    plan = listed_plan(write_script(tmp_path / "script.py", ""), patience_s=1.0, wait_s=5.0, timings=HASTY)

    async def main() -> None:
        async with room(3, plan) as place:
            place.persons[2].consent = thinking
            place.start_hosted()
            await place.persons[0].hears(JoinerArrived, 2)
            await turns(after)
            place.tasks[2].cancel()
            endings = [await place.tasks[number] for number in (0, 1)]
            assert all(isinstance(ending, OnionMPCError) and ending.exit_code == 4 for ending in endings), endings

    async def thinking(_agreement: Agreement) -> bool:
        return await asyncio.get_running_loop().create_future()

    run(main())


# Issue 12.
@pytest.mark.usefixtures("no_program")
def test_of_two_joiners_with_one_invite_one_takes_part_and_the_other_learns_why_not(tmp_path: Path) -> None:
    plan = listed_plan(
        write_script(tmp_path / "script.py", ""), timings=replace(HASTY, mesh=replace(HASTY.mesh, refused_for_s=0.1))
    )

    async def main() -> None:
        async with room(4, plan) as place:
            party, persons = place.party(0), place.persons
            place.host(0, party, party.open_seats(3, [], is_open=False))
            first, other = persons[0].invites
            persons[0].consent = no
            place.join(1, first)
            await persons[0].hears(JoinerArrived)
            late = await place.join(3, first)
            assert isinstance(late, AuthenticationFailed)
            assert "the invite is probably used, or its session is over" in late.message
            assert persons[0].heard(SpentInvite) == [SpentInvite(1)]
            place.join(2, other)
            endings = [await place.tasks[number] for number in range(3)]
            assert {type(ending) for ending in endings} == {AgreementError}  # "its user declined": they had met
            assert len(persons[0].heard(RosterKnown)) == 1

    async def no(_agreement: Agreement) -> bool:
        return False

    run(main())
