"""`python -m benchmarks.scale`: what more parties cost, on one machine and a private Tor network.

Runs the real `onionmpc join` with a full list, each party a process. Up to 9 parties have a tor each; more of them
share 9 tors by `--control`. Knows the events of their JSON logs and what their program (rounds.py) prints.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, Spread, end_party, memory_of, report, say, table, write
from benchmarks.overhead import keep_identities
from benchmarks.plots import NoMatplotlib, draw_scale
from benchmarks.tors import bench_tors
from onionmpc.errors import OnionMPCError
from onionmpc.files import private_directory
from onionmpc.testnet.network import PrivateNetwork
from onionmpc.testnet.place import profiles_directory

HERE = Path(__file__).resolve().parent
SIZES = (3, 5, 7, 9, 15, 25)
# Beside those of the network; more of them would measure the machine.
TORS = 9
ROUNDS = 20
LINE_LIMIT_BYTES = 2**20
MIB = 2**20
MEASURES = {
    "published_s": ("all published, s", 1),
    "connected_s": ("all connected, s", 1),
    "links_s": ("after all were published, s", 1),
    "round_s": ("one round, s", 3),
    "supervisor_mib": ("highest memory of a supervisor, MiB", 0),
    "program_mib": ("of a program, MiB", 0),
}

Session = dict[str, float]


class Failed(Exception):
    """A session did not end well."""


@dataclass(slots=True)
class Seen:
    """What one party said, by the clock of this process, and how large its supervisor was.

    Attributes:
        printed: the last line that its program wrote.
        error: why it failed.
    """

    published_s: float = math.nan
    connected_s: float = math.nan
    peak_bytes: int = 0
    printed: str = ""
    error: str = ""

    def note(self, event: Mapping[str, Any]) -> None:
        """Take one event of its log."""
        match event:
            case {"event": "published"}:
                self.published_s = time.monotonic()
            case {"event": "link_up", "connected": connected, "peers": peers} if connected == peers:
                self.connected_s = time.monotonic()
            case {"event": "failed", "error": error}:
                self.error = error


async def run_session(directory: Path, parties: int, rounds: int, controls: Sequence[str], limit_s: float) -> Session:
    """Run one session to its end; return what it took, of the party that is last or largest.

    Args:
        directory: of the private network.
        controls: control ports of tors to share; none if each party is to have a tor of its own.

    Raises:
        Failed: it did not end well.
    """
    seen = [Seen() for _ in range(parties)]
    with tempfile.TemporaryDirectory(prefix="onionmpc-bench-") as name:
        state = private_directory(Path(name) / "state")
        onions = keep_identities(state, parties)
        ways = itertools.cycle([["--control", control] for control in controls] or [["--testnet", str(directory)]])
        before_s = time.monotonic()
        try:
            async with asyncio.timeout(limit_s), asyncio.TaskGroup() as tasks:
                for number, (own, way) in enumerate(zip(onions, ways, strict=False)):
                    command = [
                        *("join", *(onion for onion in onions if onion != own), str(HERE / "rounds.py")),
                        *("--identity", f"party-{number}", "--yes", "--log-format", "json", *way, "--", str(rounds)),
                    ]
                    tasks.create_task(run_party(command, {**os.environ, "ONIONMPC_STATE": str(state)}, seen[number]))
        except TimeoutError:
            raise Failed(f"it did not end within {limit_s:.0f} s") from None
        except ExceptionGroup as group:
            raise Failed(next((party.error for party in seen if party.error), str(group.exceptions[0]))) from None
    published_s, connected_s = (max(getattr(party, name) for party in seen) for name in ("published_s", "connected_s"))
    printed = [json.loads(party.printed) for party in seen]
    return {
        "published_s": published_s - before_s,
        "connected_s": connected_s - before_s,
        "links_s": connected_s - published_s,
        "round_s": max(notes["round_s"] for notes in printed),
        "supervisor_mib": max(party.peak_bytes for party in seen) / MIB,
        "program_mib": max(notes["peak_bytes"] for notes in printed) / MIB,
    }


async def run_party(command: Sequence[str], environment: Mapping[str, str], seen: Seen) -> None:
    """Run one `onionmpc` command to its end, and note what it says.

    Raises:
        Failed: it did not end well.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "onionmpc.cli", *command),
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=LINE_LIMIT_BYTES,
        start_new_session=True,  # Ctrl-C is ours to pass on
    )
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(follow_log(process, seen))
            tasks.create_task(follow_output(process, seen))
        if await process.wait() != 0:
            raise Failed(f"a party ended with status {process.returncode}")
    finally:
        await end_party(process)


async def follow_log(process: asyncio.subprocess.Process, seen: Seen) -> None:
    """Note each event of a party's log, and how large the party was then."""
    assert process.stderr is not None
    async for line in process.stderr:
        with contextlib.suppress(OSError):  # it may have ended since it wrote this
            seen.peak_bytes = memory_of(process.pid).get("peak_bytes", 0)
        with contextlib.suppress(ValueError):  # a program's own words
            seen.note(json.loads(line))


async def follow_output(process: asyncio.subprocess.Process, seen: Seen) -> None:
    """Keep the last line that a program writes."""
    assert process.stdout is not None
    async for line in process.stdout:
        seen.printed = line.decode()


