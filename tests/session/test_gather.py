"""A host gathers a roster: seats, invites, and joiners that are refused."""

from __future__ import annotations

import asyncio
import secrets

import pytest

from onionmpc.errors import (
    AgreementError,
    AuthenticationFailed,
    PeerLeft,
)
from onionmpc.identity import Onion
from onionmpc.mesh.mesh import Mesh
from onionmpc.session.discovery import seat_key
from onionmpc.session.events import DialRetry, InviteReady, JoinerArrived, JoinerLeft, SeatsTaken, SpentInvite
from onionmpc.session.seating import REMEMBERED_INVITES, Seating
from onionmpc.wire.handshake import NO_PSK, REFUSAL, Answer, DiallerHandshake, Hello, Purpose
from tests.support.gathering import HOST, JOINERS, NONCE, Asked, hosting, opposite, seats_of, sit_down
from tests.support.mesh import Watcher
from tests.support.session import run

# -- seats


def test_all_who_were_invited_get_the_same_terms() -> None:
    async def main() -> None:
        async with hosting() as host:
            tasks = [host.join(number, host.invites[number].psk())[0] for number in range(2)]
            roster = await host.filling
            assert roster == tuple(sorted([HOST.onion, JOINERS[0].onion, JOINERS[1].onion]))
            assert seats_of(host) == {1: JOINERS[0].onion, 2: JOINERS[1].onion}
            terms = host.terms()
            await host.gathering.send_terms(terms)
            assert [await task for task in tasks] == [terms, terms]

    run(main())


def test_all_joiners_learn_how_many_parties_are_there() -> None:
    async def main() -> None:
        async with hosting() as host:
            _, first = host.join(0, host.invites[0].psk())
            assert await first.hears(SeatsTaken) == SeatsTaken(2, 3)
            _, second = host.join(1, host.invites[1].psk())
            assert await second.hears(SeatsTaken) == SeatsTaken(3, 3)
            assert await first.hears(SeatsTaken, 2) == SeatsTaken(3, 3)

    run(main())


def test_an_invite_works_once() -> None:
    async def main() -> None:
        async with hosting() as host:
            psk = host.invites[0].psk()
            host.join(0, psk)
            await host.person.hears(JoinerArrived)
            stranger, _ = host.join(1, psk)
            ending = await stranger
            assert isinstance(ending, AuthenticationFailed)
            # Issue 12: all refusals are alike, so this is what the joiner makes of it.
            assert ending.message == (
                "the host does not let us in: the peer refused the handshake; the invite is probably used, or its "
                "session is over"
            )
            assert "an invite works once" in ending.hint
            assert ending.exit_code == 6

    run(main())


# Issue 12.
def test_the_host_notes_a_used_invite_once_for_each_seat() -> None:
    async def main() -> None:
        async with hosting(4) as host:
            psks = [invite.psk() for invite in host.invites]
            for number in (0, 1):
                network = host.network(JOINERS[number])
                _, joiner = host.join(number, psks[number], network=network)
                await joiner.hears(SeatsTaken)
                await network.cut(HOST.onion)  # its own coming back is no second use
                await joiner.hears(DialRetry)
                await host.person.hears(JoinerArrived, 2 * number + 2)
                assert len(host.person.heard(SpentInvite)) == number
                for stranger in (2, 3):
                    with pytest.raises(AuthenticationFailed, match="the peer refused the handshake"):
                        await host.knock(JOINERS[stranger], psks[number])
                with pytest.raises(AuthenticationFailed):
                    await host.knock(JOINERS[2], secrets.token_bytes(32))
            assert host.person.heard(SpentInvite) == [SpentInvite(1), SpentInvite(2)]

    run(main())


