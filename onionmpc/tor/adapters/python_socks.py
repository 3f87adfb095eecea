"""The one door to python-socks: a SOCKS5 request to tor, and tor's answer as a number.

python-socks 3.2 expects a proxy that is reached by TCP and answers as RFC 1928 says. What this module works around:

* It connects by TCP alone (async_/asyncio/_connect.py), and tor's SOCKS port is often a unix socket. So we connect, and
  `_Forward` poses as "the proxy before the proxy" that hands out the connection.
* Its `ReplyCode` (_protocols/socks5.py) ends at 8. An answer of tor's own, 0xF0 to 0xF7, becomes an error with the
  number in its text alone.
* It closes the connection at every answer but "granted" (`AsyncioProxy._connect`), and tor gives others on streams that
  got through; see `SocksConnection.drop_answer`.

So the socket that it works on is a `_LentSocket`: it notes what tor answers, and does not close.
"""

from __future__ import annotations

import contextlib
import socket
from typing import cast

from python_socks import ProxyError, ProxyTimeoutError, ProxyType
from python_socks.async_.asyncio import Proxy

GRANTED = 0
# RFC 1928 section 3 and RFC 1929 section 2: tor chooses user name and password, and accepts these.
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
        """Ask for a stream to a host, whose name goes to tor unresolved, and return the code of tor's answer.

        Raises:
            TimeoutError: there was no answer.
            EOFError: tor hung up before it answered.
            ValueError: what answered does not speak SOCKS5 as tor does.
            OSError: the connection broke.
        """
        proxy = Proxy(
            ProxyType.SOCKS5,
            "tor",  # `_Forward` is connected already
            0,
            username,
            password,
            rdns=True,  # only tor may resolve a name
            forward=cast("Proxy", _Forward(self._socket)),
        )
        # "from None": python-socks' chain repeats what we say, in worse words.
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
        with contextlib.suppress(OSError):  # nothing is left, or the stream has ended meanwhile
            self._socket.recv(MAX_ANSWER_BYTES)

    def detach(self) -> socket.socket:
        """Return the connection, for its stream."""
        return socket.socket(fileno=self._socket.detach())

    def close(self) -> None:
        """Close the connection, unless it is detached."""
        self._socket.really_close()


class _LentSocket(socket.socket):
    """A socket that notes what it receives, and leaves closing to its owner.

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
        """Ignore python-socks, which closes what it does not like."""

    def really_close(self) -> None:
        super().close()

    def answer_code(self) -> int | None:
        """Return the code of tor's answer to the request; None if it did not come to one."""
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
