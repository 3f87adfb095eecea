"""The joiner's side of a gathering: takes a seat and waits for the terms. Rules: docs/PROTOCOL.md section 4."""

from __future__ import annotations

import asyncio

from onionmpc.errors import (
    AgreementError,
    AuthenticationFailed,
    LinkExpired,
    OnionMPCError,
    PeerLeft,
    PeerUnreachable,
    RemoteProtocolError,
    VersionDiffers,
)
from onionmpc.identity import Identity, Onion
from onionmpc.mesh.network import Network
from onionmpc.mesh.redial import DialFailed, dial_until_accepted
from onionmpc.mesh.runner import LinkRunner
from onionmpc.mesh.secure import SecureStream
from onionmpc.mesh.timings import DEFAULT_MESH_TIMINGS, MeshTimings
from onionmpc.session.events import SeatsTaken, UserInterface
from onionmpc.session.join_failures import JoinFailures
from onionmpc.session.messages import AnyMessage, MessageDecoder, Refused, Seats, Terms
from onionmpc.tasks import ended, first_of
from onionmpc.text import duration, printable
from onionmpc.wire.handshake import NO_PSK, Hello, Purpose
from onionmpc.wire.link import ControlBytes, Event, LinkClosed


async def ask_host(
    network: Network,
    identity: Identity,
    host: Onion,
    psk: bytes,
    nonce: bytes,
    ui: UserInterface,
    wait_s: float,
    timings: MeshTimings = DEFAULT_MESH_TIMINGS,
) -> Terms:
    """Take a seat at a host and wait for the terms; dial again whenever the stream breaks.

    Raises:
        AuthenticationFailed: the host does not let this party in.
        AgreementError: the user at the host refused this party.
        VersionDiffers: the host speaks another version of the protocol.
        PeerLeft: the host stopped waiting for parties.
        PeerUnreachable: the terms did not come within `wait_s` seconds.
    """
    hello = Hello(identity.public_key, Purpose.GATHER, nonce)
    failures = JoinFailures(ui, by_invite=psk != NO_PSK)

    try:
        async with asyncio.timeout(wait_s):
            while True:
                try:
                    _, secure = await dial_until_accepted(
                        network, identity, host, psk, hello, on_failure=failures.add, timings=timings
                    )
                except VersionDiffers as error:
                    raise VersionDiffers(error.theirs, error.ours, there="the host") from error
                except AuthenticationFailed as error:
                    raise failures.refused(error) from error
                # The host accepted this party, so earlier failures say nothing about its invite.
                failures = JoinFailures(ui, by_invite=psk != NO_PSK)
                try:
                    return await _wait_for_terms(secure, ui)
                except LinkExpired as error:
                    failures.add(DialFailed(error.message, 0.0))
    except TimeoutError as error:
        raise PeerUnreachable(
            f"the host did not start the session within {duration(wait_s)}{failures.why}", hint=failures.hint
        ) from error


async def _wait_for_terms(secure: SecureStream, ui: UserInterface) -> Terms:
    answer: asyncio.Future[Terms] = asyncio.get_running_loop().create_future()
    decoder = MessageDecoder()

    def on_event(event: Event) -> None:
        try:
            if isinstance(event, ControlBytes):
                for message in decoder.decode(event.payload):
                    _take(message, answer, ui)
            elif isinstance(event, LinkClosed):
                raise PeerLeft("the host stopped waiting for parties", hint="ask the host whether to try again")
        except OnionMPCError as error:
            if not answer.done():
                answer.set_exception(error)

    runner = LinkRunner(on_event)
    running = asyncio.create_task(runner.carry_alone(secure))
    try:
        await first_of(answer, running)
        if answer.done():
            return answer.result()
        raise LinkExpired("the host closed the link")
    finally:
        runner.close(linger=not answer.done())  # after its answer, the host sends no more
        await ended(running)


def _take(message: AnyMessage, answer: asyncio.Future[Terms], ui: UserInterface) -> None:
    match message:
        case Seats(taken, parties):
            ui.tell(SeatsTaken(taken, parties))
        case Terms() if not answer.done():
            answer.set_result(message)
        case Refused(reason):
            raise AgreementError(f"the host refused this party: {printable(reason)}")
        case _:
            raise RemoteProtocolError(f"the host sent {type(message).__name__}, which is not expected here")
