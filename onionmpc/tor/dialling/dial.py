"""Dials an onion address through tor's SOCKS port, each time over its own circuit.

It interprets tor's answers, including the extended ones. Names go to tor unresolved, and only .onion names go there.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from onionmpc.errors import NotExpected, PeerUnreachable, TorFailed
from onionmpc.identity import Onion
from onionmpc.mesh.network import Stream
from onionmpc.tor.adapters.python_socks import GRANTED, SocksConnection
from onionmpc.tor.endpoint import Endpoint

ISOLATION_BYTES = 16

NOT_EXPECTED = "its descriptor is sealed for the parties that it expects, and this party is not (or not yet) among them"
# Source: tor's man page, SocksPort, ExtendedErrors (0xF0 to 0xF7); RFC 1928 section 6 (1 to 8).
PEER_REPLIES = {
    0x01: "tor could not reach it and gave no reason",
    0x03: "tor has no route to it now",
    0x04: "tor could not find it: it is offline or has not published yet",
    0x05: "it is there, but no party is listening at its address",
    0x06: "tor gave up waiting for it",
    0xF0: "tor found no descriptor of it: it is offline or has not published yet",
    0xF1: "its descriptor is not valid",
    0xF2: "its introduction points do not answer: it may just have gone offline",
    0xF3: "the rendezvous with it failed",
    0xF4: NOT_EXPECTED,
    0xF5: NOT_EXPECTED,
    0xF6: "tor considers its address invalid",
    0xF7: "its introduction points did not answer in time",
}
OWN_REPLIES = {
    0x02: "this tor's own rules forbid it",
    0x07: "it does not accept connections",
    0x08: "it does not accept onion addresses",
}
# Its introduction points do not answer.
NO_INTRODUCTION = {0xF2, 0xF7}
# We gave tor no key to its descriptor, or the wrong one.
SEALED = {0xF4, 0xF5}
# From here on the codes are Tor's own.
EXTENDED = 0xF0


class NotIntroduced(PeerUnreachable):
    """A peer's introduction points did not introduce us, or the peer behind them did not answer."""


@dataclass(frozen=True, slots=True)
class Dialled:
    """A stream, and the SOCKS user name by which tor knows its circuit."""

    stream: Stream
    username: str


# Returns whether tor has a circuit to the peer for the dial with this user name.
GotThrough = Callable[[str], Awaitable[bool]]


async def unknown(_username: str) -> bool:
    """Return False: for callers that cannot look at the circuit."""
    return False


async def dial_onion(
    socks: Endpoint, onion: Onion, port: int, timeout_s: float, got_through: GotThrough = unknown
) -> Dialled:
    """Open a stream to `onion`, which must wait for us to speak first.

    Args:
        socks: tor's SOCKS port.
        onion: the address to dial.
        port: the virtual port, 1 to 65535.
        timeout_s: for everything. tor itself would wait two minutes for a service that cannot build its side.
        got_through: asked when tor answers with an extended error.
    Raises:
        PeerUnreachable: tor did not reach the peer (NotIntroduced: which may be there), or tor is away at the moment.
        TorFailed: this is not tor's SOCKS port, or it will never dial for us.
    """
    # tor never lets streams with different user names share a circuit (IsolateSOCKSAuth, the default).
    username, password = secrets.token_hex(ISOLATION_BYTES), secrets.token_hex(ISOLATION_BYTES)
    until_s = asyncio.get_running_loop().time() + timeout_s
    with contextlib.ExitStack() as closing:
        try:
            async with asyncio.timeout_at(until_s):
                connection = SocksConnection(await socks.connect())
                closing.callback(connection.close)
                code = await connection.request(onion, port, username, password, timeout_s)
        except TimeoutError:
            raise NotIntroduced(
                f"no answer within {timeout_s:.3g} s",
                hint="a service that cannot build its circuit is silent: dial again",
            ) from None
        except OSError as error:
            # It may be ending or restarting. Whether it is gone for good cannot be seen here.
            raise PeerUnreachable(f"tor does not accept connections: {error.strerror or error}") from error
        except EOFError:
            raise PeerUnreachable("tor closed the connection without answering") from None
        except ValueError:
            raise TorFailed(
                f"{socks} does not speak SOCKS5 as tor does", hint="check that it is tor's SOCKS port"
            ) from None
        if code != GRANTED:
            # tor 0.4.9 answers with the first thing that went wrong, even if it got through in the end: for example,
            # one directory did not know the peer yet, and the next one did (connection_ap_handshake_socks_reply).
            if code < EXTENDED or not await _by(until_s, got_through(username)):
                raise _refusal(socks, code)
            connection.drop_answer()
        reader, writer = await asyncio.open_connection(sock=connection.detach())
    return Dialled(Stream(reader, writer), username)


async def _by(until_s: float, answer: Awaitable[bool]) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(until_s):
            return await answer
    return False


def _refusal(socks: Endpoint, code: int) -> PeerUnreachable | TorFailed:
    if code in SEALED:
        return NotExpected(PEER_REPLIES[code])
    if code in PEER_REPLIES:
        return (NotIntroduced if code in NO_INTRODUCTION else PeerUnreachable)(PEER_REPLIES[code])
    if code in OWN_REPLIES:
        return TorFailed(
            f"tor's SOCKS port {socks} refuses: {OWN_REPLIES[code]}", hint="let onionmpc start its own tor"
        )
    return PeerUnreachable(f"tor answered with the SOCKS reply {code:#04x}, which onionmpc does not know")
