"""How strangers become a roster: seats, invites and those who do not get one."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from onionmpc.errors import (
    AgreementError,
    AuthenticationFailed,
    InvalidAddress,
    OnionMPCError,
    PeerLeft,
    PeerUnreachable,
    RemoteProtocolError,
    UnsafeSetting,
    UsageError,
)
from onionmpc.files import socket_directory
from onionmpc.identity import Identity, Onion, onion_from_public_key
from onionmpc.mesh import redial
from onionmpc.mesh.door import Door
from onionmpc.mesh.mesh import Mesh
from onionmpc.mesh.runner import LinkRunner
from onionmpc.mesh.secure import SecureStream, dial
from onionmpc.program.code.attached import NOTHING
from onionmpc.program.code.catalogue import find_program
from onionmpc.session.agreement import Common
from onionmpc.session.discovery import pair_key, seat_key
from onionmpc.session.events import DialRetry, InviteReady, JoinerArrived, JoinerLeft, SeatsTaken, SpentInvite
from onionmpc.session.gather import REMEMBERED_INVITES, HostTable, ask_host
from onionmpc.session.invite import Invite
from onionmpc.session.local import common_fields
from onionmpc.session.messages import Done, Terms, encode_message
from onionmpc.session.run import Party
from onionmpc.wire.frames import Ping, encode_frame
from onionmpc.wire.handshake import NO_PSK, REFUSAL, Answer, DiallerHandshake, Hello, Purpose
from tests.support.mesh import Watcher
from tests.support.session import CuttableNetwork, Person, listed_plan, run

HOST, *JOINERS = (Identity(bytes([number]) * 32) for number in range(5))
NONCE = bytes(16)
PSK = "5e" * 32


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is refused gives up soon, and who is told to come back does so at once."""
    monkeypatch.setattr(redial, "REFUSED_FOR_S", 0.1)
    monkeypatch.setattr(redial, "RETRY_FIRST_S", 0.02)
    monkeypatch.setattr(redial, "RETRY_LAST_S", 0.02)


class Hosting:
    """A host whose door is open, and joiners that come to it.

    Attributes:
        filling: its waiting for all seats to be taken.
    """

    filling: asyncio.Task[tuple[Onion, ...]]

    def __init__(self, directory: Path, parties: int, expected: list[Onion], *, is_open: bool) -> None:
        self.person = Person()
        self.table = HostTable(HOST, parties, expected, is_open=is_open, person=self.person)
        self.joining: list[asyncio.Task[Terms | OnionMPCError]] = []
        self.admitted: list[list[bytes]] = []
        self.table.admit = lambda keys: self.admitted.append(list(keys))
        self._directory = directory
        self.door = Door(HOST, NONCE)
        self.door.keeper = self.door.spent = self.table

    @property
    def invites(self) -> list[Invite]:
        return self.person.invites

    def network(self, identity: Identity) -> CuttableNetwork:
        return CuttableNetwork(self._directory, identity.onion)

    def join(
        self, joiner: int | Identity, psk: bytes, *, wait_s: float = 20.0, network: CuttableNetwork | None = None
    ) -> tuple[asyncio.Task[Terms | OnionMPCError], Person]:
        identity = joiner if isinstance(joiner, Identity) else JOINERS[joiner]
        person = Person()

        async def end() -> Terms | OnionMPCError:
            try:
                return await ask_host(
                    network or self.network(identity), identity, HOST.onion, psk, NONCE, person, wait_s
                )
            except OnionMPCError as error:
                return error

        self.joining.append(asyncio.create_task(end()))
        return self.joining[-1], person

    async def knock(self, identity: Identity, psk: bytes, purpose: Purpose = Purpose.GATHER) -> Answer:
        """Dial once, and return the host's answer."""
        hello = Hello(identity.public_key, purpose, NONCE)
        reply, secure = await dial(self.network(identity), identity, HOST.onion, psk, hello, timeout_s=5)
        await secure.close()
        return reply.answer

    def terms(self) -> Terms:
        program = find_program("vote")
        holders = sorted(seat.holder for seat in self.table._seats if seat.holder is not None)
        return Terms(common_fields(program, NOTHING, [HOST.onion, *holders], 1, (), ()), PSK, {})


