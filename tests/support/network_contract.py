"""The contract of every Network, checked with plain local sockets and with tor.

Each fact is an async function of a Pair; `FACTS` lists them for parametrisation.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from onionmpc.errors import NotExpected, PeerUnreachable
from onionmpc.identity import Onion
from onionmpc.mesh.network import Network, Stream

LARGE_BYTES = 2 * 2**20
GREETING_BYTES = 8
# How long a new stream may be silent, and how many are dialled: over tor, one lost cell makes a stream useless.
SILENCE_S = 5.0
ATTEMPTS = 3
# The key that finds the listener, the one that does so later, and one that never does.
KEY, LATER_KEY, WRONG_KEY = (bytes([number] * 32) for number in (1, 2, 3))


@dataclass
class Pair:
    """Two networks: one listens, the other dials. Accepted streams wait in a queue."""

    dialler: Network
    listener: Network
    onion: Onion
    nobody: Onion
    deadline_s: float
    arrived: asyncio.Queue[Stream] = field(default_factory=asyncio.Queue)

    async def listen(self) -> None:
        await self.listener.listen(self.arrived.put, [KEY])
        self.dialler.unlock(self.onion, KEY)

    async def connect(self) -> tuple[Stream, Stream]:
        return await connect(self.dialler, self.onion, self.arrived, self.deadline_s)


async def connect(
    dialler: Network, onion: Onion, arrived: asyncio.Queue[Stream], deadline_s: float
) -> tuple[Stream, Stream]:
    """Dial until a stream carries a greeting, as the mesh does; return both its ends.

    Raises:
        PeerUnreachable: see `Network.dial`.
    """
    for _ in range(ATTEMPTS):
        dialled = await dialler.dial(onion, deadline_s)
        with contextlib.suppress(TimeoutError, ConnectionError):
            return dialled, await other_end(dialled, arrived)
        await dialled.close()
    raise AssertionError(f"{ATTEMPTS} streams carried nothing")


async def connect_when_found(
    dialler: Network, onion: Onion, arrived: asyncio.Queue[Stream], deadline_s: float
) -> tuple[Stream, Stream]:
    """Dial a peer that has just admitted us: over tor, it takes seconds until a new key works."""
    async with asyncio.timeout(deadline_s):
        while True:
            # A dial that is under way while the service is added again gets no answer.
            with contextlib.suppress(PeerUnreachable):
                return await connect(dialler, onion, arrived, deadline_s / 5)


async def other_end(dialled: Stream, arrived: asyncio.Queue[Stream]) -> Stream:
    """Return the accepted end of a stream. A failed dial may have left others in the queue: they are closed."""
    greeting = os.urandom(GREETING_BYTES)
    dialled.writer.write(greeting)
    async with asyncio.timeout(SILENCE_S):
        while True:
            accepted = await arrived.get()
            with contextlib.suppress(TimeoutError, OSError, asyncio.IncompleteReadError):
                async with asyncio.timeout(SILENCE_S / ATTEMPTS):
                    if await accepted.reader.readexactly(GREETING_BYTES) == greeting:
                        return accepted
            await accepted.close()


async def close(*streams: Stream) -> None:
    for stream in streams:
        await stream.close()


async def dial_reaches_the_listener(pair: Pair) -> None:
    dialled, accepted = await pair.connect()
    dialled.writer.write(b"hello")
    assert await accepted.reader.readexactly(5) == b"hello"
    await dialled.close()
    await accepted.close()


async def bytes_arrive_both_ways_in_order(pair: Pair) -> None:
    dialled, accepted = await pair.connect()
    there = b"".join(i.to_bytes(4) for i in range(2000))
    back = there[::-1]
    for start in range(0, len(there), 777):
        dialled.writer.write(there[start : start + 777])
        accepted.writer.write(back[start : start + 777])
    assert await accepted.reader.readexactly(len(there)) == there
    assert await dialled.reader.readexactly(len(back)) == back
    await dialled.close()
    await accepted.close()


async def the_listener_sees_the_end_after_the_last_byte(pair: Pair) -> None:
    dialled, accepted = await pair.connect()
    dialled.writer.write(b"last")
    await dialled.writer.drain()
    dialled.writer.close()
    async with asyncio.timeout(pair.deadline_s):
        assert await accepted.reader.read() == b"last"
    await accepted.close()


async def the_dialler_sees_the_end_after_the_last_byte(pair: Pair) -> None:
    dialled, accepted = await pair.connect()
    accepted.writer.write(b"last")
    await accepted.writer.drain()
    accepted.writer.close()
    async with asyncio.timeout(pair.deadline_s):
        assert await dialled.reader.read() == b"last"
    await dialled.close()


async def a_cut_is_seen_as_the_end_or_as_an_error(pair: Pair) -> None:
    dialled, accepted = await pair.connect()
    await dialled.close()
    async with asyncio.timeout(pair.deadline_s):
        with contextlib.suppress(ConnectionError):
            assert await accepted.reader.read() == b""
    await accepted.close()


async def dialling_nobody_fails_within_the_deadline(pair: Pair) -> None:
    async with asyncio.timeout(pair.deadline_s + 5):
        with pytest.raises(PeerUnreachable) as raised:
            await pair.dialler.dial(pair.nobody, pair.deadline_s)
    assert pair.nobody[:56] not in str(raised.value)


async def several_streams_at_once_do_not_mix(pair: Pair) -> None:
    dialled = await asyncio.gather(*(pair.dialler.dial(pair.onion, pair.deadline_s) for _ in range(4)))
    for number, stream in enumerate(dialled):
        stream.writer.write(bytes([number]))
    by_number: dict[bytes, Stream] = {}
    async with asyncio.timeout(pair.deadline_s):
        while len(by_number) < len(dialled):
            accepted = await pair.arrived.get()
            # A dial that failed may have left a broken stream.
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                by_number[await accepted.reader.readexactly(1)] = accepted
        for sent, accepted in by_number.items():
            accepted.writer.write(sent)
        for number, stream in enumerate(dialled):
            assert await stream.reader.readexactly(1) == bytes([number])
    await close(*dialled, *by_number.values())


async def a_large_transfer_waits_for_its_reader(pair: Pair) -> None:
    dialled, accepted = await pair.connect()
    sent = bytes(range(256)) * (LARGE_BYTES // 256)

    async def send() -> None:
        for start in range(0, len(sent), 2**16):
            dialled.writer.write(sent[start : start + 2**16])
            await dialled.writer.drain()

    sending = asyncio.create_task(send())
    # Nobody reads yet: the buffers on the path fill up, and then drain() stops the sender.
    first = await accepted.reader.readexactly(2**16)
    async with asyncio.timeout(pair.deadline_s):
        received = first + await accepted.reader.readexactly(LARGE_BYTES - len(first))
        await sending
    assert received == sent
    await dialled.close()
    await accepted.close()


async def own_paths_meet_at_the_rendezvous_point_or_are_none(pair: Pair) -> None:
    dialled, accepted = await pair.connect()
    ours = dialled.path
    theirs = await pair.listener.accepted_path("0" * 40 if ours is None else ours.rendezvous)
    if ours is None:
        assert theirs is None
    else:
        assert theirs is not None
        assert theirs.rendezvous == ours.rendezvous
        assert ours.relays >= 3
        assert theirs.relays >= 3
    await dialled.close()
    await accepted.close()


async def a_rendezvous_point_that_nobody_uses_has_no_path(pair: Pair) -> None:
    assert await pair.listener.accepted_path("0" * 40) is None


async def nothing_is_restored_while_nothing_is_lost(pair: Pair) -> None:
    restored = asyncio.create_task(pair.dialler.restored())
    dialled, accepted = await pair.connect()
    assert not restored.done()
    restored.cancel()
    await dialled.close()
    await accepted.close()


async def a_refresh_cuts_no_stream_and_leaves_us_reachable(pair: Pair) -> None:
    dialled, accepted = await pair.connect()
    for _ in range(3):
        await pair.listener.refresh()
    again, accepted_again = await pair.connect()
    for one, other in ((dialled, accepted), (accepted_again, again)):
        one.writer.write(b"still here")
        assert await other.reader.readexactly(10) == b"still here"
    for stream in (dialled, accepted, again, accepted_again):
        await stream.close()


Fact = Callable[[Pair], Awaitable[None]]


async def strangers_do_not_find_the_listener_until_it_admits_them(pair: Pair, stranger: Network) -> None:
    """One more fact, for a further network that has not dialled the listener before."""
    await cannot_dial(pair, stranger)
    stranger.unlock(pair.onion, WRONG_KEY)
    await cannot_dial(pair, stranger)
    pair.listener.admit([KEY, LATER_KEY])
    await cannot_dial(pair, stranger)
    stranger.unlock(pair.onion, LATER_KEY)
    await close(*await connect_when_found(stranger, pair.onion, pair.arrived, pair.deadline_s))
    pair.listener.admit([KEY])
    async with asyncio.timeout(pair.deadline_s):
        await dial_until_lost(pair, stranger)
    # A peer that was admitted before and still is does not notice.
    await close(*await connect_when_found(pair.dialler, pair.onion, pair.arrived, pair.deadline_s))


async def a_later_session_has_keys_and_streams_of_its_own(pair: Pair, stranger: Network) -> None:
    """One more fact, for a further network."""
    later: asyncio.Queue[Stream] = asyncio.Queue()
    await pair.listener.listen(later.put, [LATER_KEY])
    stranger.unlock(pair.onion, LATER_KEY)
    earlier = pair.arrived.qsize()
    await close(*await connect_when_found(stranger, pair.onion, later, pair.deadline_s))
    assert pair.arrived.qsize() == earlier
    await pair.listen()
    await close(*await connect_when_found(pair.dialler, pair.onion, pair.arrived, pair.deadline_s))


async def cannot_dial(pair: Pair, stranger: Network) -> None:
    for _ in range(ATTEMPTS):
        with pytest.raises(PeerUnreachable) as refused:
            await stranger.dial(pair.onion, pair.deadline_s / ATTEMPTS)
        if refused.type is NotExpected:  # over tor, a directory may just not answer
            break
    assert refused.type is NotExpected
    assert refused.match("expects, and this party is not")


async def dial_until_lost(pair: Pair, stranger: Network) -> None:
    while True:
        try:
            await close(*await connect(stranger, pair.onion, pair.arrived, pair.deadline_s / 5))
        except NotExpected:
            return
        except PeerUnreachable:
            continue


FACTS: tuple[Fact, ...] = (
    dial_reaches_the_listener,
    bytes_arrive_both_ways_in_order,
    the_listener_sees_the_end_after_the_last_byte,
    the_dialler_sees_the_end_after_the_last_byte,
    a_cut_is_seen_as_the_end_or_as_an_error,
    dialling_nobody_fails_within_the_deadline,
    several_streams_at_once_do_not_mix,
    a_large_transfer_waits_for_its_reader,
    own_paths_meet_at_the_rendezvous_point_or_are_none,
    a_rendezvous_point_that_nobody_uses_has_no_path,
    nothing_is_restored_while_nothing_is_lost,
    a_refresh_cuts_no_stream_and_leaves_us_reachable,
)
