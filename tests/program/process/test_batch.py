"""The bytes that MPyC writes in one turn of its loop leave in one piece per peer."""

from __future__ import annotations

import asyncio
from typing import Any

from onionmpc.program.process.batch import AT_ONCE_BYTES, BatchedTransport, WriteBatch


class Transport:
    """Records each write separately."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.writes.append(data)

    def close(self) -> None:
        self.closed = True


def batched(loop: asyncio.AbstractEventLoop) -> tuple[list[BatchedTransport], list[Any]]:
    """Return batched transports to two peers, and the transports behind them."""
    transports: list[Any] = [Transport(), Transport()]
    batch = WriteBatch(loop)
    return [BatchedTransport(transport, batch) for transport in transports], transports


def test_writes_to_a_peer_in_one_turn_leave_in_one_piece() -> None:
    async def main() -> None:
        (first, second), transports = batched(asyncio.get_running_loop())
        for letter in (b"a", b"b"):
            first.write(letter)
            second.writelines([letter, letter])
        assert [transport.writes for transport in transports] == [[], []]
        await asyncio.sleep(0)
        assert [transport.writes for transport in transports] == [[b"ab"], [b"aabb"]]
        first.write(b"c")
        await asyncio.sleep(0)
        assert [transport.writes for transport in transports] == [[b"ab", b"c"], [b"aabb"]]

    asyncio.run(main())


def test_an_array_is_written_at_once() -> None:
    async def main() -> None:
        (first, _), (transport, _) = batched(asyncio.get_running_loop())
        first.write(b"a")
        first.write(bytes(AT_ONCE_BYTES))
        assert transport.writes == [b"a" + bytes(AT_ONCE_BYTES)]

    asyncio.run(main())


def test_a_write_while_no_loop_runs_happens_at_once() -> None:
    # MPyC's coroutines start when they are called, and a script may then wait in input().
    loop = asyncio.new_event_loop()
    (first, _), (transport, _) = batched(loop)
    first.write(b"a")
    assert transport.writes == [b"a"]
    loop.close()


def test_held_bytes_are_written_before_the_transport_closes() -> None:
    async def main() -> None:
        (first, _), (transport, _) = batched(asyncio.get_running_loop())
        first.write(b"a")
        first.close()
        assert transport.writes == [b"a"]
        assert transport.closed

    asyncio.run(main())
