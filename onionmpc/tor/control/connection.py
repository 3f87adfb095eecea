"""The live control connection to a tor: logs in, asks, commands, hears events, waits for the bootstrap.

Knows txtorcon and translates its errors. Does not know onion services or circuits. txtorcon's protocol is driven by
asyncio's own transport, so no Twisted reactor runs and every event loop will do. It is imported where it is used: that
takes as long as all the rest of a party, and a tor of our own has begun to bootstrap by then.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from onionmpc.errors import BootstrapTimeout, ControlRefused, LocalProtocolError, TorFailed
from onionmpc.tor.adapters.stem import Version
from onionmpc.tor.control.bootstrap import Bootstrap
from onionmpc.tor.control.probe import Kind, Probe, probe
from onionmpc.tor.endpoint import Endpoint

if TYPE_CHECKING:
    from txtorcon import TorControlProtocol

PASSWORD_VARIABLE = "ONIONMPC_CONTROL_PASSWORD"  # noqa: S105 (its name, not the password)
LOGIN_TIMEOUT_S = 10.0
# tor answers within milliseconds, and within seconds on a machine that is busy. Longer than it takes to find out that
# one does not answer at all (life.py), which ends the connection.
ANSWER_TIMEOUT_S = 60.0
# For tor to take note that we listen no more.
FAREWELL_S = 1.0
DONE_PERCENT = 100
# Source: control-spec, "Replies".
BAD_AUTHENTICATION = 515
# What a filter before a control port (Tails, Whonix) answers to what it does not let through.
FILTERED = 510
FILTER_HINT = "a filter stands before this control port; docs/OTHER_TORS.md says what it must let through"

T = TypeVar("T")
BootstrapProgress = Callable[[int, str], None]


class CommandRefused(TorFailed):
    """A command that tor answered with an error.

    Attributes:
        code: three digits of control-spec, "Replies".
        reason: tor's own words.
    """

    def __init__(self, command: str, code: int, reason: str) -> None:
        # Only the command's first word: the rest of ADD_ONION is a private key.
        super().__init__(f"tor refused {command.split(maxsplit=1)[0]}: {code} {reason}", hint=_filter_hint(code))
        self.code = code
        self.reason = reason


class Control:
    """A control connection that is logged in; made by `open_control`.

    Attributes:
        closed: done when the connection is gone.
        version: tor's version as it says it, e.g. "0.4.9.11".
        refused: what this tor does not take, for whoever asks to note; it need not be asked for again.
    """

    def __init__(self, protocol: TorControlProtocol, closed: asyncio.Future[None]) -> None:
        self._protocol = protocol
        self.closed = closed
        self.version: str = protocol.version
        self.refused: set[str] = set()

    @property
    def release(self) -> Version:
        """The version alone: GETINFO may add " (git-...)"."""
        return Version(self.version.split()[0])

    def __repr__(self) -> str:
        # Commands wait in the protocol with their keys in them.
        return f"Control(closed={self.closed.done()})"

    async def command(self, line: str) -> str:
        """Send one command line and return tor's reply without its codes.

        Raises:
            CommandRefused: tor answered with an error.
            TorFailed: the connection is gone, or tor does not answer.
        """
        if "\r" in line or "\n" in line:
            raise LocalProtocolError("a control command of more than one line")
        return await self._ask(line, lambda: self._protocol.queue_command(line))

    async def get_info(self, key: str) -> str:
        """Return the value of one GETINFO key, several lines as they come."""
        # Not txtorcon's own parser: it strips the outer quotes of a list of quoted values.
        return (await self.command(f"GETINFO {key}")).removeprefix(f"{key}=").removeprefix("\n")

    async def get_lines(self, key: str) -> list[str]:
        """Return the value of one GETINFO key that has many lines.

        `get_info` would need 1.4 s for the 8,000 relays of the public network, since txtorcon copies a long answer for
        each line that it adds; this needs 0.04 s. An event of several lines that came in between would be mistaken for
        lines of the answer. We ask for none.
        """
        lines: list[str] = []
        await self._ask("GETINFO", lambda: self._protocol.queue_command(f"GETINFO {key}", lines.append))
        return lines[1:-1]  # without "key=" and "OK"

    @contextlib.asynccontextmanager
    async def on_event(self, name: str, callback: Callable[[str], None]) -> AsyncIterator[None]:
        """Call `callback` with the text of each event of this kind, its name left out.

        Args:
            name: one of protocol.EVENTS.
        Raises:
            CommandRefused: this tor has no such event, or may not tell us.
        """
        loop = asyncio.get_running_loop()

        def listen(text: str) -> None:
            # Later, from the loop: txtorcon would swallow what the callback raises into Twisted's log.
            loop.call_soon(callback, text)

        try:
            await self._ask("SETEVENTS", lambda: self._protocol.add_event_listener(name, listen))
            yield
        finally:
            # If it was refused, too: txtorcon names all its events each time, and with a refused one all are refused.
            # Nothing is heard any more whether tor answers or not, and one that hangs would hold up its successor.
            with contextlib.suppress(TorFailed, TimeoutError):
                async with asyncio.timeout(FAREWELL_S):
                    await self._ask("SETEVENTS", lambda: self._protocol.remove_event_listener(name, listen))

    async def bootstrap(self, progress: BootstrapProgress, timeout_s: float) -> None:
        """Wait until tor can build circuits.

        Args:
            progress: called with percent and tor's own summary, whenever they change.
            timeout_s: for all of it.
        Raises:
            BootstrapTimeout: it took longer; the message says how far tor got.
            TorFailed: the connection is gone.
        """
        state = Bootstrap()
        heard: asyncio.Queue[str] = asyncio.Queue()
        try:
            async with asyncio.timeout(timeout_s), contextlib.AsyncExitStack() as events:
                for name in ("STATUS_CLIENT", "STATUS_GENERAL"):
                    # A filter before the control port (Tails, Whonix) may hide them; the question below is allowed.
                    with contextlib.suppress(CommandRefused):
                        await events.enter_async_context(self.on_event(name, heard.put_nowait))
                heard.put_nowait(await self.get_info("status/bootstrap-phase"))
                while state.percent < DONE_PERCENT:
                    before, state = state, state.after(await self.unless_closed(heard.get()))
                    if (state.percent, state.summary) != (before.percent, before.summary):
                        progress(state.percent, state.summary)
        except TimeoutError:
            raise BootstrapTimeout(
                f"tor got to {state.percent} % ({state.seen}) in {timeout_s:g} s", hint=state.hint
            ) from None

    async def unless_closed(self, waiting: Coroutine[Any, Any, T]) -> T:
        """Return what `waiting` returns, or raise TorFailed as soon as the connection is gone."""
        task = asyncio.ensure_future(waiting)
        try:
            either: set[asyncio.Future[Any]] = {task, self.closed}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise connection_gone()
        finally:
            task.cancel()

    async def _ask(self, line: str, issue: Callable[[], Any]) -> str:
        from txtorcon import TorProtocolError
        from txtorcon.torcontrolprotocol import TorDisconnectError

        # Not issued when the connection is gone: nobody would take the failure, and Twisted would print it.
        if self.closed.done():
            raise connection_gone()
        # "from None" below: txtorcon's errors quote the command, and with ADD_ONION the private key.
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                reply: str = await issue().asFuture(asyncio.get_running_loop())
        except TorProtocolError as error:
            raise CommandRefused(line, error.code, error.text) from None
        except TorDisconnectError:
            raise connection_gone() from None
        except TimeoutError:
            raise TorFailed(f"tor did not answer {line.split(maxsplit=1)[0]} in {ANSWER_TIMEOUT_S:g} s") from None
        return reply


@contextlib.asynccontextmanager
async def open_control(endpoint: Endpoint, timeout_s: float = LOGIN_TIMEOUT_S) -> AsyncIterator[Control]:
    """Connect and log in: by cookie if its file can be read, else by $ONIONMPC_CONTROL_PASSWORD, else without.

    Args:
        timeout_s: for all of it.
    Raises:
        ControlRefused: nothing is there, it is no control port, or it does not let us in.
    """
    from onionmpc.tor.adapters.txtorcon import SparingProtocol

    until_s = asyncio.get_running_loop().time() + timeout_s
    found = await probe(endpoint, timeout_s)
    password = _way_in(endpoint, found)
    protocol = SparingProtocol(password_function=(lambda: password) if password else None)
    wire = _Wire(protocol)
    try:
        try:
            async with asyncio.timeout_at(until_s):
                await _log_in(endpoint, protocol, wire, "" if password else found.cookie_file)
        except TimeoutError:
            raise _refused(endpoint, f"did not let us in within {timeout_s:g} s") from None
        yield Control(protocol, wire.closed)
    finally:
        wire.loseConnection()


async def _log_in(endpoint: Endpoint, protocol: TorControlProtocol, wire: _Wire, cookie: str) -> None:
    """Log in by what the protocol was given: a password, or this cookie if there is one."""
    from txtorcon import TorProtocolError
    from txtorcon.torcontrolprotocol import TorDisconnectError

    loop = asyncio.get_running_loop()
    ready = protocol.post_bootstrap.asFuture(loop)
    try:
        await loop.create_connection(lambda: wire, sock=await endpoint.connect())
        await ready
    except OSError as error:
        raise _refused(endpoint, f"cannot be reached: {error.strerror or error}") from error
    # "from None": txtorcon's errors may quote what a login consists of.
    except TorProtocolError as error:
        if error.code == BAD_AUTHENTICATION:
            # Not in tor's words: it lists every way in, or says that a password has to be quoted, which ours was.
            raise _wrong(endpoint, cookie) from None
        what = f"refused our login: {error.code} {error.text}"
        raise _refused(endpoint, what, _filter_hint(error.code)) from None
    except TorDisconnectError:
        raise _refused(endpoint, "hung up while we logged in") from None
    except (RuntimeError, ValueError, LookupError):
        raise _wrong(endpoint, cookie) from None


def _wrong(endpoint: Endpoint, cookie: str) -> ControlRefused:
    if cookie:
        return _refused(
            endpoint,
            f"has another cookie than the one in {cookie}: another tor wrote that file, or an earlier run of this one",
            "restart that tor, which writes the file anew; two tors need a CookieAuthFile each",
        )
    return _refused(
        endpoint,
        f"does not take the password in {PASSWORD_VARIABLE}",
        "set it to the password itself; HashedControlPassword in its torrc is what tor --hash-password makes of that",
    )


def _way_in(endpoint: Endpoint, found: Probe) -> str:
    """Return the password to log in with, or the empty string; refuse what cannot work, in plain words."""
    if found.kind is not Kind.CONTROL:
        hints = {
            Kind.NOTHING: "start tor, or leave --control out: onionmpc then starts a tor of its own",
            Kind.FORBIDDEN: "join tor's group (Debian: sudo adduser $USER debian-tor) and log in again",
            Kind.SOCKS: "give the control port; tor's is usually unix:/run/tor/control or 127.0.0.1:9051",
            Kind.OTHER: "give tor's control port",
        }
        raise _refused(endpoint, f"is {found.kind.value}, expected a control port", hints[found.kind])
    password = os.environ.get(PASSWORD_VARIABLE, "")
    if found.methods & {"COOKIE", "SAFECOOKIE"}:
        problem = _cookie_problem(Path(found.cookie_file))
        if not problem:
            return ""
        if not (password and "HASHEDPASSWORD" in found.methods):
            raise _refused(
                endpoint,
                f"wants its cookie, and {found.cookie_file} {problem}",
                "join tor's group (Debian: sudo adduser $USER debian-tor) and log in again; torrc lines for it are "
                "in torrc.d/system-control.torrc",
            )
    if "HASHEDPASSWORD" in found.methods and not password:
        raise _refused(endpoint, "wants a password", f"set {PASSWORD_VARIABLE}")
    return password


def _cookie_problem(cookie: Path) -> str:
    try:
        with cookie.open("rb") as file:
            file.read(1)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return ""


def _filter_hint(code: int) -> str:
    return FILTER_HINT if code == FILTERED else ""


def _refused(endpoint: Endpoint, what: str, hint: str = "") -> ControlRefused:
    return ControlRefused(f"{endpoint} {what}", hint=hint)


def connection_gone() -> TorFailed:
    """Return the error for a connection that tor has closed."""
    return TorFailed("tor closed the control connection", hint="look whether tor still runs, and at its log")


class _Wire(asyncio.Protocol):
    """Lends an asyncio transport to a Twisted protocol, which asks for no more of a transport than this.

    Attributes:
        closed: done when the connection is gone.
        disconnecting: Twisted's name for "will close soon".
    """

    def __init__(self, protocol: TorControlProtocol) -> None:
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.disconnecting = False
        # txtorcon looks into this deprecated hook when it disconnects, and into a deprecated part of Twisted with it.
        protocol.on_disconnect = None
        self._protocol = protocol
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)
        self._protocol.makeConnection(self)

    def data_received(self, data: bytes) -> None:
        try:
            # txtorcon 26.6 leaves it to the garbage collector to close the cookie file.
            with warnings.catch_warnings(action="ignore", category=ResourceWarning):
                self._protocol.dataReceived(data)
        # What txtorcon's parser raises for lines that no tor sends; without order there is no going on.
        except (ValueError, LookupError, RuntimeError, RuntimeWarning):
            self.loseConnection()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (the cause says nothing to a user)
        from twisted.internet.error import ConnectionDone
        from twisted.python.failure import Failure

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
