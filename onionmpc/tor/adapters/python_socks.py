"""The one door to python-socks: a SOCKS5 request to tor, and tor's answer as a number.

python-socks 3.2 expects a proxy that is reached over TCP and answers as RFC 1928 says. This module works around:

* It connects over TCP only (async_/asyncio/_connect.py), and tor's SOCKS port is often a unix socket. So we connect,
and
  `_Forward` poses as "the proxy before the proxy" that hands out the connection.
* Its `ReplyCode` (_protocols/socks5.py) ends at 8. It turns tor's own answers, 0xF0 to 0xF7, into an error that has the
  number only in its text.
* It closes the connection after every answer except "granted" (`AsyncioProxy._connect`), but tor also sends other
  answers on streams that got through; see `SocksConnection.drop_answer`.

So we give it a `_LentSocket`, which records what tor answers, and ignores requests to close.
"""

from __future__ import annotations

import contextlib
import socket
from typing import cast

from python_socks import ProxyError, ProxyTimeoutError, ProxyType
from python_socks.async_.asyncio import Proxy

GRANTED = 0
# tor chooses the method "user name and password", and accepts ours (RFC 1928 section 3, RFC 1929 section 2).
LOGIN_ACCEPTED = b"\x05\x02\x01\x00"
SOCKS_VERSION = 5
# The longest answer to a request that RFC 1928 section 6 allows.
MAX_ANSWER_BYTES = 262


class SocksConnection:
    """A connection to tor's SOCKS port, for one request.

    Args:
        connection: connected and non-blocking; ours from now on.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = _LentSocket(connection)

    async def request(self, host: str, port: int, username: str, password: str, timeout_s: float) -> int:
        """Request a stream to a host, whose name goes to tor unresolved, and return the code of tor's answer.

        Raises:
            TimeoutError: there was no answer.
            EOFError: tor hung up before it answered.
            ValueError: the answer is not SOCKS5 as tor speaks it.
            OSError: the connection broke.
        """
        proxy = Proxy(
            ProxyType.SOCKS5,
            "tor",  # `_Forward` is connected already
            0,
            username,
            password,
            rdns=True,  # tor resolves the name; a DNS query of ours would reveal it
            forward=cast("Proxy", _Forward(self._socket)),
        )
        # "from None": the chain from python-socks says the same less clearly.
        try:
            await proxy.connect(host, port, timeout=timeout_s)
        except ProxyTimeoutError:
            raise TimeoutError from None
        except ProxyError:
            if code := self._socket.answer_code():
                return code
            raise (EOFError if self._socket.ended else ValueError) from None
        return GRANTED

    def drop_answer(self) -> None:
        """Drop the rest of an answer other than "granted", which python-socks leaves unread."""
        with contextlib.suppress(OSError):  # nothing is left, or the stream has ended
            self._socket.recv(MAX_ANSWER_BYTES)

    def detach(self) -> socket.socket:
        """Return the connection, for its stream."""
        return socket.socket(fileno=self._socket.detach())

    def close(self) -> None:
        """Close the connection, unless it is detached."""
        self._socket.really_close()


class _LentSocket(socket.socket):
    """A socket that records what it receives, and that only its owner can close.

    Attributes:
        ended: whether the other end has closed it.
    """

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(fileno=connection.detach())
        self.setblocking(False)
        self.ended = False
        self._received = bytearray()

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        received = super().recv(size, flags)
        self.ended = not received
        self._received += received
        return received

    def close(self) -> None:
        """Do nothing: python-socks closes the socket after an answer that it does not like."""

    def really_close(self) -> None:
        super().close()

    def answer_code(self) -> int | None:
        """Return the code of tor's answer to the request; None if there was none."""
        answer = self._received.removeprefix(LOGIN_ACCEPTED)
        if len(answer) == len(self._received) or len(answer) < 2 or answer[0] != SOCKS_VERSION:
            return None
        return answer[1]


class _Forward:
    """The proxy before the proxy, as python-socks sees it."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    async def connect(self, dest_host: str, dest_port: int, timeout: float | None = None) -> socket.socket:  # noqa: ARG002, ASYNC109
        return self._connection
