"""How fast a program could be over given circuits: the same program over local sockets that delay as the best of them.

Knows how to measure circuits between the tors of a benchmark, and how to run a program with their delays.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.tors import DIAL_TIMEOUT_S, BenchTor, dial_raw, serving
from onionmpc.errors import OnionMPCError, PeerUnreachable
from onionmpc.identity import Onion
from onionmpc.mesh.network import Stream
from onionmpc.program.code.catalogue import code_of, find_program
from onionmpc.program.rehearsal import rehearse
from onionmpc.program.spec import ProgramSpec
from onionmpc.session.agreed_options import default_threshold

PINGS = 7
PING_BYTES = 64
RUN_LIMIT_S = 240.0

# In seconds, by the numbers of two parties, the lower first.
RoundTrips = Mapping[tuple[int, int], float]


async def draw_circuits(tors: Sequence[BenchTor], circuits: int) -> dict[tuple[int, int], list[float]]:
    """Dial some circuits between any two parties at the same time, the lower one dialling, and ping each.

    Returns:
        For each two parties, the lower first, the median round trip of each circuit, in seconds.

    Raises:
        OnionMPCError: two parties did not reach each other, by any circuit.
    """
    pairs = [pair for pair in itertools.combinations(range(len(tors)), 2) for _ in range(circuits)]
    async with serving(tors, echo) as onions:
        measured = await asyncio.gather(*(time_circuit(tors[low], onions[high]) for low, high in pairs))
    drawn: dict[tuple[int, int], list[float]] = {pair: [] for pair in pairs}
    for pair, round_trip_s in zip(pairs, measured, strict=True):
        drawn[pair] += round_trip_s
    for low, high in drawn:
        if not drawn[low, high]:
            raise PeerUnreachable(f"none of {circuits} circuits led from party {low} to party {high}")
    return drawn


async def time_circuit(tor: BenchTor, onion: Onion) -> list[float]:
    """Dial a circuit of its own; return the median of some round trips over it, and nothing if it failed."""
    try:
        stream = await dial_raw(tor.instance.socks, onion, dials=1)
    except OnionMPCError:
        return []
    try:
        return [statistics.median([await time_ping(stream) for _ in range(PINGS)])]
    except (OSError, EOFError, TimeoutError):
        return []
    finally:
        await stream.close()


async def time_ping(stream: Stream) -> float:
    """Return how long a message takes there and back."""
    before_s = time.monotonic()
    stream.writer.write(bytes(PING_BYTES))
    async with asyncio.timeout(DIAL_TIMEOUT_S):
        await stream.reader.readexactly(PING_BYTES)
    return time.monotonic() - before_s


async def echo(stream: Stream) -> None:
    """Send back what comes."""
    while data := await stream.reader.read(PING_BYTES):
        stream.writer.write(data)


def best(drawn: Mapping[tuple[int, int], Sequence[float]], circuits: int) -> RoundTrips:
    """Return the round trip of the best of the first so many circuits of each pair."""
    return {pair: min(round_trips_s[:circuits]) for pair, round_trips_s in drawn.items()}


def direct_spec(script: Path, arguments: Sequence[str], parties: int) -> ProgramSpec:
    """Return what runs a script without a network."""
    program = find_program(str(script))
    return ProgramSpec(
        script=str(program.path),
        folder=str(program.folder),
        arguments=tuple(arguments),
        number=0,
        parties=parties,
        threshold=default_threshold(parties),
        mpyc_options=(),
        sockets={},
        named=tuple(arguments),
        code=code_of(program),
    )


async def run_direct(spec: ProgramSpec, round_trips: RoundTrips) -> None:
    """Run all parties, every byte between two of them taking half of their round trip."""
    async with asyncio.timeout(RUN_LIMIT_S):
        await rehearse(spec, lambda one, other: round_trips[min(one, other), max(one, other)] / 2)
