"""`python -m benchmarks.overhead`: what our processes cost, against MPyC by itself. No tor, no delay.

Both sides run the same script with the same randomness, each party in its own processes on this machine: plain MPyC
over loopback TCP, and the `onionmpc join` command with local sockets in tor's place. They take turns, so that whatever
else the machine does hits both alike.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import (
    MIB,
    ROOT,
    Failed,
    Spread,
    in_turns,
    options_of,
    ratio_of,
    report,
    run,
    say,
    show_ratio,
    table,
)
from benchmarks.sessions import (
    TIMED,
    Process,
    children_cpu_s,
    direct,
    keep_identities,
    listed,
    plain,
    running,
    scratch,
    timed,
    times_of,
)
from onionmpc.files import private_directory, socket_directory

RUN_LIMIT_S = 60.0
SPANS = ("connect_s", "compute_s", "command_s", "cpu_s")

Run = dict[str, float]
# What goes on beside a session, given its parties, their state directory and the directory of their sockets.
Beside = Callable[[Sequence[Process], Path, Path], contextlib.AbstractAsyncContextManager[None]]


@dataclass(frozen=True, slots=True)
class Case:
    """A program to measure, with arguments that make it the same work each time.

    Attributes:
        delay_ms: on the way of everything from one MPyC to another, the same on both sides.
    """

    name: str
    script: Path
    arguments: tuple[str, ...] = ()
    delay_ms: int = 0

    def timed(self, folder: Path) -> list[str]:
        """Return the arguments of timed.py."""
        return timed(folder, self.script, self.arguments, delay_ms=self.delay_ms)


def example(name: str) -> Path:
    """Return a script of examples/."""
    return ROOT / "examples" / f"{name}.py"


CASES = (
    Case("secret_santa", example("secret_santa")),
    # A tenth of what tor takes.
    Case("secret_santa_delayed", example("secret_santa"), delay_ms=25),
    Case("sort", example("sort"), ("--count", "24")),
    Case("regression", example("regression"), ("--rows", "3000", "--columns", "8")),
)


async def run_plain(case: Case, parties: int, folder: Path) -> Run:
    """Run all parties with MPyC's own connections."""
    ports = free_ports(parties)
    commands = [plain(ports, number, case.timed(folder)) for number in range(parties)]
    return await measure(commands, folder)


async def run_onionmpc(case: Case, parties: int, folder: Path, beside: Beside | None = None) -> Run:
    """Run all parties as `onionmpc join` with a full list, over local sockets."""
    state = private_directory(folder / "state")
    onions = keep_identities(state, parties)
    # MPyC's own default, named so that the keys which fix the randomness are there with 15 parties too.
    program: list[str | Path] = [TIMED, "--mpyc=-L32"]
    with socket_directory() as sockets:
        commands = [[*direct(sockets), *words] for words in listed(onions, program, [[]], case.timed(folder))]
        return await measure(commands, folder, (lambda all_: beside(all_, state, sockets)) if beside else None, state)


async def measure(
    commands: Sequence[Sequence[str | Path]],
    folder: Path,
    beside: Callable[[Sequence[Process]], contextlib.AbstractAsyncContextManager[None]] | None = None,
    state: Path = Path(),
) -> Run:
    """Run one command per party at the same time; return what all of them took together.

    Returns:
        What `times_of` returns, and
        command_s: from starting the first process to the end of the last.
        cpu_s: processor time of all processes, from their start to their end.
        peak_mib: the memory of the largest of them.

    Raises:
        Failed: a party did not end well within RUN_LIMIT_S.
    """
    async with running(RUN_LIMIT_S, ONIONMPC_STATE=state) as processes:
        cpu_before_s, before_s = children_cpu_s(), time.monotonic()
        parties = [await processes.start(*command) for command in commands]
        async with beside(parties) if beside else contextlib.nullcontext():
            await processes.ended(parties)
            command_s, cpu_s = time.monotonic() - before_s, children_cpu_s() - cpu_before_s
    peak_mib = max(party.peak_bytes for party in parties) / MIB
    return {**times_of(folder, len(commands)), "command_s": command_s, "cpu_s": cpu_s, "peak_mib": peak_mib}


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 that are free at this moment."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [bound.getsockname()[1] for bound in sockets]