@contextlib.asynccontextmanager
async def hosting(
    parties: int = 3, expected: list[Onion] | None = None, *, is_open: bool = False
) -> AsyncIterator[Hosting]:
    with socket_directory() as directory:
        host = Hosting(directory, parties, expected or [], is_open=is_open)
        async with CuttableNetwork(directory, HOST.onion) as network:
            await network.listen(host.door.serve)
            host.filling = asyncio.create_task(host.table.fill())
            try:
                yield host
            finally:
                for task in (*host.joining, host.filling):
                    task.cancel()
                await asyncio.gather(*host.joining, host.filling, return_exceptions=True)


async def sit_down(network: CuttableNetwork, identity: Identity, psk: bytes) -> SecureStream:
    """Take a seat, and say no more."""
    hello = Hello(identity.public_key, Purpose.GATHER, NONCE)
    reply, secure = await dial(network, identity, HOST.onion, psk, hello, timeout_s=5)
    assert reply.answer is Answer.ACCEPTED
    secure.send([encode_frame(Ping(0))])
    return secure


def seats_of(host: Hosting) -> dict[int, Onion]:
    return {event.seat: event.onion for event in host.person.heard(JoinerArrived)}


# -- seats


def test_all_who_were_invited_get_the_same_terms() -> None:
    async def main() -> None:
        async with hosting() as host:
            tasks = [host.join(number, host.invites[number].psk())[0] for number in range(2)]
            roster = await host.filling
            assert roster == tuple(sorted([HOST.onion, JOINERS[0].onion, JOINERS[1].onion]))
            assert seats_of(host) == {1: JOINERS[0].onion, 2: JOINERS[1].onion}
            terms = host.terms()
            await host.table.send_terms(terms)
            assert [await task for task in tasks] == [terms, terms]

    run(main())


def test_everyone_hears_how_many_are_there() -> None:
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
def test_the_host_is_told_once_for_each_seat_that_a_used_invite_was_tried_again() -> None:
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
def test_the_host_is_told_of_an_invite_that_was_replaced_and_of_those_tried_when_the_table_is_left() -> None:
    async def main() -> None:
        async with hosting() as host:
            asked, old = Asked(host.person), host.invites[0].psk()
            host.join(0, old)
            (await asked.about(JOINERS[0])).set_result(False)
            await host.person.hears(InviteReady, 3)
            with pytest.raises(AuthenticationFailed):
                await host.knock(JOINERS[1], old)
            assert host.person.heard(SpentInvite) == [SpentInvite(1)]
            host.door.keeper = None
            with pytest.raises(AuthenticationFailed):
                await host.knock(JOINERS[1], host.invites[1].psk())
            roster = [HOST.onion, JOINERS[2].onion]
            host.door.keeper = Mesh(host.network(HOST), HOST, sorted(roster), bytes(32), NONCE, Watcher(), 60)
            with pytest.raises(AuthenticationFailed):
                await host.knock(JOINERS[1], host.invites[1].psk())
            assert host.person.heard(SpentInvite) == [SpentInvite(1), SpentInvite(2)]

    run(main())


# Issue 12.
def test_a_replay_of_a_used_invite_can_cause_that_note_and_nothing_else() -> None:
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
    person = Person()
    table = HostTable(HOST, 3, [], is_open=False, person=person)
    for _ in range(2 * REMEMBERED_INVITES):
        table._invite_to(table._seats[0])
    assert len(table.spent_psks()) == REMEMBERED_INVITES
    assert set(table.psks_for(b"")) >= {table._seats[0].psk}


@pytest.mark.parametrize("is_open", [False, True])
def test_a_wrong_secret_is_refused(is_open: bool) -> None:
    async def main() -> None:
        async with hosting(is_open=is_open) as host:
            ending = await host.join(0, secrets.token_bytes(32))[0]
            assert isinstance(ending, AuthenticationFailed)
            assert host.person.heard(JoinerArrived) == []

    run(main())


