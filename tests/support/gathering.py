"""A host whose door is open, and joiners that come to it: for tests of gatherings."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from onionmpc.errors import (
    OnionMPCError,
)
from onionmpc.files import socket_directory
from onionmpc.identity import Identity, Onion
from onionmpc.mesh.door import Door
from onionmpc.mesh.secure import SecureStream, dial
from onionmpc.program.code.attached import NOTHING
from onionmpc.program.code.catalogue import find_program
from onionmpc.session.agreed_options import Wishes
from onionmpc.session.ask_host import ask_host
from onionmpc.session.events import InviteReady, JoinerArrived
from onionmpc.session.gather import Gathering
from onionmpc.session.invite import Invite
from onionmpc.session.local import shared_terms
from onionmpc.session.messages import Terms
from onionmpc.session.seating import Seating
from onionmpc.wire.frames import Ping, encode_frame
from onionmpc.wire.handshake import Answer, Hello, Purpose
from tests.support.session import QUICK_DIALS, CuttableNetwork, Person

HOST, *JOINERS = (Identity(bytes([number]) * 32) for number in range(5))
NONCE = bytes(16)
PSK = "5e" * 32


class Hosting:
    """A host whose door is open, and joiners that come to it.

    Attributes:
        filling: its waiting for all seats to be taken.
    """

    filling: asyncio.Task[tuple[Onion, ...]]

    def __init__(self, directory: Path, parties: int, expected: list[Onion], *, is_open: bool) -> None:
        self.person = Person()
        self.seating = Seating(HOST, parties, expected, is_open=is_open)
        self.gathering = Gathering(self.seating, self.person)
        for seat in self.seating.seats:
            if seat.invite is not None:
                self.person.tell(InviteReady(seat.number, seat.invite))
        self.joining: list[asyncio.Task[Terms | OnionMPCError]] = []
        self.admitted: list[list[bytes]] = []
        self._directory = directory
        self.door = Door(HOST, NONCE)
        self.door.gatekeeper = self.door.spent = self.gathering

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
                    network or self.network(identity), identity, HOST.onion, psk, NONCE, person, wait_s, QUICK_DIALS
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
        holders = sorted(seat.holder for seat in self.seating.seats if seat.holder is not None)
        return Terms(shared_terms(program, NOTHING, [HOST.onion, *holders], Wishes(threshold=1).as_host(3)), PSK, {})


@contextlib.asynccontextmanager
async def hosting(
    parties: int = 3, expected: list[Onion] | None = None, *, is_open: bool = False
) -> AsyncIterator[Hosting]:
    with socket_directory() as directory:
        host = Hosting(directory, parties, expected or [], is_open=is_open)
        async with CuttableNetwork(directory, HOST.onion) as network:
            await network.listen(host.door.serve)
            host.filling = asyncio.create_task(host.gathering.fill(lambda keys: host.admitted.append(list(keys))))
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


def opposite(identity: Identity) -> bytes:
    """The other point with this one's X25519 key: -A for A."""
    key = bytearray(identity.public_key)
    key[31] ^= 0x80
    return bytes(key)
