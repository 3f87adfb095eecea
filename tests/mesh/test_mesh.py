"""The mesh on plain local sockets: links between parties, strangers at the door, and every way a link ends."""

from __future__ import annotations

import asyncio
import hashlib
import random
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from onionmpc.errors import (
    AuthenticationFailed,
    LocalProtocolError,
    PeerUnreachable,
    RemoteProtocolError,
    VersionDiffers,
)
from onionmpc.identity import Onion
from onionmpc.levels import Level
from onionmpc.mesh import door, redial, runner
from onionmpc.mesh.door import Door
from onionmpc.mesh.listener import listening_local
from onionmpc.mesh.mesh import Mesh
from onionmpc.mesh.network import Stream
from onionmpc.mesh.redial import backoff_s
from onionmpc.mesh.runner import LinkRunner
from onionmpc.mesh.secure import SecureStream, dial
from onionmpc.wire import link as link_module
from onionmpc.wire.frames import Abort, AbortCode, Channel, Data, Frame, Ping
from onionmpc.wire.handshake import (
    MESSAGE_1_BYTES,
    MESSAGE_2_BYTES,
    REFUSAL,
    Answer,
    Hello,
    Purpose,
    Reply,
)
from onionmpc.wire.link import (
    WINDOW_BYTES,
    DataEvent,
    LinkClosed,
    ProgramBytes,
    ProgramEnd,
    RoundTrip,
    State,
)
from onionmpc.wire.noise import Initiator
from tests.support.direct import DirectNetwork
from tests.support.keys import x25519_public
from tests.support.mesh import (  # noqa: F401 (fixtures)
    DEADLINE_S,
    IDENTITIES,
    PSK,
    STRANGER,
    Party,
    Watcher,
    handshake_with,
    hear_all,
    in_a_loop,
    knock,
    meshed,
    private_directory,
    raw_dial,
    say,
    stall,
    still_flows,
    without_delay,
)


async def reply_to(directory: Path, onion: Onion, message: bytes, *, end: bool = False) -> bytes:
    """All that a listener says to a stranger that sends `message` and waits for the end."""
    stream = await raw_dial(directory, onion)
    stream.writer.write(message)
    if end:
        stream.writer.write_eof()
    try:
        return await stream.reader.read()
    finally:
        await stream.close()


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
                link.end_data()
        for party in parties:
            watcher = party.watcher
            for peer in party.mesh.peers:
                await watcher.until(lambda watcher=watcher, peer=peer: (peer, ProgramEnd()) in watcher.events)
                assert watcher.control[peer] == b"control from %d" % peer
                assert watcher.data[peer] == b"data from %d" % peer
            assert watcher.downs == []


@in_a_loop
async def test_data_goes_to_its_sink_alone_and_to_the_observer_while_there_is_none(directory: Path) -> None:
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
        sender.end_data()
        await watcher.until(lambda: (0, ProgramEnd()) in watcher.events)
        assert (len(sunk), watcher.data[0]) == (1, b"early late")


@pytest.mark.parametrize(
    ("levels", "first_dials"),
    [("short standard", False), ("standard short", True), ("short short", True), ("long standard", True)],
)
@in_a_loop
async def test_where_exactly_one_of_two_is_short_the_other_dials(
    directory: Path, levels: str, first_dials: bool
) -> None:
    low, high = map(Level, levels.split())
    async with Party(directory, 0, 2, level=low) as first, Party(directory, 1, 2, level=high) as second:
        for party, peer in ((first, 1), (second, 0)):
            await party.until_up(peer)
            await party.watcher.until(lambda party=party, peer=peer: party.watcher.streams[peer])
        assert (first.watcher.dialled[1], second.watcher.dialled[0]) == ([first_dials], [not first_dials])
        # Who dialled first is the one that dials at once when the stream breaks.
        await first.cut(1)
        await first.watcher.until(lambda: len(first.watcher.dialled[1]) == 2)
        assert first.watcher.dialled[1] == [first_dials] * 2
        assert first.watcher.downs == second.watcher.downs == []


