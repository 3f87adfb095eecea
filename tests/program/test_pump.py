"""A pump moves the program's bytes between its process and a link, epoch by epoch, even after the program has ended."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from onionmpc.errors import RemoteProtocolError
from onionmpc.mesh.changes import Changes
from onionmpc.mesh.runner import LinkRunner
from onionmpc.program.process.hello import HelloGate
from onionmpc.program.pump import Pump, UnequalEpochs
from onionmpc.wire.frames import Ack, Channel, Data, End, Frame, decode_frames, encode_frame
from onionmpc.wire.limits import DEFAULT_LINK_LIMITS as LIMITS

MESSAGE = bytes(8) + (4).to_bytes(4, "little") + b"1234"
OTHER = bytes(8) + (4).to_bytes(4, "little") + b"5678"
HELLO = b"\1\0"
DEADLINE_S = 30.0


class Program:
    """The program's end of one epoch."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self._writer = writer

    async def reads(self, size: int) -> bytes:
        return await self.reader.readexactly(size)

    async def reads_rest(self) -> bytes:
        return await self.reader.read()

    def writes(self, payload: bytes) -> None:
        self._writer.write(payload)

    def closes(self) -> None:
        self._writer.close()


class Peer:
    """A link with a scripted peer, and a pump that takes its bytes."""

    def __init__(self, hello_bytes: int = 0) -> None:
        self.runner = LinkRunner(lambda _event: None)
        self.runner.link.attach(0, 0.0)
        self.pump = Pump(self.runner, lambda: HelloGate(1, hello_bytes), Changes())
        self.pump.open()
        self._sent = 0
        self.programs: list[Program] = []

    def sends(self, *payloads: bytes) -> None:
        for payload in payloads:
            self.say(Data(Channel.DATA, self._sent, payload))
            self._sent += len(payload)

    def ends(self, *, last: bool = False) -> None:
        self.say(End(self._sent, last=last))
        self._sent += 1

    def hears(self) -> list[Frame]:
        """What our side has to say of its program and has not said."""
        frames: list[Frame] = []
        while record := self.runner.link.transmit(0, 0.0):
            frames += (frame for frame in decode_frames(record) if isinstance(frame, Data | End))
        return frames

    @property
    def taken(self) -> int:
        return self.runner.link.offsets()[1]

    def say(self, frame: Frame) -> None:
        self.runner._receive(0, encode_frame(frame))

    async def begin(self) -> Program:
        near, far = socket.socketpair()
        self.pump.begin(near)
        program = Program(*await asyncio.open_unix_connection(sock=far))
        self.programs.append(program)
        return program


@contextlib.asynccontextmanager
async def pumping(peer: Peer) -> AsyncIterator[asyncio.Task[None]]:
    running = asyncio.create_task(peer.pump.run())
    try:
        async with asyncio.timeout(DEADLINE_S):
            yield running
    finally:
        running.cancel()
        await asyncio.wait([running])
        peer.pump.close()
        for program in peer.programs:
            program.closes()
        await settle()


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def heard(peer: Peer, frames: int) -> list[Frame]:
    """What our side says, once that is so many frames."""
    got = peer.hears()
    while len(got) < frames:
        await asyncio.sleep(0)
        got += peer.hears()
    return got


def in_pieces(payload: bytes) -> list[bytes]:
    return [payload[start : start + 60_000] for start in range(0, len(payload), 60_000)]


def long_message(size: int) -> bytes:
    return bytes(8) + size.to_bytes(4, "little") + bytes(size)


def test_bytes_that_arrive_before_the_program_starts_reach_it() -> None:
    async def main() -> None:
        peer = Peer()
        peer.sends(MESSAGE)
        async with pumping(peer) as running:
            assert peer.taken == 0
            program = await peer.begin()
            assert await program.reads(len(MESSAGE)) == MESSAGE
            peer.ends()
            assert await program.reads_rest() == b""
            assert peer.taken == len(MESSAGE) + 1
            program.closes()
            peer.pump.finish()
            await running
            assert peer.hears() == [End(0, last=False), End(1, last=True)]

    asyncio.run(main())