SIDES = {"plain": run_plain, "onionmpc": run_onionmpc}


async def compare(
    cases: Sequence[Case], parties: int, repeats: int, budget_s: float
) -> dict[str, dict[str, list[Run]]]:
    """Run both sides of all cases in turns; return what each run took, by case and side.

    Raises:
        Failed: a run failed, or the two sides of a case sent different numbers of messages.
    """
    runs: dict[str, dict[str, list[Run]]] = {case.name: {side: [] for side in SIDES} for case in cases}
    for repeat, case in in_turns(cases, repeats, budget_s):
        # The second of a pair may find a warmer machine: each side is second every other time.
        for side in sorted(SIDES, reverse=repeat % 2 == 0):
            with scratch() as folder:
                took = await SIDES[side](case, parties, folder)
            say(f"{case.name} {repeat + 1}/{repeats} {side}: {took['compute_s'] * 1000:.0f} ms")
            runs[case.name][side].append(took)
        check_same_work(case.name, runs[case.name].values())
    return runs


def check_same_work(name: str, sides: Any) -> None:  # noqa: ANN401
    """Check that every run sent as many messages.

    Raises:
        Failed: they did not.
    """
    counts = {took["messages"] for took in itertools.chain(*sides)}
    if len(counts) != 1:
        raise Failed(f"{name} took different numbers of messages: {sorted(counts)}")


def summarise(runs: Mapping[str, list[Run]]) -> dict[str, Any]:
    """Return what the runs of one case say."""
    values = {key: {side: [took[key] for took in runs[side]] for side in SIDES} for key in SPANS}
    added_s = [ours - plain for ours, plain in zip(values["cpu_s"]["onionmpc"], values["cpu_s"]["plain"], strict=True)]
    return {
        "messages": runs["plain"][0]["messages"],
        "payload_bytes": runs["plain"][0]["payload_bytes"],
        **{key: {side: Spread.of(of_side) for side, of_side in by_side.items()} for key, by_side in values.items()},
        **{
            f"{key.removesuffix('_s')}_ratio": ratio_of(by_side["onionmpc"], by_side["plain"])
            for key, by_side in values.items()
        },
        "added_cpu_s": Spread.of(added_s),
        "supervisor_peak_mib": Spread.of(took["peak_mib"] for took in runs["onionmpc"]),
    }


def tables(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Show the results to a person."""
    shown = [
        [
            name,
            f"{result['messages']:.0f}",
            *(result["compute_s"][side].show(3) for side in SIDES),
            show_ratio(result["compute_ratio"]),
            show_ratio(result["command_ratio"]),
            *(result["cpu_s"][side].show(2) for side in SIDES),
            result["added_cpu_s"].show(2),
            result["supervisor_peak_mib"].show(0),
        ]
        for name, result in results.items()
    ]
    header = [
        *("program", "messages", "MPyC alone, s", "onionmpc, s", "ratio", "ratio of the whole commands"),
        *("processor time, MPyC alone, s", "onionmpc, s", "added, s", "highest memory of a supervisor, MiB"),
    ]
    return [table(header, shown)]


def main() -> None:
    """Measure, print and write."""
    names = [case.name for case in CASES]
    parser = options_of("overhead", __doc__, repeats=9, budget_s=300)
    parser.add_argument("--case", action="append", choices=names, help="what to measure (all); repeatable")
    parser.add_argument("--parties", type=int, default=3, help="how many take part (3)")
    options = parser.parse_args()
    cases = [case for case in CASES if case.name in (options.case or names)]
    runs = run(compare(cases, options.parties, options.repeats, options.budget))
    results = {name: summarise(of_case) for name, of_case in runs.items()}
    title = f"Overhead over MPyC alone, {options.parties} parties"
    report("overhead", title, tables(results), {"parties": options.parties, "cases": results}, options.output)


if __name__ == "__main__":
    main()
