"""`python -m benchmarks.overhead`: what our processes cost, against MPyC by itself. No tor, no delay.

Both sides run the same script with the same randomness, each party in its own processes on this machine: plain MPyC
over loopback TCP, and the `onionmpc join` command with local sockets in tor's place. They take turns, so that whatever
else the machine does hits both alike. Knows only what the processes write down.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import resource
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, Spread, report, say, table
from onionmpc.files import private_directory, socket_directory, write_private
from onionmpc.identity import SEED_BYTES, Identity
from onionmpc.identity.key_file import KEY_FILE_NONCE_BYTES, KEY_FILE_SALT_BYTES, encode_key_file
from onionmpc.session.local import default_threshold

HERE = Path(__file__).resolve().parent
TIMED = HERE / "timed.py"
# With it secret_santa of three parties draws three times, which is what it does on average.
SEED = "1"
RUN_LIMIT_S = 60.0
MIB = 2**20
SPANS = ("connect_s", "compute_s", "command_s", "cpu_s")

Run = dict[str, float]
Beside = Callable[[Path, Path], contextlib.AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Case:
    """A program to measure: a script in examples/, and arguments that make it the same work each time.

    Attributes:
        delay_ms: on the way of everything from one MPyC to another, the same on both sides.
    """

    name: str
    script: str
    arguments: tuple[str, ...] = ()
    delay_ms: int = 0


CASES = (
    Case("secret_santa", "secret_santa"),
    # A tenth of what tor takes.
    Case("secret_santa_delayed", "secret_santa", delay_ms=25),
    Case("sort", "sort", ("--count", "24")),
    Case("regression", "regression", ("--rows", "3000", "--columns", "8")),
)


class Failed(Exception):
    """A party did not end well, or the two sides did not do the same work."""


def run_plain(case: Case, parties: int, folder: Path) -> Run:
    """Run all parties with MPyC's own connections."""
    addresses = [f"-P127.0.0.1:{port}" for port in free_ports(parties)]
    options = [*addresses, f"-T{default_threshold(parties)}", "--no-log"]
    commands: list[Sequence[str | Path]] = [
        [HERE / "plain_party.py", TIMED, *options, f"-I{number}", *timed_arguments(case, folder)]
        for number in range(parties)
    ]
    return measure(commands, folder, dict(os.environ))


def nobody(_state: Path, _sockets: Path) -> contextlib.AbstractContextManager[None]:
    """Let nobody else be there."""
    return contextlib.nullcontext()


def run_onionmpc(case: Case, parties: int, folder: Path, beside: Beside = nobody) -> Run:
    """Run all parties as `onionmpc join` with a full list, over local sockets.

    Args:
        beside: what goes on while they run, given their state directory and the directory of their sockets.
    """
    state = private_directory(folder / "state")
    onions = keep_identities(state, parties)
    with socket_directory() as sockets, beside(state, sockets):
        commands: list[Sequence[str | Path]] = [
            [
                *("-m", "benchmarks.direct_party"),
                sockets,
                folder / f"memory-{number}.json",
                *("join", *(onion for onion in onions if onion != own), str(TIMED)),
                *("--identity", f"party-{number}", "--yes", "--log-format", "json"),
                # MPyC's own default, named so that the keys which fix the randomness are there with 15 parties too.
                "--mpyc=-L32",
                *("--", *timed_arguments(case, folder)),
            ]
            for number, own in enumerate(onions)
        ]
        run = measure(commands, folder, {**os.environ, "ONIONMPC_STATE": str(state)})
    memories = [json.loads((folder / f"memory-{number}.json").read_text()) for number in range(parties)]
    return run | {"supervisor_peak_mib": max(memory["peak_bytes"] for memory in memories) / MIB}


SIDES = {"plain": run_plain, "onionmpc": run_onionmpc}


def timed_arguments(case: Case, folder: Path) -> tuple[str | Path, ...]:
    """Return what timed.py gets."""
    return (folder, SEED, str(case.delay_ms), ROOT / "examples" / f"{case.script}.py", *case.arguments)


