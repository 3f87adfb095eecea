"""Strangers at a party's door: streams that say nothing, or what is no first message, or one that was said before.

Knows message 1 of the handshake. Does not know what a session makes of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from onionmpc.mesh.network import Stream
from onionmpc.wire.handshake import MESSAGE_1_BYTES

# With more, the kernel's queue would be full, and refuse them there.
AT_ONCE = 50
SLOW_S = 0.05

Kind = Callable[[Stream, int, Sequence[bytes]], Awaitable[None]]
Knock = Callable[[int], Awaitable[Stream]]


async def silent(_stream: Stream, _number: int, _firsts: Sequence[bytes]) -> None:
    """Say nothing."""


async def slow(stream: Stream, number: int, firsts: Sequence[bytes]) -> None:
    """Say a first message as slowly as one is listened to."""
    for byte in firsts[number % len(firsts)][:-1]:
        stream.writer.write(bytes([byte]))
        await stream.writer.drain()
        await asyncio.sleep(SLOW_S)


async def garbage(stream: Stream, number: int, _firsts: Sequence[bytes]) -> None:
    """Say what is no first message, and more than one is long."""
    stream.writer.write(random.Random(number).randbytes(MESSAGE_1_BYTES + number))


async def cut(stream: Stream, number: int, firsts: Sequence[bytes]) -> None:
    """Say a part of a first message, and leave."""
    stream.writer.write(firsts[number % len(firsts)][: number % MESSAGE_1_BYTES])
    await stream.writer.drain()
    await stream.close()


async def replayed(stream: Stream, number: int, firsts: Sequence[bytes]) -> None:
    """Say what a party said before, and wait."""
    stream.writer.write(firsts[number % len(firsts)])


KINDS: tuple[Kind, ...] = (silent, slow, garbage, cut, replayed)


def at(door: Path) -> Knock:
    """Return what opens a stream to a party over a local socket."""

    async def knock(_number: int) -> Stream:
        return Stream(*await asyncio.open_unix_connection(door))

    return knock


async def visit(
    knock: Knock,
    streams: int,
    firsts: Sequence[bytes],
    *,
    every_s: float = 0.0,
    on_all: Callable[[], None] = lambda: None,
) -> None:
    """Open so many streams, of all kinds in turns, and hold each until the party ends it.

    Args:
        knock: opens a stream to a party, given its number.
        firsts: first messages of parties' handshakes.
        every_s: how long to wait between two.
        on_all: called when all have come.
    """
    turn = asyncio.Semaphore(AT_ONCE)
    left = streams

    async def one(kind: Kind, number: int) -> None:
        nonlocal left
        async with turn:
            stream = await knock(number)
        left -= 1
        if not left:
            on_all()
        try:
            with contextlib.suppress(OSError):
                await kind(stream, number, firsts)
                await stream.reader.read()
        finally:
            await stream.close()

    async with asyncio.TaskGroup() as strangers:
        for number in range(streams):
            strangers.create_task(one(KINDS[number % len(KINDS)], number // len(KINDS)))
            await asyncio.sleep(every_s)
