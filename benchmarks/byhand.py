"""`python -m benchmarks.byhand`: MPyC over Tor as built by hand, as onionmpc does it, and as fast as it could be.

On a private Tor network with the delays of a world of regions, with one tor per party, a program runs in turns in three
ways. By hand: an onion service per party by the control port, a socat per pair, and unmodified MPyC. Ours: `onionmpc
join` with full lists, through the same tors. The limit: no tor, and between any two parties half the round trip of the
best of some circuits. Knows what the processes write down.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, Spread, report, say, table
from benchmarks.limit import RoundTrips, best, direct_spec, draw_circuits, run_direct
from benchmarks.overhead import HERE, SEED, TIMED, free_ports, keep_identities
from benchmarks.tors import BenchTor, bench_tors, fresh_services
from onionmpc.cli.loop import run_until_interrupted
from onionmpc.errors import OnionMPCError
from onionmpc.files import private_directory
from onionmpc.program.rehearsal import Hops, count_hops
from onionmpc.session.local import default_threshold
from onionmpc.testnet.network import PrivateNetwork
from onionmpc.tor.service.service import VIRTUAL_PORT

# Longer than three times what any run took: what takes longer by hand has hung, most often at MPyC's shutdown.
RUN_LIMIT_S = 180.0
HOPS_LIMIT_S = 120.0
LISTEN_LIMIT_S = 30.0
POLL_S = 0.05
CASES = ("chain", "sort")
ROUNDS = 100
CIRCUITS = (3, 8)
BY_HAND = "by hand"


class Failed(Exception):
    """A run that did not end, or not well."""


@dataclass(frozen=True, slots=True)
class Case:
    """A program to measure."""

    name: str
    script: Path
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Runs:
    """What a case took on one network: seconds by way, one number for each run, and how many runs failed.

    Attributes:
        raced: for each run of ours, by way, of how many circuits each link had the fastest.
    """

    seconds: dict[str, list[float]]
    failed: dict[str, int]
    raced: dict[str, list[list[int]]]


def all_cases(rounds: int) -> list[Case]:
    """Return what can be measured: a chain of products, and a sort of 8 numbers."""
    return [
        Case("chain", HERE / "chain.py", (str(rounds), "4")),
        Case("sort", ROOT / "examples" / "sort.py", ("--count", "8")),
    ]


def timed_arguments(case: Case, folder: Path) -> list[str]:
    """Return what timed.py gets."""
    return [str(folder), SEED, "0", str(case.script), *case.arguments]


def computed_s(folder: Path, parties: int) -> float:
    """Return the time from the last connection to the end of the last shutdown, as the parties wrote it down."""
    notes = [json.loads((folder / f"notes-{number}.json").read_text()) for number in range(parties)]
    return float(max(note["ended_s"] for note in notes) - max(note["connected_s"] for note in notes))


async def run_by_hand(case: Case, tors: Sequence[BenchTor], folder: Path) -> float:
    """Run all parties as their users would without us; return the seconds that they computed."""
    parties = len(tors)
    ports = free_ports(parties)
    async with fresh_services(tors, [f"127.0.0.1:{port}" for port in ports]) as onions, Processes() as processes:
        running = []
        # MPyC dials parties of higher numbers once, and socat accepts whether they listen or not: they have to.
        for number in reversed(range(parties)):
            addresses = list(ports)
            for peer in range(number + 1, parties):
                addresses[peer] = await start_socat(processes, tors[number].socks_port, onions[peer])
            options = [*(f"-P127.0.0.1:{port}" for port in addresses), f"-T{default_threshold(parties)}", "--no-log"]
            command: list[str | Path] = [
                HERE / "plain_party.py",
                TIMED,
                *options,
                f"-I{number}",
                *timed_arguments(case, folder),
            ]
            running.append(await processes.start(folder / f"output-{number}.txt", sys.executable, *command))
            if number:
                await listening(ports[number])
        await all_ended(running, folder)
    return computed_s(folder, parties)


async def start_socat(processes: Processes, socks_port: int, onion: str) -> int:
    """Start a socat that leads to an onion service; return its port of 127.0.0.1."""
    [port] = free_ports(1)
    near = f"TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork"
    far = f"SOCKS4A:127.0.0.1:{onion}:{VIRTUAL_PORT},socksport={socks_port}"
    await processes.start(Path(os.devnull), "socat", near, far)
    await listening(port)
    return port


async def run_ours(
    case: Case, tors: Sequence[BenchTor], folder: Path, options: Sequence[str]
) -> tuple[float, list[dict[str, Any]]]:
    """Run all parties with `onionmpc join`; return the seconds that they computed, and their summaries."""
    await run_listed(tors, folder, [TIMED, *options, "--", *timed_arguments(case, folder)])
    summaries = [json.loads((folder / f"summary-{number}.json").read_text()) for number in range(len(tors))]
    return computed_s(folder, len(tors)), summaries


async def run_listed(tors: Sequence[BenchTor], folder: Path, words: Sequence[str]) -> None:
    """Run one party at each tor with `onionmpc join` and a full list; output-N.txt and summary-N.json are in `folder`.

    Args:
        words: of the command, after the addresses: the program, further options, arguments.

    Raises:
        Failed: one did not end, or not well.
    """
    state = private_directory(folder / "state")
    onions = keep_identities(state, len(tors))
    environment = {**os.environ, "ONIONMPC_STATE": str(state)}
    async with Processes() as processes:
        running = []
        for number, tor in enumerate(tors):
            others = [onion for onion in onions if onion != onions[number]]
            command: list[str | Path] = [
                *("-m", "onionmpc.cli", "join", "--identity", f"party-{number}", "--control", tor.control, "--yes"),
                *("--log-format", "json", "--json", folder / f"summary-{number}.json", *others, *words),
            ]
            output = folder / f"output-{number}.txt"
            running.append(await processes.start(output, sys.executable, *command, environment=environment))
        await all_ended(running, folder)


def link_round_trips(summaries: Sequence[Mapping[str, Any]]) -> RoundTrips:
    """Return the round trip of each link, of the two that its parties measured last the lower.

    Args:
        summaries: what `--json` wrote, by party.
    """
    round_trips: dict[tuple[int, int], float] = {}
    for number, summary in enumerate(summaries):
        for peer, link in summary["links"].items():
            pair = (min(number, int(peer)), max(number, int(peer)))
            if link["round_trip_s"] is not None:
                round_trips[pair] = min(round_trips.get(pair, link["round_trip_s"]), link["round_trip_s"])
    return round_trips


def raced(summaries: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return of how many circuits each link had the fastest, as the lower of its two parties saw it."""
    return [
        link["raced"]
        for number, summary in enumerate(summaries)
        for peer, link in sorted(summary["links"].items())
        if number < int(peer)
    ]


