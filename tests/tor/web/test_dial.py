"""Dialling a site through a SOCKS port, against a fake one that gives every reply."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from onionmpc.errors import OnionMPCError, SiteFailed, TorFailed
from onionmpc.mesh.network import Stream
from onionmpc.tor.endpoint import Endpoint
from onionmpc.tor.web.dial import SITE_REPLIES, dial_site
from onionmpc.tor.web.site import WebSite
from tests.support.fake_socks import SUCCEEDED, FakeSocks, Serve, listening

SITE = WebSite("acme.example", 8443)


def refusal(serve: Serve) -> OnionMPCError:
    async def main() -> None:
        async with listening(serve) as socks:
            await dial_site(socks, SITE, 5)

    with pytest.raises((TorFailed, SiteFailed)) as raised:
        asyncio.run(main())
    return raised.value


def test_the_name_goes_to_tor_unresolved_and_each_dial_has_its_own_isolation() -> None:
    fake = FakeSocks(SUCCEEDED)

    async def main() -> None:
        async with listening(fake.serve) as socks:
            for _ in range(2):
                with await dial_site(socks, SITE, 5) as connection:
                    await asyncio.get_running_loop().sock_sendall(connection, b"echo")
                    assert await asyncio.get_running_loop().sock_recv(connection, 4) == b"echo"

    asyncio.run(main())
    assert fake.requests == [b"\x05\x01\x00\x03\x0cacme.example" + SITE.port.to_bytes(2)] * 2
    assert len(set(fake.logins)) == 2


@pytest.mark.parametrize(("code", "words"), [*SITE_REPLIES.items(), (0x42, "tor answered with the SOCKS reply 0x42")])
def test_a_refusal_has_words(code: int, words: str) -> None:
    error = refusal(FakeSocks(bytes([5, code, 0, 1, 0, 0, 0, 0, 0, 0])).serve)
    assert isinstance(error, SiteFailed)
    assert error.message == f"cannot reach acme.example:8443: {words}"
    assert "try again" in error.hint


def test_a_tor_that_is_gone_hangs_up_or_speaks_otherwise_is_to_blame(tmp_path: Path) -> None:
    async def hang_up(stream: Stream) -> None:
        await stream.reader.readexactly(1)
        stream.writer.close()

    async def web(stream: Stream) -> None:
        await stream.reader.readexactly(1)
        stream.writer.write(b"HTTP/1.0 400 Bad Request\r\n\r\n")
        stream.writer.close()

    assert isinstance(refusal(hang_up), TorFailed)
    assert isinstance(refusal(web), TorFailed)
    with pytest.raises(TorFailed, match="tor does not accept connections: No such file"):
        asyncio.run(dial_site(Endpoint(path=str(tmp_path / "socks")), SITE, 5))