def test_no_secret_is_refused_where_invites_are_asked_for() -> None:
    async def main() -> None:
        async with hosting() as host:
            assert isinstance(await host.join(0, NO_PSK)[0], AuthenticationFailed)

    run(main())


def test_an_open_host_seats_whoever_comes() -> None:
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


def test_who_leaves_frees_its_seat_for_another_with_the_same_invite() -> None:
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


def opposite(identity: Identity) -> bytes:
    """The other point with this one's X25519 key: -A for A."""
    key = bytearray(identity.public_key)
    key[31] ^= 0x80
    return bytes(key)


def test_a_party_gets_one_seat_and_its_opposite_none() -> None:
    async def main() -> None:
        async with hosting(is_open=True) as host:
            host.join(0, NO_PSK)
            await host.person.hears(JoinerArrived)
            assert host.table.judge(Hello(JOINERS[0].public_key, Purpose.GATHER, NONCE), NO_PSK) is Answer.ACCEPTED
            assert host.table.judge(Hello(opposite(JOINERS[0]), Purpose.GATHER, NONCE), NO_PSK) is Answer.NO_SEAT
            assert host.table.judge(Hello(JOINERS[1].public_key, Purpose.GATHER, NONCE), NO_PSK) is Answer.ACCEPTED

    run(main())


@pytest.mark.parametrize("public_key", [HOST.public_key, opposite(HOST)])
def test_nobody_sits_at_the_hosts_own_place(public_key: bytes) -> None:
    async def main() -> None:
        async with hosting(is_open=True) as host:
            assert host.table.judge(Hello(public_key, Purpose.GATHER, NONCE), NO_PSK) is Answer.NO_SEAT
            assert await host.knock(HOST, NO_PSK) is Answer.NO_SEAT

    run(main())


def test_a_full_table_has_no_seat() -> None:
    async def main() -> None:
        async with hosting(2, is_open=True) as host:
            host.join(0, NO_PSK)
            await host.person.hears(JoinerArrived)
            assert isinstance(await host.join(1, NO_PSK)[0], AuthenticationFailed)

    run(main())


def test_a_second_invite_is_no_second_seat() -> None:
    async def main() -> None:
        async with hosting() as host:
            host.join(0, host.invites[0].psk())
            await host.person.hears(JoinerArrived)
            # Its own seat would be given again; with another's secret there is none for it.
            assert await host.knock(JOINERS[0], host.invites[1].psk()) is Answer.NO_SEAT

    run(main())


@pytest.mark.parametrize("purpose", [Purpose.MESH, Purpose.RESUME])
def test_a_peer_that_is_ahead_is_told_to_wait(purpose: Purpose) -> None:
    async def main() -> None:
        async with hosting(is_open=True) as host:
            assert await host.knock(JOINERS[0], NO_PSK, purpose) is Answer.NOT_NOW

    run(main())


# -- the person at the host


def test_who_is_refused_leaves_a_dead_invite_and_a_new_one_is_told() -> None:
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


def test_who_is_refused_at_an_open_host_is_not_asked_about_again() -> None:
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


def test_the_person_is_asked_about_one_at_a_time_and_seats_wait_for_the_answer() -> None:
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


class Asked:
    """A person who answers when the test says so."""

    def __init__(self, person: Person) -> None:
        self.questions: asyncio.Queue[tuple[Onion, asyncio.Future[bool]]] = asyncio.Queue()
        person.admit = self._admit

    async def _admit(self, onion: Onion) -> bool:
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.questions.put_nowait((onion, answer))
        return await answer

    async def about(self, identity: Identity) -> asyncio.Future[bool]:
        """Wait for the next question; it is about this one."""
        onion, answer = await self.questions.get()
        assert onion == identity.onion
        return answer


