"""Dialling through a SOCKS port, against a fake one that gives every reply."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from onionmpc.errors import PeerUnreachable, TorError, TorFailed, UsageError
from onionmpc.files import socket_directory
from onionmpc.identity import Identity, Onion
from onionmpc.mesh.listener import listening_local, listening_unix
from onionmpc.mesh.network import Stream
from onionmpc.tor import network as tor_network
from onionmpc.tor.dialling.dial import OWN_REPLIES, PEER_REPLIES, NotIntroduced, dial_onion
from onionmpc.tor.endpoint import Endpoint
from onionmpc.tor.network import TorNetwork, TorOptions

ONION = Onion("a" * 56 + ".onion")
PORT = 9880
SUCCEEDED = bytes([5, 0, 0, 1, 0, 0, 0, 0, 0, 0])

Serve = Callable[[Stream], Awaitable[None]]


class FakeSocks:
    """Answers a connection request with fixed bytes, then echoes; keeps what it was asked."""

    def __init__(self, answer: bytes, *, stays: bool = False) -> None:
        self.answer = answer
        self.stays = stays or answer == SUCCEEDED
        self.logins: list[bytes] = []
        self.requests: list[bytes] = []

    async def serve(self, stream: Stream) -> None:
        reader, writer = stream.reader, stream.writer
        _, methods = await reader.readexactly(2)
        assert 2 in await reader.readexactly(methods)
        writer.write(b"\x05\x02")
        _, length = await reader.readexactly(2)
        name = await reader.readexactly(length)
        password = await reader.readexactly((await reader.readexactly(1))[0])
        self.logins.append(name + b":" + password)
        writer.write(b"\x01\x00")
        head = await reader.readexactly(5)
        self.requests.append(head + await reader.readexactly(head[4] + 2))
        writer.write(self.answer)
        while self.stays and (more := await reader.read(100)):
            writer.write(more)
        await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def listening(serve: Serve) -> AsyncIterator[Endpoint]:
    with socket_directory() as directory:
        path = directory / "socks"
        async with listening_unix(path, serve):
            yield Endpoint(path=str(path))


def refusal(serve: Serve, timeout_s: float = 5) -> TorError | PeerUnreachable:
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


def test_a_port_of_this_machine_will_do() -> None:
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
def test_a_reply_about_our_tor_blames_our_tor(code: int, words: str) -> None:
    error = refusal(FakeSocks(bytes([5, code, 0, 1, 0, 0, 0, 0, 0, 0])).serve)
    assert isinstance(error, TorFailed)
    assert words in str(error)


@pytest.mark.parametrize("code", [0xF0, 0xF3])
def test_a_stream_that_got_through_is_kept_though_tor_names_what_failed_before(code: int) -> None:
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


def test_only_a_reply_of_tors_own_may_be_about_what_failed_before() -> None:
    async def got_through(_username: str) -> bool:
        pytest.fail("asked")

    async def main() -> None:
        async with listening(FakeSocks(bytes([5, 5, 0, 1, 0, 0, 0, 0, 0, 0])).serve) as socks:
            await dial_onion(socks, ONION, PORT, 5, got_through)

    with pytest.raises(PeerUnreachable, match="no party listens"):
        asyncio.run(main())


@pytest.mark.parametrize("code", [0x09, 0x42, 0xF8, 0xFF])
def test_an_unknown_reply_is_named(code: int) -> None:
    error = refusal(FakeSocks(bytes([5, code, 0, 1, 0, 0, 0, 0, 0, 0])).serve)
    assert isinstance(error, PeerUnreachable)
    assert f"{code:#04x}" in str(error)


def test_a_silent_tor_costs_no_more_than_the_deadline() -> None:
    async def silent(stream: Stream) -> None:
        await stream.reader.read()

    error = refusal(silent, timeout_s=0.05)
    assert isinstance(error, NotIntroduced)
    assert "no answer within 0.05 s" in str(error)


@pytest.mark.parametrize("cut_after", [b"", b"\x05", b"\x05\x02"])
def test_a_tor_that_hangs_up_is_no_answer(cut_after: bytes) -> None:
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
    with pytest.raises(PeerUnreachable, match="our own tor does not take connections: No such file"):
        asyncio.run(dial_onion(Endpoint(path=str(tmp_path / "socks")), ONION, PORT, 5))


def test_only_beside_a_dial_that_waits_for_long_is_the_peer_looked_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    looked_up: list[Onion] = []

    async def wait_for_ever(*_: object) -> None:
        await asyncio.Event().wait()

    async def look_up(_control: object, onion: Onion) -> None:
        looked_up.append(onion)

    async def main() -> None:
        network = TorNetwork(Identity(bytes(32)), TorOptions(), lambda _: None, tmp_path, contextlib.nullcontext, None)  # type: ignore[arg-type]
        monkeypatch.setattr(network._keeper, "here", lambda: SimpleNamespace(control=None, socks=None))
        monkeypatch.setattr(tor_network, "dial_onion", wait_for_ever)
        monkeypatch.setattr(tor_network, "look_up", look_up)
        race = [asyncio.create_task(network.dial(ONION, 30)) for _ in range(3)]
        await asyncio.sleep(0)
        assert looked_up == []
        monkeypatch.setattr(tor_network, "SILENT_S", 0.0)
        race.append(asyncio.create_task(network.dial(ONION, 30)))
        await asyncio.sleep(0)
        assert looked_up == [ONION]
        for dialling in race:
            dialling.cancel()
        await asyncio.gather(*race, return_exceptions=True)
        assert network._dialling[ONION] == []

    asyncio.run(main())


# Issue 12. Whatever happens to a dial, its stream is not lost, and it takes no longer than it may.


async def never(*_: object) -> str:
    await asyncio.Event().wait()
    return ""


def a_network(monkeypatch: pytest.MonkeyPatch, directory: Path, control: object, socks: Endpoint) -> TorNetwork:
    """A network whose tor is there: it dials by this SOCKS port, and answers as the control connection does."""
    network = TorNetwork(Identity(bytes(32)), TorOptions(), lambda _: None, directory, contextlib.nullcontext, None)  # type: ignore[arg-type]
    monkeypatch.setattr(network._keeper, "here", lambda: SimpleNamespace(control=control, socks=socks))
    return network


@pytest.mark.parametrize("failure", [asyncio.CancelledError(), UsageError("the disk is full"), ZeroDivisionError()])
def test_a_stream_is_closed_when_counting_its_circuit_does_not_end_well(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, failure: BaseException
) -> None:
    ended = asyncio.Event()

    async def serve(stream: Stream) -> None:
        await FakeSocks(SUCCEEDED).serve(stream)
        ended.set()

    async def fail(*_: object) -> None:
        await asyncio.sleep(0)
        raise failure

    async def main() -> None:
        async with listening(serve) as socks:
            network = a_network(monkeypatch, tmp_path, None, socks)
            monkeypatch.setattr(network._lengths, "check_dialled", fail)
            with pytest.raises(type(failure)):
                await network.dial(ONION, 30)
            async with asyncio.timeout(5):
                await ended.wait()

    asyncio.run(main())


SILENT = SimpleNamespace(command=never, get_info=never)


@pytest.mark.parametrize("answer", [SUCCEEDED, bytes([5, 0xF0, 0, 1, 0, 0, 0, 0, 0, 0]), b""], ids=["ok", "F0", "none"])
@pytest.mark.parametrize("unlocks", [False, True])
def test_a_dial_ends_in_time_though_tor_answers_no_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: bytes, unlocks: bool
) -> None:
    async def main() -> None:
        async with listening(FakeSocks(answer, stays=True).serve) as socks:
            network = a_network(monkeypatch, tmp_path, SILENT, socks)
            if unlocks:
                network.unlock(ONION, bytes([1]) * 32)
            async with asyncio.timeout(5):  # and not the minute that a command may take
                with pytest.raises(PeerUnreachable):
                    await network.dial(ONION, 0.2)
            assert network._dialling[ONION] == []

    asyncio.run(main())


# Issue 12. What is done behind the callers' backs ends unseen by nobody.


class FailingService:
    """A service that cannot be added again."""

    control = onion = None

    def __init__(self, failure: Exception) -> None:
        self.failure = failure

    async def reseal(self, _target: str) -> None:
        raise self.failure

    async def remove(self) -> None:
        raise self.failure


@contextlib.asynccontextmanager
async def behind_its_back(
    monkeypatch: pytest.MonkeyPatch, directory: Path, failure: Exception, told: list[str]
) -> AsyncIterator[TorNetwork]:
    """A network with a published service that will fail when it is touched."""
    life = SimpleNamespace(gone=False, second=None, own=object())
    network = TorNetwork(
        Identity(bytes(32)),
        TorOptions(),
        lambda progress: told.append(progress.detail),
        directory,
        contextlib.nullcontext,
        None,
    )  # type: ignore[arg-type]
    monkeypatch.setattr(network._keeper, "running", contextlib.nullcontext)
    monkeypatch.setattr(network, "_service", lambda _life: FailingService(failure))
    network._keeper.life = life  # type: ignore[assignment]
    network._keys, network._target, network._in_doubt, network._new_s = [bytes(32)], "unix:/socket", True, -1e9
    async with asyncio.timeout(10), network.running():
        yield network


@pytest.mark.parametrize(
    "touch", [lambda network: network.admit([bytes(32)]), TorNetwork.refresh], ids=["admit", "refresh"]
)
def test_a_service_that_cannot_be_added_again_is_told_and_a_bug_ends_the_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, touch: Callable[[TorNetwork], Awaitable[None] | None]
) -> None:
    told: list[str] = []

    async def main(failure: Exception) -> None:
        async with behind_its_back(monkeypatch, tmp_path, failure, told) as network:
            if (touching := touch(network)) is not None:
                await touching
            while not told:  # noqa: ASYNC110 (a turn of the loop away)
                await asyncio.sleep(0)

    asyncio.run(main(UsageError("the disk is full")))
    assert told == ["our onion service may not be found: the disk is full"]
    told.clear()
    with pytest.raises(ZeroDivisionError):
        asyncio.run(main(ZeroDivisionError()))
