"""A page by TLS and HTTP, from a server on loopback behind a fake SOCKS port: what is sent, and each way to fail."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from pathlib import Path

import pytest

from onionmpc.errors import SiteFailed, UsageError
from onionmpc.mesh.listener import listening_local
from onionmpc.mesh.network import Stream
from onionmpc.tor.web.fetch import get_by
from onionmpc.tor.web.https import tls_context
from onionmpc.tor.web.site import WebSite
from tests.support.fake_socks import CarryingSocks, listening
from tests.support.website import Authority, Website, answer, running_website

DOMAIN, PATH = "acme.test", "/.well-known/onionmpc"
LIMIT_BYTES = 1000
PATIENCE_S = 20.0
AUTHORITY = Authority()


@pytest.fixture
def roots(tmp_path: Path) -> Path:
    """The file with the certificate of the authority that readers here trust."""
    return AUTHORITY.write_certificate(tmp_path / "ca.pem")


@pytest.fixture
def server(tmp_path: Path) -> ssl.SSLContext:
    """TLS of a site with a good certificate."""
    return AUTHORITY.server_context(tmp_path, DOMAIN)


async def get_from(site: Website, roots: Path | None, timeout_s: float = PATIENCE_S) -> bytes:
    socks = CarryingSocks(site.port)
    async with listening(socks.serve) as endpoint:
        content = await get_by(endpoint, WebSite(DOMAIN), PATH, tls_context(roots), LIMIT_BYTES, timeout_s)
    assert DOMAIN.encode() in socks.requests[0]
    return content


def get(server: ssl.SSLContext | None, roots: Path | None, response: bytes, *, stays: bool = False) -> bytes:
    async def main() -> bytes:
        async with running_website(server) as site:
            site.response, site.stays = response, stays
            return await get_from(site, roots)

    return asyncio.run(main())


def refusal(server: ssl.SSLContext | None, roots: Path | None, response: bytes = b"") -> SiteFailed:
    with pytest.raises(SiteFailed) as raised:
        get(server, roots, response)
    assert (raised.value.message + raised.value.hint).isprintable()
    assert raised.value.hint
    return raised.value


@pytest.mark.parametrize(
    "response",
    [
        answer(b"page"),
        answer(b"page", "200 Fine", "Set-Cookie: a=b", "Content-Encoding: identity", "Content-Type: text/html"),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\np\r\n3\r\nage\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\npage",
        b"HTTP/1.1 100 Continue\r\n\r\n" + answer(b"page"),
    ],
)
def test_a_page_is_fetched(server: ssl.SSLContext, roots: Path, response: bytes) -> None:
    assert get(server, roots, response) == b"page"


def test_a_server_that_keeps_the_connection_open_is_not_waited_for(server: ssl.SSLContext, roots: Path) -> None:
    assert get(server, roots, answer(b"page"), stays=True) == b"page"


def test_a_page_may_have_as_many_bytes_as_the_limit(server: ssl.SSLContext, roots: Path) -> None:
    assert get(server, roots, answer(b"x" * LIMIT_BYTES)) == b"x" * LIMIT_BYTES
    for longer in (
        answer(b"x" * (LIMIT_BYTES + 1)),
        b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * (LIMIT_BYTES + 1),
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n" + b"x" * (LIMIT_BYTES + 1),
    ):
        assert refusal(server, roots, longer).message == "the page of acme.test has more than 1000 bytes"


def test_nothing_is_sent_that_tells_one_reader_from_another(server: ssl.SSLContext, roots: Path) -> None:
    async def main() -> list[bytes]:
        async with running_website(server) as site:
            site.response = answer(b"page", "200 OK", "Set-Cookie: reader=7")
            for _ in range(2):
                await get_from(site, roots)
            return site.requests

    request = f"GET {PATH} HTTP/1.1\r\nHost: {DOMAIN}\r\nAccept-Encoding: identity\r\nConnection: close\r\n\r\n"
    assert asyncio.run(main()) == [request.encode()] * 2


@pytest.mark.parametrize(
    ("response", "words"),
    [
        (answer(b"", "404 Not Found"), "acme.test has no page /.well-known/onionmpc (404 Not Found)"),
        (answer(b"", "410 Gone"), "has no page"),
        (
            answer(b"", "301 Moved Permanently", "Location: https://www.acme.test/\x1b[2J"),
            "acme.test redirects to https://www.acme.test/\\x1b[2J (301 Moved Permanently), expected the page itself",
        ),
        (answer(b"", "302 Found"), "acme.test redirects to nowhere (302 Found)"),
        (answer(b"", "304 Not Modified"), "redirects to nowhere"),
        (answer(b"", "403 Forbidden"), "acme.test refuses the page (403 Forbidden)"),
        (answer(b"", "500 \x1b[31mNo"), "acme.test refuses the page (500 \\x1b[31mNo)"),
        (answer(b"", "204 No Content"), "acme.test refuses the page (204 No Content)"),
        (answer(b"", "200 OK", "Content-Encoding: gzip"), "acme.test compresses the page (gzip)"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\npage", "acme.test ended the page 6 bytes early"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npage\r\n",
            "acme.test does not answer as HTTP/1.1 does (IncompleteRead)",
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\npage\r\n",
            "acme.test does not answer as HTTP/1.1 does (IncompleteRead)",
        ),
        (b"", "the connection to acme.test broke: Remote end closed connection without response"),
        (b"SSH-2.0-OpenSSH\r\n", "acme.test does not answer as HTTP/1.1 does (BadStatusLine)"),
        (b"HTTP/1.1 abc\r\n\r\n", "BadStatusLine"),
        (b"HTTP/1.1 200 " + b"x" * 70_000, "LineTooLong"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n", "(HTTPException)"),
    ],
)
def test_any_other_answer_is_refused_in_words(server: ssl.SSLContext, roots: Path, response: bytes, words: str) -> None:
    assert words in refusal(server, roots, response).message


def test_a_certificate_of_an_authority_that_is_not_trusted_is_refused(
    server: ssl.SSLContext, roots: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What this machine trusts does not count.
    monkeypatch.setenv("SSL_CERT_FILE", str(roots))
    words = "acme.test did not prove its name: unable to get local issuer certificate"
    assert refusal(server, None).message == words
    assert refusal(server, Authority().write_certificate(tmp_path / "other.pem")).message.startswith(
        "acme.test did not prove its name: "
    )


@pytest.mark.parametrize(
    ("domains", "days", "words"),
    [
        (["other.test"], 1, "Hostname mismatch, certificate is not valid for 'acme.test'"),
        (["www.acme.test", "*.acme.test"], 1, "Hostname mismatch"),
        ([], 1, "Hostname mismatch"),  # its common name is the domain
        ([DOMAIN], -1, "certificate has expired"),
    ],
)
def test_a_certificate_for_another_name_or_time_is_refused(
    roots: Path, tmp_path: Path, domains: list[str], days: int, words: str
) -> None:
    server = AUTHORITY.server_context(tmp_path, *domains, name=DOMAIN, valid=datetime.timedelta(days))
    error = refusal(server, roots)
    assert error.message.startswith("acme.test did not prove its name: ")
    assert words in error.message
    assert "--ca" in error.hint


def test_a_server_without_tls_is_refused(roots: Path) -> None:
    async def plain(stream: Stream) -> None:
        await stream.reader.readexactly(1)
        stream.writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        stream.writer.close()

    async def main() -> None:
        async with listening_local(plain) as port:
            await get_from(Website(port), roots)

    with pytest.raises(SiteFailed, match=r"TLS with acme.test failed: wrong version number"):
        asyncio.run(main())


def test_an_end_that_is_not_tls_s_own_does_not_end_the_page(server: ssl.SSLContext, roots: Path) -> None:
    """Otherwise an exit relay could cut lines off a page without a length."""

    async def main() -> bytes:
        async with running_website(server) as site:
            site.response, site.cuts = b"HTTP/1.0 200 OK\r\n\r\npage", True
            return await get_from(site, roots)

    with pytest.raises(SiteFailed, match=r"TLS with acme.test failed: |the connection to acme.test broke: "):
        asyncio.run(main())


def test_a_silent_server_is_given_up_at_the_deadline(server: ssl.SSLContext, roots: Path) -> None:
    async def main() -> None:
        async with running_website(server) as site:
            site.stays = True
            with pytest.raises(SiteFailed, match=r"acme.test did not answer within 0.5 s"):
                await get_from(site, roots, timeout_s=0.5)

    asyncio.run(main())


def test_a_cancelled_fetch_ends_at_once_and_leaves_no_connection(server: ssl.SSLContext, roots: Path) -> None:
    async def main() -> None:
        async with running_website(server) as site:
            site.stays = True
            fetching = asyncio.create_task(get_from(site, roots, timeout_s=3600.0))
            await site.asked.wait()
            fetching.cancel()
            with pytest.raises(asyncio.CancelledError):
                await fetching
            await site.left.wait()

    asyncio.run(asyncio.wait_for(main(), PATIENCE_S))


def test_a_file_of_authorities_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("no certificate\n")
    for name, words in (("empty.pem", "has no certificate in PEM"), ("none.pem", "No such file")):
        with pytest.raises(UsageError, match=words) as raised:
            tls_context(tmp_path / name)
        assert name in raised.value.message


def test_no_key_of_a_connection_is_written_anywhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    context = tls_context(None)
    assert context.keylog_filename is None
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
