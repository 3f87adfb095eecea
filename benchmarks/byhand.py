"""`python -m benchmarks.byhand`: MPyC over Tor as built by hand, as onionmpc does it, and as fast as it could be.

On private Tor networks with the delays of a world of regions, with one tor per party, a program of many rounds runs in
turns in three ways. By hand: an onion service per party by the control port, a socat per pair, and unmodified MPyC.
Ours: `onionmpc join` with full lists, through the same tors. The limit: no tor, and between any two parties half the
round trip of the link that our run had.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.benchmark import Aim, Benchmark, Take, Turn, main
from benchmarks.common import Failed
from benchmarks.processes import Processes, running
from benchmarks.sessions import TIMED, WORKLOAD, free_ports, plain, run_listed, scratch, timed, times_of
from benchmarks.tors import BenchTor, bench_tors, fresh_services, private_network
from onionmpc.program.rehearsal import rehearse
from onionmpc.program.spec import ProgramSpec
from onionmpc.tor.service.service import VIRTUAL_PORT
from tests.support.rehearsal import spec_of

PARTIES = 3
# Longer than three times what any run took: what takes longer by hand has hung, most often at MPyC's shutdown.
RUN_LIMIT_S = 180.0
LISTEN_LIMIT_S = 30.0
POLL_S = 0.05
LOAD = "rounds=100,4"
BY_HAND = "by hand"
# Options of `onionmpc join`.
OURS = {f"ours, {circuits} circuits": ("--circuits", str(circuits)) for circuits in (3, 8)}

# In seconds, by the numbers of two parties, the lower first.
RoundTrips = Mapping[tuple[int, int], float]


def limit_of(way: str) -> str:
    """Return what to call the limit with the very circuits of some runs of ours."""
    return f"limit of {way}"


async def run_by_hand(tors: Sequence[BenchTor], folder: Path) -> None:
    """Run all parties as their users would without us."""
    ports = free_ports(PARTIES)
    targets = [f"127.0.0.1:{port}" for port in ports]
    async with fresh_services(tors, targets) as onions, running(RUN_LIMIT_S) as processes:
        started = []
        # MPyC dials parties of higher numbers once, and socat accepts whether they listen or not: they have to.
        for number in reversed(range(PARTIES)):
            near = list(ports)
            for peer in range(number + 1, PARTIES):
                near[peer] = await start_socat(processes, tors[number].socks_port, onions[peer])
            started.append(await processes.start(*plain(near, number, timed(folder, WORKLOAD, [LOAD]))))
            if number:
                await listening(ports[number])
        await processes.ended(started)


async def start_socat(processes: Processes, socks_port: int, onion: str) -> int:
    """Start a socat that leads to an onion service; return its port of 127.0.0.1."""
    [port] = free_ports(1)
    near = f"TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork"
    await processes.start("socat", near, f"SOCKS4A:127.0.0.1:{onion}:{VIRTUAL_PORT},socksport={socks_port}")
    await listening(port)
    return port


async def listening(port: int) -> None:
    """Wait until someone listens at a port of 127.0.0.1, without connecting: MPyC would take us for a party."""
    async with asyncio.timeout(LISTEN_LIMIT_S):
        while not is_taken(port):  # noqa: ASYNC110 (another process does)
            await asyncio.sleep(POLL_S)


def is_taken(port: int) -> bool:
    """Tell whether someone listens at a port of 127.0.0.1: then the kernel lets nobody bind it, whatever they allow."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


async def run_ours(tors: Sequence[BenchTor], options: Sequence[str], folder: Path) -> RoundTrips:
    """Run all parties with `onionmpc join`; return the round trips of their links."""
    controls = [["--control", tor.control] for tor in tors]
    program: list[str | Path] = [TIMED, *options]
    parties = await run_listed(PARTIES, program, controls, timed(folder, WORKLOAD, [LOAD]), RUN_LIMIT_S)
    return link_round_trips([party.heard("ended")[-1] for party in parties])


def link_round_trips(summaries: Sequence[Mapping[str, Any]]) -> RoundTrips:
    """Return the round trip of each link, of the two that its parties measured last the lower.

    Args:
        summaries: the last event of each party.
    """
    round_trips: dict[tuple[int, int], float] = {}
    for number, summary in enumerate(summaries):
        for peer, link in summary["links"].items():
            pair = (min(number, int(peer)), max(number, int(peer)))
            if link["round_trip_s"] is not None:
                round_trips[pair] = min(round_trips.get(pair, link["round_trip_s"]), link["round_trip_s"])
    return round_trips


async def run_direct(spec: ProgramSpec, round_trips: RoundTrips) -> None:
    """Run all parties without tor, every byte between two of them taking half of their round trip."""
    if not round_trips:
        raise Failed("no round trips are known")
    async with asyncio.timeout(RUN_LIMIT_S):
        await rehearse(spec, lambda one, other: round_trips[min(one, other), max(one, other)] / 2)


def note(turn: Turn, way: str, folder: Path) -> None:
    """Note how long the program took, by what its parties wrote down."""
    turn.note(way, seconds=times_of(folder, PARTIES)["compute_s"])


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[Take]:
    """Start a network, and the tors of the parties."""
    if not shutil.which("socat"):
        raise Failed("this benchmark needs socat, such as by: apt-get install socat")
    async with private_network() as directory, bench_tors(directory, PARTIES) as tors:

        async def take(turn: Turn) -> None:
            with scratch() as folder:
                if turn.name == BY_HAND:
                    await run_by_hand(tors, folder)
                    note(turn, BY_HAND, folder)
                    return
                round_trips = await run_ours(tors, OURS[turn.name], folder)
                note(turn, turn.name, folder)
            with scratch() as folder:
                await run_direct(spec_of(TIMED, *timed(folder, WORKLOAD, [LOAD]), parties=PARTIES), round_trips)
                note(turn, limit_of(turn.name), folder)

        yield take


OURS_3, OURS_8 = OURS
BENCHMARK = Benchmark(
    name="byhand",
    question="Is onionmpc faster than MPyC over Tor built by hand with socat? How fast could it be?",
    turns=[BY_HAND, *OURS],
    opened=opened,
    figures={"seconds": ("100 rounds, s", 1)},
    ratios=[(way, other) for way in OURS for other in (BY_HAND, limit_of(way))],
    within="network",
    aims=[
        Aim("many rounds, 3 circuits: ours / by hand", f"{OURS_3} / {BY_HAND}", "seconds", 0.55),
        Aim("many rounds, 8 circuits: ours / by hand", f"{OURS_8} / {BY_HAND}", "seconds", 0.42),
        Aim("many rounds: ours / the same circuits' delays", f"{OURS_3} / {limit_of(OURS_3)}", "seconds", 1.10),
    ],
    repeats=5,
    networks=2,
)

if __name__ == "__main__":
    main(BENCHMARK)
