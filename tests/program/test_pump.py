"""A pump moves the program's bytes between its process and a link, even after the program has ended."""

from __future__ import annotations

import asyncio
import socket

from onionmpc.mesh.runner import LinkRunner
from onionmpc.program.process.hello import HelloGate
from onionmpc.program.pump import Pump
from onionmpc.wire.frames import Channel, Data, End, encode_frame
from onionmpc.wire.limits import DEFAULT_LINK_LIMITS as LIMITS

MESSAGE = bytes(8) + (4).to_bytes(4, "little") + b"1234"


class Peer:
    """A link with a scripted peer, and a pump that takes its bytes."""

    def __init__(self) -> None:
        self.runner = LinkRunner(lambda _event: None)
        self.runner.link.attach(0, 0.0)
        self.pump = Pump(self.runner, HelloGate(1, 0))
        self.pump.open()
        self._sent = 0

    def sends(self, *payloads: bytes, end: bool = False) -> None:
        for payload in payloads:
            self._say(encode_frame(Data(Channel.DATA, self._sent, payload)))
            self._sent += len(payload)
        if end:
            self._say(encode_frame(End(self._sent)))

    @property
    def taken(self) -> int:
        return self.runner.link.offsets()[1]

    def _say(self, frame: bytes) -> None:
        self.runner._receive(0, frame)


def test_bytes_that_arrive_before_the_program_starts_reach_it() -> None:
    async def main() -> None:
        peer = Peer()
        peer.sends(MESSAGE)
        near, far = socket.socketpair()
        pumping = asyncio.create_task(peer.pump.run(near))
        program, program_writer = await asyncio.open_unix_connection(sock=far)
        assert await program.readexactly(len(MESSAGE)) == MESSAGE
        peer.sends(end=True)
        assert await program.read() == b""
        assert peer.taken == len(MESSAGE) + 1
        program_writer.close()
        await pumping
        assert peer.pump.emptied.is_set()

    asyncio.run(main())


def test_bytes_that_arrive_after_the_program_has_ended_count_as_taken() -> None:
    # Otherwise the sender would wait for it until its patience ends.
    async def main() -> None:
        peer = Peer()
        peer.sends(MESSAGE)
        assert peer.taken == 0
        peer.pump.discard()
        assert peer.taken == len(MESSAGE)
        peer.sends(MESSAGE, MESSAGE, end=True)
        assert peer.taken == 3 * len(MESSAGE) + 1

    asyncio.run(main())


def test_bytes_on_their_way_to_a_program_that_ends_count_as_taken() -> None:
    async def main() -> None:
        peer = Peer()
        near, far = socket.socketpair()
        pumping = asyncio.create_task(peer.pump.run(near))
        payload = bytes(8) + (3 * 2**20).to_bytes(4, "little") + bytes(3 * 2**20)  # more than the socket takes
        peer.sends(*(payload[start : start + 60_000] for start in range(0, len(payload), 60_000)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert peer.taken < len(payload)
        pumping.cancel()
        await asyncio.wait([pumping])
        peer.pump.discard()
        assert peer.taken == len(payload)
        far.close()

    asyncio.run(main())


def test_a_program_that_sends_nothing_more_still_receives() -> None:
    async def main() -> None:
        peer = Peer()
        near, far = socket.socketpair()
        far.shutdown(socket.SHUT_WR)
        pumping = asyncio.create_task(peer.pump.run(near))
        payload = bytes(8) + (2**20).to_bytes(4, "little") + bytes(2**20)  # more than the socket takes
        peer.sends(*(payload[start : start + 60_000] for start in range(0, len(payload), 60_000)), end=True)
        await peer.pump.emptied.wait()
        program, program_writer = await asyncio.open_unix_connection(sock=far)
        assert await program.read() == payload
        await pumping
        assert peer.taken == len(payload) + 1
        program_writer.close()

    asyncio.run(main())


def test_bytes_that_the_link_has_no_room_for_stay_with_the_program() -> None:
    async def main() -> None:
        peer = Peer()
        near, far = socket.socketpair()
        far.setblocking(False)
        pumping = asyncio.create_task(peer.pump.run(near))
        loop, payload = asyncio.get_running_loop(), bytes(2 * LIMITS.window_bytes)
        writing = asyncio.create_task(loop.sock_sendall(far, payload))
        while peer.runner.link.room():  # noqa: ASYNC110 (a link tells nobody that it is full)
            await asyncio.sleep(0)
        for _ in range(5):
            await asyncio.sleep(0)
        assert not writing.done()
        assert not peer.pump.emptied.is_set()
        for task in (writing, pumping):
            task.cancel()
        await asyncio.wait([writing, pumping])
        far.close()

    asyncio.run(main())