# Issue 12.
@pytest.mark.parametrize("answered", [True, False])
def test_an_answer_about_who_left_is_none_about_who_came_next(answered: bool) -> None:
    async def main() -> None:
        async with hosting() as host:
            asked, old = Asked(host.person), host.invites[0]
            task, _ = host.join(0, old.psk())
            first = await asked.about(JOINERS[0])
            task.cancel()
            # Told while it is asked about, and its seat is free for the next with the same invite.
            assert await host.person.hears(JoinerLeft) == JoinerLeft(1, JOINERS[0].onion)
            host.join(1, old.psk())
            await host.table._until(lambda: host.table._seats[0].holder == JOINERS[1].onion)
            first.set_result(answered)
            second = await asked.about(JOINERS[1])
            assert host.person.heard(JoinerArrived) == []
            second.set_result(True)
            assert (await host.person.hears(JoinerArrived)).onion == JOINERS[1].onion
            # Who was refused comes in with that invite no more, and its seat's holder stays.
            assert host.person.invites[0] is old
            assert host.table._seat_for(JOINERS[0].onion, old.psk()) is None
            assert len(host.invites) == 2

    run(main())


# Issue 12.
@pytest.mark.parametrize("answered", [True, False])
def test_an_answer_counts_for_who_lost_its_stream_and_came_back_meanwhile(answered: bool) -> None:
    async def main() -> None:
        async with hosting() as host:
            asked, network = Asked(host.person), host.network(JOINERS[0])
            task, joiner = host.join(0, host.invites[0].psk(), network=network)
            answer = await asked.about(JOINERS[0])
            for times in (1, 2, 3):
                await network.cut(HOST.onion)
                await joiner.hears(DialRetry, times)
                await host.table._until(lambda: host.table._seats[0].runner is not None)
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
def test_a_refusal_makes_a_new_invite_whenever_the_refused_leaves(turns: int) -> None:
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
def test_a_refused_joiner_that_stays_keeps_nobody_from_its_seat() -> None:
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
def test_a_yes_seats_nobody_who_has_left_whenever_that_was(turns: int) -> None:
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


# -- those who do not keep to the rules, and hosts that go


def test_a_joiner_that_talks_is_cut_off_and_its_seat_is_free_again() -> None:
    async def main() -> None:
        async with hosting() as host:
            network, hello = host.network(JOINERS[0]), Hello(JOINERS[0].public_key, Purpose.GATHER, NONCE)
            psk = host.invites[0].psk()
            reply, secure = await dial(network, JOINERS[0], HOST.onion, psk, hello, timeout_s=5)
            assert reply.answer is Answer.ACCEPTED
            runner = LinkRunner(lambda _event: None)
            runner.send_control(encode_message(Done()))
            with pytest.raises(RemoteProtocolError, match="control_message"):
                await runner.carry_alone(secure)
            host.join(1, psk)
            while JOINERS[1].onion not in seats_of(host).values():
                await host.person.hears(JoinerArrived, len(host.person.heard(JoinerArrived)) + 1)

    run(main())


def test_a_host_that_goes_says_so() -> None:
    async def main() -> None:
        async with hosting() as host:
            task, joiner = host.join(0, host.invites[0].psk())
            await joiner.hears(SeatsTaken)
            await host.table.leave()
            ending = await task
            assert isinstance(ending, PeerLeft)
            assert ending.message == "the host ended the gathering"

    run(main())


def test_a_host_without_terms_is_given_up_in_time() -> None:
    async def main() -> None:
        async with hosting() as host:
            ending = await host.join(0, host.invites[0].psk(), wait_s=0.3)[0]
            assert isinstance(ending, PeerUnreachable)
            assert ending.message == "the host had no terms for us within 0.3 s"

    run(main())


def test_a_host_that_is_not_there_is_dialled_until_then() -> None:
    async def main() -> None:
        with socket_directory() as directory:
            person = Person()
            network = CuttableNetwork(directory, JOINERS[0].onion)
            with pytest.raises(PeerUnreachable):
                await ask_host(network, JOINERS[0], HOST.onion, NO_PSK, NONCE, person, 0.3)
            assert len(person.heard(DialRetry)) > 1

    run(main())


