"""Links that outlive their streams, on local sockets: cuts, silence, sleep, and peers that are gone or dishonest."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from onionmpc.errors import LinkExpired, PeerUnreachable, RemoteProtocolError
from onionmpc.identity import Onion
from onionmpc.mesh import clock, mesh, reconnect
from onionmpc.mesh.carriers import EXTRA_STREAMS
from onionmpc.mesh.clock import wakeups
from onionmpc.mesh.network import Stream
from onionmpc.mesh.pace import DIAL_EVERY_S, DIALS_IN_A_ROW, HOUR_S, REMEMBERED_DIALS, Pace, SharedDials, Visits
from onionmpc.mesh.secure import SecureStream
from onionmpc.mesh.timings import DEFAULT_MESH_TIMINGS
from onionmpc.wire.frames import Abort, AbortCode, Channel, Data, Ping
from onionmpc.wire.handshake import Answer, link_id
from onionmpc.wire.limits import DEFAULT_LINK_LIMITS as LIMITS
from onionmpc.wire.link import ProgramEnd
from tests.support.mesh import (
    ALERT,
    QUICK,
    RESUME,
    Party,
    hear_all,
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


async def until_closed(secure: SecureStream) -> None:
    with contextlib.suppress(OSError):
        await secure.ended()


# --- Cuts ---------------------------------------------------------------------------------------------------


@in_a_loop
async def test_a_link_whose_stream_breaks_comes_back_and_the_others_do_not_notice(directory: Path) -> None:
    async with meshed(directory, 3) as (low, middle, high):
        await low.cut(1)
        await until_resumed(low, middle)
        await still_flows(low, middle)
        assert low.watcher.news == [("broken", 1), ("resumed", 1)]
        assert middle.watcher.news == [("broken", 0), ("resumed", 0)]
        assert high.watcher.news == []
        # The lower party dials again, as it did the first time.
        assert low.watcher.dialled[1] == [True, True]
        assert middle.watcher.dialled[0] == [False, False]


@pytest.mark.parametrize("circuits", [1, 3])
@pytest.mark.parametrize("seed", range(3))
@in_a_loop
async def test_no_byte_is_lost_or_duplicated_whatever_is_cut(directory: Path, seed: int, circuits: int) -> None:
    choose = random.Random(seed)
    async with meshed(directory, 3) as parties:
        if circuits > 1:
            widen(parties, circuits)
        payload = {party.number: choose.randbytes(2**20) for party in parties}

        async def send(party: Party, peer: int) -> None:
            link = party.watcher.up[peer]
            for start in range(0, 2**20, 10_000):
                await link.send_data(payload[party.number][start : start + 10_000])
            await link.end_data(last=True)

        async def cut() -> None:
            for _ in range(30):
                party = choose.choice(parties)
                await party.cut(choose.choice(party.mesh.peers), choose.sample(range(circuits), circuits // 2 + 1))
                await asyncio.sleep(choose.random() / 50)

        async with asyncio.TaskGroup() as tasks:
            for party in parties:
                for peer in party.mesh.peers:
                    tasks.create_task(send(party, peer))
            tasks.create_task(cut())
        for party in parties:
            for peer in party.mesh.peers:
                watcher = party.watcher
                await watcher.until(lambda watcher=watcher, peer=peer: (peer, ProgramEnd()) in watcher.events)
                assert hashlib.sha256(watcher.data[peer]).digest() == hashlib.sha256(payload[peer]).digest()
                assert watcher.events.count((peer, ProgramEnd())) == 1
            assert watcher.downs == []


@in_a_loop
async def test_the_other_party_dials_if_the_first_cannot(directory: Path) -> None:
    async with meshed(directory, 2) as (low, high):
        low.network.out = True
        await low.cut(1)
        await until_resumed(low, high)
        await still_flows(low, high)
        assert high.watcher.dialled[0] == [False, True]
        assert "the network is out" in {failure.reason for failure in low.watcher.failures}


@in_a_loop
async def test_a_party_whose_network_is_back_dials_at_once(directory: Path) -> None:
    async with meshed(directory, 2, timings=replace(QUICK, grace_s=1000)) as (low, high):
        low.network.out = True
        await low.cut(1)
        await high.watcher.until(lambda: high.watcher.news)
        high.network.back.set()
        await until_resumed(low, high)
        await still_flows(low, high)
        assert high.watcher.dialled[0] == [False, True]


@in_a_loop
async def test_a_first_stream_that_breaks_before_its_first_record_is_no_loss(directory: Path) -> None:
    async with Party(directory, 1, 2) as party:
        for _ in range(2):
            reply, secure = await knock(directory, party.identity, nonce=bytes([0]) * 16)
            assert reply.answer is Answer.ACCEPTED
            await secure.close()
        reply, secure = await knock(directory, party.identity, **RESUME)
        assert (reply.answer, reply.offsets) == (Answer.ACCEPTED, (0, 0))
        await say(secure, Ping(1))
        await party.until_up(0)
        await secure.close()


# --- Silence ------------------------------------------------------------------------------------------------


@in_a_loop
async def test_a_stream_that_delivers_nothing_gets_another_beside_it(directory: Path) -> None:
    async with meshed(directory, 2, timings=ALERT) as (low, high):
        stall(low, 1)
        stall(high, 0)
        await until_resumed(low, high)
        assert low.watcher.news[0] == ("resumed", 1)
        assert low.watcher.up[1].streams == 2
        await still_flows(low, high)
        # The silent one is closed in the end.
        await until_closed(low.watcher.streams[1][0])
        await still_flows(low, high)


@in_a_loop
async def test_a_stream_that_neither_takes_nor_delivers_gets_another_beside_it(directory: Path) -> None:
    # Issue 4: while a writer waited for such a stream, nothing set the alarm that makes it suspicious.
    async with meshed(directory, 2, timings=ALERT) as (low, high):
        stall(low, 1)
        stall(high, 0)
        for party, peer in ((low, 1), (high, 0)):
            await party.watcher.up[peer].send_data(bytes(LIMITS.window_bytes))
        await until_resumed(low)
        await low.watcher.until(lambda: len(low.watcher.data[1]) == LIMITS.window_bytes)
        await still_flows(low, high)


@in_a_loop
async def test_a_slow_peer_is_reported_quiet_and_not_lost(directory: Path) -> None:
    async with meshed(directory, 2, timings=replace(ALERT, quiet_every_s=0.1)) as (low, high):
        for party, peer in ((low, 1), (high, 0)):
            party.network.out = True
            stall(party, peer)
        await low.watcher.until(lambda: low.watcher.news.count(("quiet", 1)) >= 3)
        for party, peer in ((low, 1), (high, 0)):
            resume(party, peer)
        await until_resumed(low, high)
        await still_flows(low, high)
        assert low.watcher.dialled[1] == [True]


@in_a_loop
async def test_a_link_has_no_more_streams_than_allowed(directory: Path) -> None:
    async with Party(directory, 1, 2) as party:
        streams = []
        most = 1 + EXTRA_STREAMS
        for token in range(2 * most):
            _, secure = await knock(directory, party.identity, **RESUME)
            streams.append(secure)
            await say(secure, Ping(token))
            await party.watcher.until(lambda token=token: len(party.watcher.streams[0]) == token + 1)
        for surplus in party.watcher.streams[0][:-most]:
            await until_closed(surplus)
        assert party.watcher.up[0].streams == most
        for secure in streams:
            await secure.close()


# --- Sleep --------------------------------------------------------------------------------------------------


@in_a_loop
async def test_after_a_sleep_a_party_dials_at_once(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    woke = asyncio.Event()

    async def once_told() -> AsyncIterator[float]:
        await woke.wait()
        yield 100.0

    monkeypatch.setattr(mesh, "wakeups", once_told)
    async with meshed(directory, 2, timings=replace(QUICK, grace_s=1000)) as (low, high):
        # This is what a machine finds when it wakes up: its streams look open, but nothing arrives.
        stall(high, 0)
        woke.set()
        await high.watcher.until(lambda: len(high.watcher.streams[0]) >= 2)
        await still_flows(low, high)


@in_a_loop
async def test_a_jump_of_the_clock_counts_as_a_wakeup(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 0.001, 0.001, 100.0, 100.0, 100.001])
    monkeypatch.setattr(clock, "clock_s", lambda: next(times))
    async for slept_s in wakeups(tick_s=0.001):
        assert slept_s == pytest.approx(99.998)
        break


# --- Peers that are gone ------------------------------------------------------------------------------------


@in_a_loop
async def test_a_peer_that_stays_away_is_given_up_when_patience_ends(directory: Path) -> None:
    async with meshed(directory, 2, patience_s=0.5) as (low, high):
        high.network.out = True
        await high.network.__aexit__(None, None, None)
        await low.cut(1)
        message = await low.watcher.until_down(1, LinkExpired)
        assert message.startswith("nothing arrived for 0.5 s (the stream")
        assert low.watcher.failures


@in_a_loop
async def test_a_party_that_restarts_is_in_another_session_and_reported_so(directory: Path) -> None:
    async with Party(directory, 0, 2) as low:
        async with Party(directory, 1, 2) as first:
            await low.until_up(1)
            await first.until_up(0)
        async with Party(directory, 1, 2, nonce=bytes([77]) * 16) as second:
            message = await low.watcher.until_down(1, LinkExpired)
            assert message == "it has ended or restarted, and does not know this session"
            assert second.watcher.up == {}


@pytest.mark.parametrize(
    "changes",
    [{"link": link_id(bytes([0]) * 16, bytes([2]) * 16)}, {"link": bytes(32)}],
    ids=["another session's", "none"],
)
@in_a_loop
async def test_only_a_running_link_is_resumed(directory: Path, changes: dict[str, Any]) -> None:
    async with meshed(directory, 2) as (low, high):
        reply, secure = await knock(directory, high.identity, **(RESUME | changes))
        assert reply.answer is Answer.UNKNOWN_SESSION
        await secure.close()
        await still_flows(low, high)


@in_a_loop
async def test_a_link_that_is_over_is_not_resumed(directory: Path) -> None:
    async with meshed(directory, 2) as (low, high):
        low.watcher.up[1].close()
        await high.until_over(0)
        reply, secure = await knock(directory, high.identity, **RESUME)
        assert reply.answer is Answer.UNKNOWN_SESSION
        await secure.close()


# --- Dishonest peers ----------------------------------------------------------------------------------------


@in_a_loop
async def test_a_resume_that_claims_bytes_never_sent_breaks_the_rules(directory: Path) -> None:
    async with meshed(directory, 2) as (_, high):
        _, secure = await knock(directory, high.identity, **RESUME, offsets=(10**9, 0))
        await say(secure, Ping(1))
        assert "the peer acknowledges" in await high.watcher.until_down(0, RemoteProtocolError)
        await secure.close()


@in_a_loop
async def test_a_resume_changes_nothing_before_its_first_record(directory: Path) -> None:
    async with meshed(directory, 2) as (low, high):
        for _ in range(5):
            reply, secure = await knock(directory, high.identity, **RESUME, offsets=(10**9, 0))
            assert reply.answer is Answer.ACCEPTED
            await secure.close()
        await still_flows(low, high)
        assert len(high.watcher.streams[0]) == 1


@in_a_loop
async def test_a_peer_that_reconnects_without_end_breaks_the_rules(directory: Path) -> None:
    async with Party(directory, 1, 2, timings=replace(QUICK, accepted_per_hour=3)) as party:
        said = []
        for token in range(5):
            _, secure = await knock(directory, party.identity, **RESUME)
            await say(secure, Ping(token))
            said.append(secure)
        assert "reconnected more than" in await party.watcher.until_down(0, RemoteProtocolError)
        assert Abort(AbortCode.LIMIT) in await hear_all(said[3])
        for secure in said:
            await secure.close()


@in_a_loop
async def test_data_that_arrives_over_two_streams_is_put_in_order(directory: Path) -> None:
    async with meshed(directory, 2) as (_, high):
        streams = []
        for token in range(2):
            _, secure = await knock(directory, high.identity, **RESUME)
            await say(secure, Ping(token))
            streams.append(secure)
        await say(streams[1], Data(Channel.CONTROL, 5, b"later"))
        await say(streams[0], Data(Channel.CONTROL, 0, b"first"))
        await high.watcher.until(lambda: high.watcher.control[0] == b"firstlater")
        for secure in streams:
            await secure.close()


# --- How often ----------------------------------------------------------------------------------------------


def test_a_number_of_dials_may_go_at_once_and_then_one_at_a_time() -> None:
    pace, now = Pace(), 1000.0
    waits = [pace.step(now) for _ in range(DIALS_IN_A_ROW + 3)]
    assert waits[:DIALS_IN_A_ROW] == [0.0] * DIALS_IN_A_ROW
    assert waits[DIALS_IN_A_ROW:] == [DIAL_EVERY_S, 2 * DIAL_EVERY_S, 3 * DIAL_EVERY_S]
    assert pace.step(now + 10 * HOUR_S) == 0.0


def test_an_honest_party_stays_below_the_limit_of_its_peer() -> None:
    # The worst case: it dials as soon as it may, all night. The hour that its peer counts may begin at any moment.
    pace, visits, now = Pace(), Visits(DEFAULT_MESH_TIMINGS.accepted_per_hour), 0.0
    while now < 8 * HOUR_S:
        now += pace.step(now)
        assert visits.add(now)


def test_the_next_dial_begins_when_one_takes_twice_as_long_as_usual() -> None:
    times = SharedDials()
    assert times.next_after_s() == 10
    for seconds in (2.0, 2.5, 30.0):
        times.add(seconds)
    assert times.next_after_s() == 5
    for _ in range(REMEMBERED_DIALS):
        times.add(0.01)
    assert times.next_after_s() == 3


@in_a_loop
async def test_silent_dials_do_not_delay_the_next(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with meshed(directory, 2, timings=replace(QUICK, next_dial_s=(0.05, 0.1))) as (low, high):
        # More than may run at once: those that began in vain must make room.
        dial, silent = low.network.dial, 2 * reconnect.DIALS_AT_ONCE

        async def dial_with_silences(onion: Onion, timeout_s: float) -> Stream:
            nonlocal silent
            silent -= 1
            if silent < 0:
                return await dial(onion, timeout_s)
            await asyncio.sleep(timeout_s)
            raise PeerUnreachable("no answer")

        monkeypatch.setattr(low.network, "dial", dial_with_silences)
        high.network.out = True
        await low.cut(1)
        await until_resumed(low, high)
        await still_flows(low, high)
        assert {failure.reason for failure in low.watcher.failures} == {"no answer"}


def test_visits_are_counted_per_hour() -> None:
    visits = Visits(limit=2)
    assert [visits.add(now) for now in (0.0, 1.0, 2.0, HOUR_S + 3)] == [True, True, False, True]