async def run_size(directory: Path, parties: int, tors: int, rounds: int, limit_s: float) -> Session:
    """Run one session of so many parties, on tors of their own or, where they are more than `tors`, on shared ones."""
    # No tor knows anything from the session before.
    shutil.rmtree(profiles_directory(directory), ignore_errors=True)
    if parties <= tors:
        return await run_session(directory, parties, rounds, [], limit_s)
    async with bench_tors(directory, tors) as shared:
        return await run_session(directory, parties, rounds, [tor.control for tor in shared], limit_s)


def growth(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Return k where values grow as sizes ** k: the slope of the straight line through their logarithms.

    Args:
        sizes, values: positive, two different sizes at least.
    """
    x, y = ([math.log(value) for value in axis] for axis in (sizes, values))
    middle_x, middle_y = sum(x) / len(x), sum(y) / len(y)
    slopes = sum((a - middle_x) * (b - middle_y) for a, b in zip(x, y, strict=True))
    return slopes / sum((a - middle_x) ** 2 for a in x)


@dataclass(slots=True)
class OfSize:
    """All sessions of one number of parties: those that ended well, and why the others did not."""

    runs: list[Session] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def summarise(sizes: Mapping[int, OfSize], tors: int) -> dict[str, Any]:
    """Return what the sessions say, by number of parties, and with what power of it each measure grows."""
    results: dict[int, dict[str, Any]] = {
        size: {
            "tors": min(size, tors),
            **{measure: Spread.of(run[measure] for run in of_size.runs) for measure in MEASURES if of_size.runs},
            "failures": of_size.failures,
        }
        for size, of_size in sorted(sizes.items())
    }
    whole = [size for size in results if sizes[size].runs]
    medians = {measure: [results[size][measure].median for size in whole] for measure in MEASURES}
    exponents = {
        measure: round(growth(whole, values), 2)
        for measure, values in medians.items()
        if len(whole) > 1 and min(values) > 0
    }
    return {"parties": results, "growth": exponents}


def tables(results: Mapping[str, Any]) -> list[str]:
    """Show what `summarise` returned to a person."""
    rows = [
        [
            *(str(size), str(of_size["tors"])),
            *(of_size[key].show(decimals) if key in of_size else "" for key, (_, decimals) in MEASURES.items()),
            str(len(of_size["failures"])),
        ]
        for size, of_size in results["parties"].items()
    ]
    header = ["parties", "tors", *(words for words, _ in MEASURES.values()), "sessions that failed"]
    grows = [[MEASURES[measure][0], f"m^{exponent}"] for measure, exponent in results["growth"].items()]
    return [table(header, rows), *([table(["what", "grows as"], grows)] if grows else [])]


async def measure(
    sizes: Sequence[int], repeats: int, tors: int, rounds: int, limit_s: float, until_s: float
) -> AsyncGenerator[dict[str, Any], None]:
    """Run sessions of all sizes in turns until there are enough repeats or the time is up; yield what there is."""
    measured: dict[int, OfSize] = {}
    with tempfile.TemporaryDirectory(prefix="onionmpc-bench-") as name:
        directory = Path(name) / "net"
        say("starting a private Tor network")
        async with PrivateNetwork(directory, latency="regions"):
            for repeat, size in itertools.product(range(repeats), sizes):
                if measured and time.monotonic() > until_s:
                    say(f"stopping before repeat {repeat + 1} of {size} parties: --budget is spent")
                    break
                of_size = measured.setdefault(size, OfSize())
                try:
                    session = await run_size(directory, size, tors, rounds, limit_s)
                except (Failed, OnionMPCError) as error:
                    of_size.failures.append(str(error))
                    say(f"{size} parties: failed ({error})")
                else:
                    of_size.runs.append(session)
                    say(f"{size} parties: all connected after {session['connected_s']:.1f} s")
                yield {"latency": "regions", "rounds": rounds, **summarise(measured, tors)}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__.splitlines()[0])
    sizes = ", ".join(map(str, SIZES))
    parser.add_argument("--parties", type=int, action="append", metavar="M", help=f"how many ({sizes}); repeatable")
    parser.add_argument("--repeats", type=int, default=3, help="sessions of each number of parties (3)")
    parser.add_argument("--tors", type=int, default=TORS, help=f"more parties than this share so many ({TORS})")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"of the program ({ROUNDS})")
    parser.add_argument("--limit", type=float, default=420, metavar="S", help="what a session may take (420)")
    parser.add_argument("--budget", type=float, default=1500, metavar="S", help="start no session after S (1500)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where to write (benchmarks/results/scale.json)")
    options = parser.parse_args()
    try:
        results = asyncio.run(run(options))
    except OnionMPCError as error:
        sys.exit(f"the private network did not come up: {error.message}")
    report("scale", "More parties, latency: regions", tables(results), results, options.output)
    if results["growth"]:
        path = options.output or RESULTS / "scale.json"
        written = json.loads(path.read_text())
        try:
            draw_scale(written["parties"], written["growth"], path.with_suffix(".svg"))
        except NoMatplotlib as error:
            say(str(error))


async def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure, and write after each session what there is; return the last of it."""
    results: dict[str, Any] = {}
    sizes = options.parties or SIZES
    until_s = time.monotonic() + options.budget
    measuring = measure(sizes, options.repeats, options.tors, options.rounds, options.limit, until_s)
    async with contextlib.aclosing(measuring):
        async for results in measuring:
            write("scale", results, options.output)
    return results


if __name__ == "__main__":
    main()
