"""Joiners that break the rules, and hosts that leave."""

from __future__ import annotations

import asyncio

import pytest

from onionmpc.errors import (
    PeerLeft,
    PeerUnreachable,
    RemoteProtocolError,
)
from onionmpc.files import socket_directory
from onionmpc.mesh.runner import LinkRunner
from onionmpc.mesh.secure import dial
from onionmpc.session.ask_host import ask_host
from onionmpc.session.discovery import pair_key, seat_key
from onionmpc.session.events import DialRetry, JoinerArrived, SeatsTaken
from onionmpc.session.messages import Done, Terms, encode_message
from onionmpc.wire.handshake import NO_PSK, Answer, Hello, Purpose
from tests.support.gathering import HOST, JOINERS, NONCE, PSK, hosting, seats_of
from tests.support.session import QUICK_DIALS, CuttableNetwork, Person, run

# -- those who do not keep to the rules, and hosts that go


def test_a_joiner_that_sends_messages_is_cut_off_and_its_seat_is_free_again() -> None:
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


def test_a_host_that_leaves_notifies_its_joiners() -> None:
    async def main() -> None:
        async with hosting() as host:
            task, joiner = host.join(0, host.invites[0].psk())
            await joiner.hears(SeatsTaken)
            await host.gathering.leave()
            ending = await task
            assert isinstance(ending, PeerLeft)
            assert ending.message == "the host stopped waiting for parties"

    run(main())


def test_a_joiner_gives_up_a_host_that_sends_no_terms() -> None:
    async def main() -> None:
        async with hosting() as host:
            ending = await host.join(0, host.invites[0].psk(), wait_s=0.3)[0]
            assert isinstance(ending, PeerUnreachable)
            assert ending.message == "the host did not start the session within 0.3 s"

    run(main())


def test_a_joiner_dials_an_absent_host_until_time_runs_out() -> None:
    async def main() -> None:
        with socket_directory() as directory:
            person = Person()
            network = CuttableNetwork(directory, JOINERS[0].onion)
            with pytest.raises(PeerUnreachable):
                await ask_host(network, JOINERS[0], HOST.onion, NO_PSK, NONCE, person, 0.3, QUICK_DIALS)
            assert len(person.heard(DialRetry)) > 1

    run(main())


@pytest.mark.parametrize(
    ("psk", "hint"),
    [
        (NO_PSK, "ask the host for an invite, or to put this party's address on its --expect list (see --identity)"),
        (PSK.encode()[:32], "the invite is probably used, or its session is over; ask the host for another"),
    ],
    ids=["by address", "by invite"],
)
def test_a_joiner_dials_a_host_that_does_not_expect_it_until_time_runs_out_and_its_user_sees_a_hint(
    psk: bytes, hint: str
) -> None:
    async def main() -> None:
        with socket_directory() as directory:
            async with CuttableNetwork(directory, HOST.onion) as sealed:
                await sealed.listen(lambda stream: stream.close(), [bytes(32)])
                person = Person()
                network = CuttableNetwork(directory, JOINERS[0].onion)
                with pytest.raises(PeerUnreachable) as raised:
                    await ask_host(network, JOINERS[0], HOST.onion, psk, NONCE, person, 1, QUICK_DIALS)
            assert raised.value.message == (
                "the host did not start the session within 1.0 s: it can be found by those alone whom it expects, "
                "and this party is not one of them"
            )
            assert raised.value.hint == hint
            assert len(person.heard(DialRetry)) > 1
            assert {event.hint for event in person.heard(DialRetry)} == {hint}

    run(main())


def test_the_keys_of_joiners_use_the_last_nonce_of_each_and_belong_to_this_session() -> None:
    async def main() -> None:
        async with hosting(expected=[JOINERS[0].onion]) as host:
            for number, psk in enumerate((NO_PSK, host.invites[0].psk())):
                host.join(number, psk)
            await host.filling
            assert host.seating.keys_of_joiners() == {
                joiner.onion: pair_key(joiner, HOST.onion, joiner.onion, NONCE) for joiner in JOINERS[:2]
            }
            assert host.seating.keys() == [
                pair_key(JOINERS[0], HOST.onion, HOST.onion),
                seat_key(host.invites[0].psk()),
            ]

    run(main())


def test_a_host_with_one_open_seat_can_be_found_by_anyone() -> None:
    async def main() -> None:
        async with hosting(expected=[JOINERS[0].onion], is_open=True) as host:
            assert host.seating.keys() == []

    run(main())


def test_a_joiner_whose_stream_breaks_as_the_terms_go_out_gets_them_when_it_is_back() -> None:
    async def main() -> None:
        async with hosting(2) as host:
            network = host.network(JOINERS[0])
            task, _ = host.join(0, host.invites[0].psk(), network=network)
            await host.filling
            sending = asyncio.create_task(host.gathering.send_terms(host.terms()))
            await network.cut(HOST.onion)
            await sending
            assert isinstance(await task, Terms)

    run(main())
