"""A stream after its handshake: bytes that arrive with, before and after it, and how it ends."""

from __future__ import annotations

import asyncio
import socket

import pytest

from onionmpc.mesh.network import Stream
from onionmpc.mesh.secure import HELD_BYTES, SecureStream
from onionmpc.wire.noise import CipherState
from onionmpc.wire.records import Records
from tests.support.mesh import IDENTITIES, in_a_loop


class Line:
    """Our end of a connection, and a peer that writes the records of its choice to the other end."""

    def __init__(self) -> None:
        near, self.peer = socket.socketpair()
        self.peer.setblocking(False)
        self._near = near
        self._sealing = Records(CipherState(bytes(32)), CipherState(bytes(32)))
        self.heard: list[bytes] = []

    async def open(self) -> Stream:
        """Return the stream before its handshake."""
        return Stream(*await asyncio.open_unix_connection(sock=self._near))

    def secure(self, stream: Stream) -> SecureStream:
        """Return the stream after its handshake."""
        records = Records(CipherState(bytes(32)), CipherState(bytes(32)))
        return SecureStream(stream, records, IDENTITIES[0].onion, bytes(16), 0)

    def say(self, *plaintexts: bytes) -> None:
        """Send records."""
        self.peer.sendall(b"".join(map(self._sealing.encode, plaintexts)))


async def turns(count: int = 5) -> None:
    """Let the loop read what has arrived."""
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("when", ["before", "between", "after"])
@in_a_loop
async def test_records_and_the_end_are_seen_whenever_they_arrive(when: str) -> None:
    line = Line()
    stream = await line.open()
    if when == "before":  # with the last message of the handshake
        line.say(b"one", b"two")
        line.peer.shutdown(socket.SHUT_WR)
        await turns()
    secure = line.secure(stream)
    if when == "between":
        line.say(b"one", b"two")
        line.peer.shutdown(socket.SHUT_WR)
        await turns()
    await secure.begin(line.heard.append)
    if when == "after":
        line.say(b"one", b"two")
        line.peer.shutdown(socket.SHUT_WR)
    await secure.ended()
    assert line.heard == [b"one", b"two"]
    await secure.close()
    line.peer.close()


@in_a_loop
async def test_nothing_is_read_before_begin() -> None:
    # A peer could otherwise fill our memory before its first record is checked.
    line = Line()
    secure = line.secure(await line.open())
    waiting = asyncio.create_task(secure.wait_for_first())
    line.say(b"first")
    assert await waiting
    line.say(b"second")
    await turns()
    assert line.heard == []
    await secure.begin(line.heard.append)
    assert line.heard == [b"first"]
    await turns()
    assert line.heard == [b"first", b"second"]
    await secure.close()
    line.peer.close()


@in_a_loop
async def test_a_stream_that_was_closed_before_it_began_has_ended() -> None:
    line = Line()
    stream = await line.open()
    await stream.close()
    await turns()
    secure = line.secure(stream)
    assert not await secure.wait_for_first()
    await secure.begin(line.heard.append)
    await secure.ended()
    line.peer.close()


@in_a_loop
async def test_a_full_stream_reports_when_it_takes_more() -> None:
    line = Line()
    secure = line.secure(await line.open())
    room = asyncio.Event()
    await secure.begin(line.heard.append, room.set)
    while secure.takes_more:
        secure.send([bytes(HELD_BYTES)])
    assert not room.is_set()
    reading = asyncio.create_task(_read_all(line.peer))
    await room.wait()
    await secure.drain()
    assert secure.takes_more
    await secure.close()
    await reading


async def _read_all(peer: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while await loop.sock_recv(peer, 2**16):
        pass
    peer.close()
