"""The door on plain local sockets: what strangers get, and which parties it lets in."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from pathlib import Path
from typing import Any

import pytest

from onionmpc.identity import Onion
from onionmpc.mesh.door import Door, DoorLimits
from onionmpc.mesh.listener import listening_local
from onionmpc.mesh.network import Stream
from onionmpc.wire.frames import Ping
from onionmpc.wire.handshake import MESSAGE_1_BYTES, MESSAGE_2_BYTES, REFUSAL, VERSION, Answer, Purpose, Reply
from onionmpc.wire.link import State
from onionmpc.wire.noise import Initiator
from tests.support.handshakes import LABEL
from tests.support.keys import x25519_public
from tests.support.mesh import (  # noqa: F401 (fixtures)
    DEADLINE_S,
    IDENTITIES,
    PSK,
    STRANGER,
    Party,
    handshake_with,
    in_a_loop,
    knock,
    meshed,
    private_directory,
    raw_dial,
    say,
)


async def reply_to(directory: Path, onion: Onion, message: bytes, *, end: bool = False) -> bytes:
    """Return all that a listener sends to a stranger that sends `message` and waits for the end."""
    stream = await raw_dial(directory, onion)
    stream.writer.write(message)
    if end:
        stream.writer.write_eof()
    try:
        return await stream.reader.read()
    finally:
        await stream.close()


# --- Strangers ----------------------------------------------------------------------------------------------

LISTENER = IDENTITIES[1]
VALID = handshake_with(LISTENER).message()


def claim(public_key: bytes) -> bytes:
    """Message 1 of party 0 under a public key that is not its own."""
    noise = Initiator(
        prologue=LABEL + LISTENER.public_key,
        static_private=IDENTITIES[0].x25519_private,
        ephemeral_private=bytes([7]) * 32,
        remote_static=x25519_public(LISTENER),
    )
    payload = struct.pack(">32sB16s32sQQ", public_key, Purpose.MESH, bytes(16), bytes(32), 0, 0)
    return REFUSAL + noise.write_first(payload, PSK)


STRANGERS = {
    "zeros": bytes(MESSAGE_1_BYTES),
    "garbage": REFUSAL + random.Random(1).randbytes(MESSAGE_1_BYTES - 1),
    "more garbage than is read": random.Random(2).randbytes(1000),
    "a web browser": b"GET / HTTP/1.1\r\n" + b"User-Agent: a rather long one\r\n" * 10,
    "another version": b"\x01" + VALID[1:],
    "another version, in a shorter message": bytes([VERSION + 1]),
    "altered": VALID[:-1] + bytes([VALID[-1] ^ 1]),
    "not on the roster": handshake_with(LISTENER, STRANGER).message(),
    "another psk": handshake_with(LISTENER, psk=bytes([6]) * 32).message(),
    "meant for another": handshake_with(IDENTITIES[2]).message(),
    "under another's address": claim(IDENTITIES[2].public_key),
    "under no address": claim(bytes(32)),
}


@pytest.mark.parametrize("message", STRANGERS.values(), ids=STRANGERS)
@in_a_loop
async def test_every_stranger_gets_the_same_reply(directory: Path, message: bytes) -> None:
    async with Party(directory, 1, 2) as party:
        assert await reply_to(directory, party.identity.onion, message) == REFUSAL
        assert party.watcher.up == {}


@in_a_loop
async def test_nobody_is_let_in_before_anyone_is_expected(directory: Path) -> None:
    async with Party(directory, 1, 2) as party:
        party.door.gatekeeper = None
        assert await reply_to(directory, party.identity.onion, VALID) == REFUSAL


@in_a_loop
async def test_a_stranger_that_ends_early_gets_the_same_reply(directory: Path) -> None:
    async with Party(directory, 1, 2) as party:
        for length in (0, 1, MESSAGE_1_BYTES - 1):
            assert await reply_to(directory, party.identity.onion, VALID[:length], end=True) == REFUSAL


# Issue 12: at some garbage collection, asyncio wrote "Future exception was never retrieved" on stderr.
@in_a_loop
async def test_a_stranger_that_leaves_before_its_answer_leaves_no_unretrieved_error(directory: Path) -> None:
    near, far = socket.socketpair()
    reader, writer = await asyncio.open_unix_connection(sock=near)
    far.send(VALID[:100])
    far.close()
    protocol: Any = writer.transport.get_protocol()
    await Door(LISTENER, bytes(16)).serve(Stream(reader, writer))
    closed = protocol._closed
    assert not closed._log_traceback
    assert isinstance(closed.exception(), BrokenPipeError)


@pytest.mark.parametrize("length", [0, 1, MESSAGE_1_BYTES - 1])
@in_a_loop
async def test_a_silent_stranger_gets_the_same_reply_at_the_timeout(directory: Path, length: int) -> None:
    async with Party(directory, 1, 2, limits=DoorLimits(handshake_s=0.05)) as party:
        assert await reply_to(directory, party.identity.onion, VALID[:length]) == REFUSAL


@in_a_loop
async def test_a_replayed_message_1_is_answered_and_changes_nothing(directory: Path) -> None:
    async with Party(directory, 1, 2) as party:
        # An attacker that replays it may add nothing, an empty record, or one that does not decrypt.
        for tail in (b"", bytes(2), b"\x00\x20" + bytes(32)):
            reply = await reply_to(directory, party.identity.onion, VALID + tail, end=True)
            assert len(reply) == MESSAGE_2_BYTES
        assert party.watcher.up == {}
        # The party whose message was replayed can still come.
        async with Party(directory, 0, 2) as honest:
            await honest.until_up(1)
            await party.until_up(0)


@in_a_loop
async def test_the_oldest_stranger_is_cut_without_a_reply_when_there_are_too_many(directory: Path) -> None:
    async with Party(directory, 1, 2, limits=DoorLimits(at_once=2)) as party:
        first, second, third = [await raw_dial(directory, party.identity.onion) for _ in range(3)]
        # Not even the refusal: it may be a party, which should dial again.
        assert await first.reader.read() == b""
        for stream in (third, second):
            stream.writer.write(VALID)
            assert len(await stream.reader.readexactly(MESSAGE_2_BYTES)) == MESSAGE_2_BYTES
        for stream in (first, second, third):
            await stream.close()


# Issue 12.
@in_a_loop
async def test_a_refusal_reaches_a_stranger_that_is_still_sending_over_tcp(directory: Path) -> None:
    async with Party(directory, 1, 2) as party, listening_local(party.door.serve) as port:
        for message in (bytes([99]) + bytes(40_000), VALID[:-1] + b"x" + bytes(40_000)):
            connection = socket.socket()
            # The part that does not fit is not sent yet when the refusal arrives.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            connection.setblocking(False)
            await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
            stream = Stream(*await asyncio.open_connection(sock=connection))
            stream.writer.write(message)
            assert await stream.reader.read() == REFUSAL
            await stream.close()


# Issue 12.
@in_a_loop
async def test_who_was_turned_away_and_stays_goes_first(directory: Path) -> None:
    async with Party(directory, 1, 2, limits=DoorLimits(at_once=2, linger_s=DEADLINE_S)) as party:
        onion = party.identity.onion
        silent, turned_away = await raw_dial(directory, onion), await raw_dial(directory, onion)
        turned_away.writer.write(b"x" * MESSAGE_1_BYTES)
        assert await turned_away.reader.read() == REFUSAL
        third = await raw_dial(directory, onion)
        # Its stream stays half open while we read it. We stop reading when there is no room.
        await party.watcher.until(lambda: party.served)
        for stream in (silent, third):
            stream.writer.write(VALID)
            assert len(await stream.reader.readexactly(MESSAGE_2_BYTES)) == MESSAGE_2_BYTES
        for stream in (silent, turned_away, third):
            await stream.close()


# Issue 12.
@in_a_loop
async def test_who_was_turned_away_and_stays_goes_soon(directory: Path) -> None:
    async with Party(directory, 1, 2, limits=DoorLimits(linger_s=0.05)) as party:
        stream = await raw_dial(directory, party.identity.onion)
        stream.writer.write(b"x" * MESSAGE_1_BYTES)
        await party.watcher.until(lambda: party.served)
        await stream.close()


# Issue 12.
@in_a_loop
async def test_a_refused_stranger_is_not_read_without_end(directory: Path) -> None:
    limits = DoorLimits(linger_s=DEADLINE_S)
    async with Party(directory, 1, 2, limits=limits) as party:
        stream = await raw_dial(directory, party.identity.onion)
        stream.writer.write(b"x" * (MESSAGE_1_BYTES + limits.linger_bytes))
        await party.watcher.until(lambda: party.served)
        await stream.close()


@in_a_loop
async def test_more_strangers_than_are_served_at_once_do_not_keep_a_party_out(directory: Path) -> None:
    async with Party(directory, 1, 2, limits=DoorLimits(at_once=4)) as party:
        silent = [await raw_dial(directory, party.identity.onion) for _ in range(8)]
        async with Party(directory, 0, 2) as honest:
            await honest.until_up(1)
            await party.until_up(0)
            for stream in silent[:5]:
                assert await stream.reader.read() == b""
        for stream in silent:
            await stream.close()


@pytest.mark.parametrize(
    ("number", "changes", "answer"),
    [
        (0, {}, Answer.ACCEPTED),
        (2, {}, Answer.NOT_NOW),
        (0, {"purpose": Purpose.GATHER}, Answer.NOT_NOW),
        (0, {"purpose": Purpose.RESUME, "link": bytes([1]) * 32}, Answer.UNKNOWN_SESSION),
    ],
    ids=["a lower party", "a higher party", "gather", "resume"],
)
@in_a_loop
async def test_each_dialler_on_the_roster_gets_the_answer_that_fits_its_place(
    directory: Path, number: int, changes: dict[str, Any], answer: Answer
) -> None:
    async with Party(directory, 1, 3, timeout_s=0.01) as party:
        reply, secure = await knock(directory, party.identity, number, **changes)
        assert reply == Reply(answer, nonce=bytes([1]) * 16)
        await secure.close()


@in_a_loop
async def test_the_mirror_image_of_a_party_has_no_seat(directory: Path) -> None:
    key = IDENTITIES[0].public_key
    async with Party(directory, 1, 2) as party:
        reply, secure = await knock(directory, party.identity, public_key=key[:31] + bytes([key[31] ^ 0x80]))
        assert reply.answer is Answer.NO_SEAT
        await secure.close()


@in_a_loop
async def test_a_party_that_has_a_link_is_not_let_in_twice(directory: Path) -> None:
    async with meshed(directory, 2) as (low, high):
        reply, secure = await knock(directory, high.identity)
        assert reply.answer is Answer.NOT_NOW
        await secure.close()
        low.watcher.up[1].send_control(b"as before")
        await high.watcher.until(lambda: high.watcher.control[0] == b"as before")


@in_a_loop
async def test_of_two_streams_accepted_at_once_the_first_to_send_a_record_becomes_the_link(directory: Path) -> None:
    async with Party(directory, 1, 2) as party:
        (_, first), (_, second) = [await knock(directory, party.identity) for _ in range(2)]
        await say(second, Ping(1))
        await party.until_up(0)
        await say(first, Ping(1))
        assert await first.stream.reader.read() == b""
        assert party.watcher.up[0].link.state is State.OPEN
        assert party.watcher.downs == []
        for secure in (first, second):
            await secure.close()