def test_each_epoch_has_sockets_of_its_own() -> None:
    async def main() -> None:
        peer = Peer()
        async with pumping(peer) as running:
            first = await peer.begin()
            first.writes(MESSAGE)
            peer.sends(OTHER)
            assert await first.reads(len(OTHER)) == OTHER
            peer.ends()
            assert await first.reads_rest() == b""
            first.closes()
            second = await peer.begin()
            second.writes(OTHER)
            peer.sends(MESSAGE)
            assert await second.reads(len(MESSAGE)) == MESSAGE
            peer.ends()
            peer.ends(last=True)
            second.closes()
            assert await heard(peer, 4) == [
                Data(Channel.DATA, 0, MESSAGE),
                End(16, last=False),
                Data(Channel.DATA, 17, OTHER),
                End(33, last=False),
            ]
            peer.pump.finish()
            await running
            assert peer.hears() == [End(34, last=True)]
            assert peer.taken == 2 * len(MESSAGE) + 3

    asyncio.run(main())


def test_bytes_for_an_epoch_that_has_not_begun_wait_unacknowledged() -> None:
    async def main() -> None:
        peer = Peer()
        async with pumping(peer):
            first = await peer.begin()
            peer.ends()
            peer.sends(MESSAGE)
            assert await first.reads_rest() == b""
            await settle()
            assert peer.taken == 1
            first.closes()
            second = await peer.begin()
            assert await second.reads(len(MESSAGE)) == MESSAGE
            assert peer.taken == 1 + len(MESSAGE)
            second.closes()

    asyncio.run(main())


def test_an_epoch_may_begin_before_the_peer_has_ended_the_one_before() -> None:
    async def main() -> None:
        peer = Peer()
        async with pumping(peer):
            first = await peer.begin()
            first.writes(MESSAGE)
            first.closes()
            second = await peer.begin()
            second.writes(OTHER)
            assert await heard(peer, 3) == [
                Data(Channel.DATA, 0, MESSAGE),
                End(16, last=False),
                Data(Channel.DATA, 17, OTHER),
            ]
            peer.sends(MESSAGE)  # for the first, which the program has closed
            peer.ends()
            peer.sends(OTHER)
            assert await second.reads(len(OTHER)) == OTHER
            assert peer.taken == len(MESSAGE) + 1 + len(OTHER)
            second.closes()

    asyncio.run(main())


def test_nothing_of_an_epoch_is_sent_before_the_end_of_the_one_before() -> None:
    async def main() -> None:
        peer = Peer()
        async with pumping(peer):
            first, second = await peer.begin(), await peer.begin()
            second.writes(OTHER)
            await settle()
            assert peer.hears() == []
            first.writes(MESSAGE)
            first.closes()
            assert [type(frame) for frame in await heard(peer, 3)] == [Data, End, Data]
            second.closes()

    asyncio.run(main())


def test_each_epoch_begins_with_a_hello() -> None:
    async def main() -> None:
        peer = Peer(len(HELLO))
        async with pumping(peer) as running:
            first = await peer.begin()
            peer.sends(HELLO, MESSAGE)
            peer.ends()
            assert await first.reads_rest() == HELLO + MESSAGE
            first.closes()
            second = await peer.begin()
            peer.sends(b"\2\0")
            with pytest.raises(RemoteProtocolError, match="party 1 calls itself party 2"):
                await running
            second.closes()

    asyncio.run(main())


@pytest.mark.parametrize("begins_first", [True, False])
def test_a_peer_whose_program_ended_after_fewer_epochs_is_reported(begins_first: bool) -> None:
    async def main() -> None:
        peer = Peer()
        async with pumping(peer) as running:
            first = await peer.begin()
            peer.ends()
            first.closes()
            if begins_first:
                (await peer.begin()).closes()
            peer.ends(last=True)
            await settle()
            assert running.done() == begins_first
            if not begins_first:
                (await peer.begin()).closes()
            with pytest.raises(
                UnequalEpochs, match="ended after start 1 of MPyC, and another party's has begun start 2"
            ):
                await running

    asyncio.run(main())


