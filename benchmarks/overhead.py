"""`python -m benchmarks.overhead`: what our processes cost, against MPyC by itself. No tor.

Both sides run the same script with the same randomness, each party in its own processes on this machine: plain MPyC
over loopback TCP, and the `onionmpc join` command with local sockets in tor's place. They take turns, so that whatever
else the machine does hits both alike.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.benchmark import Aim, Benchmark, Turn, main, no_setup
from benchmarks.common import MB, ROOT, Failed
from benchmarks.processes import Process, children_cpu_s, running
from benchmarks.sessions import TIMED, direct, free_ports, keep_identities, listed, plain, scratch, timed, times_of
from onionmpc.files import private_directory, socket_directory

PARTIES = 3
RUN_LIMIT_S = 60.0
SIDES = ("MPyC alone", "onionmpc")

Run = dict[str, float]
# What goes on beside a session, given its parties, their state directory and the directory of their sockets.
Beside = Callable[[Sequence[Process], Path, Path], contextlib.AbstractAsyncContextManager[None]]


@dataclass(frozen=True, slots=True)
class Case:
    """A program to measure, with arguments that make it the same work each time.

    Attributes:
        delay_ms: on the way of everything from one MPyC to another, the same on both sides.
    """

    script: Path
    arguments: tuple[str, ...] = ()
    delay_ms: int = 0


EXAMPLES = ROOT / "examples"
CASES = {
    "secret_santa": Case(EXAMPLES / "secret_santa.py"),
    # A tenth of what tor takes.
    "secret_santa, 25 ms apart": Case(EXAMPLES / "secret_santa.py", delay_ms=25),
    "sort": Case(EXAMPLES / "sort.py", ("--count", "24")),
    "regression": Case(EXAMPLES / "regression.py", ("--rows", "3000", "--columns", "8")),
}


def alone(_parties: Sequence[Process], _state: Path, _sockets: Path) -> contextlib.AbstractAsyncContextManager[None]:
    """Let nothing go on beside a session."""
    return contextlib.nullcontext()


async def run_case(case: Case, side: str, beside: Beside = alone) -> Run:
    """Run a party each on one side, all at the same time.

    Returns:
        What `times_of` returns, and
        cpu_s: processor time of all processes, from their start to their end.
        peak_mb: the memory of the largest of them.

    Raises:
        Failed: a party did not end well within RUN_LIMIT_S.
    """
    with scratch() as folder, socket_directory() as sockets:
        state = private_directory(folder / "state")
        arguments = timed(folder, case.script, case.arguments, delay_ms=case.delay_ms)
        if side == "onionmpc":
            # MPyC's own default, named so that the keys which fix the randomness are there with 15 parties too.
            program: list[str | Path] = [TIMED, "--mpyc=-L32"]
            words = listed(keep_identities(state, PARTIES), program, [[]], arguments)
            commands = [[*direct(sockets), *of_party] for of_party in words]
        else:
            ports = free_ports(PARTIES)
            commands = [plain(ports, number, arguments) for number in range(PARTIES)]
        async with running(RUN_LIMIT_S, ONIONMPC_STATE=state) as processes:
            cpu_before_s = children_cpu_s()
            parties = [await processes.start(*command) for command in commands]
            async with beside(parties, state, sockets):
                await processes.ended(parties)
                cpu_s = children_cpu_s() - cpu_before_s
        peak_mb = max(party.peak_bytes for party in parties) / MB
        return {**times_of(folder, PARTIES), "cpu_s": cpu_s, "peak_mb": peak_mb}


def check_same_work(runs: Iterable[Run]) -> None:
    """Check that every run sent as many messages.

    Raises:
        Failed: they did not.
    """
    counts = {run["messages"] for run in runs}
    if len(counts) != 1:
        raise Failed(f"runs took different numbers of messages: {sorted(counts)}")


def row(case: str, side: str) -> str:
    """Return what to call a case on one side."""
    return f"{case}: {side}"


async def take(turn: Turn) -> None:
    """Run both sides of a case."""
    runs = {side: await run_case(CASES[turn.name], side) for side in turn.alternating(SIDES)}
    check_same_work(runs.values())
    for side, run in runs.items():
        turn.note(row(turn.name, side), compute_s=run["compute_s"], cpu_s=run["cpu_s"])


RATIOS = {case: (row(case, "onionmpc"), row(case, "MPyC alone")) for case in CASES}
BENCHMARK = Benchmark(
    name="overhead",
    question="What do our processes cost, against MPyC alone? (no Tor)",
    turns=list(CASES),
    opened=no_setup(take),
    figures={"compute_s": ("program, s", 3), "cpu_s": ("processor time of all parties, s", 2)},
    ratios=list(RATIOS.values()),
    aims=[
        Aim(
            "local sockets, secret santa: ours / plain MPyC",
            " / ".join(RATIOS["secret_santa"]),
            "compute_s",
            1.15,
        ),
        Aim("the same, 25 ms apart", " / ".join(RATIOS["secret_santa, 25 ms apart"]), "compute_s"),
    ],
    repeats=9,
)

if __name__ == "__main__":
    main(BENCHMARK)