# Issue 12.
@in_a_loop
async def test_who_was_dialled_back_is_not_called_unreachable_when_its_time_is_over(
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
async def test_a_wish_to_be_dialled_back_that_is_cancelled_leaves_no_stream(
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
async def test_a_stream_that_was_dialled_is_closed_though_nobody_has_begun_to_carry_it(directory: Path) -> None:
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
async def test_a_recorded_wish_to_be_dialled_makes_nobody_dial(directory: Path) -> None:
    async with Party(directory, 1, 2) as party:
        hello: dict[str, Any] = {"purpose": Purpose.MESH_OR_DIAL_BACK, "nonce": bytes(16)}
        stream = await raw_dial(directory, IDENTITIES[1].onion)
        stream.writer.write(handshake_with(IDENTITIES[1], **hello).message())
        assert len(await stream.reader.readexactly(MESSAGE_2_BYTES)) == MESSAGE_2_BYTES
        await stream.close()
        await party.watcher.until(lambda: party.served)
        assert party.watcher.failures == []

        # The keys shown, it does: in vain, since nobody listens there.
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
    """The size of each write of a party to a peer from now on."""
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
async def test_what_is_said_to_a_peer_in_one_turn_leaves_in_one_record(
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
    monkeypatch.setattr(link_module, "ACK_DELAY_S", 1000.0)  # none would come by itself
    async with meshed(directory, 2) as (low, high):
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
            link.end_data()

        await asyncio.gather(send(0), send(1))
        for number, party in enumerate(parties):
            peer, watcher = 1 - number, party.watcher
            await watcher.until(lambda watcher=watcher, peer=peer: (peer, ProgramEnd()) in watcher.events)
            assert hashlib.sha256(watcher.data[peer]).digest() == hashlib.sha256(payloads[peer]).digest()


@in_a_loop
async def test_a_receiver_that_does_not_take_stops_the_sender_at_the_window(directory: Path) -> None:
    async with meshed(directory, 2) as (sender, receiver):
        receiver.watcher.taking = False
        there, back = sender.watcher.up[1], receiver.watcher.up[0]
        sending = asyncio.create_task(there.send_data(bytes(2 * WINDOW_BYTES)))
        await receiver.watcher.until(lambda: len(receiver.watcher.data[0]) == WINDOW_BYTES)
        # Whatever more was on its way is there before the answer to a ping.
        sender.watcher.events.clear()
        there.ping()
        await sender.watcher.until(lambda: any(isinstance(event, RoundTrip) for _, event in sender.watcher.events))
        assert len(receiver.watcher.data[0]) == WINDOW_BYTES
        assert there.link.room() == 0
        assert not sending.done()
        # The other channel and direction go on.
        there.send_control(b"still here")
        await back.send_data(b"so am I")
        await receiver.watcher.until(lambda: receiver.watcher.control[0] == b"still here")
        await sender.watcher.until(lambda: sender.watcher.data[1] == b"so am I")

        receiver.watcher.taking = True
        back.consume(WINDOW_BYTES)
        await sending
        await receiver.watcher.until(lambda: len(receiver.watcher.data[0]) == 2 * WINDOW_BYTES)


# --- Strangers ----------------------------------------------------------------------------------------------

LISTENER = IDENTITIES[1]
VALID = handshake_with(LISTENER).message()


def claim(public_key: bytes) -> bytes:
    """Message 1 of party 0 under a public key that is not its own."""
    noise = Initiator(
        prologue=b"onionmpc/2" + LISTENER.public_key,
        static_private=IDENTITIES[0].x25519_private,
        ephemeral_private=bytes([7]) * 32,
        remote_static=x25519_public(LISTENER),
    )
    payload = struct.pack(">32sB16s32sQQ", public_key, Purpose.MESH, bytes(16), bytes(32), 0, 0)
    return b"\x02" + noise.write_first(payload, PSK)


STRANGERS = {
    "zeros": bytes(MESSAGE_1_BYTES),
    "garbage": b"\x02" + random.Random(1).randbytes(MESSAGE_1_BYTES - 1),
    "more garbage than is read": random.Random(2).randbytes(1000),
    "a web browser": b"GET / HTTP/1.1\r\n" + b"User-Agent: a rather long one\r\n" * 10,
    "another version": b"\x01" + VALID[1:],
    "another version, in a shorter message": b"\x03",
    "altered": VALID[:-1] + bytes([VALID[-1] ^ 1]),
    "not on the roster": handshake_with(LISTENER, STRANGER).message(),
    "another psk": handshake_with(LISTENER, psk=bytes([6]) * 32).message(),
    "meant for another": handshake_with(IDENTITIES[2]).message(),
    "under another's address": claim(IDENTITIES[2].public_key),
    "under no address": claim(bytes(32)),
}


@pytest.mark.parametrize("message", STRANGERS.values(), ids=STRANGERS)
@in_a_loop
async def test_every_stranger_gets_the_same_reply(directory: Path, message: bytes) -> None:
    async with Party(directory, 1, 2) as party:
        assert await reply_to(directory, party.identity.onion, message) == REFUSAL == b"\x02"
        assert party.watcher.up == {}


@in_a_loop
async def test_nobody_is_let_in_before_anyone_is_expected(directory: Path) -> None:
    async with Party(directory, 1, 2) as party:
        party.door.gatekeeper = None
        assert await reply_to(directory, party.identity.onion, VALID) == REFUSAL


@in_a_loop
async def test_a_stranger_that_ends_early_gets_the_same_reply(directory: Path) -> None:
    async with Party(directory, 1, 2) as party:
        for length in (0, 1, MESSAGE_1_BYTES - 1):
            assert await reply_to(directory, party.identity.onion, VALID[:length], end=True) == REFUSAL


# Issue 12: asyncio wrote "Future exception was never retrieved" on stderr, when the garbage collector had its way.
@in_a_loop
async def test_a_stranger_that_is_gone_before_it_is_answered_leaves_no_error_unseen(directory: Path) -> None:
    near, far = socket.socketpair()
    reader, writer = await asyncio.open_unix_connection(sock=near)
    far.send(VALID[:100])
    far.close()
    protocol: Any = writer.transport.get_protocol()
    await Door(LISTENER, bytes(16)).serve(Stream(reader, writer))
    closed = protocol._closed
    assert not closed._log_traceback
    assert isinstance(closed.exception(), BrokenPipeError)


@pytest.mark.parametrize("length", [0, 1, MESSAGE_1_BYTES - 1])
@in_a_loop
async def test_a_silent_stranger_gets_the_same_reply_in_the_end(
    directory: Path, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "STRANGER_TIMEOUT_S", 0.05)
    async with Party(directory, 1, 2) as party:
        assert await reply_to(directory, party.identity.onion, VALID[:length]) == REFUSAL


@in_a_loop
async def test_a_replayed_message_1_is_answered_and_changes_nothing(directory: Path) -> None:
    async with Party(directory, 1, 2) as party:
        # What a replayer may add: nothing, a record that says nothing, and one that does not open.
        for tail in (b"", bytes(2), b"\x00\x20" + bytes(32)):
            reply = await reply_to(directory, party.identity.onion, VALID + tail, end=True)
            assert len(reply) == MESSAGE_2_BYTES
        assert party.watcher.up == {}
        # The party whose message it was can still come.
        async with Party(directory, 0, 2) as honest:
            await honest.until_up(1)
            await party.until_up(0)


@in_a_loop
async def test_who_has_been_a_stranger_for_longest_is_cut_without_a_word_for_one_more(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "STRANGERS_AT_ONCE", 2)
    async with Party(directory, 1, 2) as party:
        first, second, third = [await raw_dial(directory, party.identity.onion) for _ in range(3)]
        # Not even the one of a refusal: it may have been a party, which is to dial again.
        assert await first.reader.read() == b""
        for stream in (third, second):
            stream.writer.write(VALID)
            assert len(await stream.reader.readexactly(MESSAGE_2_BYTES)) == MESSAGE_2_BYTES
        for stream in (first, second, third):
            await stream.close()


# Issue 12.
@in_a_loop
async def test_a_refusal_arrives_at_who_still_sends_over_tcp(directory: Path) -> None:
    async with Party(directory, 1, 2) as party, listening_local(party.door.serve) as port:
        for message in (bytes([99]) + bytes(40_000), VALID[:-1] + b"x" + bytes(40_000)):
            connection = socket.socket()
            # What does not fit is still to be sent when the refusal comes.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            connection.setblocking(False)
            await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
            stream = Stream(*await asyncio.open_connection(sock=connection))
            stream.writer.write(message)
            assert await stream.reader.read() == REFUSAL
            await stream.close()


# Issue 12.
@in_a_loop
async def test_who_was_turned_away_and_stays_goes_first_and_soon(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "STRANGERS_AT_ONCE", 2)
    monkeypatch.setattr(door, "PARTING_S", DEADLINE_S)
    async with Party(directory, 1, 2) as party:
        onion = party.identity.onion
        silent, turned_away = await raw_dial(directory, onion), await raw_dial(directory, onion)
        turned_away.writer.write(b"x" * MESSAGE_1_BYTES)
        assert await turned_away.reader.read() == REFUSAL
        third = await raw_dial(directory, onion)
        # Its end of ours is half open for as long as it is heard; nobody hears it any more when there is no room.
        await party.watcher.until(lambda: party.served)
        for stream in (silent, third):
            stream.writer.write(VALID)
            assert len(await stream.reader.readexactly(MESSAGE_2_BYTES)) == MESSAGE_2_BYTES
        monkeypatch.setattr(door, "PARTING_S", 0.05)
        late = await raw_dial(directory, onion)
        late.writer.write(b"x" * MESSAGE_1_BYTES)
        await party.watcher.until(lambda: len(party.served) >= 2)
        for stream in (silent, turned_away, third, late):
            await stream.close()


# Issue 12.
@in_a_loop
async def test_who_was_turned_away_is_not_heard_without_end(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "PARTING_S", DEADLINE_S)
    async with Party(directory, 1, 2) as party:
        stream = await raw_dial(directory, party.identity.onion)
        stream.writer.write(b"x" * (MESSAGE_1_BYTES + door.PARTING_BYTES))
        await party.watcher.until(lambda: party.served)
        await stream.close()


@in_a_loop
async def test_more_strangers_than_are_served_at_once_do_not_keep_a_party_out(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "STRANGERS_AT_ONCE", 4)
    async with Party(directory, 1, 2) as party:
        silent = [await raw_dial(directory, party.identity.onion) for _ in range(8)]
        async with Party(directory, 0, 2) as honest:
            await honest.until_up(1)
            await party.until_up(0)
            for stream in silent[:5]:
                assert await stream.reader.read() == b""
        for stream in silent:
            await stream.close()


@pytest.mark.parametrize(
    ("number", "changes", "answer"),
    [
        (0, {}, Answer.ACCEPTED),
        (2, {}, Answer.NOT_NOW),
        (0, {"purpose": Purpose.GATHER}, Answer.NOT_NOW),
        (0, {"purpose": Purpose.RESUME, "link": bytes([1]) * 32}, Answer.UNKNOWN_SESSION),
    ],
    ids=["a lower party", "a higher party", "gather", "resume"],
)
@in_a_loop
async def test_each_dialler_of_the_roster_is_told_where_it_stands(
    directory: Path, number: int, changes: dict[str, Any], answer: Answer
) -> None:
    async with Party(directory, 1, 3, timeout_s=0.01) as party:
        reply, secure = await knock(directory, party.identity, number, **changes)
        assert reply == Reply(answer, nonce=bytes([1]) * 16)
        await secure.close()


@in_a_loop
async def test_the_mirror_image_of_a_party_has_no_seat(directory: Path) -> None:
    key = IDENTITIES[0].public_key
    async with Party(directory, 1, 2) as party:
        reply, secure = await knock(directory, party.identity, public_key=key[:31] + bytes([key[31] ^ 0x80]))
        assert reply.answer is Answer.NO_SEAT
        await secure.close()


@in_a_loop
async def test_a_party_that_has_a_link_is_not_let_in_twice(directory: Path) -> None:
    async with meshed(directory, 2) as (low, high):
        reply, secure = await knock(directory, high.identity)
        assert reply.answer is Answer.NOT_NOW
        await secure.close()
        low.watcher.up[1].send_control(b"as before")
        await high.watcher.until(lambda: high.watcher.control[0] == b"as before")


@in_a_loop
async def test_of_two_streams_accepted_at_once_the_first_to_speak_becomes_the_link(directory: Path) -> None:
    async with Party(directory, 1, 2) as party:
        (_, first), (_, second) = [await knock(directory, party.identity) for _ in range(2)]
        await say(second, Ping(1))
        await party.until_up(0)
        await say(first, Ping(1))
        assert await first.stream.reader.read() == b""
        assert party.watcher.up[0].link.state is State.OPEN
        assert party.watcher.downs == []
        for secure in (first, second):
            await secure.close()


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
async def test_a_peer_that_does_not_expect_us_yet_is_reached_once_it_does(directory: Path) -> None:
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
async def test_a_peer_that_refuses_us_for_long_is_given_up(
    directory: Path, psk: bytes, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redial, "REFUSED_FOR_S", 0.05)
    # Party 1 of three; the other listens as party 2 and knows another psk, or lists three others.
    async with Party(directory, 1, 3, timeout_s=10) as dialler:
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
async def test_a_listener_of_another_version_is_named(directory: Path) -> None:
    async def serve(stream: Stream) -> None:
        await stream.reader.readexactly(MESSAGE_1_BYTES)
        stream.writer.write(b"\x01")
        await stream.close()

    async with DirectNetwork(directory, LISTENER.onion) as network:
        await network.listen(serve)
        with pytest.raises(VersionDiffers, match="the peer speaks protocol 1, this party"):
            await knock(directory, LISTENER)


@pytest.mark.parametrize("said", [b"", b"\x02" + bytes(40)], ids=["nothing", "half an answer"])
@in_a_loop
async def test_a_listener_that_hangs_up_is_told_from_one_that_refuses(directory: Path, said: bytes) -> None:
    async def serve(stream: Stream) -> None:
        await stream.reader.readexactly(MESSAGE_1_BYTES)
        stream.writer.write(said)
        await stream.close()

    async with DirectNetwork(directory, LISTENER.onion) as network:
        await network.listen(serve)
        with pytest.raises(AuthenticationFailed if said else PeerUnreachable):
            await knock(directory, LISTENER)


@in_a_loop
async def test_a_silent_listener_is_unreachable(directory: Path) -> None:
    async def serve(stream: Stream) -> None:
        await stream.reader.read()

    hello = Hello(STRANGER.public_key, Purpose.MESH, bytes(16))
    async with DirectNetwork(directory, LISTENER.onion) as network:
        await network.listen(serve)
        with pytest.raises(PeerUnreachable, match="no answer within"):
            await dial(DirectNetwork(directory, STRANGER.onion), STRANGER, LISTENER.onion, PSK, hello, timeout_s=0.05)


def test_delays_between_dials_grow_to_a_bound_and_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    delays = [backoff_s(attempt, lambda: 0.5) for attempt in range(1, 30)]
    assert delays == sorted(delays)
    assert delays[0] == redial.RETRY_FIRST_S
    assert delays[-1] == redial.RETRY_LAST_S
    assert backoff_s(1, lambda: 0.0) == 0.75 * redial.RETRY_FIRST_S
    assert backoff_s(1, lambda: 1.0) == 1.25 * redial.RETRY_FIRST_S


# --- How links end ------------------------------------------------------------------------------------------


@in_a_loop
async def test_a_sender_that_waits_for_room_does_not_wait_for_a_dead_link(directory: Path) -> None:
    async with meshed(directory, 2) as (sender, receiver):
        receiver.watcher.taking = False
        sending = asyncio.create_task(sender.watcher.up[1].send_data(bytes(2 * WINDOW_BYTES)))
        await receiver.watcher.until(lambda: len(receiver.watcher.data[0]) == WINDOW_BYTES)
        sender.watcher.up[1].close()
        await sending
        await sender.until_over(1)


@in_a_loop
async def test_a_link_closed_by_one_side_is_down_for_neither(directory: Path) -> None:
    async with meshed(directory, 2) as (closer, other):
        closer.watcher.up[1].send_control(b"goodbye")
        await other.watcher.until(lambda: other.watcher.control[0])
        closer.watcher.up[1].close()
        await other.watcher.until(lambda: (0, LinkClosed()) in other.watcher.events)
        await closer.until_over(1)
        assert await other.arrived[0].reader.read() == b""
        assert closer.watcher.downs == other.watcher.downs == []


async def close_and_stay(link: LinkRunner) -> None:
    link.close(heard=True)


@pytest.mark.parametrize("leave", [close_and_stay, LinkRunner.close_when_flushed])
@in_a_loop
async def test_who_leaves_stays_until_the_other_has_heard_it(
    directory: Path, monkeypatch: pytest.MonkeyPatch, leave: Callable[[LinkRunner], Awaitable[None]]
) -> None:
    monkeypatch.setattr(runner, "LAST_WORDS_S", 2 * DEADLINE_S)
    async with Party(directory, 0, 2) as other, Party(directory, 1, 2) as closer:
        other.network.delays_s = [0.1]
        await other.until_up(1)
        link = await closer.until_up(0)
        await leave(link)
        await link.last_words()
        assert (1, LinkClosed()) in other.watcher.events


@pytest.mark.parametrize("heard", [False, True])
@in_a_loop
async def test_a_link_closed_by_both_sides_at_once_is_down_for_neither(
    directory: Path, monkeypatch: pytest.MonkeyPatch, *, heard: bool
) -> None:
    monkeypatch.setattr(runner, "LAST_WORDS_S", 2 * DEADLINE_S)  # neither waits for the other's end of the stream
    async with meshed(directory, 2) as parties:
        for party in parties:
            party.watcher.up[1 - party.number].close(heard=heard)
        await parties[0].until_over(1)
        await parties[1].watcher.until(lambda: parties[1].served)
        assert parties[0].watcher.downs == parties[1].watcher.downs == []


@in_a_loop
async def test_a_link_is_closed_when_all_was_acknowledged(directory: Path) -> None:
    async with meshed(directory, 2) as (closer, other):
        link = closer.watcher.up[1]
        await link.send_data(bytes(2 * 2**20))
        link.send_control(b"goodbye")
        await link.close_when_flushed(DEADLINE_S)
        assert other.watcher.control[0] == b"goodbye"
        assert len(other.watcher.data[0]) == 2 * 2**20


@in_a_loop
async def test_a_link_may_be_closed_as_soon_as_it_is_up(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Watcher, "link_up", lambda self, party, link, nonce: link.runner.close())
    async with Party(directory, 1, 2) as party:
        reply, secure = await knock(directory, party.identity)
        assert reply.answer is Answer.ACCEPTED
        await say(secure, Ping(1))
        assert await hear_all(secure) == []
        assert party.watcher.downs == []
        await secure.close()


@in_a_loop
async def test_a_link_that_is_closed_while_its_stream_is_full_says_so_after_that(directory: Path) -> None:
    async with meshed(directory, 2) as (closer, other):
        stall(other, 0)
        transport: Any = closer.watcher.streams[1][0].stream.writer.transport
        await closer.watcher.up[1].send_data(bytes(WINDOW_BYTES))
        for _ in range(5):
            await asyncio.sleep(0)  # a turn of the loop, in which the writer fills the stream
        assert transport.get_write_buffer_size()
        closer.watcher.up[1].close()
        for secure in other.watcher.streams[0]:
            stalled: Any = secure.stream.writer.transport
            stalled.resume_reading()
        await other.watcher.until(lambda: (0, LinkClosed()) in other.watcher.events)
        assert other.watcher.news == []


@in_a_loop
async def test_a_peer_that_does_not_read_cannot_keep_a_link_from_closing(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "LAST_WORDS_S", 0.05)
    async with Party(directory, 1, 2) as party:
        _, secure = await knock(directory, party.identity)
        secure.stream.reader._transport.pause_reading()  # type: ignore[attr-defined]
        await say(secure, Ping(1))
        link = await party.until_up(0)
        await link.send_data(bytes(WINDOW_BYTES))
        link.close()
        await party.watcher.until(lambda: party.served)
        assert party.watcher.downs == []
        await secure.close()


@pytest.mark.parametrize("code", AbortCode)
@in_a_loop
async def test_an_abort_is_heard_by_the_peer(directory: Path, code: AbortCode) -> None:
    async with meshed(directory, 2) as (accuser, accused):
        accuser.watcher.up[1].abort(code)
        message = await accused.watcher.until_down(0, RemoteProtocolError)
        assert message == f"the peer reports that we broke the protocol ({code.name.lower()})"
        await accuser.until_over(1)
        assert accuser.watcher.downs == []


async def answer_to(directory: Path, party: Party, speak: Callable[[SecureStream], Awaitable[None]]) -> list[Frame]:
    """All that a party says to a peer that speaks so, once its link is up."""
    _, secure = await knock(directory, party.identity)
    await say(secure, Ping(1))
    await party.until_up(0)
    await speak(secure)
    try:
        return await hear_all(secure)
    finally:
        await secure.close()


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (Data(Channel.CONTROL, WINDOW_BYTES, b"far away"), AbortCode.LIMIT),
        (Data(Channel.DATA, 0, b"x" * 60_000), AbortCode.LIMIT),
    ],
    ids=["far away", "too much"],
)
@in_a_loop
async def test_a_peer_that_breaks_the_rules_is_down_and_hears_which(
    directory: Path, frame: Data, code: AbortCode
) -> None:
    async with Party(directory, 1, 2) as party:
        party.watcher.taking = False

        async def speak(secure: SecureStream) -> None:
            party.watcher.up[0].link._window_bytes = 50_000
            await say(secure, frame)

        assert (await answer_to(directory, party, speak))[-1] == Abort(code)
        await party.watcher.until_down(0, RemoteProtocolError)


@in_a_loop
async def test_a_record_that_does_not_open_ends_the_stream_and_not_the_link(directory: Path) -> None:
    async with Party(directory, 1, 2) as party:

        async def speak(secure: SecureStream) -> None:
            secure.stream.writer.write(b"\x00\x20" + bytes(32))

        await answer_to(directory, party, speak)
        await party.watcher.until(lambda: party.watcher.news)
        assert party.watcher.news == [("broken", 0)]
        assert party.watcher.downs == []


@in_a_loop
async def test_a_link_that_has_ended_takes_nothing_more(directory: Path) -> None:
    async with meshed(directory, 2) as (low, high):
        link = low.watcher.up[1]
        link.close()
        link.send_control(b"late")
        await link.send_data(b"late")
        link.end_data()
        link.consume(1)
        link.ping()
        link.abort(AbortCode.LIMIT)
        await low.until_over(1)
        await high.watcher.until(lambda: (0, LinkClosed()) in high.watcher.events)
        assert high.watcher.control[0] == high.watcher.data[0] == b""
        with pytest.raises(LocalProtocolError):
            link.link.send_control(b"late")
