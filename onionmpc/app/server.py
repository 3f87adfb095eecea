"""Serves the page, its state and its intents on a port of 127.0.0.1, for as long as the app runs.

Knows the routes and what each replies. Does not know who may ask (gate.py), what a connection may cost
(connection.py), or what a state or an intent means: that is the Desk's.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import re
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Protocol, cast

import msgspec
import uvicorn
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route, Router

from onionmpc.app.assets import ENTRY_NAME, Asset
from onionmpc.app.connection import BoundedConnection, ConnectionLimits
from onionmpc.app.gate import Gate, bearer
from onionmpc.app.tokens import PageSession, StartRefused, Tokens, Why
from onionmpc.errors import OnionMPCError
from onionmpc.tasks import BackgroundTasks

LOOPBACK = "127.0.0.1"
WAITING_CONNECTIONS = 32  # connections that wait in the kernel
NONCE_HEADER = "onionmpc-nonce"
NONCE = re.compile(r"[0-9a-f]{32,64}")
JSON = "application/json"
JSON_LINES = "application/jsonl"
HEARTBEAT = b"{}\n"
REVOKED = b'{"end":"revoked"}\n'


class Desk(Protocol):
    """What the page looks at, and gives orders to."""

    @property
    def state(self) -> msgspec.Struct:
        """All that the page shows: frozen, and another object after each change."""

    async def changed(self, seen: msgspec.Struct) -> msgspec.Struct:
        """Wait until the state is no longer `seen`, and return the newest one."""

    async def do(self, intent: bytes) -> None:
        """Begin what the page asks for, in JSON, from a client that may be hostile.

        Raises:
            OnionMPCError: it is not an intent, or not possible now.
        """

    def link_used_twice(self) -> None:
        """Note, in the state, that another program on this computer used a link of ours. Its session has ended."""


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Timings of the server.

    Attributes:
        heartbeat_s: after this long without a change, a stream of states says that it is alive.
    """

    heartbeat_s: float = 15.0
    connection: ConnectionLimits = field(default_factory=ConnectionLimits)


class StartRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of an exchange."""

    start: str


class Site:
    """The routes, and the reply of each."""

    def __init__(self, desk: Desk, assets: Mapping[str, Asset], tokens: Tokens, heartbeat_s: float) -> None:
        self._desk = desk
        self._assets = assets
        self._tokens = tokens
        self._heartbeat_s = heartbeat_s

    def routes(self) -> list[Route]:
        """Return all routes."""
        return [
            Route("/", self.entry, methods=["GET"]),
            Route("/page/{name}", self.page_file, methods=["GET"]),
            Route("/api/start", self.start, methods=["POST"]),
            Route("/api/state", self.states, methods=["GET"]),
            Route("/api/intent", self.intent, methods=["POST"]),
        ]

    async def entry(self, _: Request) -> Response:
        """Reply with the page."""
        return _file(self._assets[ENTRY_NAME])

    async def page_file(self, request: Request) -> Response:
        """Reply with a file of the page."""
        asset = self._assets.get(request.path_params["name"])
        return _file(asset) if asset is not None else Response(status_code=HTTPStatus.NOT_FOUND)

    async def start(self, request: Request) -> Response:
        """Exchange a start token for a session."""
        try:
            wanted = msgspec.json.decode(await request.body(), type=StartRequest)
        except msgspec.DecodeError:
            return Response(status_code=HTTPStatus.BAD_REQUEST)
        try:
            session = self._tokens.exchange(wanted.start)
        except StartRefused as refused:
            if refused.why is Why.USED_TWICE:
                self._desk.link_used_twice()
            return _json({"refused": refused.why.value}, HTTPStatus.FORBIDDEN)
        return _json({"token": session.token, "proof_key": session.proof_key})

    async def states(self, request: Request) -> Response:
        """Reply with a stream of states, which proves in its first line that it comes from this process."""
        session = self._tokens.session_of(bearer(request.scope))
        nonce = request.headers.get(NONCE_HEADER, "")
        if session is None or not NONCE.fullmatch(nonce):
            return Response(status_code=HTTPStatus.BAD_REQUEST)
        return StreamingResponse(self._lines(session, nonce), media_type=JSON_LINES)

    async def _lines(self, session: PageSession, nonce: str) -> AsyncIterator[bytes]:
        yield _line({"proof": session.proof(nonce)})
        seen: msgspec.Struct | None = None
        # The session may end while a state is waited for, or while the client takes its time to read the last one. A
        # slow client gets the newest state next, and none of those in between.
        while self._tokens.session_of(session.token) is not None:
            if seen is not self._desk.state:
                seen = self._desk.state
                yield _line({"state": seen})
                continue
            try:
                async with asyncio.timeout(self._heartbeat_s):
                    await self._desk.changed(seen)
            except TimeoutError:
                yield HEARTBEAT
        yield REVOKED

    async def intent(self, request: Request) -> Response:
        """Pass on what the page asks for. What comes of it shows in the state."""
        try:
            await self._desk.do(await request.body())
        except OnionMPCError as error:
            return _json({"error": error.message, "hint": error.hint}, HTTPStatus.UNPROCESSABLE_ENTITY)
        return Response(status_code=HTTPStatus.NO_CONTENT)


def _file(asset: Asset) -> Response:
    return Response(asset.content, headers={"content-type": asset.content_type})


def _json(content: dict[str, str], status: HTTPStatus = HTTPStatus.OK) -> Response:
    return Response(msgspec.json.encode(content), status, media_type=JSON)


def _line(content: dict[str, Any]) -> bytes:
    return msgspec.json.encode(content) + b"\n"


class _Server(uvicorn.Server):
    """A server that leaves the signals of the process alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def serving(
    desk: Desk, assets: Mapping[str, Asset], tokens: Tokens, limits: ServerLimits | None = None
) -> AsyncIterator[int]:
    """Serve the page on 127.0.0.1 during the block, and yield the port, which the kernel picks.

    At the end, all connections are closed. The port stays ours until then.
    """
    limits = limits or ServerLimits()
    with socket.socket() as listening:
        listening.bind((LOOPBACK, 0))
        listening.listen(WAITING_CONNECTIONS)  # so that a browser that is faster than the server waits for it
        port = listening.getsockname()[1]
        site = Site(desk, assets, tokens, limits.heartbeat_s)
        server = _Server(_configuration(site, f"{LOOPBACK}:{port}", tokens, limits.connection))
        async with BackgroundTasks() as background:
            running = background.start(server.serve(sockets=[listening]))
            try:
                yield port
            finally:
                server.should_exit = True
                if running is not None:
                    await asyncio.wait([running])


def _configuration(site: Site, authority: str, tokens: Tokens, limits: ConnectionLimits) -> uvicorn.Config:
    # Slashes are not redirected: Starlette would build the address from what the client sent.
    router = Router(site.routes(), redirect_slashes=False)
    gate = Gate(router, authority.encode(), lambda token: tokens.session_of(token) is not None)
    return uvicorn.Config(
        gate,
        http=cast(type[asyncio.Protocol], functools.partial(BoundedConnection, limits)),
        ws="none",
        lifespan="off",
        loop="none",
        interface="asgi3",
        workers=1,  # or uvicorn would read $WEB_CONCURRENCY
        # Requests of strangers fill no log, and no log has a target or a header of a request.
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        backlog=WAITING_CONNECTIONS,
        timeout_keep_alive=limits.idle_s,
    )
