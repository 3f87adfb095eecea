"""Dials an onion address through tor's SOCKS port, each time over a circuit of its own.

Knows SOCKS5 with Tor's extended replies (python-socks hides them; here they get words). Does not know who the peer
is: names go to tor unresolved, and nothing but .onion names goes there.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import cast

from python_socks import ProxyError, ProxyTimeoutError, ProxyType
from python_socks.async_.asyncio import Proxy

from onionmpc.errors import NotExpected, PeerUnreachable, TorFailed
from onionmpc.identity import Onion
from onionmpc.mesh.network import Stream
from onionmpc.tor.endpoint import Endpoint

ISOLATION_BYTES = 16
# The longest that SOCKS5 has.
ANSWER_BYTES = 262

# Source: tor's man page, SocksPort, ExtendedErrors (0xF0 to 0xF7); RFC 1928 section 6 (1 to 8).
PEER_REPLIES = {
    0x01: "tor could not reach it and gave no reason",
    0x03: "tor has no way to it now",
    0x04: "tor could not find it: it is offline or has not published yet",
    0x05: "it is there, but no party listens behind its address",
    0x06: "tor gave up waiting for it",
    0xF0: "its descriptor is not there: it is offline or has not published yet",
    0xF1: "its descriptor is not valid",
    0xF2: "no introduction point of it answers: it may just have gone offline",
    0xF3: "the rendezvous with it failed",
    0xF4: "its descriptor is sealed for those whom it expects, and this party is not one of them, or not yet",
    0xF5: "its descriptor is sealed for those whom it expects, and this party is not one of them, or not yet",
    0xF6: "tor takes its address for invalid",
    0xF7: "its introduction points did not answer in time",
}
OWN_REPLIES = {
    0x02: "this tor's own rules forbid it",
    0x07: "it does not take connections",
    0x08: "it does not take onion addresses",
}


# Its introduction points do not answer.
NO_INTRODUCTION = {0xF2, 0xF7}
# We gave tor no key to its descriptor, or another's.
SEALED = {0xF4, 0xF5}
# From here on they are Tor's own.
EXTENDED = 0xF0


class NotIntroduced(PeerUnreachable):
    """A peer's introduction points did not pass us on, or nobody behind them answered."""


@dataclass(frozen=True, slots=True)
class Dialled:
    """A stream, and the SOCKS user name by which tor knows its circuit."""

    stream: Stream
    username: str


GotThrough = Callable[[str], Awaitable[bool]]


async def nobody_can_tell(_username: str) -> bool:
    """Believe tor's answer, whatever it is: where its circuits are not seen."""
    return False


async def dial_onion(
    socks: Endpoint, onion: Onion, port: int, timeout_s: float, got_through: GotThrough = nobody_can_tell
) -> Dialled:
    """Open a stream to `onion`, whose end is to wait for us to speak first.

    Args:
        socks: tor's SOCKS port.
        onion: whom to dial.
        port: the virtual port, 1 to 65535.
        timeout_s: for all of it. tor itself would wait two minutes for a service that cannot build its side.
        got_through: tells by a dial's user name whether tor has a circuit to the peer for it.
    Raises:
        PeerUnreachable: tor reached nobody (NotIntroduced: though it may be there), or is not there at this moment.
        TorFailed: this is no tor, or one that will never dial for us.
    """
    # tor puts streams with different user names on different circuits (IsolateSOCKSAuth, its default).
    username, password = secrets.token_hex(ISOLATION_BYTES), secrets.token_hex(ISOLATION_BYTES)
    way, until_s = _Way(socks), asyncio.get_running_loop().time() + timeout_s
    proxy = Proxy(
        ProxyType.SOCKS5,
        socks.host,
        socks.port,
        username,
        password,
        rdns=True,  # only tor may resolve a name
        forward=cast("Proxy", way),
    )
    with contextlib.ExitStack() as failing:
        failing.callback(way.close)
        try:
            (await proxy.connect(onion, port, timeout=timeout_s)).close()
        except ProxyTimeoutError:
            raise NotIntroduced(
                f"no answer within {timeout_s:.3g} s",
                hint="a service that cannot build its circuit is silent: dial again",
            ) from None
        except ProxyError as error:
            # tor 0.4.9 answers with what went wrong first, also when it got through in the end: a directory that did
            # not know the peer yet, say, before one that did (connection_ap_handshake_socks_reply in its source).
            if (_code(error) or 0) < EXTENDED or not await _by(until_s, got_through(username)):
                # "from None": python-socks' chain repeats what we say, in worse words.
                raise _translate(socks, error) from None
            way.drop_answer()
        except OSError as error:
            # It may be on its way out or back in; whether it is gone for good is not seen from here.
            raise PeerUnreachable(f"our own tor does not take connections: {error.strerror or error}") from error
        reader, writer = await asyncio.open_connection(sock=way.connection)
        failing.pop_all()
    return Dialled(Stream(reader, writer), username)


async def _by(until_s: float, answer: Awaitable[bool]) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(until_s):
            return await answer
    return False


class _Way:
    """The proxy before the proxy, as python-socks sees it: it lends the connection to the SOCKS port itself.

    So one code path serves unix sockets, which python-socks cannot connect to, and TCP ports. What it lends is a
    duplicate: python-socks closes that when it does not like tor's answer.
    """

    def __init__(self, socks: Endpoint) -> None:
        self._socks = socks
        self.connection: socket.socket | None = None

    async def connect(self, dest_host: str, dest_port: int, timeout: float | None = None) -> socket.socket:  # noqa: ARG002
        self.connection = await self._socks.connect()
        return self.connection.dup()

    def drop_answer(self) -> None:
        """Drop what python-socks left unread; all of it is tor's."""
        if self.connection is not None:
            with contextlib.suppress(OSError):  # there is nothing left, or the stream has ended meanwhile
                self.connection.recv(ANSWER_BYTES)

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()


def _code(error: ProxyError) -> int | None:
    """Return tor's reply code; python-socks has none for those that are Tor's own."""
    extended = re.fullmatch(r"Invalid reply code: 0X([0-9A-F]{1,2})", str(error))
    return int(extended[1], 16) if extended else error.error_code


def _translate(socks: Endpoint, error: ProxyError) -> PeerUnreachable | TorFailed:
    code = _code(error)
    if code in SEALED:
        return NotExpected(PEER_REPLIES[code])
    if code in PEER_REPLIES:
        return (NotIntroduced if code in NO_INTRODUCTION else PeerUnreachable)(PEER_REPLIES[code])
    if code in OWN_REPLIES:
        return TorFailed(f"tor's SOCKS port {socks} refuses: {OWN_REPLIES[code]}", hint="use a tor of onionmpc's own")
    if str(error) == "Connection closed unexpectedly":
        return PeerUnreachable("tor hung up instead of an answer")
    if code is not None:
        return PeerUnreachable(f"tor answered with the SOCKS reply {code:#04x}, which we do not know")
    return TorFailed(f"{socks} does not speak SOCKS5 as tor does", hint="check that it is tor's SOCKS port")
