"""The mesh on plain local sockets: links between parties, and how they dial each other."""

from __future__ import annotations

import asyncio
import hashlib
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from onionmpc.errors import AuthenticationFailed, PeerUnreachable, VersionDiffers
from onionmpc.levels import Level
from onionmpc.mesh.door import Door
from onionmpc.mesh.mesh import Mesh
from onionmpc.mesh.network import Stream
from onionmpc.mesh.redial import backoff_s
from onionmpc.mesh.secure import SecureStream, dial
from onionmpc.mesh.timings import DEFAULT_MESH_TIMINGS
from onionmpc.wire.frames import Ping
from onionmpc.wire.handshake import MESSAGE_1_BYTES, MESSAGE_2_BYTES, REFUSAL, Answer, Hello, Purpose
from onionmpc.wire.limits import DEFAULT_LINK_LIMITS as LIMITS
from onionmpc.wire.limits import LinkLimits
from onionmpc.wire.link import DataEvent, ProgramBytes, ProgramEnd, RoundTrip
from tests.support.direct import DirectNetwork
from tests.support.mesh import (
    DEADLINE_S,
    IDENTITIES,
    PSK,
    QUICK,
    STRANGER,
    Party,
    Watcher,
    handshake_with,
    in_a_loop,
    knock,
    meshed,
    raw_dial,
    say,
    still_flows,
)

# --- Links --------------------------------------------------------------------------------------------------


@in_a_loop
async def test_three_parties_connect_and_both_channels_flow(directory: Path) -> None:
    async with meshed(directory, 3) as parties:
        for party in parties:
            for peer, link in party.watcher.up.items():
                assert party.watcher.streams[peer][0].peer == IDENTITIES[peer].onion
                assert party.watcher.nonces[peer] == bytes([peer]) * 16
                assert party.watcher.dialled[peer] == [peer > party.number]
                link.send_control(b"control from %d" % party.number)
                await link.send_data(b"data from %d" % party.number)
                await link.end_data(last=True)
        for party in parties:
            watcher = party.watcher
            for peer in party.mesh.peers:
                await watcher.until(lambda watcher=watcher, peer=peer: (peer, ProgramEnd()) in watcher.events)
                assert watcher.control[peer] == b"control from %d" % peer
                assert watcher.data[peer] == b"data from %d" % peer
            assert watcher.downs == []


@in_a_loop
async def test_data_goes_only_to_its_sink_or_without_one_to_the_observer(directory: Path) -> None:
    async with meshed(directory, 2) as (low, high):
        sender, receiver, watcher = low.watcher.up[1], high.watcher.up[0], high.watcher
        await sender.send_data(b"early ")
        await watcher.until(lambda: watcher.data[0] == b"early ")
        sunk: list[DataEvent] = []

        def sink(event: DataEvent) -> None:
            sunk.append(event)
            receiver.consume(len(event.payload) if isinstance(event, ProgramBytes) else 1)
            watcher.changed.set()

        receiver.deliver_data_to(sink)
        await sender.send_data(b"sunk")
        sender.send_control(b"control")
        await watcher.until(lambda: sunk and watcher.control[0])
        assert (sunk, watcher.control[0], watcher.data[0]) == ([ProgramBytes(b"sunk")], b"control", b"early ")
        receiver.deliver_data_to(None)
        await sender.send_data(b"late")
        await sender.end_data(last=True)
        await watcher.until(lambda: (0, ProgramEnd()) in watcher.events)
        assert (len(sunk), watcher.data[0]) == (1, b"early late")


@pytest.mark.parametrize(
    ("levels", "first_dials"),
    [("short standard", False), ("standard short", True), ("short short", True), ("long standard", True)],
)
@in_a_loop
async def test_if_exactly_one_of_two_parties_is_short_the_other_dials(
    directory: Path, levels: str, first_dials: bool
) -> None:
    low, high = map(Level, levels.split())
    async with Party(directory, 0, 2, level=low) as first, Party(directory, 1, 2, level=high) as second:
        for party, peer in ((first, 1), (second, 0)):
            await party.until_up(peer)
            await party.watcher.until(lambda party=party, peer=peer: party.watcher.streams[peer])
        assert (first.watcher.dialled[1], second.watcher.dialled[0]) == ([first_dials], [not first_dials])
        # The party that dialled first also dials at once when the stream breaks.
        await first.cut(1)
        await first.watcher.until(lambda: len(first.watcher.dialled[1]) == 2)
        assert first.watcher.dialled[1] == [first_dials] * 2
        assert first.watcher.downs == second.watcher.downs == []


