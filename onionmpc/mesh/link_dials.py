"""The dials for one link: paced, each tried once, and the link carried over the streams that they open.

It knows what the answer to a dial means, and not when a stream is needed. Rules: docs/PROTOCOL.md section 3.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

from onionmpc.errors import AuthenticationFailed, LinkExpired, PeerUnreachable, TorError, VersionDiffers
from onionmpc.mesh.pace import Pace, SharedDials
from onionmpc.mesh.redial import DIAL_TIMEOUT_S
from onionmpc.mesh.runner import LinkRunner
from onionmpc.mesh.secure import SecureStream
from onionmpc.wire.handshake import Answer, Reply

# Dials that a link saves for when no stream delivers: replacing slow streams must not use up all that `Pace` allows.
DIALS_LEFT = 15


class Redialler(Protocol):
    """Dials the peers of a session again, and gives their links the streams that they accept."""

    async def redial(self, party: int, attempt: int, timeout_s: float) -> tuple[Reply, SecureStream]:
        """Dial a peer to resume its link.

        Args:
            attempt: of this outage, from 1.
        """

    def carry_dialled(self, party: int, secure: SecureStream, peer_offsets: tuple[int, int]) -> None:
        """Carry a peer's link over a stream that it accepted. `peer_offsets` are how much of each channel it has."""


class LinkDials:
    """Dials the peer of one link.

    Args:
        party: the peer's number.
        shared: by all links of this party.
    """

    def __init__(self, party: int, runner: LinkRunner, redialler: Redialler, shared: SharedDials) -> None:
        self.shared = shared
        self._party = party
        self._runner = runner
        self._redialler = redialler
        self._pace = Pace()

    async def turn(self, *, leaving: int = 0) -> None:
        """Wait until the next dial may begin. After it, `leaving` more dials could begin at once."""
        await asyncio.sleep(self._pace.step(time.monotonic(), leaving=leaving))

    async def dial(self, attempt: int, timeout_s: float = DIAL_TIMEOUT_S) -> str:
        """Dial; return why that failed, or an empty string if there is nothing left to do."""
        try:
            reply, secure = await self._redialler.redial(self._party, attempt, timeout_s)
        except (PeerUnreachable, AuthenticationFailed, VersionDiffers, TorError) as error:
            # Even a refusal or another version may be temporary: neither proves that it came from the peer, which has
            # spoken our version before.
            return error.message
        if reply.answer is Answer.ACCEPTED:
            self._redialler.carry_dialled(self._party, secure, reply.offsets)
            return ""
        await secure.close()
        if reply.answer is Answer.NOT_NOW:
            return "it answered: not now"
        # This answer is final: it came encrypted under keys that only the peer has.
        self._runner.fail(LinkExpired("it has ended or restarted, and does not know this session"))
        return ""

    async def dial_spare(self) -> str:
        """Dial a further stream; return why that failed, or an empty string."""
        await self.turn(leaving=DIALS_LEFT)
        async with self.shared.spare:
            return await self.dial(1)
