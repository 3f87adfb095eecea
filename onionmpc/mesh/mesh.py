"""All links of one session: dials the higher parties, lets the lower ones in, and keeps each link running.

Knows the roster, deadlines and retries. Does not know what the links carry, nor which Network it was handed.
Rules: docs/PROTOCOL.md sections 2 to 4.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from onionmpc.errors import (
    LinkExpired,
    OnionMPCError,
    PeerUnreachable,
    RemoteProtocolError,
)
from onionmpc.identity import (
    Identity,
    Onion,
    onion_from_public_key,
    public_key_from_onion,
    x25519_public_from_ed25519,
)
from onionmpc.mesh.network import Network
from onionmpc.mesh.redial import DialFailed, dial_until_accepted
from onionmpc.mesh.runner import LinkRunner
from onionmpc.mesh.secure import SecureStream
from onionmpc.wire.handshake import Answer, Hello, Purpose
from onionmpc.wire.link import Event


class Observer(Protocol):
    """Is told what happens to the links. Must not block."""

    def dial_failed(self, party: int, failure: DialFailed) -> None:
        """A peer could not be dialled yet."""

    def link_up(self, party: int, runner: LinkRunner, *, dialled: bool) -> None:
        """A link came up, and its stream's other end is authenticated."""

    def link_event(self, party: int, event: Event) -> None:
        """Something arrived."""

    def link_down(self, party: int, error: OnionMPCError) -> None:
        """A link ended, or never came up, for the reason given; not called for links that were closed in good order."""


class Mesh:
    """The links of one party.

    Args:
        identity: ours; on the roster.
        roster: all parties' addresses, sorted.
        psk: the session's pre-shared key, 32 bytes.
        nonce: ours, 16 bytes.
        observer: is told what happens.
    """

    def __init__(
        self,
        network: Network,
        identity: Identity,
        roster: Sequence[Onion],
        psk: bytes,
        nonce: bytes,
        observer: Observer,
    ) -> None:
        self.roster = tuple(roster)
        self.own_number = self.roster.index(identity.onion)
        self.links: dict[int, LinkRunner] = {}
        self._network = network
        self._identity = identity
        self._psk = psk
        self._nonce = nonce
        self._observer = observer
        self._static_keys = {
            x25519_public_from_ed25519(public_key_from_onion(onion)): number
            for number, onion in enumerate(self.roster)
            if number != self.own_number
        }

    @property
    def peers(self) -> list[int]:
        """The numbers of all other parties."""
        return [number for number in range(len(self.roster)) if number != self.own_number]

    async def dial_all(self, timeout_s: float) -> None:
        """Dial every higher party, side by side, and run those links to their end."""
        async with asyncio.TaskGroup() as tasks:
            for number in self.peers:
                if number > self.own_number:
                    tasks.create_task(self._dial_and_run(number, timeout_s))

    # -- Keeper: the listener's side

    def psks_for(self, static_key: bytes) -> Sequence[bytes]:
        """The session's psk for a roster key, none for anyone else."""
        return [self._psk] if static_key in self._static_keys else []

    def judge(self, hello: Hello, _psk: bytes) -> Answer:
        """Accept a lower party that has no link yet."""
        try:
            number = self.roster.index(onion_from_public_key(hello.public_key))
        except ValueError:
            # -A of a roster's A: it has the same X25519 key, and no place here.
            return Answer.NO_SEAT
        if hello.purpose is Purpose.RESUME:
            return Answer.UNKNOWN_SESSION
        if hello.purpose is not Purpose.MESH or number > self.own_number or number in self.links:
            return Answer.NOT_NOW
        return Answer.ACCEPTED

    async def welcome(self, visitor: SecureStream, _hello: Hello, _psk: bytes) -> None:
        """Run the link of a party that dialled us."""
        number = self.roster.index(visitor.peer)
        if number in self.links:
            return
        await self._run(number, visitor, dialled=False)

    # -- the dialler's side

    async def _dial_and_run(self, number: int, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                secure = await dial_until_accepted(
                    self._network,
                    self._identity,
                    self.roster[number],
                    self._psk,
                    Hello(self._identity.public_key, Purpose.MESH, self._nonce),
                    on_failure=lambda failure: self._observer.dial_failed(number, failure),
                )
        except TimeoutError:
            reason = PeerUnreachable(f"it could not be reached within {timeout_s:.0f} s")
            self._observer.link_down(number, reason)
        except OnionMPCError as error:
            self._observer.link_down(number, error)
        else:
            await self._run(number, secure, dialled=True)

    async def _run(self, number: int, secure: SecureStream, *, dialled: bool) -> None:
        runner = LinkRunner(secure, lambda event: self._observer.link_event(number, event))
        self.links[number] = runner
        self._observer.link_up(number, runner, dialled=dialled)
        try:
            await runner.run()
        except (LinkExpired, RemoteProtocolError) as error:
            self._observer.link_down(number, error)
