"""A small page with a desk, a running server, and raw HTTP to it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import msgspec

from onionmpc.app.assets import Asset
from onionmpc.app.server import ServerLimits, serving
from onionmpc.app.tokens import Tokens
from onionmpc.errors import UsageError

# Far more than any test needs: a test that hangs must fail, and not stop the others.
DEADLINE_S = 30.0
NONCE = "0123456789abcdef" * 2
ASSETS = MappingProxyType(
    {
        "index.html": Asset(b"<!doctype html><title>page</title>", "text/html; charset=utf-8"),
        "page.js": Asset(b"export {};", "text/javascript; charset=utf-8"),
        "large.css": Asset(b"a{}" * 2**20, "text/css; charset=utf-8"),
    }
)


class Shown(msgspec.Struct, frozen=True):
    """What the test's page shows."""

    count: int
    filling: str = ""
    link_used_twice: bool = False


class CountingDesk:
    """A desk that counts. Its one intent is {"add": N}."""

    def __init__(self) -> None:
        self._state = Shown(0)
        self._change = asyncio.Event()
        self.done: list[bytes] = []

    @property
    def state(self) -> Shown:
        return self._state

    @state.setter
    def state(self, state: Shown) -> None:
        self._state = state
        self._change.set()
        self._change = asyncio.Event()

    async def changed(self, seen: msgspec.Struct) -> Shown:
        while self._state is seen:
            await self._change.wait()
        return self._state

    async def do(self, intent: bytes) -> None:
        self.done.append(intent)
        try:
            add = json.loads(intent)["add"]
        except (ValueError, TypeError, KeyError) as error:
            raise UsageError("not an intent", hint="send a number") from error
        self.state = Shown(self.state.count + add)

    def link_used_twice(self) -> None:
        self.state = Shown(self.state.count, link_used_twice=True)


@dataclass
class Reply:
    """A reply as it came."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Running:
    """A server of this test."""

    desk: CountingDesk
    tokens: Tokens
    port: int
    authority: str = field(init=False)

    def __post_init__(self) -> None:
        self.authority = f"127.0.0.1:{self.port}"

    async def connect(self, limit: int = 2**16) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port, limit=limit)

    async def raw(self, request: bytes) -> Reply:
        """Send bytes and return the reply; the connection is closed afterwards."""
        reader, writer = await self.connect()
        try:
            writer.write(request)
            return await read_reply(reader)
        finally:
            await close(writer)

    async def ask(self, method: str, target: str, body: bytes | None = None, **changes: str | None) -> Reply:
        """Send a request as a browser does; `changes` are headers that differ, with None for those left out."""
        return await self.raw(self.request(method, target, body, **changes))

    def request(self, method: str, target: str, body: bytes | None = None, **changes: str | None) -> bytes:
        headers: dict[str, str | None] = {"host": self.authority, **self.from_browser(method, target)}
        if body is not None:
            headers |= {"content-type": "application/json", "content-length": str(len(body))}
        headers |= {name.replace("_", "-"): value for name, value in changes.items()}
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items() if value)]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")

    def from_browser(self, method: str, target: str) -> dict[str, str | None]:
        if target == "/":
            return {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
        origin = {"origin": f"http://{self.authority}"} if method == "POST" else {}
        return {"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors", "sec-fetch-dest": "empty", **origin}

    async def exchange(self, start: str) -> Reply:
        return await self.ask("POST", "/api/start", json.dumps({"start": start}).encode())

    async def log_in(self) -> str:
        """Return the Authorization header of a fresh session."""
        return f"Bearer {(await self.exchange(self.tokens.new_start())).json['token']}"

    @contextlib.asynccontextmanager
    async def states(self, authorization: str, limit: int = 2**16) -> AsyncIterator[asyncio.StreamReader]:
        """Yield a stream of states, after the headers of the reply."""
        reader, writer = await self.connect(limit)
        try:
            writer.write(self.request("GET", "/api/state", authorization=authorization, onionmpc_nonce=NONCE))
            assert (await read_head(reader))[0] == 200
            yield reader
        finally:
            await close(writer)


async def read_head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    pairs = [line.split(": ", 1) for line in lines[1:] if line]
    assert len({name for name, _ in pairs}) == len(pairs)  # no header comes twice
    return int(lines[0].split()[1]), {name.lower(): value for name, value in pairs}


async def read_reply(reader: asyncio.StreamReader) -> Reply:
    status, headers = await read_head(reader)
    if "content-length" in headers:
        return Reply(status, headers, await reader.readexactly(int(headers["content-length"])))
    if headers.get("transfer-encoding") != "chunked":
        return Reply(status, headers, await reader.read() if status != 204 else b"")
    body = b""
    while chunk := await read_chunk(reader):
        body += chunk
    return Reply(status, headers, body)


async def read_chunk(reader: asyncio.StreamReader) -> bytes:
    size = int(await reader.readuntil(b"\r\n"), 16)
    chunk = await reader.readexactly(size)
    assert await reader.readexactly(2) == b"\r\n"
    return chunk


async def read_line(reader: asyncio.StreamReader) -> Any:
    """Return the next line of a stream of states, which sends one in each chunk."""
    return json.loads(await read_chunk(reader))


async def close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def served(limits: ServerLimits | None = None, clock: Callable[[], float] | None = None) -> Callable[..., Any]:
    """Run a test with a server in its own event loop. Nothing may outlive it, and no task may fail unnoticed."""

    def decorate(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
        @functools.wraps(test)
        def run(**arguments: Any) -> None:
            asyncio.run(bounded(functools.partial(test, **arguments), limits, clock))

        # pytest must not take the server for a fixture.
        _, *others = inspect.signature(test).parameters.values()
        run.__signature__ = inspect.Signature(others)  # type: ignore[attr-defined]
        return run

    return decorate


async def bounded(
    test: Callable[..., Awaitable[None]], limits: ServerLimits | None, clock: Callable[[], float] | None
) -> None:
    unseen: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: unseen.append(what))
    async with asyncio.timeout(DEADLINE_S):
        async with running(limits, clock) as server:
            await test(server)
    assert unseen == []
    assert asyncio.all_tasks() == {asyncio.current_task()}


@contextlib.asynccontextmanager
async def running(
    limits: ServerLimits | None = None, clock: Callable[[], float] | None = None
) -> AsyncIterator[Running]:
    desk, tokens = CountingDesk(), Tokens(clock) if clock else Tokens()
    async with serving(desk, ASSETS, tokens, limits) as port:
        yield Running(desk, tokens, port)