# Issue 12.
def test_the_host_notes_a_replaced_invite_and_those_tried_after_the_gathering() -> None:
    async def main() -> None:
        async with hosting() as host:
            asked, old = Asked(host.person), host.invites[0].psk()
            host.join(0, old)
            (await asked.about(JOINERS[0])).set_result(False)
            await host.person.hears(InviteReady, 3)
            with pytest.raises(AuthenticationFailed):
                await host.knock(JOINERS[1], old)
            assert host.person.heard(SpentInvite) == [SpentInvite(1)]
            host.door.gatekeeper = None
            with pytest.raises(AuthenticationFailed):
                await host.knock(JOINERS[1], host.invites[1].psk())
            roster = [HOST.onion, JOINERS[2].onion]
            host.door.gatekeeper = Mesh(host.network(HOST), HOST, sorted(roster), bytes(32), NONCE, Watcher(), 60)
            with pytest.raises(AuthenticationFailed):
                await host.knock(JOINERS[1], host.invites[1].psk())
            assert host.person.heard(SpentInvite) == [SpentInvite(1), SpentInvite(2)]

    run(main())


# Issue 12.
def test_a_replay_of_a_used_invite_causes_that_note_and_nothing_else() -> None:
    async def main() -> None:
        async with hosting() as host:
            psk = host.invites[0].psk()
            hello = Hello(JOINERS[1].public_key, Purpose.GATHER, NONCE)
            recorded = DiallerHandshake(JOINERS[1], HOST.public_key, psk, hello, bytes([7]) * 32).message()
            host.join(0, psk)
            await host.person.hears(JoinerArrived)
            for _ in range(3):
                stream = await host.network(JOINERS[2]).dial(HOST.onion, 5)
                stream.writer.write(recorded)
                assert await stream.reader.read() == REFUSAL
                await stream.close()
            assert host.person.heard(SpentInvite) == [SpentInvite(1)]
            assert seats_of(host) == {1: JOINERS[0].onion}

    run(main())


# Issue 12.
def test_the_invites_that_are_remembered_are_bounded() -> None:
    seating = Seating(HOST, 3, [], is_open=False)
    for _ in range(2 * REMEMBERED_INVITES):
        seating.invite_to(seating.seats[0])
    assert len(seating.all_psks()) == REMEMBERED_INVITES
    assert set(seating.psks_for(b"")) >= {seating.seats[0].psk}


@pytest.mark.parametrize("is_open", [False, True])
def test_a_wrong_secret_is_refused(is_open: bool) -> None:
    async def main() -> None:
        async with hosting(is_open=is_open) as host:
            ending = await host.join(0, secrets.token_bytes(32))[0]
            assert isinstance(ending, AuthenticationFailed)
            assert host.person.heard(JoinerArrived) == []

    run(main())


def test_a_joiner_without_a_secret_is_refused_if_invites_are_required() -> None:
    async def main() -> None:
        async with hosting() as host:
            assert isinstance(await host.join(0, NO_PSK)[0], AuthenticationFailed)

    run(main())


def test_an_open_host_seats_anyone() -> None:
    async def main() -> None:
        async with hosting(is_open=True) as host:
            assert host.invites == []
            for number in range(2):
                host.join(number, NO_PSK)
            assert len(await host.filling) == 3

    run(main())


def test_expected_addresses_need_no_invite_and_leave_the_others_theirs() -> None:
    async def main() -> None:
        async with hosting(4, [JOINERS[0].onion, JOINERS[1].onion]) as host:
            assert [event.seat for event in host.person.heard(InviteReady)] == [3]
            assert isinstance(await host.join(2, NO_PSK)[0], AuthenticationFailed)
            host.join(1, NO_PSK)
            await host.person.hears(JoinerArrived)
            host.join(0, NO_PSK)
            host.join(2, host.invites[0].psk())
            await host.filling
            assert seats_of(host) == {number + 1: JOINERS[number].onion for number in range(3)}

    run(main())


def test_an_expected_party_takes_its_own_seat_at_an_open_host() -> None:
    async def main() -> None:
        async with hosting(3, [JOINERS[0].onion], is_open=True) as host:
            host.join(1, NO_PSK)
            await host.person.hears(JoinerArrived)
            host.join(0, NO_PSK)
            await host.filling
            assert seats_of(host) == {1: JOINERS[0].onion, 2: JOINERS[1].onion}

    run(main())


