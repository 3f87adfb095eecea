"""`python -m benchmarks.bulk`: how long many bytes take to each peer, over our links and over one raw stream each.

On a private Tor network with the delays of a world of regions, the same tors carry both in turns: ours is the real
`onionmpc join` with full lists and transfer.py as its program, the other way a SOCKS stream to an onion service of each
peer, side by side. Knows what the program prints. Does not know how a link uses its circuits.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.byhand import Failed, run_listed
from benchmarks.common import Spread, report, say, table, write
from benchmarks.overhead import HERE
from benchmarks.tors import BenchTor, bench_tors, fresh_services
from onionmpc.cli.loop import run_until_interrupted
from onionmpc.errors import OnionMPCError, PeerUnreachable
from onionmpc.files import private_directory, socket_directory
from onionmpc.identity import Onion
from onionmpc.mesh.listener import listening_unix
from onionmpc.mesh.network import Stream
from onionmpc.testnet.network import PrivateNetwork
from onionmpc.tor.dialling.dial import dial_onion
from onionmpc.tor.endpoint import UNIX_PREFIX, Endpoint
from onionmpc.tor.service.service import VIRTUAL_PORT

PARTIES = 3
CIRCUITS = 4
BULK_BYTES = 8_000_000
# Each way goes so often over what it has dialled: the first time, windows are small and circuits still compared.
TURNS = 3
CHUNK_BYTES = 2**16
DIAL_TIMEOUT_S = 30.0
DIALS = 5
RAW_LIMIT_S = 300.0
DONE = b"!"

Seconds = list[float]


async def run_raw(tors: Sequence[BenchTor], size: int, turns: int) -> Seconds:
    """Send bytes over one raw stream to each peer of the first tor, all at once, some times over.

    Returns:
        For each time, how long it took until the last peer said that it had them.

    Raises:
        OnionMPCError, OSError, TimeoutError: it did not work.
    """

    async def serve(stream: Stream) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                for part in parts(size):
                    await stream.reader.readexactly(part)
                stream.writer.write(DONE)

    async def send(stream: Stream) -> None:
        for part in parts(size):
            stream.writer.write(bytes(part))
            await stream.writer.drain()
        await stream.reader.readexactly(len(DONE))

    near, *far = tors
    took_s = []
    async with asyncio.timeout(RAW_LIMIT_S), contextlib.AsyncExitStack() as stack:
        paths = [stack.enter_context(socket_directory()) / "service" for _ in far]
        for path in paths:
            await stack.enter_async_context(listening_unix(path, serve))
        onions = await stack.enter_async_context(fresh_services(far, [f"{UNIX_PREFIX}{path}" for path in paths]))
        streams = await asyncio.gather(*(dial_raw(near, onion) for onion in onions))
        for stream in streams:
            stack.push_async_callback(stream.close)
        for _ in range(turns):
            before_s = time.monotonic()
            await asyncio.gather(*map(send, streams))
            took_s.append(time.monotonic() - before_s)
    return took_s


async def dial_raw(tor: BenchTor, onion: Onion) -> Stream:
    """Open a stream through a tor's plain SOCKS port."""
    for _ in range(DIALS - 1):
        with contextlib.suppress(PeerUnreachable):
            return (await dial_onion(Endpoint(port=tor.socks_port), onion, VIRTUAL_PORT, DIAL_TIMEOUT_S)).stream
    return (await dial_onion(Endpoint(port=tor.socks_port), onion, VIRTUAL_PORT, DIAL_TIMEOUT_S)).stream


