"""Dials a peer again and again until it accepts.

It decides how long to wait and which failures are final. The caller sets the deadline.
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

# A service that cannot build its side of a circuit is silent, and a new circuit usually succeeds at once. tor itself
# would wait for two minutes.
DIAL_TIMEOUT_S = 30.0
RETRY_GROWTH = 1.6


@dataclass(frozen=True, slots=True)
class DialFailed:
    """A dial that will be tried again.

    Attributes:
        reason: what was seen.
        again_in_s: seconds until the next try.
        not_expected: whether the peer is there, but its descriptor is sealed for others.
    """

    reason: str
    again_in_s: float
    not_expected: bool = False


def backoff_s(
    attempt: int, jitter: Callable[[], float] = random.random, timings: MeshTimings = DEFAULT_MESH_TIMINGS
) -> float:
    """Return how long to wait after try `attempt` (from 1): growing, bounded, a quarter more or less by chance."""
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
    """Dial until the peer accepts, or answers that it will dial us, if we asked for that.

    Raises:
        AuthenticationFailed: it has refused us for `timings.refused_for_s` seconds, or refuses for good.
        VersionDiffers: it speaks another version. Tor vouches that this is the peer, and waiting does not help.
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
            # Our own tor may be restarting, and others decide when it is lost for good. A peer that does not expect us
            # may do so soon: the descriptor that we read may be from its last session.
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
