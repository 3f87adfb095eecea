"""What a link costs over one raw stream through tor: bytes and time, on one and the same circuit.

Knows how to put two streams on one circuit, and takes turns between them. Does not print.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from unittest.mock import patch

from benchmarks.common import Spread, say
from onionmpc.errors import OnionMPCError
from onionmpc.identity import Identity
from onionmpc.mesh.door import Door
from onionmpc.mesh.network import Stream
from onionmpc.mesh.runner import LinkRunner
from onionmpc.mesh.secure import SecureStream, dial
from onionmpc.testnet.place import join_testnet
from onionmpc.tor.network import TorNetwork, tor_network
from onionmpc.tor.options import TorOptions
from onionmpc.wire.handshake import NO_PSK, Answer, Hello, Purpose
from onionmpc.wire.link import Event, ProgramBytes

CIRCUITS = 2
TURNS = 5
BULK_BYTES = 2 * 2**20
CHUNK_BYTES = 2**16
# A message of a few shares, and how many go back and forth for one figure.
SMALL_BYTES = 64
SMALL_TURNS = 10
DIAL_TIMEOUT_S = 60.0
RAW, LINK = b"r", b"l"


class CountingStream:
    """Counts what is written to a stream."""

    def __init__(self, stream: Stream) -> None:
        self.written_bytes = 0
        write = stream.writer.write

        def counted(data: bytes) -> None:
            self.written_bytes += len(data)
            write(data)

        stream.writer.write = counted  # type: ignore[method-assign]


class End:
    """One end of a link that carries a number of bytes there and the same messages back.

    Args:
        rate: records a second, whatever there is to say; 0 for what there is to say when there is.
    """

    def __init__(self, rate: int = 0) -> None:
        self.received_bytes = 0
        self.changed = asyncio.Event()
        self.runner = LinkRunner(self._heed, rate=rate)

    def _heed(self, event: Event) -> None:
        if isinstance(event, ProgramBytes):
            self.received_bytes += len(event.payload)
            self.runner.consume(len(event.payload))
            self.changed.set()

    async def until(self, received_bytes: int) -> None:
        """Wait until so many bytes have come, since the beginning."""
        while self.received_bytes < received_bytes:
            self.changed.clear()
            await self.changed.wait()

    async def send(self, size: int) -> None:
        """Send so many bytes."""
        for _ in range(size // CHUNK_BYTES or 1):
            await self.runner.send_data(bytes(min(size, CHUNK_BYTES)))


class OpenHouse:
    """A keeper that lets everyone in; what is done with a visitor is each subclass's own."""

    def psks_for(self, _static_key: bytes) -> Sequence[bytes]:
        """Anyone may come."""
        return [NO_PSK]

    def judge(self, _hello: Hello, _psk: bytes) -> Answer:
        """Anyone may come."""
        return Answer.ACCEPTED

    def offsets_for(self, _hello: Hello) -> tuple[int, int]:
        """Nothing has come."""
        return 0, 0