# Issue 12.
@in_a_loop
async def test_a_peer_that_dialled_back_is_not_reported_unreachable_at_the_deadline(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = asyncio.Event()
    dial_first = Mesh._dial_first

    async def note_end(mesh: Mesh, number: int, timeout_s: float) -> None:
        await dial_first(mesh, number, timeout_s)
        if mesh.own_number == 0:
            over.set()

    monkeypatch.setattr(Mesh, "_dial_first", note_end)
    async with (
        Party(directory, 0, 2, level=Level.SHORT, timeout_s=2.0) as first,
        Party(directory, 1, 2) as second,
    ):
        await first.until_up(1)
        await over.wait()
        await still_flows(first, second)


# Issue 12.
@in_a_loop
async def test_a_cancelled_request_to_be_dialled_back_leaves_no_stream(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[SecureStream] = []

    async def never(secure: SecureStream, _timeout_s: float) -> None:
        kept.append(secure)
        await asyncio.Event().wait()

    async with Party(directory, 1, 2):
        async with Party(directory, 0, 2, level=Level.SHORT) as short:
            monkeypatch.setattr(SecureStream, "flush", never)
            await short.watcher.until(lambda: short.watcher.up)
        assert kept[0].stream.writer.transport.is_closing()


# Issue 12.
@in_a_loop
async def test_a_dialled_stream_is_closed_even_if_its_task_never_started(directory: Path) -> None:
    async with meshed(directory, 2) as (low, _):
        mesh = low.mesh
        _, secure = await mesh.redial(1, 1, DEADLINE_S)
        assert mesh._tasks is not None
        before = set(mesh._tasks._running)
        mesh.carry_dialled(1, secure)
        (carrying,) = mesh._tasks._running - before
        carrying.cancel()  # in the same turn
        await asyncio.wait({carrying})
        assert secure.stream.writer.transport.is_closing()


@in_a_loop
async def test_a_replayed_request_to_be_dialled_back_makes_nobody_dial(directory: Path) -> None:
    async with Party(directory, 1, 2) as party:
        hello: dict[str, Any] = {"purpose": Purpose.MESH_OR_DIAL_BACK, "nonce": bytes(16)}
        stream = await raw_dial(directory, IDENTITIES[1].onion)
        stream.writer.write(handshake_with(IDENTITIES[1], **hello).message())
        assert len(await stream.reader.readexactly(MESSAGE_2_BYTES)) == MESSAGE_2_BYTES
        await stream.close()
        await party.watcher.until(lambda: party.served)
        assert party.watcher.failures == []

        # After the final keys, it does dial: in vain, since nobody listens there.
        reply, secure = await knock(directory, IDENTITIES[1], **hello)
        assert reply.answer is Answer.DIAL_BACK
        await say(secure, Ping(0))
        await party.watcher.until(lambda: party.watcher.failures)
        await secure.close()


@in_a_loop
async def test_the_round_trip_is_measured_as_soon_as_a_link_is_up(directory: Path) -> None:
    async with meshed(directory, 2) as parties:
        for party in parties:
            link = await party.until_up(1 - party.number)
            await party.watcher.until(lambda link=link: link.round_trip_s is not None)
            assert 0 <= (link.round_trip_s or 0) < DEADLINE_S


def count_writes(party: Party, peer: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Collect the size of each write of a party to a peer from now on."""
    (secure,) = party.watcher.streams[peer]
    writer, sizes = secure.stream.writer, list[int]()
    write = writer.write

    def note(data: bytes) -> None:
        sizes.append(len(data))
        write(data)

    monkeypatch.setattr(writer, "write", note)
    return sizes


async def until_quiet(*parties: Party) -> None:
    """Wait until both ends of a link of two have had their first pings answered."""
    for party in parties:
        peer = 1 - party.number
        await party.watcher.until(
            lambda party=party: any(isinstance(event, RoundTrip) for _, event in party.watcher.events)
        )
        party.watcher.up[peer].send_control(b".")
    for party in parties:
        await party.watcher.until(lambda party=party: party.watcher.control[1 - party.number] == b".")


@in_a_loop
async def test_what_is_sent_to_a_peer_in_one_turn_leaves_in_one_record(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with meshed(directory, 2) as (low, high):
        await until_quiet(low, high)
        sizes = count_writes(low, 1, monkeypatch)
        link = low.watcher.up[1]
        for part in (b"one ", b"two ", b"three"):
            assert link.offer_data(part) == b""
        link.send_control(b"and this")
        await high.watcher.until(lambda: high.watcher.data[0] == b"one two three")
        assert high.watcher.control[0] == b".and this"
        assert len(sizes) == 1


@in_a_loop
async def test_a_round_costs_each_side_one_write_and_the_answer_acknowledges(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_lone_ack = replace(QUICK, link=LinkLimits(ack_delay_s=1000.0))
    async with meshed(directory, 2, timings=no_lone_ack) as (low, high):
        await until_quiet(low, high)
        sizes = [count_writes(party, 1 - party.number, monkeypatch) for party in (low, high)]
        for number in range(1, 21):
            for sender, receiver in ((low, high), (high, low)):
                await sender.watcher.up[receiver.number].send_data(b"share")
                arrived = receiver.watcher.data[sender.number]
                await receiver.watcher.until(lambda arrived=arrived, number=number: len(arrived) == 5 * number)
            assert low.watcher.up[1].link.flushed()
        assert [len(writes) for writes in sizes] == [20, 20]


@in_a_loop
async def test_large_transfers_in_both_directions_arrive_intact(directory: Path) -> None:
    async with meshed(directory, 2) as parties:
        payloads = [random.Random(number).randbytes(8 * 2**20) for number in range(2)]

        async def send(number: int) -> None:
            link = parties[number].watcher.up[1 - number]
            for start in range(0, len(payloads[number]), 100_000):
                await link.send_data(payloads[number][start : start + 100_000])
            await link.end_data(last=True)

        await asyncio.gather(send(0), send(1))
        for number, party in enumerate(parties):
            peer, watcher = 1 - number, party.watcher
            await watcher.until(lambda watcher=watcher, peer=peer: (peer, ProgramEnd()) in watcher.events)
            assert hashlib.sha256(watcher.data[peer]).digest() == hashlib.sha256(payloads[peer]).digest()


@in_a_loop
async def test_a_receiver_that_does_not_read_stops_the_sender_at_the_window(directory: Path) -> None:
    async with meshed(directory, 2) as (sender, receiver):
        receiver.watcher.taking = False
        there, back = sender.watcher.up[1], receiver.watcher.up[0]
        sending = asyncio.create_task(there.send_data(bytes(2 * LIMITS.window_bytes)))
        await receiver.watcher.until(lambda: len(receiver.watcher.data[0]) == LIMITS.window_bytes)
        # Everything that was under way has arrived before the answer to a ping.
        sender.watcher.events.clear()
        there.ping()
        await sender.watcher.until(lambda: any(isinstance(event, RoundTrip) for _, event in sender.watcher.events))
        assert len(receiver.watcher.data[0]) == LIMITS.window_bytes
        assert there.link.room() == 0
        assert not sending.done()
        # The other channel and the other direction continue.
        there.send_control(b"still here")
        await back.send_data(b"so am I")
        await receiver.watcher.until(lambda: receiver.watcher.control[0] == b"still here")
        await sender.watcher.until(lambda: sender.watcher.data[1] == b"so am I")

        receiver.watcher.taking = True
        back.consume(LIMITS.window_bytes)
        await sending
        await receiver.watcher.until(lambda: len(receiver.watcher.data[0]) == 2 * LIMITS.window_bytes)


# --- Dialling -----------------------------------------------------------------------------------------------


@in_a_loop
async def test_a_peer_that_comes_later_is_reached(directory: Path) -> None:
    async with Party(directory, 0, 2) as early:
        await early.watcher.until(lambda: len(early.watcher.failures) >= 3)
        assert all("nobody listens there" in failure.reason for failure in early.watcher.failures)
        async with Party(directory, 1, 2) as late:
            await early.until_up(1)
            await late.until_up(0)
            assert early.watcher.downs == late.watcher.downs == []


@in_a_loop
async def test_a_peer_that_does_not_expect_us_yet_is_reached_as_soon_as_it_does(directory: Path) -> None:
    async with Party(directory, 1, 2) as late:
        late.door.gatekeeper = None
        async with Party(directory, 0, 2) as early:
            await early.watcher.until(lambda: len(early.watcher.failures) >= 3)
            assert "refused" in early.watcher.failures[0].reason
            late.door.gatekeeper = late.mesh
            await early.until_up(1)


@in_a_loop
async def test_a_peer_that_never_comes_is_unreachable(directory: Path) -> None:
    async with Party(directory, 0, 2, timeout_s=0.1) as party:
        told = await party.watcher.until_down(1, PeerUnreachable)
        assert told == f"it could not be reached within 0.1 s: {party.watcher.failures[-1].reason}"


@pytest.mark.parametrize(("psk", "count"), [(bytes([6]) * 32, 3), (PSK, 2)], ids=["another psk", "another roster"])
@in_a_loop
async def test_a_peer_that_refuses_us_for_long_is_given_up(directory: Path, psk: bytes, count: int) -> None:
    # Party 1 of three. The other one listens as party 2, and has another psk or another roster.
    async with Party(directory, 1, 3, timeout_s=10, timings=replace(QUICK, refused_for_s=0.05)) as dialler:
        network = DirectNetwork(directory, IDENTITIES[2].onion)
        listening = Door(IDENTITIES[2], bytes(16))
        roster = sorted(identity.onion for identity in (IDENTITIES[2], IDENTITIES[3], IDENTITIES[0]))
        expected = roster if count == 2 else [identity.onion for identity in IDENTITIES[:3]]
        watcher = Watcher()
        listening.gatekeeper = Mesh(network, IDENTITIES[2], expected, psk, bytes(16), watcher, 60)
        async with network:
            await network.listen(listening.serve)
            assert "refused the handshake" in await dialler.watcher.until_down(2, AuthenticationFailed)
        assert watcher.up == {}


@in_a_loop
async def test_a_listener_of_another_version_is_reported_with_both_versions(directory: Path) -> None:
    async def serve(stream: Stream) -> None:
        await stream.reader.readexactly(MESSAGE_1_BYTES)
        stream.writer.write(b"\x01")
        await stream.close()

    async with DirectNetwork(directory, IDENTITIES[1].onion) as network:
        await network.listen(serve)
        with pytest.raises(VersionDiffers, match="the peer speaks protocol 1, this party"):
            await knock(directory, IDENTITIES[1])


@pytest.mark.parametrize("said", [b"", REFUSAL + bytes(40)], ids=["nothing", "half an answer"])
@in_a_loop
async def test_a_listener_that_hangs_up_is_not_reported_as_one_that_refuses(directory: Path, said: bytes) -> None:
    async def serve(stream: Stream) -> None:
        await stream.reader.readexactly(MESSAGE_1_BYTES)
        stream.writer.write(said)
        await stream.close()

    async with DirectNetwork(directory, IDENTITIES[1].onion) as network:
        await network.listen(serve)
        with pytest.raises(AuthenticationFailed if said else PeerUnreachable):
            await knock(directory, IDENTITIES[1])


@in_a_loop
async def test_a_silent_listener_is_unreachable(directory: Path) -> None:
    async def serve(stream: Stream) -> None:
        await stream.reader.read()

    hello = Hello(STRANGER.public_key, Purpose.MESH, bytes(16))
    async with DirectNetwork(directory, IDENTITIES[1].onion) as network:
        await network.listen(serve)
        with pytest.raises(PeerUnreachable, match="no answer within"):
            await dial(
                DirectNetwork(directory, STRANGER.onion), STRANGER, IDENTITIES[1].onion, PSK, hello, timeout_s=0.05
            )


def test_delays_between_dials_grow_to_a_bound_and_differ() -> None:
    delays = [backoff_s(attempt, lambda: 0.5) for attempt in range(1, 30)]
    assert delays == sorted(delays)
    assert delays[0] == DEFAULT_MESH_TIMINGS.retry_first_s
    assert delays[-1] == DEFAULT_MESH_TIMINGS.retry_last_s
    assert backoff_s(1, lambda: 0.0) == 0.75 * DEFAULT_MESH_TIMINGS.retry_first_s
    assert backoff_s(1, lambda: 1.0) == 1.25 * DEFAULT_MESH_TIMINGS.retry_first_s