def keep_identities(state: Path, parties: int, *, exposed: bool = False) -> list[str]:
    """Keep identities named party-0 and so on, each of which will be the party of that number; return the onions.

    Args:
        exposed: they are for circuit length short.
    """
    directory = private_directory(state / "identities")
    identities = sorted((Identity(secrets.token_bytes(SEED_BYTES)) for _ in range(parties)), key=lambda i: i.onion)
    for number, identity in enumerate(identities):
        content = encode_key_file(
            identity, None, bytes(KEY_FILE_SALT_BYTES), bytes(KEY_FILE_NONCE_BYTES), exposed=exposed
        )
        write_private(directory / f"party-{number}.key", content)
    return [identity.onion for identity in identities]


def measure(commands: Sequence[Sequence[str | Path]], folder: Path, environment: dict[str, str]) -> Run:
    """Run one Python command per party at the same time; return what all of them took together.

    Returns:
        command_s: from starting the first process to the end of the last.
        connect_s: from the last party's start of MPyC to its last connection.
        compute_s: from the last connection to the end of the last shutdown.
        cpu_s: processor time of all processes, from their start to their end.

    Raises:
        Failed: a party did not end well within RUN_LIMIT_S.
    """
    cpu_before_s = children_cpu_s()
    before_s = time.monotonic()
    run_all(commands, folder, environment)
    command_s = time.monotonic() - before_s
    notes = [json.loads((folder / f"notes-{number}.json").read_text()) for number in range(len(commands))]
    started_s, connected_s, ended_s = (
        max(note[key] for note in notes) for key in ("started_s", "connected_s", "ended_s")
    )
    return {
        "command_s": command_s,
        "connect_s": connected_s - started_s,
        "compute_s": ended_s - connected_s,
        "cpu_s": children_cpu_s() - cpu_before_s,
        "messages": sum(note["messages"] for note in notes),
        "payload_bytes": sum(note["payload_bytes"] for note in notes),
    }


def run_all(commands: Sequence[Sequence[str | Path]], folder: Path, environment: dict[str, str]) -> None:
    """Run Python commands at the same time, to their end.

    Raises:
        Failed: one did not end well within RUN_LIMIT_S.
    """
    running: list[subprocess.Popen[bytes]] = []
    # Not wait(timeout=): that looks twenty times a second, which is as long as what is measured here.
    deadline = threading.Timer(RUN_LIMIT_S, kill, [running])
    deadline.start()
    try:
        for number, command in enumerate(commands):
            with (folder / f"output-{number}.txt").open("wb") as output:
                running.append(
                    subprocess.Popen(
                        [sys.executable, *command],
                        cwd=ROOT,
                        env=environment,
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=output,
                    )
                )
        for number, process in enumerate(running):
            if process.wait() != 0:
                words = (folder / f"output-{number}.txt").read_text()[-2000:]
                raise Failed(f"party {number} ended with status {process.returncode}:\n{words}")
    finally:
        deadline.cancel()
        kill(running)


