"""The gate's judgement, without a server: which headers let a request pass."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onionmpc.app.gate import Gate, Refusal, bearer, judge

HOST = b"127.0.0.1:40123"
ORIGIN = b"http://127.0.0.1:40123"
TOKEN = "right"
Headers = list[tuple[bytes, bytes]]

COMMON: Headers = [(b"host", HOST), (b"sec-fetch-site", b"same-origin")]
ENTRY: Headers = [
    (b"host", HOST),
    (b"sec-fetch-site", b"none"),
    (b"sec-fetch-mode", b"navigate"),
    (b"sec-fetch-dest", b"document"),
]
AUTHORIZED: Headers = [*COMMON, (b"authorization", b"Bearer right")]
POSTED: Headers = [(b"origin", ORIGIN), (b"content-type", b"application/json")]

PASSING = [
    ("GET", b"/", ENTRY),
    ("GET", b"/page/page.js", COMMON),
    ("POST", b"/api/start", COMMON + POSTED),
    ("GET", b"/api/state", AUTHORIZED),
    ("POST", b"/api/intent", AUTHORIZED + POSTED),
]
EACH = pytest.mark.parametrize(("method", "target", "headers"), PASSING, ids=[str(case[1]) for case in PASSING])


def judged(method: str, target: bytes, headers: Headers, query: bytes = b"") -> Refusal | None:
    scope = {
        "type": "http",
        "method": method,
        "path": target.decode("latin-1"),
        "raw_path": target,
        "query_string": query,
        "headers": headers,
    }
    return judge(scope, HOST, lambda token: token == TOKEN)


def without(headers: Headers, name: bytes) -> Headers:
    return [pair for pair in headers if pair[0] != name]


@EACH
def test_what_our_page_sends_passes(method: str, target: bytes, headers: Headers) -> None:
    assert judged(method, target, headers) is None


@EACH
def test_each_header_is_needed_once_and_as_it_is(method: str, target: bytes, headers: Headers) -> None:
    for name, value in headers:
        if target == b"/" and name == b"sec-fetch-site":
            continue  # any site may lead to the page: see `_is_navigation`
        assert judged(method, target, without(headers, name)) is not None, f"without {name!r}"
        assert judged(method, target, [*headers, (name, value)]) is not None, f"two of {name!r}"
        for wrong in (b"", value.swapcase(), value + b".", b" " + value, value[:-1], value + b"\0"):
            if wrong != value:
                assert judged(method, target, [*without(headers, name), (name, wrong)]) is not None, (name, wrong)


@EACH
def test_no_upgrade_query_or_other_method_passes(method: str, target: bytes, headers: Headers) -> None:
    assert judged(method, target, [*headers, (b"upgrade", b"websocket")]) is Refusal.UPGRADE
    assert judged(method, target, headers, b"token=right") is Refusal.TARGET
    for other in ("HEAD", "OPTIONS", "TRACE", "CONNECT", "PUT", "DELETE", "PATCH", "get", "GETS", ""):
        assert judged(other, target, headers) is Refusal.METHOD


@pytest.mark.parametrize(
    "host",
    [
        b"localhost:40123",
        b"127.0.0.1",
        b"127.0.0.1:40124",
        b"127.0.0.1.:40123",
        b"127.0.0.1:40123:80",
        b"[::1]:40123",
        b"evil.example:40123",
        b"127.0.0.1:40123@evil.example",
        b"127.0.0.1:40123/",
        b"127.0.0.1:040123",
        b"127.1:40123",
        b"2130706433:40123",
        b"127.0.0.1:40123, evil.example",
    ],
)
def test_a_rebinding_page_sends_another_host(host: bytes) -> None:
    assert judged("GET", b"/", [*without(ENTRY, b"host"), (b"host", host)]) is Refusal.HOST


@pytest.mark.parametrize("site", [b"cross-site", b"same-site", b"none", b"same-origin,none", b"*"])
def test_another_site_or_port_cannot_use_a_token(site: bytes) -> None:
    headers = [*without(AUTHORIZED, b"sec-fetch-site"), (b"sec-fetch-site", site)]
    assert judged("GET", b"/api/state", headers) is Refusal.SITE
    assert judged("GET", b"/page/page.js", headers) is Refusal.SITE


@pytest.mark.parametrize("site", [b"cross-site", b"none", b"same-origin"])
def test_the_page_can_be_opened_from_a_file_a_typed_address_or_itself(site: bytes) -> None:
    assert judged("GET", b"/", [*without(ENTRY, b"sec-fetch-site"), (b"sec-fetch-site", site)]) is None


@pytest.mark.parametrize("destination", [b"iframe", b"frame", b"embed", b"object", b"script", b"image", b"empty"])
def test_the_page_opens_in_a_tab_only(destination: bytes) -> None:
    headers = [*without(ENTRY, b"sec-fetch-dest"), (b"sec-fetch-dest", destination)]
    assert judged("GET", b"/", headers) is Refusal.SITE


@pytest.mark.parametrize(
    "origin",
    [b"null", b"http://localhost:40123", b"http://127.0.0.1:40124", b"https://127.0.0.1:40123", b"http://127.0.0.1"],
)
@EACH
def test_no_other_origin_passes(method: str, target: bytes, headers: Headers, origin: bytes) -> None:
    assert judged(method, target, [*without(headers, b"origin"), (b"origin", origin)]) is Refusal.ORIGIN


@pytest.mark.parametrize(
    "value",
    [b"", b"Bearer", b"Bearer ", b"bearer right", b"Basic right", b"right", b"Bearer  right", b"Bearer right,right"],
)
def test_only_a_bearer_token_counts(value: bytes) -> None:
    headers = [*COMMON, (b"authorization", value)]
    assert judged("GET", b"/api/state", headers) is Refusal.TOKEN


def test_a_cookie_is_no_token() -> None:
    assert judged("GET", b"/api/state", [*COMMON, (b"cookie", b"token=right")]) is Refusal.TOKEN


@pytest.mark.parametrize("content_type", [b"text/plain", b"application/json; charset=utf-8", b"multipart/form-data"])
def test_what_a_form_can_post_does_not_pass(content_type: bytes) -> None:
    headers = [*AUTHORIZED, (b"origin", ORIGIN), (b"content-type", content_type)]
    assert judged("POST", b"/api/intent", headers) is Refusal.CONTENT_TYPE


TARGETS = [
    b"http://127.0.0.1:40123/",
    b"*",
    b"",
    b"127.0.0.1:40123",
    b"//",
    b"//page/page.js",
    b"/page/../api/state",
    b"/page/%2e%2e/page.js",
    b"/page/page%2ejs",
    b"/api%2fstate",
    b"/page/.hidden",
    b"/page/",
    b"/page\\page.js",
    b"/page/page.js\0",
    b"/PAGE/page.js",
    b"/api/state;x",
    b"/api/state#x",
    "/é".encode(),
]


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_has_one_form(target: bytes) -> None:
    assert judged("GET", target, AUTHORIZED) is Refusal.TARGET


def test_a_route_that_nobody_thought_of_needs_a_token() -> None:
    for target in (b"/new", b"/api", b"/api/start/x", b"/api/startx", b"/pages/page.js", b"/page", b"/x/page/a"):
        assert judged("GET", target, COMMON) is Refusal.TOKEN


def test_what_is_not_http_is_refused() -> None:
    for kind in ("websocket", "lifespan"):
        assert judge({"type": kind, "headers": COMMON}, HOST, lambda _: True) is Refusal.KIND


def test_a_websocket_is_closed_and_reaches_nothing() -> None:
    sent: list[Any] = []

    async def unreachable(*_: Any) -> Any:
        raise AssertionError

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(Gate(unreachable, HOST, lambda _: True)({"type": "websocket", "headers": []}, unreachable, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]


# --- For any request ----------------------------------------------------------------------------------------

# Near misses: what passes, with parts of it changed, left out or doubled.
NAMES = st.sampled_from([name for _, _, headers in PASSING for name, _ in headers]) | st.binary(max_size=12)
VALUES = st.sampled_from(
    [*{value for _, _, headers in PASSING for _, value in headers}, b"null", b"none", b"cross-site", b"Bearer wrong"]
) | st.binary(max_size=20)
HEADERS = st.builds(
    lambda base, dropped, more: [pair for number, pair in enumerate(base) if number not in dropped] + more,
    st.sampled_from([headers for _, _, headers in PASSING]),
    st.sets(st.integers(0, 6), max_size=1),
    st.lists(st.tuples(NAMES, VALUES), max_size=2),
)


def one(headers: Headers, name: bytes) -> bytes | None:
    found = [value for key, value in headers if key.lower() == name]
    return found[0] if len(found) == 1 else None


@given(
    method=st.sampled_from(["GET", "POST", "HEAD", "OPTIONS", "PUT"]),
    target=st.sampled_from([target for _, target, _ in PASSING] + TARGETS) | st.binary(max_size=12),
    headers=HEADERS,
    query=st.sampled_from([b"", b"", b"", b"a=b"]),
)
def test_whatever_passes_is_from_our_page_in_every_respect(
    method: str, target: bytes, headers: Headers, query: bytes
) -> None:
    if judged(method, target, headers, query) is not None:
        return
    assert method in ("GET", "POST")
    assert query == b""
    assert one(headers, b"host") == HOST
    assert not any(name.lower() == b"upgrade" for name, _ in headers)
    origins = [value for name, value in headers if name.lower() == b"origin"]
    assert origins in ([[ORIGIN]] if method == "POST" else [[], [ORIGIN]])
    if target == b"/":
        assert one(headers, b"sec-fetch-mode") == b"navigate"
        assert one(headers, b"sec-fetch-dest") == b"document"
    else:
        assert one(headers, b"sec-fetch-site") == b"same-origin"
    if not (target in (b"/", b"/api/start") or target.startswith(b"/page/")):
        assert one(headers, b"authorization") == b"Bearer right"
    if method == "POST":
        assert one(headers, b"content-type") == b"application/json"


@given(headers=st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=20))))
def test_a_token_is_read_from_any_bytes(headers: Headers) -> None:
    bearer({"headers": headers})
