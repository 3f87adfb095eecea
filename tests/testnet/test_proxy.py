"""Gateways keep order, delay bytes, apply back-pressure, and open and close connections."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onionmpc.testnet.delay_line import DelayLine
from onionmpc.testnet.proxy import HELD_LIMIT_BYTES, DiallingSide, Gateway, RelayAddress, parse_header
from tests.support.faulty_gateway import FaultyGateway

T = TypeVar("T")
G = TypeVar("G", bound=Gateway)
ADDRESS = "127.0.0.1"
TIMEOUT_S = 20.0
# Longer than the delays of a busy machine, and short enough for a test.
ONE_WAY_S = 0.05
# asyncio reads this much at once.
LARGEST_READ_BYTES = 2**18

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


# The delay line alone: times are arguments.


@given(
    st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=5)), max_size=20),
    st.floats(0, 1),
    st.floats(0, 3),
)
def test_a_line_keeps_order_and_delivers_exactly_after_the_delay(
    steps: list[tuple[float, bytes]], one_way_s: float, look_s: float
) -> None:
    line, now_s, due, all_of_it = DelayLine(one_way_s), 0.0, b"", b""
    for wait_s, chunk in steps:
        now_s += wait_s
        line.push(chunk, now_s)
        all_of_it += chunk
        if now_s + one_way_s <= look_s:
            due += chunk
    early = line.pop_due(look_s)
    assert early == due
    assert line.held_bytes == len(all_of_it) - len(early)
    assert early + line.pop_due(now_s + one_way_s) == all_of_it
    assert line.next_s() is None


def test_chunks_share_the_line_instead_of_waiting_for_each_other() -> None:
    line = DelayLine(10.0)
    for second in range(5):
        line.push(b"%d" % second, float(second))
    assert line.pop_due(14.0) == b"01234"


def test_the_end_arrives_behind_the_last_chunk() -> None:
    line = DelayLine(1.0)
    line.push(b"x", 0.0)
    line.end(0.5)
    assert line.next_s() == 1.0
    assert not line.ended(1.4)
    assert line.pop_due(1.4) == b"x"
    assert line.next_s() == 1.5
    assert line.ended(1.5)


def test_nothing_travels_before_the_line_is_open() -> None:
    line = DelayLine(1.0, open_at_s=2.0)
    line.push(b"x", 0.0)
    assert line.pop_due(2.9) == b""
    assert line.pop_due(3.0) == b"x"


# The header.


def test_a_header_names_its_target() -> None:
    assert parse_header(b"PROXY TCP4 0.0.0.0 127.11.0.2 0 5001") == ("127.11.0.2", 5001)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"PROXY",
        b"PROXY TCP6 :: ::1 0 5001",
        b"PROXY TCP4 0.0.0.0 127.0.0.1 0 -1",
        b"GET / HTTP/1.1",
        b"\x16\x03\x01",
    ],
)
def test_an_invalid_header_names_no_target(header: bytes) -> None:
    assert parse_header(header) is None


# Whole gateways, on real sockets.


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(2**16):
        writer.write(data)
        await writer.drain()


@contextlib.asynccontextmanager
async def relay_that(handler: Handler) -> AsyncIterator[RelayAddress]:
    """Listen as a relay. When the context ends, all its connections are closed."""
    conversations: list[asyncio.Task[None]] = []

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        conversations.append(task)
        async with closing(writer):
            with contextlib.suppress(ConnectionError):
                await handler(reader, writer)

    async with await asyncio.start_server(converse, ADDRESS, 0) as server:
        yield server.sockets[0].getsockname()
    await asyncio.gather(*conversations)


@contextlib.asynccontextmanager
async def closing(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    try:
        yield
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def with_gateway(
    handler: Handler, scenario: Callable[[Gateway, RelayAddress], Awaitable[T]], one_way_s: float = 0.0
) -> T:
    """Run a scenario with a gateway before one relay that does what `handler` does."""
    return with_gateway_of(Gateway, handler, scenario, one_way_s)


def with_faulty_gateway(
    handler: Handler, scenario: Callable[[FaultyGateway, RelayAddress], Awaitable[T]], one_way_s: float = 0.0
) -> T:
    """Like `with_gateway`, with a gateway that can be cut and stalled."""
    return with_gateway_of(FaultyGateway, handler, scenario, one_way_s)


def with_gateway_of(
    kind: type[G], handler: Handler, scenario: Callable[[G, RelayAddress], Awaitable[T]], one_way_s: float
) -> T:
    async def run() -> T:
        async with (
            asyncio.timeout(TIMEOUT_S),
            relay_that(handler) as relay,
            kind(ADDRESS, lambda target: one_way_s if target == relay else None) as gateway,
        ):
            return await scenario(gateway, relay)

    return asyncio.run(run())


@contextlib.asynccontextmanager
async def dial(gateway: Gateway, first: bytes) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(ADDRESS, gateway.port)
    async with closing(writer):
        writer.write(first)
        yield reader, writer


async def read_all(reader: asyncio.StreamReader) -> bytes:
    """Read until the connection ends, with or without a reset."""
    try:
        return await reader.read(-1)
    except ConnectionResetError:
        return b""


def header(relay: RelayAddress) -> bytes:
    return f"PROXY TCP4 0.0.0.0 {relay[0]} 0 {relay[1]}\r\n".encode()


def test_bytes_come_back_in_order() -> None:
    sent = b"".join(b"%06d" % number for number in range(50_000))

    async def scenario(gateway: Gateway, relay: RelayAddress) -> bytes:
        async with dial(gateway, header(relay)) as (reader, writer):
            writer.write(sent)
            writer.write_eof()
            return await reader.read(-1)

    assert with_gateway(echo, scenario) == sent


def test_an_observer_of_a_gateway_sees_sizes_and_directions() -> None:
    seen = {True: 0, False: 0}

    async def scenario(gateway: FaultyGateway, relay: RelayAddress) -> None:
        def note(size: int, outward: bool) -> None:
            seen[outward] += size

        gateway.on_bytes = note
        async with dial(gateway, header(relay) + b"to") as (reader, writer):
            writer.write(b"gether")
            writer.write_eof()
            assert await reader.read(-1) == b"four"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        writer.write(b"four")

    with_faulty_gateway(answer, scenario)
    assert seen == {True: 8, False: 4}


def test_a_header_may_arrive_byte_by_byte_or_with_the_first_bytes() -> None:
    async def scenario(gateway: Gateway, relay: RelayAddress) -> bytes:
        async with dial(gateway, b"") as (reader, writer):
            for byte in header(relay):
                writer.write(bytes([byte]))
                await writer.drain()
            writer.write(b"tail")
            return await reader.readexactly(4)

    assert with_gateway(echo, scenario) == b"tail"


def test_a_round_trip_takes_two_delays_and_the_first_also_opens_the_connection() -> None:
    async def scenario(gateway: Gateway, relay: RelayAddress) -> list[float]:
        loop = asyncio.get_running_loop()
        times_s = []
        started_s = loop.time()
        async with dial(gateway, header(relay)) as (reader, writer):
            for _ in range(3):
                writer.write(b"ping")
                await reader.readexactly(4)
                times_s.append(loop.time() - started_s)
                started_s = loop.time()
        return times_s

    first_s, *others_s = with_gateway(echo, scenario, ONE_WAY_S)
    assert first_s >= 4 * ONE_WAY_S
    assert min(others_s) >= 2 * ONE_WAY_S


def test_the_relay_can_send_after_the_dialler_has_ended() -> None:
    async def answer_after_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"answer to " + await reader.read(-1))

    async def scenario(gateway: Gateway, relay: RelayAddress) -> bytes:
        async with dial(gateway, header(relay)) as (reader, writer):
            writer.write(b"question")
            writer.write_eof()
            return await reader.read(-1)

    assert with_gateway(answer_after_end, scenario, ONE_WAY_S) == b"answer to question"


def test_a_dialler_that_is_gone_ends_the_relays_connection() -> None:
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def read_to_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.put_nowait(await reader.read(-1))

    async def scenario(gateway: Gateway, relay: RelayAddress) -> bytes:
        async with dial(gateway, header(relay)) as (_, writer):
            writer.write(b"last words")
        return await heard.get()

    assert with_gateway(read_to_the_end, scenario, ONE_WAY_S) == b"last words"


def test_a_relay_that_is_gone_ends_the_diallers_connection_after_its_last_bytes() -> None:
    async def speak_and_go(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(2)
        writer.write(b"bye")

    async def scenario(gateway: Gateway, relay: RelayAddress) -> bytes:
        async with dial(gateway, header(relay)) as (reader, writer):
            writer.write(b"hi")
            return await reader.read(-1)

    assert with_gateway(speak_and_go, scenario, ONE_WAY_S) == b"bye"


def test_bytes_for_a_slow_relay_do_not_pile_up() -> None:
    sent_bytes = 64 * 2**20
    taken: asyncio.Queue[int] = asyncio.Queue()

    async def run() -> None:
        may_read = asyncio.Event()

        async def read_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await may_read.wait()
            count = 0
            while data := await reader.read(2**16):
                count += len(data)
            taken.put_nowait(count)

        async def scenario(gateway: Gateway, relay: RelayAddress) -> None:
            async with dial(gateway, header(relay)) as (_, writer):
                for _ in range(sent_bytes // 2**16):
                    writer.write(bytes(2**16))
                # All bytes are written at once. They stop on their way when no side can take more.
                while not any(side.reading_paused for side in gateway.sides):  # noqa: ASYNC110
                    # A turn of the loop, not a wait: each turn moves bytes until none can move.
                    await asyncio.sleep(0)
                assert max(side.held_bytes for side in gateway.sides) <= HELD_LIMIT_BYTES + LARGEST_READ_BYTES
                may_read.set()
                writer.write_eof()
                assert await taken.get() == sent_bytes

        async with (
            asyncio.timeout(TIMEOUT_S),
            relay_that(read_late) as relay,
            Gateway(ADDRESS, lambda _: 0.0) as gateway,
        ):
            await scenario(gateway, relay)

    asyncio.run(run())


@pytest.mark.parametrize(
    "first", [header((ADDRESS, 1)), b"GET / HTTP/1.1\r\n", b"\x16" * 108, b"PROXY TCP4 a b c d\r\n"]
)
def test_a_gateway_leads_only_to_relays(first: bytes) -> None:
    async def scenario(gateway: Gateway, relay: RelayAddress) -> bytes:
        async with dial(gateway, first) as (reader, _):
            return await read_all(reader)

    assert with_gateway(echo, scenario) == b""


def test_a_relay_that_does_not_listen_ends_the_connection() -> None:
    async def run() -> bytes:
        with socket.socket() as closed:
            closed.bind((ADDRESS, 0))
            async with (
                asyncio.timeout(TIMEOUT_S),
                Gateway(ADDRESS, lambda _: 0.0) as gateway,
                dial(gateway, header(closed.getsockname())) as (reader, _),
            ):
                return await read_all(reader)

    assert asyncio.run(run()) == b""


def test_an_end_for_a_relay_that_was_just_killed_raises_nothing() -> None:
    async def run() -> bytes:
        with socket.create_server((ADDRESS, 0)) as server:
            server.setblocking(False)
            async with (
                asyncio.timeout(TIMEOUT_S),
                Gateway(ADDRESS, lambda _: 0.0) as gateway,
                dial(gateway, header(server.getsockname())) as (reader, _),
            ):
                relay, _ = await asyncio.get_running_loop().sock_accept(server)
                while len(gateway.sides) < 2:  # noqa: ASYNC110 (a turn of the loop)
                    await asyncio.sleep(0)
                (side,) = (side for side in gateway.sides if not isinstance(side, DiallingSide))
                relay.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                relay.close()
                # The reset has reached the socket, but the loop has not seen it yet.
                side.end_writing(lost=False)
                return await read_all(reader)

    assert asyncio.run(run()) == b""


def test_leaving_a_gateway_cuts_its_connections() -> None:
    async def scenario(gateway: Gateway, relay: RelayAddress) -> bytes:
        async with dial(gateway, header(relay)) as (reader, writer):
            writer.write(b"here")
            assert await reader.readexactly(4) == b"here"
            await gateway.__aexit__(None, None, None)
            return await read_all(reader)

    assert with_gateway(echo, scenario) == b""


# A network that is cut or stalled.


def test_a_cut_gateway_drops_all_connections_until_it_is_restored() -> None:
    async def scenario(gateway: FaultyGateway, relay: RelayAddress) -> list[bytes]:
        heard = []
        async with dial(gateway, header(relay)) as (reader, writer):
            writer.write(b"here")
            heard.append(await reader.readexactly(4))
            gateway.cut()
            heard.append(await read_all(reader))
        async with dial(gateway, header(relay)) as (reader, _):
            heard.append(await read_all(reader))
        gateway.restore()
        async with dial(gateway, header(relay) + b"back") as (reader, _):
            heard.append(await reader.readexactly(4))
        return heard

    assert with_faulty_gateway(echo, scenario, ONE_WAY_S) == [b"here", b"", b"", b"back"]


def test_the_relays_side_of_a_cut_connection_ends_too() -> None:
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def greet_and_read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        heard.put_nowait(await read_all(reader))

    async def scenario(gateway: FaultyGateway, relay: RelayAddress) -> bytes:
        async with dial(gateway, header(relay)) as (reader, _):
            await reader.readexactly(5)
            gateway.cut()
            return await heard.get()

    assert with_faulty_gateway(greet_and_read, scenario) == b""


async def until_held(gateway: FaultyGateway, wanted_bytes: int) -> None:
    """Turn the loop until a gateway holds this many bytes."""
    while sum(side.held_bytes for side in gateway.sides) != wanted_bytes:  # noqa: ASYNC110
        await asyncio.sleep(0)


def test_a_stalled_gateway_is_silent_and_delivers_in_order_once_it_is_restored() -> None:
    heard: list[bytes] = []

    async def note_and_echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(2**16):
            heard.append(data)
            writer.write(data)

    async def scenario(gateway: FaultyGateway, relay: RelayAddress) -> bytes:
        async with dial(gateway, header(relay)) as (reader, writer):
            writer.write(b"1")
            assert await reader.readexactly(1) == b"1"
            gateway.stall()
            writer.write(b"23")
            await until_held(gateway, 2)
            writer.write(b"4")
            await until_held(gateway, 3)
            assert heard == [b"1"]
            gateway.restore()
            return await reader.readexactly(3)

    assert with_faulty_gateway(note_and_echo, scenario) == b"234"


def test_a_connection_made_during_a_stall_opens_once_the_gateway_is_restored() -> None:
    opened: list[bool] = []

    async def note_and_echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened.append(True)
        await echo(reader, writer)

    async def scenario(gateway: FaultyGateway, relay: RelayAddress) -> bytes:
        gateway.stall()
        async with dial(gateway, header(relay) + b"early") as (reader, _):
            await until_held(gateway, 5)
            assert opened == []
            gateway.restore()
            return await reader.readexactly(5)

    assert with_faulty_gateway(note_and_echo, scenario) == b"early"


def test_an_end_arrives_after_a_stall_even_if_its_sender_is_gone_by_then() -> None:
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def greet_and_read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        heard.put_nowait(await reader.read(-1))

    async def scenario(gateway: FaultyGateway, relay: RelayAddress) -> bytes:
        async with dial(gateway, header(relay)) as (reader, writer):
            await reader.readexactly(5)
            gateway.stall()
            writer.write(b"last words")
            await until_held(gateway, 10)
            # Close with a reset, as the kernel does for a killed process with unread bytes: no end comes before it.
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
        while len(gateway.sides) > 1:  # noqa: ASYNC110 (a turn of the loop)
            await asyncio.sleep(0)
        assert heard.empty()
        gateway.restore()
        return await heard.get()

    assert with_faulty_gateway(greet_and_read, scenario) == b"last words"


def test_a_stalled_gateway_accepts_no_more_than_its_limit() -> None:
    async def scenario(gateway: FaultyGateway, relay: RelayAddress) -> int:
        async with dial(gateway, header(relay)) as (reader, writer):
            writer.write(b"1")
            await reader.readexactly(1)
            gateway.stall()
            for _ in range(64):
                writer.write(bytes(2**17))
            while not any(side.reading_paused for side in gateway.sides):  # noqa: ASYNC110 (a turn of the loop)
                await asyncio.sleep(0)
            held_bytes = max(side.held_bytes for side in gateway.sides)
            gateway.restore()
            writer.write_eof()
            assert len(await reader.read(-1)) == 2**23
            return held_bytes

    assert with_faulty_gateway(echo, scenario) <= HELD_LIMIT_BYTES + LARGEST_READ_BYTES


def test_a_cut_ends_stalled_connections() -> None:
    async def scenario(gateway: FaultyGateway, relay: RelayAddress) -> bytes:
        gateway.stall()
        async with dial(gateway, header(relay) + b"early") as (reader, _):
            await until_held(gateway, 5)
            gateway.cut()
            return await read_all(reader)

    assert with_faulty_gateway(echo, scenario) == b""