class Processes(contextlib.AsyncExitStack):
    """Processes that end with the context, and what they have started too.

    By a signal to us it ends as well (`run_until_interrupted`): a socat would listen for ever, a party wait for ever.
    """

    async def start(
        self, output: Path, *command: str | Path, environment: dict[str, str] | None = None
    ) -> asyncio.subprocess.Process:
        """Start one that writes to a file."""
        with output.open("wb") as file:
            process = await asyncio.create_subprocess_exec(
                *command,
                cwd=ROOT,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )

        async def end() -> None:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()

        self.push_async_callback(end)
        return process


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


async def all_ended(running: Sequence[asyncio.subprocess.Process], folder: Path) -> None:
    """Wait for the end of all parties.

    Raises:
        Failed: one did not end, or not well.
    """
    try:
        async with asyncio.timeout(RUN_LIMIT_S):
            statuses = [await process.wait() for process in running]
    except TimeoutError:
        ended = sum(process.returncode == 0 for process in running)
        raise Failed(f"it hung: {ended} of {len(running)} parties had ended after {RUN_LIMIT_S:.0f} s") from None
    if any(statuses):
        raise Failed(f"a party ended with status {next(filter(None, statuses))}:\n{last_words(folder)}")


def last_words(folder: Path) -> str:
    """Return the end of what each party wrote."""
    return "\n".join(path.read_text(errors="replace")[-1000:] for path in sorted(folder.glob("output-*.txt")))