@pytest.mark.parametrize(
    ("psk", "hint"),
    [
        (NO_PSK, "ask the host for an invite, or to expect this party's address (one that stays: --identity)"),
        (PSK.encode()[:32], "the invite is probably used, or its session is over; ask the host for another"),
    ],
    ids=["by address", "by invite"],
)
def test_a_host_that_expects_others_is_dialled_until_then_and_the_person_is_told_what_helps(
    psk: bytes, hint: str
) -> None:
    async def main() -> None:
        with socket_directory() as directory:
            async with CuttableNetwork(directory, HOST.onion) as sealed:
                await sealed.listen(lambda stream: stream.close(), [bytes(32)])
                person = Person()
                network = CuttableNetwork(directory, JOINERS[0].onion)
                with pytest.raises(PeerUnreachable) as raised:
                    await ask_host(network, JOINERS[0], HOST.onion, psk, NONCE, person, 1)
            assert raised.value.message == (
                "the host had no terms for us within 1.0 s: it can be found by those alone whom it expects, and this "
                "party is not one of them"
            )
            assert raised.value.hint == hint
            assert len(person.heard(DialRetry)) > 1
            assert {event.hint for event in person.heard(DialRetry)} == {hint}

    run(main())


def test_the_keys_to_joiners_are_made_of_what_each_said_last_and_are_of_this_session() -> None:
    async def main() -> None:
        async with hosting(expected=[JOINERS[0].onion]) as host:
            for number, psk in enumerate((NO_PSK, host.invites[0].psk())):
                host.join(number, psk)
            await host.filling
            assert host.table.keys_of_joiners() == {
                joiner.onion: pair_key(joiner, HOST.onion, joiner.onion, NONCE) for joiner in JOINERS[:2]
            }
            assert host.table.keys() == [
                pair_key(JOINERS[0], HOST.onion, HOST.onion),
                seat_key(host.invites[0].psk()),
            ]

    run(main())


def test_a_table_with_one_open_seat_is_found_by_everybody() -> None:
    async def main() -> None:
        async with hosting(expected=[JOINERS[0].onion], is_open=True) as host:
            assert host.table.keys() == []

    run(main())


def test_a_joiner_whose_stream_breaks_as_the_terms_go_out_gets_them_when_it_is_back() -> None:
    async def main() -> None:
        async with hosting(2) as host:
            network = host.network(JOINERS[0])
            task, _ = host.join(0, host.invites[0].psk(), network=network)
            await host.filling
            sending = asyncio.create_task(host.table.send_terms(host.terms()))
            await network.cut(HOST.onion)
            await sending
            assert isinstance(await task, Terms)

    run(main())


# -- what a joiner makes of the terms


def party_of(wishes: dict[str, Any]) -> Party:
    plan = replace(listed_plan(None, public=None, mpyc_options=None, allowed_types=None), **wishes)
    return Party(JOINERS[0], plan, Person())


def terms_for(parties: int = 3, **changes: Any) -> Common:
    roster = sorted(identity.onion for identity in [HOST, *JOINERS][:parties])
    common = common_fields(find_program("vote"), NOTHING, roster, (parties - 1) // 2, ("tea", "coffee"), ("-L64",))
    return msgspec.structs.replace(common, **changes)


NUMBERS = {"own": terms_for().addresses.index(JOINERS[0].onion), "host": terms_for().addresses.index(HOST.onion)}


def test_a_joiner_takes_what_it_left_open_from_the_host() -> None:
    program, common = party_of({})._accept(terms_for(), HOST.onion)
    assert program == find_program("vote")
    assert common == terms_for()


@pytest.mark.parametrize(
    ("name", "error"),
    [("nothing_of_ours", "the host runs nothing_of_ours, which is not in the catalogue here"),
     ("../vote", "the host runs ../vote, which is not in the catalogue here"),
     ("private_input", "the host runs private_input, which is not in the catalogue here"),
     ("\x1b[2J", "the host runs \\x1b[2J, which is not in the catalogue here")],
)  # fmt: skip
def test_a_joiner_runs_only_what_is_here(name: str, error: str) -> None:
    with pytest.raises(AgreementError) as raised:
        party_of({})._accept(terms_for(program=name), HOST.onion)
    assert raised.value.message == error


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"files": {"vote.py": "00" * 32}}, "program file private_input.py differs"),
        ({"mpyc_version": "0.10"}, "MPyC version differs: 0.11 at party {own}, 0.10 at party {host}"),
        ({"protocol": 1}, "protocol version differs: 2 at party {own}, 1 at party {host}"),
        ({"python": "PyPy 64-bit"}, "Python differs"),
    ],
)
def test_a_joiner_compares_the_terms_with_what_it_has(changes: dict[str, Any], error: str) -> None:
    with pytest.raises(AgreementError) as raised:
        party_of({})._accept(terms_for(**changes), HOST.onion)
    assert error.format(**NUMBERS) in raised.value.message