def parts(size: int) -> Sequence[int]:
    """Return sizes of writes that make up so many bytes."""
    return [CHUNK_BYTES] * (size // CHUNK_BYTES) + [size % CHUNK_BYTES]


async def run_ours(tors: Sequence[BenchTor], folder: Path, circuits: int, size: int, turns: int) -> Seconds:
    """Send bytes from party 0 to each peer in a session of full lists, some times over.

    Returns:
        For each time, how long it took party 0 until the last peer said that it had them.

    Raises:
        Failed: it did not end well.
    """
    public = ["--public", str(size), "--public", str(turns)]
    await run_listed(tors, folder, [str(HERE / "transfer.py"), "--circuits", str(circuits), *public])
    return printed((folder / "output-0.txt").read_text())


def printed(output: str) -> Seconds:
    """Return what transfer.py printed, among the events of the party that ran it.

    Raises:
        Failed: it printed nothing.
    """
    for line in output.splitlines():
        if line.startswith("["):
            return [float(seconds) for seconds in json.loads(line)]
    raise Failed("party 0 printed no times")


@dataclass(slots=True)
class Runs:
    """What both ways took: one list of turns for each pair of runs, and why others failed."""

    ours: list[Seconds] = field(default_factory=list)
    raw: list[Seconds] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def summarise(self) -> dict[str, Any]:
        """Return medians and ranges over all turns, and the ratio of the medians of each pair of runs."""
        if not self.ours:
            return {"failures": self.failures}
        ratios = [
            statistics.median(ours) / statistics.median(raw) for ours, raw in zip(self.ours, self.raw, strict=True)
        ]
        return {
            "ours_s": Spread.of(itertools.chain(*self.ours)),
            "raw_s": Spread.of(itertools.chain(*self.raw)),
            "ratio": Spread.of(ratios),
            "failures": self.failures,
        }


async def take_turn(tors: Sequence[BenchTor], folder: Path, options: argparse.Namespace, runs: Runs, turn: int) -> None:
    """Run both ways, one after the other, and note what they took if both worked."""

    async def ours() -> Seconds:
        return await run_ours(tors, folder, options.circuits, options.bytes, options.turns)

    async def raw() -> Seconds:
        return await run_raw(tors, options.bytes, options.turns)

    # What comes later may find a busier machine: each way does every other time.
    first, second = (raw, ours) if turn % 2 else (ours, raw)
    try:
        took = {way: await way() for way in (first, second)}
    except (Failed, OnionMPCError, OSError, TimeoutError, asyncio.IncompleteReadError) as error:
        runs.failures.append(str(error) or type(error).__name__)
        say(f"failed: {runs.failures[-1]}")
        return
    runs.ours.append(took[ours])
    runs.raw.append(took[raw])
    say(f"ours: {show(took[ours])}; raw: {show(took[raw])}")


def show(seconds: Seconds) -> str:
    """Say what each turn took."""
    return ", ".join(f"{one:.1f}" for one in seconds) + " s"


async def measure(options: argparse.Namespace) -> AsyncGenerator[Runs, None]:
    """Build networks one after the other, and take turns in each; yield what there is."""
    runs = Runs()
    for network in range(options.networks):
        with tempfile.TemporaryDirectory(prefix="onionmpc-bench-") as name:
            directory = Path(name)
            say(f"starting private Tor network {network + 1} of {options.networks}")
            async with PrivateNetwork(directory / "net"), bench_tors(directory / "net", PARTIES) as tors:
                for repeat in range(options.repeats):
                    folder = private_directory(directory / f"run-{repeat}")
                    await take_turn(tors, folder, options, runs, network + repeat)
                    yield runs


async def run(options: argparse.Namespace) -> Runs:
    """Measure, and write after each pair of runs what there is; return it all."""
    runs = Runs()
    async with contextlib.aclosing(measure(options)) as measuring:
        async for runs in measuring:
            write("bulk", results(options, runs), options.output)
    return runs


def results(options: argparse.Namespace, runs: Runs) -> dict[str, Any]:
    """Return what is written down."""
    chosen = {name: getattr(options, name) for name in ("networks", "circuits", "bytes", "turns")}
    return {"latency": "regions", "parties": PARTIES, **chosen, **runs.summarise()}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bulk", description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, default=2, help="private networks, one after the other (2)")
    parser.add_argument("--repeats", type=int, default=3, help="pairs of runs in each (3)")
    parser.add_argument("--turns", type=int, default=TURNS, help=f"transfers in each run ({TURNS})")
    parser.add_argument("--bytes", type=int, default=BULK_BYTES, help=f"to each peer ({BULK_BYTES})")
    parser.add_argument("--circuits", type=int, default=CIRCUITS, help=f"that our links race ({CIRCUITS})")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where to write (benchmarks/results/bulk.json)")
    options = parser.parse_args()
    try:
        runs = run_until_interrupted(run(options))
    except OnionMPCError as error:
        sys.exit(f"the private network did not come up: {error.message}")
    found = results(options, runs)
    rows = [
        [words, found[key].show(2) if key in found else ""]
        for key, words in (
            ("ours_s", f"ours with {options.circuits} circuits, s"),
            ("raw_s", "one raw stream to each peer, s"),
            ("ratio", "ours / raw"),
        )
    ]
    title = f"{options.bytes / 1e6:g} MB to each of {PARTIES - 1} peers, latency: regions"
    ended = f"{len(runs.ours)} pairs of runs; {len(runs.failures)} failed."
    report("bulk", title, [table(["what", "median"], rows), ended], found, options.output)
    if runs.failures:
        sys.exit(1)


if __name__ == "__main__":
    main()
