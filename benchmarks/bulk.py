"""`python -m benchmarks.bulk`: how long many bytes take to each peer, over our links and over one raw stream each.

On a private Tor network with the delays of a world of regions, the same tors carry both in turns: ours is the real
`onionmpc join` with full lists, the other way a SOCKS stream to an onion service of each peer, side by side.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from benchmarks.benchmark import Aim, Benchmark, Take, Turn, main
from benchmarks.sessions import WORKLOAD, run_listed
from benchmarks.tors import BenchTor, bench_tors, dial_raw, private_network, serving
from onionmpc.mesh.network import Stream
from onionmpc.tor.endpoint import Endpoint

PARTIES = 3
CIRCUITS = 4
BULK_BYTES = 8_000_000
# Each way goes so often over what it has dialled: the first time, windows are small and circuits still compared.
TRANSFERS = 3
CHUNK_BYTES = 2**16
LIMIT_S = 300.0
DONE = b"!"
OURS = f"ours with {CIRCUITS} circuits"
RAW = "one raw stream to each peer"

Seconds = list[float]


async def run_raw(tors: Sequence[BenchTor]) -> Seconds:
    """Send bytes over one raw stream to each peer of the first tor, all at once, some times over.

    Returns:
        For each time, how long it took until the last peer said that it had them.

    Raises:
        OnionMPCError, OSError, TimeoutError: it did not work.
    """

    async def serve(stream: Stream) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                for part in parts(BULK_BYTES):
                    await stream.reader.readexactly(part)
                stream.writer.write(DONE)

    async def send(stream: Stream) -> None:
        for part in parts(BULK_BYTES):
            stream.writer.write(bytes(part))
            await stream.writer.drain()
        await stream.reader.readexactly(len(DONE))

    near, *far = tors
    took_s = []
    async with asyncio.timeout(LIMIT_S), contextlib.AsyncExitStack() as stack:
        onions = await stack.enter_async_context(serving(far, serve))
        # Through a plain SOCKS port, as any program would.
        streams = await asyncio.gather(*(dial_raw(Endpoint(port=near.socks_port), onion) for onion in onions))
        for stream in streams:
            stack.push_async_callback(stream.close)
        for _ in range(TRANSFERS):
            before_s = time.monotonic()
            await asyncio.gather(*map(send, streams))
            took_s.append(time.monotonic() - before_s)
    return took_s


def parts(size: int) -> Sequence[int]:
    """Return sizes of writes that make up so many bytes."""
    return [CHUNK_BYTES] * (size // CHUNK_BYTES) + [size % CHUNK_BYTES]


async def run_ours(tors: Sequence[BenchTor]) -> Seconds:
    """Send bytes from party 0 to each peer in a session of full lists, some times over.

    Returns:
        For each time, how long it took party 0 until the last peer said that it had them.

    Raises:
        Failed: it did not end well.
    """
    controls = [["--control", tor.control] for tor in tors]
    program: list[str | Path] = [WORKLOAD, "--circuits", str(CIRCUITS)]
    parties = await run_listed(len(tors), program, controls, [f"transfer={BULK_BYTES}"] * TRANSFERS, LIMIT_S)
    return [load["ended_s"] - load["began_s"] for load in parties[0].results["loads"]]


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[Take]:
    """Start a network, and the tors of the parties."""
    async with private_network() as directory, bench_tors(directory, PARTIES) as tors:

        async def take(turn: Turn) -> None:
            ways = {OURS: run_ours, RAW: run_raw}
            took_s = {way: await ways[way](tors) for way in turn.alternating([OURS, RAW])}
            for way in ways:
                for seconds in took_s[way]:
                    turn.note(way, seconds=seconds)

        yield take


BENCHMARK = Benchmark(
    name="bulk",
    question="How long do 8 MB to each of two peers take, against one raw stream each?",
    turns=["both ways"],
    opened=opened,
    figures={"seconds": ("seconds", 2)},
    ratios=[(OURS, RAW)],
    aims=[
        Aim("8 MB to each peer: ours with 4 circuits / one raw stream", f"{OURS} / {RAW}", "seconds", 0.5),
    ],
    repeats=3,
    networks=2,
)

if __name__ == "__main__":
    main(BENCHMARK)