@pytest.mark.parametrize(
    ("wish", "error"),
    [
        ({"threshold": 0}, "threshold differs: 0 at party {own}, 1 at party {host}"),
        ({"public": ("tea",)}, "public arguments differs: (tea) at party {own}, (tea, coffee) at party {host}"),
        ({"mpyc_options": ()}, "MPyC options differs: () at party {own}, (-L64) at party {host}"),
        ({"program": find_program("auction")}, "program differs: auction at party {own}, vote at party {host}"),
    ],
)
def test_a_joiner_that_wants_something_else_does_not_agree(wish: dict[str, Any], error: str) -> None:
    with pytest.raises(AgreementError) as raised:
        party_of(wish)._accept(terms_for(), HOST.onion)
    assert raised.value.message == error.format(**NUMBERS)


def test_a_host_cannot_talk_a_joiner_into_what_hides_nothing() -> None:
    with pytest.raises(UnsafeSetting):
        party_of({})._accept(terms_for(threshold=0), HOST.onion)
    assert party_of({"allow_no_privacy": True})._accept(terms_for(threshold=0), HOST.onion)


@pytest.mark.parametrize("option", ["--output-file=out", "-Pevil:1", "-M3", "-T0", "--ssl", "-C", "\x1b[2J"])
def test_a_host_cannot_choose_what_mpyc_does_beyond_the_wire(option: str) -> None:
    with pytest.raises(UsageError, match="is not one of MPyC's options that change the wire") as raised:
        party_of({})._accept(terms_for(mpyc_options=("-L64", option)), HOST.onion)
    assert raised.value.message.isprintable()


@pytest.mark.parametrize("name", ["subprocess.Popen", "builtins.eval", "numpy.ndarray", "__main__.*", "\x1b[2J.X"])
def test_a_host_cannot_have_a_joiner_allow_what_is_no_class_of_the_program(name: str) -> None:
    with pytest.raises(UsageError, match="is no class of the program") as raised:
        party_of({})._accept(terms_for(allowed_types=(name,)), HOST.onion)
    assert raised.value.message.isprintable()


def test_a_joiner_takes_the_hosts_types_unless_it_names_its_own(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("class Ballot: ...\nclass Urn: ...\n")
    program = find_program(str(tmp_path / "script.py"))
    terms = common_fields(
        program,
        NOTHING,
        [Onion(onion) for onion in terms_for().addresses],
        1,
        (),
        (),
        allowed_types=["__main__.Ballot"],
    )
    _, common = party_of({"program": program})._accept(terms, HOST.onion)
    assert common.allowed_types == ("__main__.Ballot",)
    with pytest.raises(
        AgreementError, match=r"allowed types differs: \(__main__\.Urn\) at .*, \(__main__\.Ballot\) at"
    ):
        party_of({"program": program, "allowed_types": ("__main__.Urn",)})._accept(terms, HOST.onion)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"addresses": (HOST.onion, JOINERS[1].onion)}, AgreementError),
        ({"addresses": (JOINERS[0].onion, JOINERS[1].onion)}, AgreementError),
        ({"addresses": tuple(sorted(terms_for().addresses, reverse=True))}, AgreementError),
        ({"addresses": (*terms_for().addresses, "")}, InvalidAddress),
        ({"addresses": (*terms_for().addresses, "x" * 56 + ".onion")}, InvalidAddress),
        ({"addresses": (*terms_for().addresses, HOST.onion)}, InvalidAddress),
        ({"addresses": (*terms_for().addresses, JOINERS[0].onion)}, AgreementError),
        ({"addresses": (*terms_for().addresses, onion_from_public_key(opposite(HOST)))}, InvalidAddress),
        ({"addresses": (*terms_for().addresses, onion_from_public_key(opposite(JOINERS[0])))}, InvalidAddress),
        ({"threshold": 2}, UsageError),
        ({"threshold": -1}, UsageError),
        ({"threshold": 10**9}, UsageError),
    ],
)
def test_a_host_cannot_make_a_joiner_meet_where_nobody_can(changes: dict[str, Any], error: type[OnionMPCError]) -> None:
    party_of({})._check_roster(terms_for(), HOST.onion)
    with pytest.raises(OnionMPCError) as raised:
        party_of({})._check_roster(terms_for(**changes), HOST.onion)
    assert type(raised.value) is error


