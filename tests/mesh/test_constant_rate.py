"""Links at a constant rate, on local sockets: what goes out looks the same whatever is sent, and all of it arrives."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onionmpc.identity import Onion
from onionmpc.mesh.network import Stream
from onionmpc.mesh.pace import CATCH_UP_S, Ticks
from onionmpc.wire.frames import Close, Padding, Ping
from onionmpc.wire.handshake import MESSAGE_1_BYTES, MESSAGE_2_BYTES
from onionmpc.wire.limits import DEFAULT_LINK_LIMITS as LIMITS
from onionmpc.wire.link import LinkClosed, ProgramEnd
from onionmpc.wire.records import FILLED_PLAINTEXT_BYTES, FILLED_RECORD_BYTES
from tests.support.mesh import (
    ALERT,
    QUICK,
    RESUME,
    Party,
    hear_all,
    in_a_loop,
    knock,
    meshed,
    say,
    stall,
    still_flows,
    until_resumed,
)

RATE = 100
RECORDS = 30


class Observer:
    """Records the time and size of every write of every stream, as an observer of the line would."""

    def __init__(self) -> None:
        self.writes: dict[asyncio.StreamWriter, list[tuple[float, int]]] = defaultdict(list)
        self.changed = asyncio.Event()

    def note(self, writer: asyncio.StreamWriter, size: int) -> None:
        self.writes[writer].append((time.monotonic(), size))
        self.changed.set()

    async def until_records(self, count: int) -> None:
        """Wait until each stream has sent this many records."""
        while any(sum(size for _, size in writes[1:]) < count * FILLED_RECORD_BYTES for writes in self.writes.values()):
            self.changed.clear()
            await self.changed.wait()

    def check_clock(self, rate: int) -> None:
        """Check that no stream was ahead of the clock: no record left because something was queued.

        A tick that is late is caught up, so only the sum since the handshake, after which the clock starts, is bounded.
        """
        for (began, _), *records in self.writes.values():
            seen = 0
            for at, size in records:
                assert size % FILLED_RECORD_BYTES == 0
                seen += size // FILLED_RECORD_BYTES
                assert seen <= (at - began) * rate + 1


@pytest.fixture
def observer(monkeypatch: pytest.MonkeyPatch) -> Observer:
    observer, write = Observer(), asyncio.StreamWriter.write

    def note(writer: asyncio.StreamWriter, data: bytes) -> None:
        observer.note(writer, len(data))
        write(writer, data)

    monkeypatch.setattr(asyncio.StreamWriter, "write", note)
    return observer


# --- The schedule -------------------------------------------------------------------------------------------


def test_ticks_are_evenly_spaced_from_the_first_one_on() -> None:
    ticks = Ticks(10, 1000.0)
    assert ticks.next_at == 1000.0
    assert ticks.take(999.9) == 0
    assert [ticks.take(1000.01 + n / 10) for n in range(5)] == [1] * 5
    assert ticks.next_at == 1000.5


def test_a_late_tick_does_not_delay_later_ones() -> None:
    ticks = Ticks(10, 1000.0)
    assert ticks.take(1000.35) == 4
    assert ticks.take(1000.39) == 0
    assert ticks.next_at == 1000.4


@pytest.mark.parametrize("rate", [1, 10, 200])
def test_after_a_long_delay_one_second_of_records_is_sent(rate: int) -> None:
    ticks = Ticks(rate, 1000.0)
    assert ticks.take(5000.0) == rate
    assert ticks.next_at == 5000.0 + 1 / rate
    assert ticks.take(5000.0) == 0


@given(st.integers(1, 200), st.lists(st.floats(0, CATCH_UP_S / 2), max_size=50))
def test_no_tick_is_lost_to_delays_below_the_limit(rate: int, delays: list[float]) -> None:
    ticks, now, taken = Ticks(rate, 1000.0), 1000.0, 0
    for delay in delays:
        now += delay
        taken += ticks.take(now)
    # Within a tick of the schedule, at any time.
    assert abs(taken - (now - 1000.0) * rate) <= 1 or not delays


# --- What an observer sees ----------------------------------------------------------------------------------


@pytest.mark.parametrize("busy", [False, True])
@in_a_loop
async def test_records_are_sent_by_the_clock_whatever_is_queued(
    directory: Path, observer: Observer, busy: bool
) -> None:
    async with meshed(directory, 2, padding_rate=RATE) as parties:
        for party in parties:
            runner = party.watcher.up[1 - party.number]
            if busy:
                runner.send_control(bytes(2000))
                await runner.send_data(random.randbytes(3000))
                await runner.end_data(last=True)
        await observer.until_records(RECORDS)
        for party in parties:
            assert len(party.watcher.data[1 - party.number]) == 3000 * busy
            assert ((1 - party.number, ProgramEnd()) in party.watcher.events) == busy
    assert sorted(writes[0][1] for writes in observer.writes.values()) == [MESSAGE_2_BYTES, MESSAGE_1_BYTES]
    observer.check_clock(RATE)


@in_a_loop
async def test_the_last_record_looks_like_all_others_and_carries_the_close(directory: Path, observer: Observer) -> None:
    async with Party(directory, 1, 2, padding_rate=RATE) as party:
        _, secure = await knock(directory, party.identity, nonce=bytes(16))
        await say(secure, Ping(1))
        runner = await party.until_up(0)
        runner.close()
        frames = await hear_all(secure)
        assert [frame for frame in frames if not isinstance(frame, Padding)][-1] == Close()
        sizes = [size for _, size in observer.writes[party.watcher.streams[0][0].stream.writer]]
        assert {size % FILLED_RECORD_BYTES for size in sizes[1:]} == {0}
        await runner.last_words()
        await secure.close()


@in_a_loop
async def test_a_stream_that_takes_nothing_is_not_filled_for_ever(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with meshed(directory, 2, padding_rate=200, timings=ALERT) as (low, high):
        (secure,) = low.watcher.streams[1]
        transport: Any = secure.stream.writer.transport
        transport.set_write_buffer_limits(FILLED_RECORD_BYTES)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        held: list[int] = []
        stream_up = low.watcher.stream_up

        def note(*arguments: Any, **options: Any) -> None:
            held.append(transport.get_write_buffer_size())
            stream_up(*arguments, **options)

        monkeypatch.setattr(low.watcher, "stream_up", note)
        stall(low, 1)
        stall(high, 0)
        await until_resumed(low)
        # Only what is over the limit, and not the records of all ticks since then.
        assert FILLED_RECORD_BYTES < held[0] <= 2 * FILLED_RECORD_BYTES
        await still_flows(low, high)


# --- What arrives -------------------------------------------------------------------------------------------


@in_a_loop
async def test_data_that_does_not_fit_into_one_record_arrives_in_the_next_ones(
    directory: Path, observer: Observer
) -> None:
    async with meshed(directory, 2, padding_rate=200) as (low, high):
        payload = random.randbytes(10 * FILLED_PLAINTEXT_BYTES)
        await low.watcher.up[1].send_data(payload)
        await low.watcher.up[1].end_data(last=True)
        await high.watcher.until(lambda: (0, ProgramEnd()) in high.watcher.events)
        assert high.watcher.data[0] == payload
        observer.check_clock(200)
        await low.watcher.up[1].close_when_flushed(LIMITS.ack_delay_s)
        await high.watcher.until(lambda: (0, LinkClosed()) in high.watcher.events)
        assert low.watcher.downs == high.watcher.downs == []


@in_a_loop
async def test_links_of_different_rates_understand_each_other(directory: Path) -> None:
    # Parties whose rates differ must be able to report the difference to each other.
    async with Party(directory, 0, 2, padding_rate=200) as low, Party(directory, 1, 2) as high:
        await low.until_up(1)
        await high.until_up(0)
        await still_flows(low, high)


# --- Streams ------------------------------------------------------------------------------------------------


@in_a_loop
async def test_a_newer_stream_replaces_the_older_one(directory: Path) -> None:
    async with Party(directory, 1, 2, padding_rate=RATE) as party:
        _, first = await knock(directory, party.identity, **RESUME)
        await say(first, Ping(1))
        await party.until_up(0)
        _, second = await knock(directory, party.identity, **RESUME)
        await say(second, Ping(2))
        await hear_all(first)
        assert party.watcher.up[0].streams == 1
        assert party.watcher.downs == []
        for secure in (first, second):
            await secure.close()


@in_a_loop
async def test_of_crossing_streams_one_is_left_in_the_end(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Each side drops its own stream for the peer's, and the lower party dials once more.
    async with meshed(directory, 2, padding_rate=200) as (low, high):
        both = asyncio.Barrier(2)

        def crossing(party: Party) -> None:
            dial, first = party.network.dial, True

            async def dial_with_the_other(onion: Onion, timeout_s: float) -> Stream:
                nonlocal first
                if first:
                    first = False
                    await both.wait()
                return await dial(onion, timeout_s)

            monkeypatch.setattr(party.network, "dial", dial_with_the_other)

        crossing(low)
        crossing(high)
        await low.cut(1)
        await until_resumed(low, high)
        await still_flows(low, high)
        assert True in high.watcher.dialled[0]
        assert low.watcher.up[1].streams == high.watcher.up[0].streams == 1


@in_a_loop
async def test_no_byte_is_lost_or_duplicated_when_streams_are_cut(directory: Path) -> None:
    async with meshed(directory, 2, padding_rate=200, timings=replace(QUICK, grace_s=0.05)) as (low, high):
        payload = random.Random(1).randbytes(30_000)
        await low.watcher.up[1].send_data(payload)
        await low.watcher.up[1].end_data(last=True)
        for _ in range(5):
            had = len(high.watcher.data[0])
            await high.watcher.until(lambda had=had: len(high.watcher.data[0]) > had + 2000)
            await low.cut(1)
        await high.watcher.until(lambda: (0, ProgramEnd()) in high.watcher.events)
        assert high.watcher.data[0] == payload
        assert low.watcher.news.count(("resumed", 1)) == 5