def test_the_same_identity_comes_back_to_its_seat() -> None:
    async def main() -> None:
        async with hosting() as host:
            network = host.network(JOINERS[0])
            _, joiner = host.join(0, host.invites[0].psk(), network=network)
            await joiner.hears(SeatsTaken)
            await network.cut(HOST.onion)
            assert (await joiner.hears(DialRetry)).again_in_s == 0
            await joiner.hears(SeatsTaken, 2)
            host.join(1, host.invites[1].psk())
            await host.filling
            assert seats_of(host) == {1: JOINERS[0].onion, 2: JOINERS[1].onion}

    run(main())


def test_the_same_identity_comes_back_before_its_old_stream_is_missed() -> None:
    async def main() -> None:
        async with hosting() as host:
            psk = host.invites[0].psk()
            old, _ = host.join(0, psk)
            await host.person.hears(JoinerArrived)
            _, joiner = host.join(0, psk)
            await joiner.hears(SeatsTaken)
            assert isinstance(await old, PeerLeft)
            assert len(host.person.heard(JoinerArrived)) == 1
            assert host.person.heard(JoinerLeft) == []

    run(main())


def test_a_joiner_that_leaves_frees_its_seat_for_another_with_the_same_invite() -> None:
    async def main() -> None:
        async with hosting() as host:
            psk = host.invites[0].psk()
            task, _ = host.join(0, psk)
            await host.person.hears(JoinerArrived)
            task.cancel()
            assert await host.person.hears(JoinerLeft) == JoinerLeft(1, JOINERS[0].onion)
            host.join(1, psk)
            assert (await host.person.hears(JoinerArrived, 2)).onion == JOINERS[1].onion

    run(main())


# -- who gets none


def test_a_party_gets_one_seat_and_its_mirror_address_gets_none() -> None:
    async def main() -> None:
        async with hosting(is_open=True) as host:
            host.join(0, NO_PSK)
            await host.person.hears(JoinerArrived)
            assert host.gathering.judge(Hello(JOINERS[0].public_key, Purpose.GATHER, NONCE), NO_PSK) is Answer.ACCEPTED
            assert host.gathering.judge(Hello(opposite(JOINERS[0]), Purpose.GATHER, NONCE), NO_PSK) is Answer.NO_SEAT
            assert host.gathering.judge(Hello(JOINERS[1].public_key, Purpose.GATHER, NONCE), NO_PSK) is Answer.ACCEPTED

    run(main())


@pytest.mark.parametrize("public_key", [HOST.public_key, opposite(HOST)])
def test_nobody_can_take_a_seat_with_the_hosts_key(public_key: bytes) -> None:
    async def main() -> None:
        async with hosting(is_open=True) as host:
            assert host.gathering.judge(Hello(public_key, Purpose.GATHER, NONCE), NO_PSK) is Answer.NO_SEAT
            assert await host.knock(HOST, NO_PSK) is Answer.NO_SEAT

    run(main())


def test_a_full_host_has_no_seat() -> None:
    async def main() -> None:
        async with hosting(2, is_open=True) as host:
            host.join(0, NO_PSK)
            await host.person.hears(JoinerArrived)
            assert isinstance(await host.join(1, NO_PSK)[0], AuthenticationFailed)

    run(main())


def test_a_second_invite_gives_no_second_seat() -> None:
    async def main() -> None:
        async with hosting() as host:
            host.join(0, host.invites[0].psk())
            await host.person.hears(JoinerArrived)
            # Its own seat would be given again; with another's secret there is none for it.
            assert await host.knock(JOINERS[0], host.invites[1].psk()) is Answer.NO_SEAT

    run(main())


