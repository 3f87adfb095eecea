"""Links of several streams, on local sockets: raced once, the fastest preferred, and lost ones replaced."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from onionmpc.identity import Onion
from onionmpc.mesh.carriers import EXTRA_STREAMS
from onionmpc.mesh.network import Stream
from onionmpc.mesh.pace import DIAL_EVERY_S, DIALS_IN_A_ROW, Pace
from onionmpc.mesh.timings import MeshTimings
from onionmpc.wire import link as link_module
from onionmpc.wire.frames import Ping
from onionmpc.wire.limits import DEFAULT_LINK_LIMITS as LIMITS
from onionmpc.wire.limits import LinkLimits
from onionmpc.wire.link import ProgramEnd
from tests.support.mesh import (
    ALERT,
    QUICK,
    RESUME,
    Party,
    in_a_loop,
    knock,
    meshed,
    resume,
    say,
    stall,
    still_flows,
    until_resumed,
    widen,
)

# Closes surplus streams after a moment.
SOON = replace(QUICK, let_go_after_s=(0.01, 0.05))


async def until_raced(*parties: Party) -> None:
    for party in parties:
        await party.watcher.until(lambda party=party: party.watcher.races)


@contextlib.asynccontextmanager
async def raced(
    directory: Path, circuits: int, delays_s: list[float], timings: MeshTimings = QUICK
) -> AsyncIterator[tuple[Party, Party]]:
    """Two parties whose link was raced. `delays_s` are the round trips of its streams, see `Network`."""
    low, high = (Party(directory, number, 2, timings=timings) for number in range(2))
    low.network.delays_s = delays_s
    async with low, high:
        await low.until_up(1)
        await high.until_up(0)
        widen((low, high), circuits)
        await until_raced(low, high)
        yield low, high


async def until_streams(party: Party, peer: int, count: int) -> None:
    """Wait until a link has this many streams."""
    async with asyncio.timeout(10):
        while party.watcher.up[peer].streams != count:  # noqa: ASYNC110 (a stream that goes tells no Observer)
            await asyncio.sleep(0.01)


def ranked(party: Party, peer: int) -> list[int]:
    """Return the open streams by the order in which they were dialled or accepted, the fastest first."""
    numbers = [secure.number for secure in party.watcher.streams[peer]]
    return [numbers.index(number) for number in party.watcher.up[peer].link.ranking()]


# --- The race -----------------------------------------------------------------------------------------------


@in_a_loop
async def test_the_fastest_of_three_streams_carries_urgent_data_at_both_ends(directory: Path) -> None:
    async with raced(directory, 3, [0.08, 0.02, 0.05]) as (low, high):
        assert low.watcher.races == [(1, 3)]
        assert high.watcher.races == [(0, 3)]
        assert low.watcher.dialled[1] == [True] * 3
        # Compared by their numbers, which are the same at both ends.
        assert low.watcher.up[1].link.ranking() == high.watcher.up[0].link.ranking()
        assert ranked(low, 1)[0] in (1, 2)
        assert low.watcher.up[1].round_trip_s == pytest.approx(0.02, abs=0.02)
        await still_flows(low, high)


@in_a_loop
async def test_only_the_side_that_dialled_races_a_link_and_only_after_widen(directory: Path) -> None:
    async with meshed(directory, 2) as (low, high):
        widen([high], 3)
        await still_flows(low, high)
        assert high.network.dials == 0
        assert low.network.dials == 1
        widen([low], 3)
        await until_raced(low, high)
        assert (low.network.dials, high.network.dials) == (3, 0)


@in_a_loop
async def test_surplus_streams_close_later_the_slowest_first(directory: Path) -> None:
    async with raced(directory, 6, [0.16, 0.01, 0.03, 0.05, 0.07, 0.13], SOON) as (low, high):
        slowest = {ranked(low, 1)[-1], ranked(low, 1)[-2]}
        assert 0 in slowest
        await until_streams(low, 1, 4)
        await until_streams(high, 0, 4)
        assert not slowest & set(ranked(low, 1))
        await still_flows(low, high)
        assert low.network.dials == 6
        assert low.watcher.news == high.watcher.news == []


@in_a_loop
async def test_a_surplus_stream_does_not_close_when_the_race_ends(directory: Path) -> None:
    async with meshed(directory, 2) as (low, high):
        widen((low, high), 6)
        await until_raced(low, high)
        await still_flows(low, high)
        assert low.watcher.up[1].streams == high.watcher.up[0].streams == 6


@in_a_loop
async def test_two_surplus_streams_that_close_together_are_two_different_ones(directory: Path) -> None:
    async with raced(directory, 6, [0.0]) as (low, high):
        low.watcher.up[1].carriers.end_slowest()
        low.watcher.up[1].carriers.end_slowest()
        assert low.watcher.up[1].streams == 4
        await until_streams(high, 0, 4)
        await still_flows(low, high)


@in_a_loop
async def test_a_silent_dial_does_not_delay_the_race_and_is_replaced(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with meshed(directory, 2, timings=replace(QUICK, race_s=0.5)) as (low, high):
        dial, silent = low.network.dial, 1

        async def dial_with_silences(onion: Onion, timeout_s: float) -> Stream:
            nonlocal silent
            silent -= 1
            return await (dial(onion, timeout_s) if silent < 0 else asyncio.Event().wait())  # type: ignore[return-value]

        monkeypatch.setattr(low.network, "dial", dial_with_silences)
        widen((low, high), 3)
        await until_raced(low, high)
        assert low.watcher.races == [(1, 2)]
        await until_streams(low, 1, 3)
        assert low.watcher.failures == []
        await still_flows(low, high)


@in_a_loop
async def test_dials_for_further_streams_share_one_limit_over_all_links(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    under_way = most = 0
    async with meshed(directory, 3, timings=replace(QUICK, spare_dials_at_once=2)) as parties:
        low = parties[0]
        dial = low.network.dial

        async def counting_dial(onion: Onion, timeout_s: float) -> Stream:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            try:
                await asyncio.sleep(0.01)
                return await dial(onion, timeout_s)
            finally:
                under_way -= 1

        monkeypatch.setattr(low.network, "dial", counting_dial)
        widen(parties, 4)
        await low.watcher.until(lambda: len(low.watcher.races) == 2)
        assert most == 2


@in_a_loop
async def test_a_peer_allows_one_race(directory: Path) -> None:
    async with meshed(directory, 2, timings=replace(QUICK, accepted_per_hour=7)) as (low, high):
        widen((low, high), 8)
        await until_raced(low, high)
        assert low.watcher.races == [(1, 8)]
        await still_flows(low, high)


@in_a_loop
async def test_a_peer_that_dials_more_streams_than_agreed_keeps_no_more(directory: Path) -> None:
    async with Party(directory, 1, 2) as party:
        streams = []
        for token in range(10):
            _, secure = await knock(directory, party.identity, **RESUME)
            streams.append(secure)
            await say(secure, Ping(token))
            await party.watcher.until(lambda token=token: len(party.watcher.streams[0]) == token + 1)
            if token == 0:
                party.mesh._links[0].race.widen(4)
        await until_streams(party, 0, 4 + EXTRA_STREAMS)
        for secure in streams:
            await secure.close()


# --- After the race -----------------------------------------------------------------------------------------


@in_a_loop
async def test_bulk_data_goes_over_all_streams_and_arrives_intact(directory: Path) -> None:
    async with raced(directory, 3, [0.01, 0.02, 0.03]) as (low, high):
        carried = dict.fromkeys(range(3), 0)
        send = link_module.Link._give

        def count(link: link_module.Link, stream: link_module._Stream, *arguments: object) -> object:
            frame = send(link, stream, *arguments)  # type: ignore[arg-type]
            if link is low.watcher.up[1].link:
                carried[list(link._streams.values()).index(stream)] += 1
            return frame

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(link_module.Link, "_give", count)
            payload = random.Random(1).randbytes(200 * LIMITS.chunk_bytes)
            await low.watcher.up[1].send_data(payload)
            await low.watcher.up[1].end_data(last=True)
            await high.watcher.until(lambda: (0, ProgramEnd()) in high.watcher.events)
        assert high.watcher.data[0] == payload
        assert min(carried.values()) > 5


@in_a_loop
async def test_one_broken_stream_of_several_is_replaced_and_is_not_an_outage(directory: Path) -> None:
    async with meshed(directory, 2) as (low, high):
        widen((low, high), 3)
        await until_raced(low, high)
        for times in range(1, 4):
            await low.cut(1, [0])
            await low.watcher.until(lambda times=times: len(low.watcher.streams[1]) == 3 + times)
            await until_streams(low, 1, 3)
            await still_flows(low, high)
        assert low.network.dials == 6
        assert high.network.dials == 0
        assert low.watcher.news == high.watcher.news == []
        assert low.watcher.races == [(1, 3)]


@in_a_loop
async def test_if_all_streams_break_one_is_dialled_at_once_and_the_others_after_it(directory: Path) -> None:
    async with meshed(directory, 2) as (low, high):
        widen((low, high), 3)
        await until_raced(low, high)
        await low.cut(1)
        await until_resumed(low, high)
        await until_streams(low, 1, 3)
        await still_flows(low, high)
        assert low.network.dials == 6
        assert low.watcher.news == [("broken", 1), ("resumed", 1)]


@in_a_loop
async def test_suspicious_streams_that_come_back_beside_new_ones_are_closed_again(directory: Path) -> None:
    async with meshed(directory, 2, timings=replace(SOON, link=ALERT.link)) as (low, high):
        widen((low, high), 2)
        await until_raced(low, high)
        for party, peer in ((low, 1), (high, 0)):
            stall(party, peer)
        await until_resumed(low, high)
        for party, peer in ((low, 1), (high, 0)):
            resume(party, peer)
        await until_streams(low, 1, 2)
        await until_streams(high, 0, 2)
        await still_flows(low, high)


@in_a_loop
async def test_a_stream_that_slows_down_is_replaced(directory: Path) -> None:
    often_pinged = replace(QUICK, link=LinkLimits(ping_after_s=0.05))
    async with raced(directory, 2, [0.03, 0.03, 0.03], often_pinged) as (low, high):
        slow = low.watcher.streams[1][0].number
        low.network.delays_s[0] = 0.3
        await low.watcher.until(lambda: len(low.watcher.streams[1]) == 3)
        await until_streams(low, 1, 2)
        assert slow not in low.watcher.up[1].link.ranking()
        await still_flows(low, high)
        assert low.network.dials == 3
        assert low.watcher.news == high.watcher.news == []


def test_a_link_saves_dials_for_when_no_stream_delivers() -> None:
    pace, now = Pace(), 1000.0
    assert [pace.step(now, leaving=10) for _ in range(DIALS_IN_A_ROW - 10)] == [0.0] * (DIALS_IN_A_ROW - 10)
    assert pace.step(now, leaving=10) == DIAL_EVERY_S
    assert [pace.step(now) for _ in range(9)] == [0.0] * 9
    assert pace.step(now) == DIAL_EVERY_S
