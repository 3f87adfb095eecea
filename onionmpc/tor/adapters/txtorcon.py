"""The one door to txtorcon: its control protocol, over a socket of asyncio's.

txtorcon 26.6 needs Twisted's reactor and asks tor for more than we use. This module works around the following, with
the place in txtorcon/torcontrolprotocol.py that makes it necessary:

* It runs in a reactor. `_Transport` lends it an asyncio transport instead, so any event loop will do.
* `_bootstrap` asks for signal/names, events/names and EXTENDED_EVENTS after the login. A filter before a control port
  (Tails, Whonix) refuses these, and txtorcon gives up. `_Protocol` answers them itself.
* `_do_authenticate` passes a cookie's path as text with one letter per byte, and `_read_cookie` leaves closing the file
  to the garbage collector. `_Protocol` reads the cookie itself.
* `connectionLost` uses `Deferred.callbacks` of the hook `on_disconnect`; both are deprecated. `_Protocol` has no hook.
* `TorProtocolError` and `TorDisconnectError` quote the command, which may contain a private key. No error raised here
  chains them.
* `Event.got_update` swallows what a callback raises. `Control.on_event` has the loop call the callback instead.
* `_accumulate_response` copies the whole answer for each line that it adds, and `get_info` strips the outer quotes of a
  list of quoted values. See `ControlConnection.command_lines`; `get_info` is not used.

Import it only where it is used: importing txtorcon takes as long as the rest of a party, and in the meantime a tor of
our own begins to bootstrap.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from txtorcon import TorControlProtocol, TorProtocolError
from txtorcon.torcontrolprotocol import TorDisconnectError

from onionmpc.tor.control.errors import CommandRefused, connection_gone

# All events that we ever listen to. `listen` finds out whether this tor, or a filter before it, allows one.
EVENTS = ("CIRC", "CIRC_MINOR", "HS_DESC", "STATUS_CLIENT", "STATUS_GENERAL")
# No signal is sent by txtorcon's own means, so it need not know any. Extended events are always on since tor 0.2.2.1
# (control-spec, "USEFEATURE").
KNOWN_INFO = {"signal/names": "", "events/names": " ".join(EVENTS)}
KNOWN_COMMANDS = {"USEFEATURE EXTENDED_EVENTS"}
COOKIE_BYTES = 32


class LoginRefused(Exception):
    """tor did not let us in.

    Attributes:
        code: of tor's reply (control-spec, "Replies"); None if txtorcon gave up, because tor has another cookie.
        reason: tor's own words.
    """

    def __init__(self, code: int | None = None, reason: str = "") -> None:
        super().__init__()
        self.code = code
        self.reason = reason


class ControlConnection:
    """A connection after login; made by `log_in`.

    Attributes:
        closed: done when the connection is gone.
        version: as tor gives it, e.g. "0.4.9.11" or "0.4.9.11 (git-...)".
    """

    def __init__(self, protocol: _Protocol, transport: _Transport) -> None:
        self._protocol = protocol
        self._transport = transport
        self.closed = transport.closed
        self.version: str = protocol.version

    async def command(self, line: str) -> str:
        """Send one command line, and return tor's answer without its codes.

        Raises:
            CommandRefused: tor answered with an error.
            TorFailed: the connection is gone.
        """
        return await self._issue(line, lambda: self._protocol.queue_command(line))

    async def command_lines(self, line: str) -> list[str]:
        """Send one command line, and return the lines of a long answer; raises as `command` does.

        For the 8,000 relays of the public network this takes 0.04 s, and `command` 1.4 s. txtorcon would mistake an
        event of several lines for lines of the answer, but none of EVENTS has several.
        """
        lines: list[str] = []
        await self._issue(line, lambda: self._protocol.queue_command(line, lines.append))
        return lines

    async def listen(self, event: str, callback: Callable[[str], None]) -> None:
        """Call back with the text of each event of this kind, without its name; raises as `command` does."""
        await self._issue("SETEVENTS", lambda: self._protocol.add_event_listener(event, callback))

    async def ignore(self, event: str, callback: Callable[[str], None]) -> None:
        """Undo `listen`, even one that tor refused.

        txtorcon names all of its events each time, and tor takes all or none: a refused one would spoil later requests.

        Raises:
            CommandRefused, TorFailed: as `command`. The callback is not called any more in any case.
        """
        await self._issue("SETEVENTS", lambda: self._protocol.remove_event_listener(event, callback))

    async def _issue(self, line: str, issue: Callable[[], Deferred[str]]) -> str:
        # Issue nothing when the connection is gone: nobody would handle the failure, and Twisted would print it.
        if self.closed.done():
            raise connection_gone()
        try:
            return cast("str", await issue().asFuture(asyncio.get_running_loop()))
        except TorProtocolError as error:
            raise CommandRefused(line, error.code, error.text) from None
        except TorDisconnectError:
            raise connection_gone() from None

    def close(self) -> None:
        """Close the connection at once."""
        self._transport.loseConnection()


async def log_in(connection: socket.socket, password: str) -> ControlConnection:
    """Log in over a connected socket, which is ours from now on: with a password, or with tor's cookie if it has one.

    Raises:
        LoginRefused: tor did not let us in.
        EOFError: tor hung up.
        OSError: the connection broke.
    """
    loop = asyncio.get_running_loop()
    protocol = _Protocol(password)
    transport = _Transport(protocol)
    ready = protocol.post_bootstrap.asFuture(loop)
    try:
        await loop.create_connection(lambda: transport, sock=connection)
        await ready
    except BaseException as error:
        transport.loseConnection()
        match error:
            case TorProtocolError():
                raise LoginRefused(error.code, error.text) from None
            case TorDisconnectError():
                raise EOFError from None
            case RuntimeError() | ValueError() | LookupError():  # what txtorcon raises for a cookie that is not tor's
                raise LoginRefused from None
        raise
    return ControlConnection(protocol, transport)


class _Protocol(TorControlProtocol):  # type: ignore[misc]  # txtorcon is untyped
    """Asks tor only for its version."""

    def __init__(self, password: str) -> None:
        super().__init__(password_function=(lambda: password) if password else None)
        self.on_disconnect = None

    def get_info(self, *keys: str) -> Deferred[Any]:
        """See txtorcon."""
        if keys[0] in KNOWN_INFO:
            return succeed({keys[0]: KNOWN_INFO[keys[0]]})
        return super().get_info(*keys)

    def queue_command(self, cmd: str, arg: Any = None) -> Deferred[Any]:  # noqa: ANN401
        """See txtorcon."""
        if cmd in KNOWN_COMMANDS:
            return succeed("OK")
        return super().queue_command(cmd, arg)

    def _read_cookie(self, cookiefile: str) -> None:
        self._cookie_data = Path(os.fsdecode(cookiefile.encode("latin-1"))).read_bytes()
        if len(self._cookie_data) != COOKIE_BYTES:
            raise RuntimeError


class _Transport(asyncio.Protocol):
    """asyncio's transport in the role of Twisted's, of which txtorcon uses only `write` and `loseConnection`.

    Attributes:
        closed: done when the connection is gone.
        disconnecting: Twisted's name for "will close soon".
    """

    def __init__(self, protocol: _Protocol) -> None:
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.disconnecting = False
        self._protocol = protocol
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)
        self._protocol.makeConnection(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._protocol.dataReceived(data)
        # txtorcon's parser raises these for lines that no tor sends. After one, answers no longer match commands.
        except (ValueError, LookupError, RuntimeError, RuntimeWarning):
            self.loseConnection()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (the cause says nothing to a user)
        self._protocol.connectionLost(Failure(ConnectionDone()))
        if not self.closed.done():
            self.closed.set_result(None)

    def write(self, data: bytes) -> None:
        """Twisted's way to send."""
        if self._transport is not None:
            self._transport.write(data)

    def loseConnection(self) -> None:  # noqa: N802 (Twisted's name)
        """Twisted's way to close."""
        self.disconnecting = True
        if self._transport is not None:
            self._transport.abort()