def test_bytes_after_the_last_end_break_the_rules() -> None:
    async def main() -> None:
        peer = Peer()
        async with pumping(peer) as running:
            peer.ends(last=True)
            peer.sends(MESSAGE)
            peer.pump.discard()
            with pytest.raises(RemoteProtocolError, match="after its end"):
                await running

    asyncio.run(main())


def test_a_program_of_endless_empty_epochs_waits_for_its_peer() -> None:
    async def main() -> None:
        peer = Peer()
        async with pumping(peer):
            for _ in range(LIMITS.max_ends + 2):
                (await peer.begin()).closes()
            frames = await heard(peer, LIMITS.max_ends)
            await settle()
            assert [*frames, *peer.hears()] == [End(number, last=False) for number in range(LIMITS.max_ends)]
            peer.say(Ack(0, 1))
            assert await heard(peer, 1) == [End(LIMITS.max_ends, last=False)]

    asyncio.run(main())


def test_epochs_that_are_over_are_forgotten() -> None:
    async def main() -> None:
        peer = Peer()
        async with pumping(peer):
            for number in range(200):
                program = await peer.begin()
                peer.ends()
                program.closes()
                await heard(peer, 1)
                peer.say(Ack(0, number + 1))
            while peer.pump._epochs:  # noqa: ASYNC110 (nobody is told)
                await asyncio.sleep(0)
            assert peer.taken == 200

    asyncio.run(main())


def test_bytes_that_arrive_after_the_program_has_ended_count_as_taken() -> None:
    # Otherwise the sender would wait for it until its patience ends.
    async def main() -> None:
        peer = Peer()
        peer.sends(MESSAGE)
        assert peer.taken == 0
        peer.pump.discard()
        assert peer.taken == len(MESSAGE)
        peer.sends(MESSAGE, MESSAGE)
        peer.ends()
        peer.ends(last=True)
        assert peer.taken == 3 * len(MESSAGE) + 2

    asyncio.run(main())


def test_bytes_on_their_way_to_a_program_that_ends_count_as_taken() -> None:
    async def main() -> None:
        peer = Peer()
        payload = long_message(3 * 2**20)  # more than the socket takes
        async with pumping(peer):
            program = await peer.begin()
            peer.sends(*in_pieces(payload))
            await settle()
            assert peer.taken < len(payload)
        peer.pump.discard()
        assert peer.taken == len(payload)
        program.closes()

    asyncio.run(main())


def test_a_program_that_sends_nothing_more_still_receives() -> None:
    async def main() -> None:
        peer = Peer()
        payload = long_message(2**20)  # more than the socket takes
        async with pumping(peer):
            near, far = socket.socketpair()
            far.shutdown(socket.SHUT_WR)
            peer.pump.begin(near)
            peer.sends(*in_pieces(payload))
            peer.ends()
            assert await heard(peer, 1) == [End(0, last=False)]
            program = Program(*await asyncio.open_unix_connection(sock=far))
            assert await program.reads_rest() == payload
            await settle()
            assert peer.taken == len(payload) + 1
            program.closes()

    asyncio.run(main())


def test_bytes_that_the_link_has_no_room_for_stay_with_the_program() -> None:
    async def main() -> None:
        peer = Peer()
        async with pumping(peer) as running:
            near, far = socket.socketpair()
            far.setblocking(False)
            peer.pump.begin(near)
            loop, payload = asyncio.get_running_loop(), bytes(2 * LIMITS.window_bytes)
            writing = asyncio.create_task(loop.sock_sendall(far, payload))
            while peer.runner.link.room():  # noqa: ASYNC110 (a link tells nobody that it is full)
                await asyncio.sleep(0)
            await settle()
            assert not writing.done()
            assert not running.done()
            writing.cancel()
            await asyncio.wait([writing])
            far.close()

    asyncio.run(main())
