"""Requests to the app: none reaches a route without our Host, and its origin and token where the route needs them.

From bytes of a connection to the bytes of the replies: uvicorn's protocol with our bounds, the gate, the routes.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Hashable
from typing import Any

import uvicorn
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from onionmpc.app.connection import BoundedConnection, ConnectionLimits
from onionmpc.app.gate import Gate
from onionmpc.app.tokens import PageSession
from tests.fuzz.mutations import mutated

AUTHORITY = "127.0.0.1:40123"
TOKEN = "t" * 43
SESSION = PageSession(TOKEN, "p" * 43)
# A header may be folded over several lines.
HOST_LINE = re.compile(rb"^host:\s*127\.0\.0\.1:40123\s*$", re.I | re.M)
TOKEN_LINE = re.compile(rb"^authorization:\s*Bearer\s+t{43}\s*$", re.I | re.M)
ORIGIN_LINE = re.compile(rb"^origin:\s*http://127\.0\.0\.1:40123\s*$", re.I | re.M)
OPEN = ("/", "/api/start")


def request(method: str, target: str, body: bytes = b"", *more: str) -> bytes:
    length = [f"content-length: {len(body)}"] if body else []
    head = [f"{method} {target} HTTP/1.1", f"host: {AUTHORITY}", *more, *length, "", ""]
    return "\r\n".join(head).encode() + body


SITE = "sec-fetch-site: same-origin"
POSTED = (SITE, f"origin: http://{AUTHORITY}", "content-type: application/json")
AUTHORIZED = f"authorization: Bearer {TOKEN}"
INPUTS = mutated(
    st.sampled_from(
        [
            request("GET", "/", b"", "sec-fetch-mode: navigate", "sec-fetch-dest: document"),
            request("GET", "/page/page.js", b"", SITE),
            request("POST", "/api/start", json.dumps({"start": TOKEN}).encode(), *POSTED),
            request("GET", "/api/state", b"", SITE, AUTHORIZED),
            request("POST", "/api/intent", b'{"add": 1}', *POSTED, AUTHORIZED),
            request("POST", "/api/intent", b"", *POSTED, AUTHORIZED, "transfer-encoding: chunked")
            + b"1\r\nx\r\n0\r\n\r\n",
        ]
    ),
    [
        b"\r\n",
        b"\n",
        b"\0",
        b"host: evil.example\r\n",
        b"host: 127.0.0.1:40123\r\n",
        b"HTTP/1.0",
        b"http://127.0.0.1:40123",
        b"upgrade: websocket\r\nconnection: upgrade\r\n",
        b"content-length: 0\r\n",
        b"content-length: 70000\r\n",
        b"transfer-encoding: chunked\r\n",
        b"%2e%2e/",
        b"../",
        b"HEAD",
        b"CONNECT",
        b"0\r\n\r\n",
        b" ",
        b"\xff",
    ],
)
REFUSALS = ()


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 40123) if name in ("sockname", "peername") else default

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


def check(data: bytes) -> Hashable:
    return asyncio.run(exchanged(data))


async def exchanged(data: bytes) -> Hashable:
    reached: list[Scope] = []

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        reached.append(scope)
        message = await receive()
        assert len(message.get("body", b"")) <= 2**16
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    gate = Gate(route, AUTHORITY.encode(), lambda token: token == TOKEN)
    config = uvicorn.Config(
        gate, ws="none", lifespan="off", interface="asgi3", log_config=None, log_level="critical", proxy_headers=False
    )
    config.load()
    state = ServerState()
    connection = BoundedConnection(ConnectionLimits(), config, state, {}, asyncio.get_running_loop())
    wire = Wire()
    connection.connection_made(wire)
    if data:  # asyncio never hands over nothing
        connection.data_received(data)
    for _ in range(20):  # turns of the loop; a request that is incomplete waits for ever
        await asyncio.sleep(0)
    statuses = re.findall(rb"^HTTP/1\.1 ([0-9]{3}) ", wire.written, re.M)
    connection.connection_lost(None)
    if state.tasks:
        await asyncio.wait(state.tasks)
    for scope in reached:
        allowed(scope, data)
    assert TOKEN.encode() not in wire.written
    assert b"500" not in statuses
    return (*statuses[:2], *sorted({scope["path"] for scope in reached if scope["path"] in OPEN}))


def allowed(scope: Scope, data: bytes) -> None:
    """Check that the bytes themselves held what a request needs, by other means than a parser of HTTP."""
    assert HOST_LINE.search(data)
    assert scope["method"] in ("GET", "POST")
    assert re.fullmatch(r"/[a-z0-9_./-]*", scope["path"])
    assert ".." not in scope["path"]
    if scope["method"] == "POST":
        assert ORIGIN_LINE.search(data)
    if scope["path"] not in OPEN and not scope["path"].startswith("/page/"):
        assert TOKEN_LINE.search(data)