class Listener(OpenHouse):
    """Serves streams: the first byte says whether what follows is raw or a link. Answers bulk and echoes small."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.links: asyncio.Queue[tuple[End, CountingStream]] = asyncio.Queue()
        self.raws: asyncio.Queue[Stream] = asyncio.Queue()
        self._door = Door(identity, bytes(16))
        self._door.keeper = self
        self._counts: CountingStream | None = None

    async def serve(self, stream: Stream) -> None:
        """Serve one stream to its end."""
        kind = await stream.reader.readexactly(1)
        if kind == RAW:
            self.raws.put_nowait(stream)
            await asyncio.Event().wait()
        else:
            self._counts = CountingStream(stream)
            await self._door.serve(stream)

    async def welcome(self, visitor: SecureStream, _hello: Hello, _psk: bytes) -> None:
        """Carry a link over the stream."""
        assert self._counts is not None
        end = End()
        self.links.put_nowait((end, self._counts))
        await end.runner.carry(visitor)


class Marked:
    """A network whose streams begin with a byte that says what they are; all of one user name, hence one circuit."""

    def __init__(self, network: TorNetwork, kind: bytes, user: str) -> None:
        self._network = network
        self._kind = kind
        self._user = user

    async def dial(self, onion: str, timeout_s: float) -> Stream:
        """Open a stream."""
        with patch("onionmpc.tor.dialling.dial.secrets.token_hex", lambda _size: self._user):
            stream = await self._network.dial(onion, timeout_s)  # type: ignore[arg-type]
        stream.writer.write(self._kind)
        return stream


async def measure_cost(directory: Path, regions: tuple[str, str]) -> dict[str, Spread]:
    """Return ratios of a link to a raw stream, each a median over circuits and turns."""
    time_ratios: list[float] = []
    small_ratios: list[float] = []
    byte_ratios: list[float] = []
    async with contextlib.AsyncExitStack() as stack:
        listener = Listener(Identity(secrets.token_bytes(32)))
        dialler = Identity(secrets.token_bytes(32))
        near = await stack.enter_async_context(_party(directory, regions[0], dialler))
        far = await stack.enter_async_context(_party(directory, regions[1], listener.identity))
        await far.listen(listener.serve)
        for number in range(CIRCUITS):
            try:
                async with asyncio.timeout(300):
                    times, smalls, sizes = await _one_circuit(near, dialler, listener)
            except (OnionMPCError, TimeoutError) as error:
                say(f"link cost, circuit {number + 1}: {error!r}")
                continue
            say(f"link cost, circuit {number + 1} of {CIRCUITS}: bulk {times}, small {smalls}")
            time_ratios += times
            small_ratios += smalls
            byte_ratios += sizes
    return {
        f"time of {BULK_BYTES // 2**20} MiB": Spread.of(time_ratios),
        f"time of {SMALL_TURNS} messages of {SMALL_BYTES} bytes there and back": Spread.of(small_ratios),
        f"bytes of {BULK_BYTES // 2**20} MiB, acknowledgements included": Spread.of(byte_ratios),
    }


@contextlib.asynccontextmanager
async def _party(directory: Path, region: str, identity: Identity) -> AsyncIterator[TorNetwork]:
    with join_testnet(directory, region) as place:
        options = TorOptions(extra_torrc=place.torrc, profiles=place.profiles)
        async with tor_network(identity, options, lambda _progress: None) as network:
            yield network


async def _one_circuit(
    network: TorNetwork, dialler: Identity, listener: Listener
) -> tuple[list[float], list[float], list[float]]:
    """Take turns on one circuit; return the ratios of bulk time, of small messages' time and of bytes."""
    user = secrets.token_hex(16)
    near_raw = await Marked(network, RAW, user).dial(listener.identity.onion, DIAL_TIMEOUT_S)
    far_raw = await listener.raws.get()
    marked = Marked(network, LINK, user)
    hello = Hello(dialler.public_key, Purpose.MESH, bytes(16))
    _, secure = await dial(
        marked,  # type: ignore[arg-type]
        dialler,
        listener.identity.onion,
        NO_PSK,
        hello,
        timeout_s=DIAL_TIMEOUT_S,
    )
    near_count = CountingStream(secure.stream)
    near = End()
    carrying = asyncio.create_task(near.runner.carry(secure))
    far, far_count = await listener.links.get()
    try:
        await _raw_bulk(near_raw, far_raw)  # congestion control finds its window
        times, smalls, sizes = [], [], []
        for _ in range(TURNS):
            raw_s = await _raw_bulk(near_raw, far_raw)
            before = near_count.written_bytes + far_count.written_bytes
            link_s = await _link_bulk(near, far)
            # The answer of one byte counts on both sides.
            sizes.append((near_count.written_bytes + far_count.written_bytes - before) / (BULK_BYTES + 1))
            times.append(round(link_s / raw_s, 3))
            smalls.append(round(await _link_small(near, far) / await _raw_small(near_raw, far_raw), 3))
    finally:
        near.runner.close()
        far.runner.close()
        await carrying
        await near_raw.close()
    return times, smalls, sizes


async def _raw_bulk(near: Stream, far: Stream) -> float:
    async def answer() -> None:
        await far.reader.readexactly(BULK_BYTES)
        far.writer.write(b"!")

    before_s = time.monotonic()
    answering = asyncio.create_task(answer())
    for _ in range(BULK_BYTES // CHUNK_BYTES):
        near.writer.write(bytes(CHUNK_BYTES))
        await near.writer.drain()
    await near.reader.readexactly(1)
    await answering
    return time.monotonic() - before_s


async def _link_bulk(near: End, far: End) -> float:
    async def answer() -> None:
        await far.until(there)
        await far.send(1)

    there, back = far.received_bytes + BULK_BYTES, near.received_bytes + 1
    before_s = time.monotonic()
    answering = asyncio.create_task(answer())
    await near.send(BULK_BYTES)
    await near.until(back)
    await answering
    return time.monotonic() - before_s


async def _raw_small(near: Stream, far: Stream) -> float:
    async def answer() -> None:
        for _ in range(SMALL_TURNS):
            far.writer.write(await far.reader.readexactly(SMALL_BYTES))

    before_s = time.monotonic()
    answering = asyncio.create_task(answer())
    for _ in range(SMALL_TURNS):
        near.writer.write(bytes(SMALL_BYTES))
        await near.reader.readexactly(SMALL_BYTES)
    await answering
    return time.monotonic() - before_s


async def _link_small(near: End, far: End) -> float:
    async def answer() -> None:
        for _ in range(SMALL_TURNS):
            await far.until(far_start + SMALL_BYTES * (answered[0] + 1))
            answered[0] += 1
            await far.send(SMALL_BYTES)

    far_start, near_start, answered = far.received_bytes, near.received_bytes, [0]
    before_s = time.monotonic()
    answering = asyncio.create_task(answer())
    for number in range(SMALL_TURNS):
        await near.send(SMALL_BYTES)
        await near.until(near_start + SMALL_BYTES * (number + 1))
    await answering
    return time.monotonic() - before_s
