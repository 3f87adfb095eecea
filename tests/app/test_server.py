"""The server on 127.0.0.1: real requests, by raw sockets where a client library would put them right."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import signal
import socket
import tracemalloc
from dataclasses import replace

import pytest
from starlette.responses import StreamingResponse

from onionmpc.app.connection import ConnectionLimits
from onionmpc.app.gate import HEADERS, MAX_BODY_BYTES
from onionmpc.app.server import LOOPBACK, ServerLimits, Site
from onionmpc.app.tokens import START_LIFE_S, PageSession, Tokens
from tests.support.app import (
    ASSETS,
    NONCE,
    CountingDesk,
    Running,
    Shown,
    close,
    read_chunk,
    read_line,
    read_reply,
    running,
    served,
)

IMPATIENT = ServerLimits(connection=ConnectionLimits(request_s=0.2))
ROUTES = [
    (method, route.path.replace("{name}", "page.js"))
    for route in Site(CountingDesk(), ASSETS, Tokens(), 1.0).routes()
    for method in sorted((route.methods or set()) - {"HEAD"})
]


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


# --- What the page does -------------------------------------------------------------------------------------


@served()
async def test_the_page_and_its_files_are_served_with_their_types(server: Running) -> None:
    entry = await server.ask("GET", "/")
    assert (entry.status, entry.body) == (200, ASSETS["index.html"].content)
    assert entry.headers["content-type"] == "text/html; charset=utf-8"
    file = await server.ask("GET", "/page/page.js")
    assert (file.status, file.body) == (200, ASSETS["page.js"].content)
    assert file.headers["content-type"] == "text/javascript; charset=utf-8"


@served()
async def test_a_start_token_opens_a_session_that_sees_the_state_and_sends_intents(server: Running) -> None:
    authorization = await server.log_in()
    async with server.states(authorization) as states:
        await read_line(states)
        assert await read_line(states) == {"state": {"count": 0, "filling": "", "link_used_twice": False}}
        reply = await server.ask("POST", "/api/intent", b'{"add": 2}', authorization=authorization)
        assert (reply.status, reply.body) == (204, b"")
        assert (await read_line(states))["state"]["count"] == 2


@served()
async def test_an_intent_that_the_desk_refuses_gets_its_words(server: Running) -> None:
    reply = await server.ask("POST", "/api/intent", b"[]", authorization=await server.log_in())
    assert (reply.status, reply.json) == (422, {"error": "not an intent", "hint": "send a number"})


@served()
async def test_one_connection_serves_several_requests(server: Running) -> None:
    reader, writer = await server.connect()
    for _ in range(3):
        writer.write(server.request("GET", "/"))
        assert (await read_reply(reader)).status == 200
    await close(writer)


# --- Who may not --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    ["localhost:{port}", "127.0.0.1", "127.0.0.1.:{port}", "127.0.0.1:1", "evil.example:{port}", "[::1]:{port}", "x y"],
)
@served()
async def test_a_foreign_host_is_refused_on_every_route(server: Running, host: str) -> None:
    authorization = await server.log_in()
    for method, path in ROUTES:
        body = b"{}" if method == "POST" else None
        reply = await server.ask(
            method, path, body, host=host.format(port=server.port), authorization=authorization, onionmpc_nonce=NONCE
        )
        assert reply.status in (400, 403)
    assert server.desk.done == []


@served()
async def test_the_host_must_come_exactly_once(server: Running) -> None:
    request = server.request("GET", "/")
    line, _, rest = request.partition(b"\r\n")
    host = f"Host: {server.authority}\r\n".encode()
    without = rest.replace(host.lower(), b"")
    assert b"host" not in without.lower()
    assert (await server.raw(line + b"\r\n" + without)).status == 400  # HTTP/1.1: h11 refuses it
    assert (await server.raw(b"GET / HTTP/1.0\r\n" + without)).status == 403
    assert (await server.raw(line + b"\r\n" + host + host + without)).status == 400
    assert (await server.raw(line + b"\r\n" + host + b"host: evil.example\r\n" + without)).status == 400
    assert (await server.raw(line + b"\r\nhOsT: " + server.authority.encode() + b"\r\n" + without)).status == 200


@pytest.mark.parametrize(
    "target",
    ["http://{authority}/", "http://evil.example/", "{authority}", "*", "//{authority}/", "/?start=x", "/#start=x"],
)
@served()
async def test_no_other_form_of_a_target_is_served(server: Running, target: str) -> None:
    assert (await server.ask("GET", target.format(authority=server.authority))).status in (400, 404)


@pytest.mark.parametrize(
    "name",
    [
        "../../../../etc/passwd",
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e/page.js",
        "..\\page.js",
        "/etc/passwd",
        "page.js%00",
        "page.js/",
        "./page.js",
        ".",
        "",
        "other.js",
        "page.js?x",
    ],
)
@served()
async def test_no_path_leaves_the_page(server: Running, name: str) -> None:
    assert (await server.ask("GET", f"/page/{name}")).status in (400, 404)


@served()
async def test_no_api_route_answers_without_a_token(server: Running) -> None:
    asked = 0
    for method, path in ROUTES:
        if path.startswith("/api/") and path != "/api/start":
            asked += 1
            body = b'{"add": 1}' if method == "POST" else None
            for authorization in (None, "Bearer ", "Bearer " + "A" * 43, "Bearer " + server.tokens.new_start()):
                reply = await server.ask(method, path, body, authorization=authorization, onionmpc_nonce=NONCE)
                assert reply.status == 401
    assert asked == 2
    assert server.desk.done == []


@served()
async def test_unknown_routes_and_methods_are_refused(server: Running) -> None:
    authorization = await server.log_in()
    for path in ("/new", "/api", "/api/state/x", "/docs", "/favicon.ico"):
        assert (await server.ask("GET", path)).status == 401
        assert (await server.ask("GET", path, authorization=authorization)).status == 404
    for method, path in ROUTES:
        for other in ("HEAD", "OPTIONS", "TRACE", "CONNECT", "PUT", "DELETE", "PATCH", "BREW"):
            reader, writer = await server.connect()
            writer.write(server.request(other, path, authorization=authorization))
            assert (await reader.readline()).split()[1] == b"405"
            await close(writer)
        swapped = "POST" if method == "GET" else "GET"
        reply = await server.ask(swapped, path, authorization=authorization, content_type="application/json")
        assert reply.status in (403, 405)


@served()
async def test_no_other_page_is_served_by_its_origin_or_site(server: Running) -> None:
    authorization = await server.log_in()
    for origin in ("null", "http://evil.example", f"http://localhost:{server.port}", "http://127.0.0.1:1", None):
        reply = await server.ask("POST", "/api/intent", b'{"add": 1}', origin=origin, authorization=authorization)
        assert reply.status == 403
    for site in ("cross-site", "same-site", "none", None):
        reply = await server.ask("POST", "/api/intent", b'{"add": 1}', sec_fetch_site=site, authorization=authorization)
        assert reply.status == 403
        assert (await server.ask("GET", "/page/page.js", sec_fetch_site=site)).status == 403
    assert (await server.ask("GET", "/", sec_fetch_dest="iframe")).status == 403
    assert server.desk.done == []


@served()
async def test_no_websocket_is_opened(server: Running) -> None:
    authorization = await server.log_in()
    for path in ("/", "/api/state", "/page/page.js"):
        reply = await server.ask(
            "GET",
            path,
            authorization=authorization,
            onionmpc_nonce=NONCE,
            connection="Upgrade",
            upgrade="websocket",
            sec_websocket_version="13",
            sec_websocket_key="dGhlIHNhbXBsZSBub25jZQ==",
        )
        assert reply.status == 403


# --- Start tokens -------------------------------------------------------------------------------------------


@served()
async def test_a_start_token_that_comes_twice_ends_both_sessions_and_shows_in_the_state(server: Running) -> None:
    start = server.tokens.new_start()
    thief = f"Bearer {(await server.exchange(start)).json['token']}"
    other = await server.log_in()
    async with server.states(thief) as stolen, server.states(other) as states:
        for stream in (stolen, states):
            await read_line(stream)
            await read_line(stream)
        reply = await server.exchange(start)
        assert (reply.status, reply.json) == (403, {"refused": "used twice"})
        assert await read_line(stolen) == {"end": "revoked"}
        assert await read_chunk(stolen) == b""
        assert (await read_line(states))["state"]["link_used_twice"] is True
    assert (await server.ask("POST", "/api/intent", b'{"add": 1}', authorization=thief)).status == 401
    assert (await server.ask("POST", "/api/intent", b'{"add": 1}', authorization=other)).status == 204


CLOCK = Clock()


@served(clock=CLOCK)
async def test_an_expired_start_token_and_one_of_another_run_open_nothing(server: Running) -> None:
    start = server.tokens.new_start()
    CLOCK.now_s += START_LIFE_S + 1
    assert (await server.exchange(start)).json == {"refused": "expired"}
    assert (await server.exchange(Tokens().new_start())).json == {"refused": "unknown"}


@served()
async def test_what_is_not_an_exchange_opens_nothing(server: Running) -> None:
    start = server.tokens.new_start()
    for body in (b"", b"{", b"{}", b"[]", json.dumps({"start": start, "more": 1}).encode(), b'{"start": 1}', b"\xff"):
        assert (await server.ask("POST", "/api/start", body)).status == 400
    assert (await server.ask("GET", "/api/start")).status == 405
    assert (await server.exchange(start)).status == 200


@served()
async def test_no_token_is_in_a_log_an_error_or_a_header(server: Running, caplog: pytest.LogCaptureFixture) -> None:
    for logger in (None, "asyncio", "uvicorn", "uvicorn.access", "uvicorn.asgi", "uvicorn.error"):
        caplog.set_level(logging.DEBUG, logger)
    start = server.tokens.new_start()
    reply = await server.exchange(start)
    token, proof_key = reply.json["token"], reply.json["proof_key"]
    authorization = f"Bearer {token}"
    replies = [
        reply,
        await server.ask("POST", "/api/intent", b'{"add": 1}', authorization=authorization),
        await server.ask("POST", "/api/intent", token.encode(), authorization=authorization),
        await server.ask("GET", f"/{token}", authorization=authorization),
        await server.ask("GET", f"/?{token}", authorization=authorization),
        await server.raw(b"GET /" + token.encode() + b" HTTP/9\r\n\r\n"),
        await server.exchange(start),
    ]
    written = caplog.text + repr([record.__dict__ for record in caplog.records])
    for secret in (start, token, proof_key):
        assert secret not in written
        assert secret not in repr([each.headers for each in replies])
        assert secret not in repr([each.body for each in replies[1:]])


# --- Replies ------------------------------------------------------------------------------------------------


@served()
async def test_each_reply_carries_the_security_headers_and_names_no_software(server: Running) -> None:
    authorization = await server.log_in()
    replies = [
        await server.ask("GET", "/"),
        await server.ask("GET", "/page/page.js"),
        await server.ask("GET", "/page/none.js"),
        await server.ask("GET", "/none", authorization=authorization),
        await server.ask("GET", "/api/intent", authorization=authorization),
        await server.ask("PUT", "/"),
        await server.ask("GET", "/", host="evil.example"),
        await server.ask("POST", "/api/intent", b"{}", authorization=authorization),
        await server.ask("GET", "/api/state", authorization=authorization),
    ]
    assert {reply.status for reply in replies} == {200, 404, 405, 403, 422, 400}
    for reply in replies:
        assert {name: reply.headers.get(name.decode()) for name, _ in HEADERS} == {
            name: value.decode() for name, value in HEADERS
        }
        assert not {"server", "date", "set-cookie", "access-control-allow-origin", "etag"} & set(reply.headers)


def test_the_policy_lets_the_page_load_nothing_from_elsewhere_and_no_one_frame_it() -> None:
    policy = dict(part.partition(" ")[::2] for part in dict(HEADERS)[b"content-security-policy"].decode().split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"
    assert policy["require-trusted-types-for"] == "'script'"
    assert policy["trusted-types"] == "'none'"
    sources = {
        source for name, sources in policy.items() if name != "require-trusted-types-for" for source in sources.split()
    }
    assert sources == {"'none'", "'self'", "blob:"}


# --- Bounds -------------------------------------------------------------------------------------------------


@served()
async def test_a_body_may_have_64_kib_and_no_byte_more(server: Running) -> None:
    authorization = await server.log_in()
    most = b'{"add": 1}'.ljust(MAX_BODY_BYTES)
    assert (await server.ask("POST", "/api/intent", most, authorization=authorization)).status == 204
    assert (await server.ask("POST", "/api/intent", most + b" ", authorization=authorization)).status == 413
    assert len(server.desk.done) == 1


@served()
async def test_a_body_in_chunks_is_counted_as_it_comes(server: Running) -> None:
    authorization = await server.log_in()
    head = server.request(
        "POST",
        "/api/intent",
        authorization=authorization,
        content_type="application/json",
        transfer_encoding="chunked",
    )
    reader, writer = await server.connect()
    writer.write(head + b"8000\r\n" + bytes(0x8000) + b"\r\n8000\r\n" + bytes(0x8000) + b"\r\n1\r\n \r\n")
    assert (await read_reply(reader)).status == 413  # before the end, which never comes
    await close(writer)
    assert server.desk.done == []


@served(ServerLimits(connection=ConnectionLimits(request_s=1000.0, idle_s=1000)))
async def test_the_rest_of_a_refused_body_is_not_read(server: Running) -> None:
    reader, writer = await server.connect()
    head = server.request("POST", "/api/intent", content_type="application/json", content_length=str(2**40))
    writer.write(head)
    assert (await read_reply(reader)).status == 401
    assert await reader.read() == b""
    await close(writer)


@served()
async def test_a_header_without_an_end_is_refused(server: Running) -> None:
    assert (await server.raw(b"GET / HTTP/1.1\r\nx: " + b"y" * 2**15)).status == 400


@pytest.mark.parametrize(
    "begin",
    [b"", b"GET", b"GET / HTTP/1.1\r\nhost: x\r\n", b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n1"],
)
@served(IMPATIENT)
async def test_a_request_that_does_not_end_is_cut_in_time(server: Running, begin: bytes) -> None:
    reader, writer = await server.connect()
    writer.write(begin)
    await reader.read()
    assert reader.at_eof()
    await close(writer)


@served(IMPATIENT)
async def test_a_request_that_trickles_is_cut_in_time(server: Running) -> None:
    authorization = await server.log_in()
    reader, writer = await server.connect()
    head = server.request("POST", "/api/intent", authorization=authorization, content_type="application/json")
    writer.write(head[:-2] + b"content-length: 60000\r\n\r\n")
    ended = asyncio.ensure_future(reader.read())
    while not ended.done():
        writer.write(b" ")
        await asyncio.wait([ended], timeout=0.01)
    assert ended.exception() is not None or ended.result() == b""
    await close(writer)
    assert server.desk.done == []


@served(ServerLimits(connection=ConnectionLimits(most=3, request_s=1000.0)))
async def test_more_connections_than_allowed_are_cut_at_once(server: Running) -> None:
    held = [await server.connect() for _ in range(3)]
    reader, writer = await server.connect()
    with contextlib.suppress(ConnectionError):
        assert await reader.read() == b""
    await close(writer)
    for _, each in held:
        await close(each)
    async with asyncio.timeout(5):
        while True:  # until the server has noticed that they are gone
            try:
                assert (await server.ask("GET", "/")).status == 200
                break
            except (ConnectionError, asyncio.IncompleteReadError):
                continue


@served(ServerLimits(connection=ConnectionLimits(stalled_s=0.1)))
async def test_a_client_that_reads_nothing_is_cut_in_time(server: Running) -> None:
    before = asyncio.all_tasks()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, (LOOPBACK, server.port))
        await loop.sock_sendall(client, server.request("GET", "/page/large.css") * 20)
        assert await loop.sock_recv(client, 1) == b"H"
        replying = asyncio.all_tasks() - before
        assert len(replying) == 1
        await asyncio.wait(replying)


# --- The stream of states -----------------------------------------------------------------------------------


@served()
async def test_a_stream_begins_with_a_proof_and_the_whole_state(server: Running) -> None:
    reply = await server.exchange(server.tokens.new_start())
    session = PageSession(reply.json["token"], reply.json["proof_key"])
    server.desk.state = Shown(7)
    for _ in range(2):  # a reload
        async with server.states(f"Bearer {session.token}") as states:
            assert await read_line(states) == {"proof": session.proof(NONCE)}
            assert (await read_line(states))["state"]["count"] == 7


@pytest.mark.parametrize("nonce", [None, "0" * 31, "0" * 65, "g" * 32, "A" * 32])
@served()
async def test_a_stream_needs_a_nonce(server: Running, nonce: str | None) -> None:
    authorization = await server.log_in()
    assert (await server.ask("GET", "/api/state", authorization=authorization, onionmpc_nonce=nonce)).status == 400


@served(ServerLimits(heartbeat_s=0.01))
async def test_a_stream_without_changes_says_that_it_is_alive(server: Running) -> None:
    async with server.states(await server.log_in()) as states:
        await read_line(states)
        await read_line(states)
        assert [await read_line(states) for _ in range(3)] == [{}, {}, {}]


@served()
async def test_a_slow_reader_gets_the_newest_state_and_costs_no_memory(server: Running) -> None:
    filling = "x" * 2**16
    async with server.states(await server.log_in(), limit=2**10) as states:
        await read_line(states)
        await read_line(states)
        tracemalloc.start()
        try:
            for count in range(1, 3001):
                server.desk.state = Shown(count, filling)
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert held < 2**21  # 200 MB of states passed
        lines = 0
        while (await read_line(states))["state"]["count"] < 3000:
            lines += 1
        assert lines < 1000


@served()
async def test_a_reader_that_goes_frees_its_task_and_its_connection(server: Running) -> None:
    authorization = await server.log_in()
    before = asyncio.all_tasks()
    async with server.states(authorization) as states:
        await read_line(states)
        await read_line(states)
        streaming = asyncio.all_tasks() - before
        assert streaming
    await asyncio.wait(streaming)
    del streaming
    gc.collect()
    assert not [each for each in gc.get_objects() if isinstance(each, StreamingResponse)]


def test_the_end_closes_the_port_and_every_stream() -> None:
    async def scenario() -> None:
        async with asyncio.timeout(20):
            async with running() as server:
                reader, writer = await server.connect()
                authorization = await server.log_in()
                writer.write(server.request("GET", "/api/state", authorization=authorization, onionmpc_nonce=NONCE))
                await reader.readuntil(b'"state"')
                idle, idle_writer = await server.connect()
                server.desk.state = Shown(1, "x" * 2**24)  # more than the client reads, or its buffers hold
                await asyncio.sleep(0)
            with pytest.raises(ConnectionRefusedError):
                await server.connect()
            await idle.read()
            with contextlib.suppress(ConnectionError):
                await reader.read()
            await close(writer)
            await close(idle_writer)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(scenario())


def test_an_error_in_the_block_comes_out_as_it_is_and_closes_all() -> None:
    async def scenario() -> None:
        async def failing() -> None:
            async with running() as server:
                ports.append(server.port)
                raise KeyError

        ports: list[int] = []
        with pytest.raises(KeyError):
            await failing()
        with socket.socket() as probe, pytest.raises(ConnectionRefusedError):
            probe.connect((LOOPBACK, ports[0]))

    asyncio.run(scenario())


@served()
async def test_the_signals_of_the_process_stay_as_they_were(server: Running) -> None:
    assert (await server.ask("GET", "/")).status == 200  # so it runs
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert getattr(signal.getsignal(signal.SIGINT), "__name__", "") != "handle_exit"


@served()
async def test_only_127_0_0_1_listens(server: Running) -> None:
    for other in ("127.0.0.2", "::1"):
        with pytest.raises(OSError, match=r"Connect call failed|Cannot assign|unreachable"):
            await asyncio.open_connection(other, server.port)


def test_each_start_takes_a_port_that_nobody_else_has() -> None:
    async def scenario() -> None:
        async with running() as one, running() as other:
            assert one.port != other.port
            start = one.tokens.new_start()
            assert (await other.exchange(start)).json == {"refused": "unknown"}
            assert (await replace_authority(one, other).exchange(start)).status == 403

    asyncio.run(scenario())


def replace_authority(one: Running, other: Running) -> Running:
    """A page of `one` that asks `other`: another port of 127.0.0.1 is the same site for a browser."""
    asking = replace(other)
    asking.authority = one.authority
    return asking
