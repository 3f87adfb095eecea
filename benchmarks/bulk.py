"""`python -m benchmarks.bulk`: how long many bytes take to each peer, over our links and over one raw stream each.

On a private Tor network with the delays of a world of regions, the same tors carry both in turns: ours is the real
`onionmpc join` with full lists, the other way a SOCKS stream to an onion service of each peer, side by side.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.common import Spread, failure_noted, options_of, report, run, say, table, write
from benchmarks.sessions import WORKLOAD, run_listed
from benchmarks.tors import BenchTor, bench_tors, dial_raw, private_network, serving
from onionmpc.mesh.network import Stream
from onionmpc.tor.endpoint import Endpoint

PARTIES = 3
CIRCUITS = 4
BULK_BYTES = 8_000_000
# Each way goes so often over what it has dialled: the first time, windows are small and circuits still compared.
TURNS = 3
CHUNK_BYTES = 2**16
LIMIT_S = 300.0
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
    async with asyncio.timeout(LIMIT_S), contextlib.AsyncExitStack() as stack:
        onions = await stack.enter_async_context(serving(far, serve))
        # Through a plain SOCKS port, as any program would.
        streams = await asyncio.gather(*(dial_raw(Endpoint(port=near.socks_port), onion) for onion in onions))
        for stream in streams:
            stack.push_async_callback(stream.close)
        for _ in range(turns):
            before_s = time.monotonic()
            await asyncio.gather(*map(send, streams))
            took_s.append(time.monotonic() - before_s)
    return took_s


def parts(size: int) -> Sequence[int]:
    """Return sizes of writes that make up so many bytes."""
    return [CHUNK_BYTES] * (size // CHUNK_BYTES) + [size % CHUNK_BYTES]


async def run_ours(tors: Sequence[BenchTor], circuits: int, size: int, turns: int) -> Seconds:
    """Send bytes from party 0 to each peer in a session of full lists, some times over.

    Returns:
        For each time, how long it took party 0 until the last peer said that it had them.

    Raises:
        Failed: it did not end well.
    """
    controls = [["--control", tor.control] for tor in tors]
    program: list[str | Path] = [WORKLOAD, "--circuits", str(circuits)]
    parties = await run_listed(len(tors), program, controls, [f"transfer={size}"] * turns, LIMIT_S)
    return [load["ended_s"] - load["began_s"] for load in parties[0].results["loads"]]


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
        pairs = zip(self.ours, self.raw, strict=True)
        return {
            "ours_s": Spread.of(itertools.chain(*self.ours)),
            "raw_s": Spread.of(itertools.chain(*self.raw)),
            "ratio": Spread.of(statistics.median(ours) / statistics.median(raw) for ours, raw in pairs),
            "failures": self.failures,
        }


async def take_turn(tors: Sequence[BenchTor], options: argparse.Namespace, runs: Runs, *, raw_first: bool) -> None:
    """Run both ways, one after the other, and note what they took if both worked."""
    took: dict[str, Seconds] = {}
    with failure_noted("both ways", runs.failures.append):
        for way in sorted(("ours", "raw"), reverse=raw_first):
            if way == "ours":
                took[way] = await run_ours(tors, options.circuits, options.bytes, options.turns)
            else:
                took[way] = await run_raw(tors, options.bytes, options.turns)
        runs.ours.append(took["ours"])
        runs.raw.append(took["raw"])
        say("; ".join(f"{way}: {', '.join(f'{one:.1f}' for one in seconds)} s" for way, seconds in took.items()))


async def measure(options: argparse.Namespace) -> Runs:
    """Build networks one after the other, and take turns in each; write after each pair of runs what there is."""
    runs = Runs()
    for network in range(options.networks):
        async with private_network() as (_, directory), bench_tors(directory, PARTIES) as tors:
            for repeat in range(options.repeats):
                # What comes later may find a busier machine: each way does every other time.
                await take_turn(tors, options, runs, raw_first=(network + repeat) % 2 == 1)
                write("bulk", results(options, runs), options.output)
    return runs


def results(options: argparse.Namespace, runs: Runs) -> dict[str, Any]:
    """Return what is written down."""
    chosen = {name: getattr(options, name) for name in ("networks", "circuits", "bytes", "turns")}
    return {"latency": "regions", "parties": PARTIES, **chosen, **runs.summarise()}


def main() -> None:
    """Measure, print and write."""
    parser = options_of("bulk", __doc__, repeats=3)
    parser.add_argument("--networks", type=int, default=2, help="private networks, one after the other (2)")
    parser.add_argument("--turns", type=int, default=TURNS, help=f"transfers in each run ({TURNS})")
    parser.add_argument("--bytes", type=int, default=BULK_BYTES, help=f"to each peer ({BULK_BYTES})")
    parser.add_argument("--circuits", type=int, default=CIRCUITS, help=f"that our links race ({CIRCUITS})")
    options = parser.parse_args()
    runs = run(measure(options))
    found = results(options, runs)
    words = {
        "ours_s": f"ours with {options.circuits} circuits, s",
        "raw_s": "one raw stream to each peer, s",
        "ratio": "ours / raw",
    }
    rows = [[said, found[key].show(2) if key in found else ""] for key, said in words.items()]
    title = f"{options.bytes / 1e6:g} MB to each of {PARTIES - 1} peers, latency: regions"
    ended = f"{len(runs.ours)} pairs of runs; {len(runs.failures)} failed."
    report("bulk", title, [table(["what", "median"], rows), ended], found, options.output)
    if runs.failures:
        sys.exit(1)


if __name__ == "__main__":
    main()