@dataclass(frozen=True, slots=True)
class Bench:
    """What to measure.

    Attributes:
        ours: options of `onionmpc join`, by what to call them.
        circuits: for each limit, of how many circuits per pair the best is taken.
    """

    cases: Sequence[Case]
    parties: int
    repeats: int
    ours: Mapping[str, Sequence[str]]
    circuits: Sequence[int]
    until_s: float

    @property
    def ways(self) -> list[str]:
        """What all ways to run a case are called, in the order of the tables."""
        return [BY_HAND, *self.ours, *map(own_limit, self.ours), *map(limit_of, self.circuits)]

    async def measure(self) -> dict[str, Runs]:
        """Build a network and run all cases in all ways in turns; return what they took, by case."""
        runs = {
            case.name: Runs({way: [] for way in self.ways}, dict.fromkeys(self.ways, 0), {way: [] for way in self.ours})
            for case in self.cases
        }
        with tempfile.TemporaryDirectory(prefix="onionmpc-bench-") as name:
            directory = Path(name)
            say("starting a private Tor network")
            async with PrivateNetwork(directory / "net"), bench_tors(directory / "net", self.parties) as tors:
                say(f"the parties stand in {', '.join(tor.region for tor in tors)}")
                for repeat in range(self.repeats):
                    for case in self.cases:
                        if repeat and time.monotonic() > self.until_s:
                            say(f"stopping after {repeat} of {self.repeats} repeats: --budget is spent")
                            return runs
                        folder = private_directory(directory / f"{case.name}-{repeat}")
                        await Turn(self, case, tors, folder, runs[case.name]).take(backwards=repeat % 2 == 1)
        return runs


@dataclass(frozen=True, slots=True)
class Turn:
    """One run of a case in each way."""

    bench: Bench
    case: Case
    tors: Sequence[BenchTor]
    folder: Path
    runs: Runs

    async def take(self, *, backwards: bool) -> None:
        """Run, and note what it took."""
        # What comes later may find a busier machine, or an older network: each side does every other time.
        order = [BY_HAND, *self.bench.ours]
        for way in reversed(order) if backwards else order:
            await self._note(way, self._by_hand if way == BY_HAND else self._ours)
        drawn: dict[tuple[int, int], list[float]] = {}
        try:
            drawn = await draw_circuits(self.tors, max(self.bench.circuits))
        except OnionMPCError as error:
            say(f"no circuits to take a limit from: {error.message}")
        for circuits in self.bench.circuits:
            await self._note_limit(limit_of(circuits), best(drawn, circuits))

    async def _note(self, way: str, run: Callable[[str, Path], Awaitable[float]]) -> None:
        try:
            seconds = await run(way, private_directory(self.folder / way.replace(" ", "_")))
        except (Failed, OnionMPCError, TimeoutError) as error:
            self.runs.failed[way] += 1
            say(f"{self.case.name}, {way}: failed ({str(error) or type(error).__name__})")
        else:
            self.runs.seconds[way].append(seconds)
            say(f"{self.case.name}, {way}: {seconds:.1f} s")

    async def _by_hand(self, _way: str, folder: Path) -> float:
        return await run_by_hand(self.case, self.tors, folder)

    async def _ours(self, way: str, folder: Path) -> float:
        seconds, summaries = await run_ours(self.case, self.tors, folder, self.bench.ours[way])
        self.runs.raced[way].append(raced(summaries))
        say(f"{self.case.name}, {way}: the fastest of {self.runs.raced[way][-1]}")
        await self._note_limit(own_limit(way), link_round_trips(summaries))
        return seconds

    async def _note_limit(self, way: str, round_trips: RoundTrips) -> None:
        async def run(_way: str, folder: Path) -> float:
            if not round_trips:
                raise Failed("no round trips are known")
            spec = direct_spec(TIMED, timed_arguments(self.case, folder), len(self.tors))
            await run_direct(spec, round_trips)
            return computed_s(folder, len(self.tors))

        await self._note(way, run)


def own_limit(way: str) -> str:
    """Return what to call the limit with the very circuits of some runs of ours."""
    return f"limit of {way}"


def limit_of(circuits: int) -> str:
    """Return what to call the limit with the best of so many circuits."""
    return f"limit, best of {circuits}"