@pytest.mark.parametrize("purpose", [Purpose.MESH, Purpose.RESUME])
def test_a_peer_that_dials_ahead_is_answered_not_now(purpose: Purpose) -> None:
    async def main() -> None:
        async with hosting(is_open=True) as host:
            assert await host.knock(JOINERS[0], NO_PSK, purpose) is Answer.NOT_NOW

    run(main())


# -- the person at the host


def test_the_invite_of_a_refused_joiner_is_replaced_by_a_new_one() -> None:
    async def main() -> None:
        async with hosting() as host:

            async def admit(onion: Onion) -> bool:
                return onion != JOINERS[0].onion

            host.person.admit = admit
            old = host.invites[0]
            ending = await host.join(0, old.psk())[0]
            assert isinstance(ending, AgreementError)
            assert ending.message == "the host refused this party: the host does not want this party"
            await host.person.hears(InviteReady, 3)
            new = host.invites[2]
            assert host.person.heard(InviteReady)[2].seat == 1
            assert new.secret not in {invite.secret for invite in host.invites[:2]}
            # Who was refused does not even find the host any more.
            assert host.admitted == [[seat_key(invite.psk()) for invite in (new, host.invites[1])]]
            assert host.person.heard(JoinerArrived) == host.person.heard(JoinerLeft) == []
            assert isinstance(await host.join(1, old.psk())[0], AuthenticationFailed)
            host.join(1, new.psk())
            assert (await host.person.hears(JoinerArrived)).onion == JOINERS[1].onion

    run(main())


def test_a_joiner_refused_at_an_open_host_is_not_asked_about_again() -> None:
    async def main() -> None:
        async with hosting(is_open=True) as host:
            asked: list[Onion] = []

            async def admit(onion: Onion) -> bool:
                asked.append(onion)
                return False

            host.person.admit = admit
            assert isinstance(await host.join(0, NO_PSK)[0], AgreementError)
            assert isinstance(await host.join(0, NO_PSK)[0], AuthenticationFailed)
            assert asked == [JOINERS[0].onion]

    run(main())


def test_the_user_is_asked_about_one_joiner_at_a_time_and_seats_wait_for_the_answer() -> None:
    async def main() -> None:
        async with hosting() as host:
            asked: asyncio.Queue[tuple[Onion, asyncio.Future[bool]]] = asyncio.Queue()

            async def admit(onion: Onion) -> bool:
                answer = asyncio.get_running_loop().create_future()
                asked.put_nowait((onion, answer))
                return await answer

            host.person.admit = admit
            for number in range(2):
                host.join(number, host.invites[number].psk())
            _, first = await asked.get()
            assert asked.empty()
            assert host.person.heard(JoinerArrived) == []
            first.set_result(True)
            await host.person.hears(JoinerArrived)
            _, second = await asked.get()
            second.set_result(True)
            await host.filling

    run(main())


# Issue 12.
@pytest.mark.parametrize("answered", [True, False])
def test_an_answer_about_a_joiner_that_left_does_not_apply_to_the_next_one(answered: bool) -> None:
    async def main() -> None:
        async with hosting() as host:
            asked, old = Asked(host.person), host.invites[0]
            task, _ = host.join(0, old.psk())
            first = await asked.about(JOINERS[0])
            task.cancel()
            # Told while it is asked about, and its seat is free for the next with the same invite.
            assert await host.person.hears(JoinerLeft) == JoinerLeft(1, JOINERS[0].onion)
            host.join(1, old.psk())
            await host.gathering._changes.until(lambda: host.seating.seats[0].holder == JOINERS[1].onion)
            first.set_result(answered)
            second = await asked.about(JOINERS[1])
            assert host.person.heard(JoinerArrived) == []
            second.set_result(True)
            assert (await host.person.hears(JoinerArrived)).onion == JOINERS[1].onion
            # Who was refused comes in with that invite no more, and its seat's holder stays.
            assert host.person.invites[0] is old
            assert host.seating.seat_for(JOINERS[0].onion, old.psk()) is None
            assert len(host.invites) == 2

    run(main())


