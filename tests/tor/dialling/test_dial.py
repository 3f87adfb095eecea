"""Dialling through a SOCKS port, against a fake one that gives every reply."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from onionmpc.errors import OnionMPCError, PeerUnreachable, TorError, TorFailed
from onionmpc.identity import Onion
from onionmpc.mesh.listener import listening_local
from onionmpc.mesh.network import Stream
from onionmpc.tor.dialling.dial import OWN_REPLIES, PEER_REPLIES, NotIntroduced, dial_onion
from onionmpc.tor.endpoint import Endpoint
from tests.support.fake_socks import SUCCEEDED, FakeSocks, Serve, listening

ONION = Onion("a" * 56 + ".onion")
PORT = 9880


def refusal(serve: Serve, timeout_s: float = 5) -> OnionMPCError:
    async def main() -> None:
        async with listening(serve) as socks:
            await dial_onion(socks, ONION, PORT, timeout_s)

    with pytest.raises((TorFailed, PeerUnreachable)) as raised:
        asyncio.run(main())
    assert ONION[:56] not in str(raised.value)
    assert raised.value.__suppress_context__ or raised.value.__context__ is None
    return raised.value


def test_the_name_goes_to_tor_unresolved_and_each_dial_has_its_own_isolation() -> None:
    fake = FakeSocks(SUCCEEDED)

    async def main() -> list[str]:
        usernames = []
        async with listening(fake.serve) as socks:
            for _ in range(2):
                dialled = await dial_onion(socks, ONION, PORT, 5)
                usernames.append(dialled.username)
                dialled.stream.writer.write(b"echo")
                assert await dialled.stream.reader.readexactly(4) == b"echo"
                await dialled.stream.close()
        return usernames

    usernames = asyncio.run(main())
    assert fake.requests == [b"\x05\x01\x00\x03\x3e" + ONION.encode() + PORT.to_bytes(2)] * 2
    assert [login.split(b":")[0].decode() for login in fake.logins] == usernames
    assert len(set(fake.logins)) == 2


def test_a_port_of_this_machine_works() -> None:
    fake = FakeSocks(SUCCEEDED)

    async def main() -> None:
        async with listening_local(fake.serve) as port:
            dialled = await dial_onion(Endpoint(port=port), ONION, PORT, 5)
            dialled.stream.writer.write(b"echo")
            assert await dialled.stream.reader.readexactly(4) == b"echo"
            await dialled.stream.close()

    asyncio.run(main())


@pytest.mark.parametrize(("code", "words"), PEER_REPLIES.items())
def test_a_reply_about_the_peer_has_words(code: int, words: str) -> None:
    error = refusal(FakeSocks(bytes([5, code, 0, 1, 0, 0, 0, 0, 0, 0])).serve)
    assert isinstance(error, PeerUnreachable)
    assert str(error) == words


@pytest.mark.parametrize(("code", "words"), OWN_REPLIES.items())
def test_a_reply_about_tor_itself_blames_tor(code: int, words: str) -> None:
    error = refusal(FakeSocks(bytes([5, code, 0, 1, 0, 0, 0, 0, 0, 0])).serve)
    assert isinstance(error, TorFailed)
    assert words in str(error)


@pytest.mark.parametrize("code", [0xF0, 0xF3])
def test_a_stream_that_got_through_is_kept_although_tor_reports_an_earlier_failure(code: int) -> None:
    fake = FakeSocks(bytes([5, code, 0, 1, 0, 0, 0, 0, 0, 0]), stays=True)
    asked: list[str] = []

    async def got_through(username: str) -> bool:
        asked.append(username)
        return True

    async def main() -> None:
        async with listening(fake.serve) as socks:
            dialled = await dial_onion(socks, ONION, PORT, 5, got_through)
            dialled.stream.writer.write(b"echo")
            assert await dialled.stream.reader.readexactly(4) == b"echo"
            assert asked == [dialled.username]
            await dialled.stream.close()

    asyncio.run(main())


def test_only_an_extended_reply_may_report_an_earlier_failure() -> None:
    async def got_through(_username: str) -> bool:
        pytest.fail("asked")

    async def main() -> None:
        async with listening(FakeSocks(bytes([5, 5, 0, 1, 0, 0, 0, 0, 0, 0])).serve) as socks:
            await dial_onion(socks, ONION, PORT, 5, got_through)

    with pytest.raises(PeerUnreachable, match="no party is listening"):
        asyncio.run(main())


@pytest.mark.parametrize("code", [0x09, 0x42, 0xF8, 0xFF])
def test_an_unknown_reply_is_named(code: int) -> None:
    error = refusal(FakeSocks(bytes([5, code, 0, 1, 0, 0, 0, 0, 0, 0])).serve)
    assert isinstance(error, PeerUnreachable)
    assert f"{code:#04x}" in str(error)


def test_a_silent_tor_is_given_up_at_the_deadline() -> None:
    async def silent(stream: Stream) -> None:
        await stream.reader.read()

    error = refusal(silent, timeout_s=0.05)
    assert isinstance(error, NotIntroduced)
    assert "no answer within 0.05 s" in str(error)


@pytest.mark.parametrize("cut_after", [b"", b"\x05", b"\x05\x02"])
def test_a_tor_that_hangs_up_is_reported_as_no_answer(cut_after: bytes) -> None:
    async def hang_up(stream: Stream) -> None:
        await stream.reader.readexactly(1)
        stream.writer.write(cut_after)
        stream.writer.close()

    assert isinstance(refusal(hang_up), TorError | PeerUnreachable)


def test_a_port_that_is_not_socks_is_named() -> None:
    async def web(stream: Stream) -> None:
        await stream.reader.readexactly(1)
        stream.writer.write(b"HTTP/1.0 400 Bad Request\r\n\r\n")
        stream.writer.close()

    error = refusal(web)
    assert isinstance(error, TorFailed)
    assert "does not speak SOCKS5" in str(error)


def test_a_tor_that_is_not_there_may_come_back(tmp_path: Path) -> None:
    with pytest.raises(PeerUnreachable, match="tor does not accept connections: No such file"):
        asyncio.run(dial_onion(Endpoint(path=str(tmp_path / "socks")), ONION, PORT, 5))