def ratios(networks: Sequence[Mapping[str, Spread]], ours: Sequence[str]) -> dict[str, Spread]:
    """Return ours over each other way: ratios of medians, one for each network.

    Args:
        networks: for each network, what the runs of one case took, by way.
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


def summarise(case: str, hops: Hops, networks: Sequence[Mapping[str, Runs]], bench: Bench) -> dict[str, Any]:
    """Return what the runs of a case say."""
    seconds = [
        {way: Spread.of(values) for way, values in network[case].seconds.items() if values} for network in networks
    ]
    return {
        "hops": hops.count,
        "without_delay_s": round(hops.seconds, 3),
        "networks": [
            {"seconds": spreads, "failed": network[case].failed, "raced": network[case].raced}
            for spreads, network in zip(seconds, networks, strict=True)
        ],
        "ratios": ratios(seconds, list(bench.ours)),
    }


def tables(results: Mapping[str, Mapping[str, Any]], ways: Sequence[str]) -> list[str]:
    """Show the results to a person."""
    times = [
        [
            f"{name} ({result['hops']} hops)",
            str(number),
            *(_show(network, way) for way in ways),
        ]
        for name, result in results.items()
        for number, network in enumerate(result["networks"], start=1)
    ]
    quotients = [
        [name, what, spread.show(2)] for name, result in results.items() for what, spread in result["ratios"].items()
    ]
    return [
        table(["program", "network", *(f"{way}, s" for way in ways)], times),
        table(["program", "ratio of medians", "over the networks"], quotients),
    ]


def _show(network: Mapping[str, Any], way: str) -> str:
    failed = f"; {network['failed'][way]} failed" if network["failed"][way] else ""
    return (network["seconds"][way].show(1) if way in network["seconds"] else "none") + failed


def see_to_socat() -> None:
    """Install socat, where we may, if it is not there.

    Raises:
        SystemExit: it is not there, and we may not; with the command for whoever may.
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


async def count_all_hops(measured: Sequence[Case], parties: int) -> dict[str, Hops]:
    """Return how many hops each case takes."""
    return {
        case.name: await count_hops(direct_spec(case.script, case.arguments, parties), HOPS_LIMIT_S)
        for case in measured
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.byhand", description=__doc__.splitlines()[0])
    parser.add_argument("--case", action="append", choices=CASES, help="what to measure (both); repeatable")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"of the chain ({ROUNDS})")
    parser.add_argument("--parties", type=int, default=3, help="how many take part (3)")
    parser.add_argument("--networks", type=int, default=2, help="how many networks, one after the other (2)")
    parser.add_argument("--repeats", type=int, default=5, help="runs in each way on each network (5)")
    parser.add_argument(
        "--ours",
        action="append",
        metavar="OPTIONS",
        help="run ours with these options of join (--circuits 3, and --circuits 8); repeatable",
    )
    parser.add_argument(
        "--circuits",
        type=int,
        action="append",
        metavar="K",
        help="take a limit from the best of K circuits per pair (3, and 8); repeatable",
    )
    parser.add_argument(
        "--budget", type=float, default=3600, metavar="S", help="start no further repeat after S, of all (3600)"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="where to write (benchmarks/results/byhand.json)")
    options = parser.parse_args()
    chosen = [case for case in all_cases(options.rounds) if case.name in (options.case or CASES)]
    words = options.ours or [f"--circuits {circuits}" for circuits in CIRCUITS]
    ours = {f"ours {said}".strip(): tuple(shlex.split(said)) for said in words}
    see_to_socat()
    started_s = time.monotonic()
    networks = []
    try:
        hops = run_until_interrupted(count_all_hops(chosen, options.parties))
        for number in range(1, options.networks + 1):
            until_s = started_s + options.budget * number / options.networks
            circuits = options.circuits or CIRCUITS
            bench = Bench(chosen, options.parties, options.repeats, ours, circuits, until_s)
            networks.append(run_until_interrupted(bench.measure()))
    except OnionMPCError as error:
        sys.exit(f"cannot measure: {error.message}")
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    results = {case.name: summarise(case.name, hops[case.name], networks, bench) for case in chosen}
    report(
        "byhand",
        f"By hand, ours and the limit, {options.parties} parties",
        tables(results, bench.ways),
        {"parties": options.parties, "cases": results},
        options.output,
    )


if __name__ == "__main__":
    main()