# Issue 12.
@pytest.mark.parametrize("answered", [True, False])
def test_an_answer_applies_to_a_joiner_that_lost_its_stream_and_came_back(answered: bool) -> None:
    async def main() -> None:
        async with hosting() as host:
            asked, network = Asked(host.person), host.network(JOINERS[0])
            task, joiner = host.join(0, host.invites[0].psk(), network=network)
            answer = await asked.about(JOINERS[0])
            for times in (1, 2, 3):
                await network.cut(HOST.onion)
                await joiner.hears(DialRetry, times)
                await host.gathering._changes.until(lambda: 1 in host.gathering._runners)
            answer.set_result(answered)
            if answered:
                await host.person.hears(JoinerArrived)
                await joiner.hears(SeatsTaken)
            else:
                assert isinstance(await task, AgreementError)
            assert asked.questions.empty()
            assert len(host.person.heard(JoinerLeft)) == 1  # however often it came and went

    run(main())


LAST_TURN = 12  # of the loop: by then all that comes of an answer has been done


# Issue 12.
@pytest.mark.parametrize("turns", range(-LAST_TURN, LAST_TURN))
def test_a_refusal_makes_a_new_invite_no_matter_when_the_joiner_leaves(turns: int) -> None:
    async def main() -> None:
        async with hosting() as host:
            asked, network, old = Asked(host.person), host.network(JOINERS[0]), host.invites[0]
            secure = await sit_down(network, JOINERS[0], old.psk())
            answer = await asked.about(JOINERS[0])
            steps = [lambda: answer.set_result(False), secure.stream.writer.transport.abort]
            for step in steps if turns >= 0 else reversed(steps):
                step()
                for _ in range(abs(turns)):
                    await asyncio.sleep(0)
            new = (await host.person.hears(InviteReady, 3)).invite
            assert host.admitted == [[seat_key(invite.psk()) for invite in (new, host.invites[1])]]
            host.join(1, new.psk())
            (await asked.about(JOINERS[1])).set_result(True)
            assert (await host.person.hears(JoinerArrived)).seat == 1
            assert len(host.invites) == 3

    run(main())


# Issue 12.
def test_a_refused_joiner_that_stays_does_not_block_its_seat() -> None:
    async def main() -> None:
        async with hosting(2) as host:
            asked = Asked(host.person)
            secure = await sit_down(host.network(JOINERS[0]), JOINERS[0], host.invites[0].psk())
            (await asked.about(JOINERS[0])).set_result(False)
            new = (await host.person.hears(InviteReady, 2)).invite
            host.join(1, new.psk())
            (await asked.about(JOINERS[1])).set_result(True)
            assert (await host.person.hears(JoinerArrived)).onion == JOINERS[1].onion
            await secure.close()
            await host.filling

    run(main())


# Issue 12.
@pytest.mark.parametrize("turns", range(-LAST_TURN, LAST_TURN))
def test_a_yes_does_not_seat_a_joiner_that_has_left(turns: int) -> None:
    async def main() -> None:
        async with hosting(2) as host:
            asked, psk = Asked(host.person), host.invites[0].psk()
            secure = await sit_down(host.network(JOINERS[0]), JOINERS[0], psk)
            answer = await asked.about(JOINERS[0])
            steps = [lambda: answer.set_result(True), secure.stream.writer.transport.abort]
            for step in steps if turns >= 0 else reversed(steps):
                step()
                for _ in range(abs(turns)):
                    await asyncio.sleep(0)
            host.join(1, psk)
            next_one = asyncio.create_task(asked.about(JOINERS[1]))
            await asyncio.wait([host.filling, next_one], return_when=asyncio.FIRST_COMPLETED)
            if host.filling.done():  # it left when the roster was full: the mesh misses it
                seated = JOINERS[0]
                next_one.cancel()
            else:
                seated = JOINERS[1]
                (await next_one).set_result(True)
            assert await host.filling == tuple(sorted([HOST.onion, seated.onion]))
            assert seats_of(host) == {1: seated.onion}

    run(main())
