"""`python -m benchmarks.byhand`: MPyC over Tor as built by hand, as onionmpc does it, and as fast as it could be.

On private Tor networks with the delays of a world of regions, with one tor per party, a program of many rounds runs in
turns in three ways. By hand: an onion service per party by the control port, a socat per pair, and unmodified MPyC.
Ours: `onionmpc join` with full lists, through the same tors. The limit: no tor, and between any two parties half the
round trip of the link that our run had.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.common import Failed, Spread, failure_noted, in_turns, options_of, report, run, say, table
from benchmarks.overhead import free_ports
from benchmarks.sessions import (
    TIMED,
    WORKLOAD,
    Processes,
    direct_spec,
    plain,
    run_listed,
    running,
    scratch,
    timed,
    times_of,
)
from benchmarks.tors import BenchTor, bench_tors, fresh_services, private_network
from onionmpc.program.rehearsal import rehearse
from onionmpc.program.spec import ProgramSpec
from onionmpc.tor.service.service import VIRTUAL_PORT

# Longer than three times what any run took: what takes longer by hand has hung, most often at MPyC's shutdown.
RUN_LIMIT_S = 180.0
LISTEN_LIMIT_S = 30.0
POLL_S = 0.05
CASE = "chain"
ROUNDS = 100
WIDTH = 4
CIRCUITS = (3, 8)
BY_HAND = "by hand"

# In seconds, by the numbers of two parties, the lower first.
RoundTrips = Mapping[tuple[int, int], float]


@dataclass(slots=True)
class Runs:
    """What one way took on one network: a number of seconds for each run, and why others failed."""

    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def own_limit(way: str) -> str:
    """Return what to call the limit with the very circuits of some runs of ours."""
    return f"limit of {way}"


@dataclass(frozen=True, slots=True)
class Bench:
    """What to measure on one network.

    Attributes:
        ours: options of `onionmpc join`, by what to call them.
        runs: what was measured, by way.
    """

    tors: Sequence[BenchTor]
    rounds: int
    ours: Mapping[str, Sequence[str]]
    runs: dict[str, Runs]

    def timed(self, folder: Path) -> list[str]:
        """Return the arguments of timed.py."""
        return timed(folder, WORKLOAD, [f"rounds={self.rounds},{WIDTH}"])

    async def take_turn(self, way: str) -> None:
        """Run the program in one way, and the limit that goes with it."""
        await self._note(way, self._by_hand if way == BY_HAND else functools.partial(self._ours, way))

    async def _note(self, way: str, measure: Callable[[Path], Awaitable[object]]) -> None:
        runs = self.runs[way]
        with scratch() as folder, failure_noted(way, runs.failures.append):
            await measure(folder)
            runs.seconds.append(times_of(folder, len(self.tors))["compute_s"])
            say(f"{way}: {runs.seconds[-1]:.1f} s")

    async def _by_hand(self, folder: Path) -> None:
        """Run all parties as their users would without us."""
        parties = range(len(self.tors))
        ports = free_ports(len(parties))
        targets = [f"127.0.0.1:{port}" for port in ports]
        async with fresh_services(self.tors, targets) as onions, running(RUN_LIMIT_S) as processes:
            started = []
            # MPyC dials parties of higher numbers once, and socat accepts whether they listen or not: they have to.
            for number in reversed(parties):
                near = list(ports)
                for peer in parties[number + 1 :]:
                    near[peer] = await start_socat(processes, self.tors[number].socks_port, onions[peer])
                started.append(await processes.start(*plain(near, number, self.timed(folder))))
                if number:
                    await listening(ports[number])
            await processes.ended(started)

    async def _ours(self, way: str, folder: Path) -> None:
        """Run all parties with `onionmpc join`, and then the limit with the circuits that their links had."""
        controls = [["--control", tor.control] for tor in self.tors]
        program: list[str | Path] = [TIMED, *self.ours[way]]
        parties = await run_listed(len(self.tors), program, controls, self.timed(folder), RUN_LIMIT_S)
        round_trips = link_round_trips([party.heard("ended")[-1] for party in parties])
        await self._note(own_limit(way), functools.partial(self._limit, round_trips))

    async def _limit(self, round_trips: RoundTrips, folder: Path) -> None:
        if not round_trips:
            raise Failed("no round trips are known")
        await run_direct(direct_spec(TIMED, self.timed(folder), len(self.tors)), round_trips)


async def run_direct(spec: ProgramSpec, round_trips: RoundTrips) -> None:
    """Run all parties without tor, every byte between two of them taking half of their round trip."""
    async with asyncio.timeout(RUN_LIMIT_S):
        await rehearse(spec, lambda one, other: round_trips[min(one, other), max(one, other)] / 2)


async def start_socat(processes: Processes, socks_port: int, onion: str) -> int:
    """Start a socat that leads to an onion service; return its port of 127.0.0.1."""
    [port] = free_ports(1)
    near = f"TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork"
    await processes.start("socat", near, f"SOCKS4A:127.0.0.1:{onion}:{VIRTUAL_PORT},socksport={socks_port}")
    await listening(port)
    return port


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


def ratios(networks: Sequence[Mapping[str, Spread]], ours: Sequence[str]) -> dict[str, Spread]:
    """Return ours over each other way: ratios of medians, one for each network.

    Args:
        networks: for each network, what the runs took, by way.
        ours: what ours are called.
    """
    found: dict[str, list[float]] = {}
    for network in networks:
        for way in ours:
            for other in network:
                # Of the limits with a run's own circuits only that of the same run says anything.
                comparable = other == own_limit(way) or other not in (*ours, *map(own_limit, ours))
                if comparable and way in network:
                    found.setdefault(f"{way} / {other}", []).append(network[way].median / network[other].median)
    return {name: Spread.of(values) for name, values in found.items()}


def summarise(networks: Sequence[Mapping[str, Runs]], ours: Sequence[str]) -> dict[str, Any]:
    """Return what all runs say."""
    seconds = [{way: Spread.of(runs.seconds) for way, runs in network.items() if runs.seconds} for network in networks]
    return {
        "networks": [
            {"seconds": spreads, "failed": {way: len(runs.failures) for way, runs in network.items()}}
            for spreads, network in zip(seconds, networks, strict=True)
        ],
        "ratios": ratios(seconds, ours),
    }


def tables(results: Mapping[str, Any]) -> list[str]:
    """Show the results to a person."""

    def show(network: Mapping[str, Any], way: str) -> str:
        failed = f"; {network['failed'][way]} failed" if network["failed"][way] else ""
        return (network["seconds"][way].show(1) if way in network["seconds"] else "none") + failed

    networks = results["networks"]
    times = [[way, *(show(network, way) for network in networks)] for way in networks[0]["failed"]]
    return [
        table(["seconds", *(f"network {number}" for number in range(1, len(networks) + 1))], times),
        table(["ratio of medians", "over the networks"], [[w, s.show(2)] for w, s in results["ratios"].items()]),
    ]


def see_to_socat() -> None:
    """Install socat, where we may, if it is not there.

    Raises:
        SystemExit: it is not there, and we may not install it.
    """
    if shutil.which("socat"):
        return
    as_root = [] if os.geteuid() == 0 else ["sudo"]
    if not shutil.which("apt-get") or (as_root and not shutil.which("sudo")):
        sys.exit("this benchmark needs socat: install it with your package manager, such as: apt-get install socat")
    say("installing socat (apt-get)")
    for words in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", "socat"]):
        if subprocess.run([*as_root, "apt-get", *words], stdout=subprocess.DEVNULL, check=False).returncode:
            sys.exit("socat could not be installed: see the lines above")


async def measure(options: argparse.Namespace, ours: Mapping[str, Sequence[str]]) -> list[dict[str, Runs]]:
    """Run the program in all ways on each network; return what they took, by network and way."""
    ways = [BY_HAND, *ours, *map(own_limit, ours)]
    networks = []
    started_s = time.monotonic()
    for number in range(1, options.networks + 1):
        networks.append({way: Runs() for way in ways})
        async with private_network() as (_, directory), bench_tors(directory, options.parties) as tors:
            say(f"the parties are in {', '.join(tor.region for tor in tors)}")
            bench = Bench(tors, options.rounds, ours, networks[-1])
            left_s = options.budget * number / options.networks - (time.monotonic() - started_s)
            for _, way in in_turns([BY_HAND, *ours], options.repeats, left_s):
                await bench.take_turn(way)
    return networks


def main() -> None:
    """Measure, print and write."""
    parser = options_of("byhand", __doc__, repeats=5, budget_s=3600)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"of the program ({ROUNDS})")
    parser.add_argument("--parties", type=int, default=3, help="how many take part (3)")
    parser.add_argument("--networks", type=int, default=2, help="how many networks, one after the other (2)")
    words = "run ours with these options of join (--circuits 3, and --circuits 8); repeatable"
    parser.add_argument("--ours", action="append", metavar="OPTIONS", help=words)
    options = parser.parse_args()
    typed = options.ours or [f"--circuits {circuits}" for circuits in CIRCUITS]
    ours = {f"ours {words}".strip(): tuple(shlex.split(words)) for words in typed}
    see_to_socat()
    found = summarise(run(measure(options, ours)), list(ours))
    title = f"By hand, ours and the limit, {options.parties} parties, {options.rounds} rounds"
    report("byhand", title, tables(found), {"parties": options.parties, "cases": {CASE: found}}, options.output)


if __name__ == "__main__":
    main()