def test_a_joiner_takes_the_keys_to_the_others_and_no_more() -> None:
    common = terms_for()
    terms = Terms(common, PSK, dict.fromkeys([*common.addresses, "no address", "x" * 56 + ".onion"], "d1" * 32))
    assert party_of({})._keys_in(terms, HOST.onion) == {JOINERS[1].onion: bytes.fromhex("d1" * 32)}
    with pytest.raises(AgreementError, match="lack the key to a party"):
        party_of({})._keys_in(Terms(common, PSK, {HOST.onion: "d1" * 32}), HOST.onion)


# -- what nobody named


@pytest.mark.parametrize(
    ("parties", "wish", "options"), [(14, (), ()), (15, (), ("--no-prss",)), (15, ("-L32",), ("-L32",))]
)
def test_a_full_list_of_many_parties_does_without_prss(
    parties: int, wish: tuple[str, ...], options: tuple[str, ...]
) -> None:
    roster = [Identity(bytes([number]) * 32) for number in range(parties)]
    plan = replace(listed_plan(find_program("vote")), mpyc_options=wish)
    found = {
        Party(own, plan, Person()).full_list([other.onion for other in roster if other != own]).mpyc_options
        for own in (roster[0], roster[-1])
    }
    assert found == {options}


def test_a_host_of_many_parties_does_without_prss_and_so_do_its_joiners() -> None:
    terms = Party(HOST, listed_plan(find_program("vote")), Person())._common([HOST.onion], 15)
    assert terms.mpyc_options == ("--no-prss",)
    _, common = party_of({})._accept(terms_for(mpyc_options=terms.mpyc_options), HOST.onion)
    assert common.mpyc_options == ("--no-prss",)


# -- what can be wrong before anyone is asked


def open_table(parties: int, expected: list[Onion]) -> object:
    return Party(HOST, listed_plan(find_program("vote")), Person()).open_table(parties, expected, is_open=False)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (lambda: open_table(3, [JOINERS[0].onion] * 2), InvalidAddress),
        (lambda: open_table(3, [HOST.onion]), InvalidAddress),
        (lambda: open_table(3, [onion_from_public_key(opposite(HOST))]), InvalidAddress),
        (lambda: open_table(3, [joiner.onion for joiner in JOINERS[:3]]), UsageError),
        (lambda: open_table(1, []), UsageError),
        (lambda: open_table(0, []), UsageError),
        (lambda: open_table(2, []), UnsafeSetting),
        (lambda: open_table(257, []), UsageError),
        (lambda: Party(HOST, listed_plan(None), Person()).open_table(3, [], is_open=False), UsageError),
        (lambda: party_of({}).check_host(JOINERS[0].onion), InvalidAddress),
        (lambda: party_of({}).check_host(Invite(JOINERS[0].onion, bytes(16))), InvalidAddress),
        (lambda: party_of({}).full_list([HOST.onion, JOINERS[0].onion]), InvalidAddress),
        (lambda: party_of({}).full_list([HOST.onion, JOINERS[1].onion]), UsageError),
    ],
)
def test_wrong_wishes_are_refused_before_a_network_is_needed(
    wrong: Callable[[], object], error: type[UsageError]
) -> None:
    with pytest.raises(UsageError) as raised:
        wrong()
    assert type(raised.value) is error