def kill(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    """Kill those that still run; a program process ends with its supervisor."""
    for process in processes:
        process.kill()
        process.wait()


def children_cpu_s() -> float:
    """Return the processor time of all processes that were waited for, and that those waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 that are free at this moment."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [bound.getsockname()[1] for bound in sockets]


def compare(cases: Sequence[Case], parties: int, repeats: int, budget_s: float) -> dict[str, dict[str, list[Run]]]:
    """Run both sides of all cases in turns, until there are enough repeats or the time is up.

    Returns:
        What each run took, by case and side; as many runs of either side.

    Raises:
        Failed: a run failed, or the two sides of a case sent different numbers of messages.
    """
    runs: dict[str, dict[str, list[Run]]] = {case.name: {side: [] for side in SIDES} for case in cases}
    until_s = time.monotonic() + budget_s
    for repeat, case in itertools.product(range(repeats), cases):
        if repeat and time.monotonic() > until_s:
            say(f"stopping after {repeat} of {repeats} repeats: --budget is spent")
            break
        # The second of a pair may find a warmer machine: each side is it every other time.
        for side in sorted(SIDES, reverse=repeat % 2 == 0):
            with tempfile.TemporaryDirectory(prefix="onionmpc-bench-") as name:
                run = SIDES[side](case, parties, Path(name))
            say(f"{case.name} {repeat + 1}/{repeats} {side}: {run['compute_s'] * 1000:.0f} ms")
            runs[case.name][side].append(run)
        check_same_work(case, runs[case.name])
    return runs


def check_same_work(case: Case, runs: dict[str, list[Run]]) -> None:
    """Check that every run sent as many messages.

    Raises:
        Failed: they did not.
    """
    counts = {run["messages"] for side in runs.values() for run in side}
    if len(counts) != 1:
        raise Failed(f"{case.name} took different numbers of messages: {sorted(counts)}")


def ratio(runs: dict[str, list[Run]], key: str) -> dict[str, float]:
    """Return the ratio of the medians of both sides, and the lowest and highest of the pairs that ran together."""
    pairs = [ours[key] / plain[key] for ours, plain in zip(runs["onionmpc"], runs["plain"], strict=True)]
    medians = {side: Spread.of(run[key] for run in runs[side]).median for side in SIDES}
    return {"of_medians": medians["onionmpc"] / medians["plain"], "lowest": min(pairs), "highest": max(pairs)}


def summarise(runs: dict[str, list[Run]]) -> dict[str, Any]:
    """Return what the runs of one case say."""
    added_s = Spread.of(
        ours["cpu_s"] - plain["cpu_s"] for ours, plain in zip(runs["onionmpc"], runs["plain"], strict=True)
    )
    return {
        "messages": runs["plain"][0]["messages"],
        "payload_bytes": runs["plain"][0]["payload_bytes"],
        **{key: {side: Spread.of(run[key] for run in runs[side]) for side in SIDES} for key in SPANS},
        **{f"{key.removesuffix('_s')}_ratio": ratio(runs, key) for key in SPANS},
        "added_cpu_s": added_s,
        "supervisor_peak_mib": Spread.of(run["supervisor_peak_mib"] for run in runs["onionmpc"]),
    }


def tables(results: dict[str, dict[str, Any]]) -> list[str]:
    """Show the results to a person."""
    times = [
        [
            name,
            f"{result['messages']:.0f}",
            *(f"{result['compute_s'][side].show(3)}" for side in SIDES),
            _show_ratio(result["compute_ratio"]),
            *(f"{result['command_s'][side].show(2)}" for side in SIDES),
            _show_ratio(result["command_ratio"]),
        ]
        for name, result in results.items()
    ]
    costs = [
        [
            name,
            *(result["cpu_s"][side].show(2) for side in SIDES),
            result["added_cpu_s"].show(2),
            result["supervisor_peak_mib"].show(0),
        ]
        for name, result in results.items()
    ]
    return [
        table(
            [
                *("program", "messages", "MPyC alone, s", "onionmpc, s", "ratio"),
                *("whole command: MPyC alone, s", "onionmpc, s", "ratio"),
            ],
            times,
        ),
        table(
            [
                *("program", "processor time of all parties: MPyC alone, s", "onionmpc, s", "added, s"),
                "highest memory of a supervisor, MiB",
            ],
            costs,
        ),
    ]


def _show_ratio(numbers: dict[str, float]) -> str:
    return f"{numbers['of_medians']:.2f} ({numbers['lowest']:.2f} to {numbers['highest']:.2f})"


def main() -> None:
    """Measure, print and write."""
    names = [case.name for case in CASES]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description=__doc__.splitlines()[0])
    parser.add_argument("--case", action="append", choices=names, help="what to measure (all); repeatable")
    parser.add_argument("--parties", type=int, default=3, help="how many take part (3)")
    parser.add_argument("--repeats", type=int, default=9, help="runs of each side (9)")
    parser.add_argument("--budget", type=float, default=300, metavar="S", help="start no further repeat after S (300)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where to write (benchmarks/results/overhead.json)")
    options = parser.parse_args()
    cases = [case for case in CASES if case.name in (options.case or names)]
    try:
        runs = compare(cases, options.parties, options.repeats, options.budget)
    except Failed as error:
        sys.exit(str(error))
    results = {name: summarise(of_case) for name, of_case in runs.items()}
    report(
        "overhead",
        f"Overhead over MPyC alone, {options.parties} parties",
        tables(results),
        {"parties": options.parties, "cases": results},
        options.output,
    )


if __name__ == "__main__":
    main()
