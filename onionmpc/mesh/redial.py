"""Dials a peer again and again until it lets us in.

Knows backoff, and what may mend itself. Does not know when to give up: the caller sets the deadline.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass

from onionmpc.errors import AuthenticationFailed, NotExpected, PeerUnreachable, TorError
from onionmpc.identity import Identity, Onion
from onionmpc.mesh.network import Network
from onionmpc.mesh.secure import SecureStream, dial
from onionmpc.mesh.timings import DEFAULT_MESH_TIMINGS, MeshTimings
from onionmpc.wire.handshake import Answer, Hello, Purpose, Reply

# A service that could not build its side of a circuit is silent, and a new circuit most often succeeds at once.
DIAL_TIMEOUT_S = 30.0
RETRY_GROWTH = 1.6


@dataclass(frozen=True, slots=True)
class DialFailed:
    """A dial that will be tried again.

    Attributes:
        reason: what was seen.
        again_in_s: seconds until the next try.
        not_expected: whether it is there, and cannot be found by us.
    """

    reason: str
    again_in_s: float
    not_expected: bool = False


def backoff_s(
    attempt: int, jitter: Callable[[], float] = random.random, timings: MeshTimings = DEFAULT_MESH_TIMINGS
) -> float:
    """Return how long to wait after try number `attempt` (from 1): growing, bounded, up to a quarter off by chance."""
    usual_s = min(timings.retry_last_s, timings.retry_first_s * RETRY_GROWTH ** (attempt - 1))
    return usual_s * (0.75 + jitter() / 2)


async def dial_until_accepted(
    network: Network,
    identity: Identity,
    peer: Onion,
    psk: bytes,
    hello: Hello,
    *,
    on_failure: Callable[[DialFailed], None],
    timings: MeshTimings = DEFAULT_MESH_TIMINGS,
) -> tuple[Reply, SecureStream]:
    """Dial until the peer accepts, or says that it dials us, where that was asked for.

    Raises:
        AuthenticationFailed: it has refused us for `timings.refused_for_s` seconds, or will for ever.
        VersionDiffers: it speaks another version. Tor vouches for who says so, and waiting does not mend it.
    """
    loop = asyncio.get_running_loop()
    refused_since: float | None = None
    attempt = 0
    while True:
        attempt += 1
        not_expected = False
        try:
            reply, secure = await dial(network, identity, peer, psk, hello, timeout_s=DIAL_TIMEOUT_S)
        except (PeerUnreachable, TorError) as error:
            # Our own tor may be on its way back; whether it is lost is for others to say. A peer that does not expect
            # us may be about to: what we read may be of its last session.
            reason, not_expected = error.message, isinstance(error, NotExpected)
        except AuthenticationFailed as error:
            refused_since = refused_since or loop.time()
            if loop.time() - refused_since >= timings.refused_for_s:
                raise
            reason = error.message
        else:
            if reply.answer is Answer.ACCEPTED or (
                reply.answer is Answer.DIAL_BACK and hello.purpose is Purpose.MESH_OR_DIAL_BACK
            ):
                return reply, secure
            await secure.close()
            reason = f"it answered: {reply.answer.name.lower().replace('_', ' ')}"
            if reply.answer is not Answer.NOT_NOW:
                raise AuthenticationFailed(reason)
        delay_s = backoff_s(attempt, timings=timings)
        on_failure(DialFailed(reason, delay_s, not_expected))
        await asyncio.sleep(delay_s)
