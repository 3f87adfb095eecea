"""Every way in which a link ends, on plain local sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from onionmpc.errors import LocalProtocolError, RemoteProtocolError
from onionmpc.mesh.runner import LinkRunner
from onionmpc.mesh.secure import SecureStream
from onionmpc.wire.frames import Abort, AbortCode, Channel, Data, Frame, Ping
from onionmpc.wire.handshake import Answer
from onionmpc.wire.limits import DEFAULT_LINK_LIMITS as LIMITS
from onionmpc.wire.limits import LinkLimits
from onionmpc.wire.link import LinkClosed
from tests.support.mesh import (  # noqa: F401 (fixtures)
    DEADLINE_S,
    QUICK,
    Party,
    Watcher,
    hear_all,
    in_a_loop,
    knock,
    meshed,
    private_directory,
    say,
    stall,
)


@in_a_loop
async def test_a_sender_that_waits_for_room_stops_waiting_when_the_link_ends(directory: Path) -> None:
    async with meshed(directory, 2) as (sender, receiver):
        receiver.watcher.taking = False
        sending = asyncio.create_task(sender.watcher.up[1].send_data(bytes(2 * LIMITS.window_bytes)))
        await receiver.watcher.until(lambda: len(receiver.watcher.data[0]) == LIMITS.window_bytes)
        sender.watcher.up[1].close()
        await sending
        await sender.until_over(1)


@in_a_loop
async def test_a_link_closed_by_one_side_is_reported_down_by_neither(directory: Path) -> None:
    async with meshed(directory, 2) as (closer, other):
        closer.watcher.up[1].send_control(b"goodbye")
        await other.watcher.until(lambda: other.watcher.control[0])
        closer.watcher.up[1].close()
        await other.watcher.until(lambda: (0, LinkClosed()) in other.watcher.events)
        await closer.until_over(1)
        assert await other.arrived[0].reader.read() == b""
        assert closer.watcher.downs == other.watcher.downs == []


async def close_and_stay(link: LinkRunner) -> None:
    link.close(linger=True)


async def close_when_flushed(link: LinkRunner) -> None:
    await link.close_when_flushed(DEADLINE_S)


# A party that leaves does not wait for the other's end of the stream.
PATIENT = replace(QUICK, last_words_s=2 * DEADLINE_S)


@pytest.mark.parametrize("leave", [close_and_stay, close_when_flushed])
@in_a_loop
async def test_a_party_that_leaves_stays_until_the_peer_has_its_close(
    directory: Path, leave: Callable[[LinkRunner], Awaitable[None]]
) -> None:
    async with Party(directory, 0, 2) as other, Party(directory, 1, 2, timings=PATIENT) as closer:
        other.network.delays_s = [0.1]
        await other.until_up(1)
        link = await closer.until_up(0)
        await leave(link)
        await link.last_words()
        assert (1, LinkClosed()) in other.watcher.events


@pytest.mark.parametrize("linger", [False, True])
@in_a_loop
async def test_a_link_closed_by_both_sides_at_once_is_reported_down_by_neither(
    directory: Path, *, linger: bool
) -> None:
    async with meshed(directory, 2, timings=PATIENT) as parties:
        for party in parties:
            party.watcher.up[1 - party.number].close(linger=linger)
        await parties[0].until_over(1)
        await parties[1].watcher.until(lambda: parties[1].served)
        assert parties[0].watcher.downs == parties[1].watcher.downs == []


@in_a_loop
async def test_a_flushed_link_closes_when_everything_is_acknowledged(directory: Path) -> None:
    async with meshed(directory, 2) as (closer, other):
        link = closer.watcher.up[1]
        await link.send_data(bytes(2 * 2**20))
        link.send_control(b"goodbye")
        await link.close_when_flushed(DEADLINE_S)
        assert other.watcher.control[0] == b"goodbye"
        assert len(other.watcher.data[0]) == 2 * 2**20


@in_a_loop
async def test_a_link_may_be_closed_as_soon_as_it_is_up(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Watcher, "link_up", lambda self, party, link, nonce: link.runner.close())
    async with Party(directory, 1, 2) as party:
        reply, secure = await knock(directory, party.identity)
        assert reply.answer is Answer.ACCEPTED
        await say(secure, Ping(1))
        assert await hear_all(secure) == []
        assert party.watcher.downs == []
        await secure.close()


@in_a_loop
async def test_a_link_closed_while_its_stream_is_full_sends_close_after_the_data(directory: Path) -> None:
    async with meshed(directory, 2) as (closer, other):
        stall(other, 0)
        transport: Any = closer.watcher.streams[1][0].stream.writer.transport
        await closer.watcher.up[1].send_data(bytes(LIMITS.window_bytes))
        for _ in range(5):
            await asyncio.sleep(0)  # a turn of the loop, in which the writer fills the stream
        assert transport.get_write_buffer_size()
        closer.watcher.up[1].close()
        for secure in other.watcher.streams[0]:
            stalled: Any = secure.stream.writer.transport
            stalled.resume_reading()
        await other.watcher.until(lambda: (0, LinkClosed()) in other.watcher.events)
        assert other.watcher.news == []


@in_a_loop
async def test_a_peer_that_does_not_read_cannot_keep_a_link_from_closing(directory: Path) -> None:
    async with Party(directory, 1, 2, timings=replace(QUICK, last_words_s=0.05)) as party:
        _, secure = await knock(directory, party.identity)
        secure.stream.reader._transport.pause_reading()  # type: ignore[attr-defined]
        await say(secure, Ping(1))
        link = await party.until_up(0)
        await link.send_data(bytes(LIMITS.window_bytes))
        link.close()
        await party.watcher.until(lambda: party.served)
        assert party.watcher.downs == []
        await secure.close()


@pytest.mark.parametrize("code", AbortCode)
@in_a_loop
async def test_an_abort_reaches_the_peer(directory: Path, code: AbortCode) -> None:
    async with meshed(directory, 2) as (accuser, accused):
        accuser.watcher.up[1].abort(code)
        message = await accused.watcher.until_down(0, RemoteProtocolError)
        assert message == f"the peer reports that we broke the protocol ({code.name.lower()})"
        await accuser.until_over(1)
        assert accuser.watcher.downs == []


async def answer_to(directory: Path, party: Party, speak: Callable[[SecureStream], Awaitable[None]]) -> list[Frame]:
    """Return all that a party sends to a peer that sends these frames, once its link is up."""
    _, secure = await knock(directory, party.identity)
    await say(secure, Ping(1))
    await party.until_up(0)
    await speak(secure)
    try:
        return await hear_all(secure)
    finally:
        await secure.close()


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (Data(Channel.CONTROL, 50_000, b"far away"), AbortCode.LIMIT),
        (Data(Channel.DATA, 0, b"x" * 60_000), AbortCode.LIMIT),
    ],
    ids=["far away", "too much"],
)
@in_a_loop
async def test_a_peer_that_breaks_the_rules_is_reported_down_and_told_which_rule(
    directory: Path, frame: Data, code: AbortCode
) -> None:
    small = replace(QUICK, link=LinkLimits(window_bytes=50_000))
    async with Party(directory, 1, 2, timings=small) as party:
        party.watcher.taking = False

        async def speak(secure: SecureStream) -> None:
            await say(secure, frame)

        assert (await answer_to(directory, party, speak))[-1] == Abort(code)
        await party.watcher.until_down(0, RemoteProtocolError)


@in_a_loop
async def test_a_record_that_does_not_decrypt_ends_the_stream_and_not_the_link(directory: Path) -> None:
    async with Party(directory, 1, 2) as party:

        async def speak(secure: SecureStream) -> None:
            secure.stream.writer.write(b"\x00\x20" + bytes(32))

        await answer_to(directory, party, speak)
        await party.watcher.until(lambda: party.watcher.news)
        assert party.watcher.news == [("broken", 0)]
        assert party.watcher.downs == []


@in_a_loop
async def test_a_link_that_has_ended_ignores_further_calls(directory: Path) -> None:
    async with meshed(directory, 2) as (low, high):
        link = low.watcher.up[1]
        link.close()
        link.send_control(b"late")
        await link.send_data(b"late")
        await link.end_data(last=True)
        link.consume(1)
        link.ping()
        link.abort(AbortCode.LIMIT)
        await low.until_over(1)
        await high.watcher.until(lambda: (0, LinkClosed()) in high.watcher.events)
        assert high.watcher.control[0] == high.watcher.data[0] == b""
        with pytest.raises(LocalProtocolError):
            link.link.send_control(b"late")
