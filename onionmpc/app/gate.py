"""The gate: decides which requests reach the app. It is outside all routes, and refuses what it does not know.

Web pages, other users and other programs of this machine can all reach a port of 127.0.0.1. So a request must name
exactly this address, come from our page, and carry a session's token. Only what the page loads before it has a token
needs none.

Reads the raw headers, as the client sent them: what libraries make of them has been wrong before (CVE-2026-48710).
Does not know what a request means.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from http import HTTPStatus
from typing import cast

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ENTRY = b"/"
PAGE_FILES = b"/page/"
EXCHANGE = b"/api/start"
MAX_BODY_BYTES = 64 * 2**10
# Names of ours have no other form. This leaves out schemes, queries, percent-encoding, "//", ".." and "*".
PLAIN_TARGET = re.compile(rb"/(?:[a-z0-9_-]+(?:[./][a-z0-9_-]+)*)?")

CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",  # and no policy for them, so that innerHTML throws
        "trusted-types 'none'",
    ]
)
HEADERS = (
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)


class Refusal(enum.Enum):
    """Why a request is refused. The values are the words of the reply, and differ."""

    KIND = "only HTTP is spoken here"
    HOST = "not the address of this app"
    METHOD = "this method is not known here"
    TARGET = "there is nothing of this name"
    UPGRADE = "no other protocol is spoken here"
    SITE = "the request does not come from the app's own page"
    ORIGIN = "the request comes from another origin"
    CONTENT_TYPE = "the body is not JSON"
    TOKEN = "the request has no valid token"  # noqa: S105
    TOO_LARGE = "the body is too large"

    @property
    def status(self) -> HTTPStatus:
        """Return the status code of the reply."""
        return STATUS.get(self, HTTPStatus.FORBIDDEN)


STATUS = {
    Refusal.METHOD: HTTPStatus.METHOD_NOT_ALLOWED,
    Refusal.TARGET: HTTPStatus.NOT_FOUND,
    Refusal.CONTENT_TYPE: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    Refusal.TOKEN: HTTPStatus.UNAUTHORIZED,
    Refusal.TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
}


def judge(scope: Scope, authority: bytes, is_open: Callable[[str], bool]) -> Refusal | None:
    """Return why a request is refused before its body is read, or None.

    Args:
        scope: of ASGI.
        authority: the one value that Host may have, such as b"127.0.0.1:40123".
        is_open: whether a token is that of an open session.
    """
    if scope["type"] != "http":
        return Refusal.KIND
    # Exactly one Host, and equal byte for byte. A page that rebinds its name to 127.0.0.1 sends its own name here.
    if _values(scope, b"host") != [authority]:
        return Refusal.HOST
    if scope["method"] not in ("GET", "POST"):
        return Refusal.METHOD
    target = scope["raw_path"]
    if not PLAIN_TARGET.fullmatch(target) or scope["query_string"]:
        return Refusal.TARGET
    if _values(scope, b"upgrade"):
        return Refusal.UPGRADE
    if not (_is_navigation(scope) if target == ENTRY else _values(scope, b"sec-fetch-site") == [b"same-origin"]):
        return Refusal.SITE
    # A browser sends the origin with each POST, and with a GET for another origin.
    origins = _values(scope, b"origin")
    if origins != [b"http://" + authority] and (origins or scope["method"] == "POST"):
        return Refusal.ORIGIN
    if scope["method"] == "POST" and _values(scope, b"content-type") != [b"application/json"]:
        return Refusal.CONTENT_TYPE
    needs_token = target not in (ENTRY, EXCHANGE) and not target.startswith(PAGE_FILES)
    return Refusal.TOKEN if needs_token and not is_open(bearer(scope)) else None


def bearer(scope: Scope) -> str:
    """Return the token of the one Authorization header, or "", which is nobody's token."""
    values = _values(scope, b"authorization")
    scheme, _, token = values[0].decode("latin-1").partition(" ") if len(values) == 1 else ("", "", "")
    return token if scheme == "Bearer" else ""


def _values(scope: Scope, name: bytes) -> list[bytes]:
    return [value for key, value in scope["headers"] if key.lower() == name]


def _is_navigation(scope: Scope) -> bool:
    """Return whether a browser loads the entry page into a tab of its own, and not into a frame or a script.

    It may come from anywhere: the file that opens the page counts as another site. The page alone does nothing.
    """
    return _values(scope, b"sec-fetch-mode") == [b"navigate"] and _values(scope, b"sec-fetch-dest") == [b"document"]


class Gate:
    """The outermost ASGI application. It adds the same security headers to each reply, refused or not.

    Args:
        app: gets the requests that are not refused, with their bodies read.
        authority, is_open: see `judge`.
    """

    def __init__(self, app: ASGIApp, authority: bytes, is_open: Callable[[str], bool]) -> None:
        self._app = app
        self._authority = authority
        self._is_open = is_open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request, or pass it on."""

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *HEADERS]}
            await send(message)

        if refusal := judge(scope, self._authority, self._is_open):
            await _refuse(scope, send_guarded, refusal)
            return
        body = await _read_body(receive) if scope["method"] == "POST" else b""
        if isinstance(body, Refusal):
            await _refuse(scope, send_guarded, body)
        elif body is not None:
            await self._app(scope, _replaying(body, receive), send_guarded)


async def _read_body(receive: Receive) -> bytes | Refusal | None:
    """Return the body, or None if the client has gone. How long it may take is up to the connection."""
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += cast(bytes, message.get("body", b""))
        if len(body) > MAX_BODY_BYTES:
            return Refusal.TOO_LARGE
        if not message.get("more_body", False):
            return body


def _replaying(body: bytes, receive: Receive) -> Receive:
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


async def _refuse(scope: Scope, send: Send, refusal: Refusal) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
    if scope["type"] != "http":
        return
    headers = [
        (b"content-type", b"application/json"),
        (b"connection", b"close"),  # otherwise h11 would take the rest of the body, no matter how long
        *([(b"allow", b"GET, POST")] if refusal is Refusal.METHOD else []),
    ]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": msgspec.json.encode({"refused": refusal.value})})
