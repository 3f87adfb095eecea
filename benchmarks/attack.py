"""`python -m benchmarks.attack`: what strangers at the door cost a session. No tor.

The same session runs quiet and attacked, in turns: three `onionmpc join` commands over local sockets, of which one is
visited by strangers of every kind while the programs run. Strangers are the least urgent process of this machine, so
that what is measured is what the party does about them, not what they do. Knows message 1 of the handshake.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import os
import random
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, Spread, report, say, table
from benchmarks.overhead import Case, Failed, Run, check_same_work, nobody, run_onionmpc
from onionmpc.identity import Identity
from onionmpc.identity.key_file import decode_key_file
from onionmpc.mesh.direct import NAME_CHARACTERS
from onionmpc.mesh.network import Stream
from onionmpc.mesh.secure import EPHEMERAL_BYTES
from onionmpc.wire.handshake import MESSAGE_1_BYTES, NO_PSK, DiallerHandshake, Hello, Purpose

PARTIES = 3
VISITED = 1
STREAMS = 1000
EVERY_S = 0.005
# Together a little more than the strangers need.
ROUNDS = 250
DELAY_MS = 25
# More would find the kernel's queue full, and be refused there.
AT_ONCE = 50
SLOW_S = 0.05
WAIT_S = 0.02
NICE = 19
SIDES = ("quiet", "attacked")

Kind = Callable[[Stream, int, Sequence[bytes]], Awaitable[None]]
Knock = Callable[[int], Awaitable[Stream]]


# -- strangers


async def silent(_stream: Stream, _number: int, _firsts: Sequence[bytes]) -> None:
    """Say nothing."""


async def slow(stream: Stream, number: int, firsts: Sequence[bytes]) -> None:
    """Say a first message as slowly as one is listened to."""
    for byte in firsts[number % len(firsts)][:-1]:
        stream.writer.write(bytes([byte]))
        await stream.writer.drain()
        await asyncio.sleep(SLOW_S)


async def garbage(stream: Stream, number: int, _firsts: Sequence[bytes]) -> None:
    """Say what is no first message, and more than one is long."""
    stream.writer.write(random.Random(number).randbytes(MESSAGE_1_BYTES + number))


async def cut(stream: Stream, number: int, firsts: Sequence[bytes]) -> None:
    """Say a part of a first message, and leave."""
    stream.writer.write(firsts[number % len(firsts)][: number % MESSAGE_1_BYTES])
    await stream.writer.drain()
    await stream.close()


async def replayed(stream: Stream, number: int, firsts: Sequence[bytes]) -> None:
    """Say what a party said before, and wait."""
    stream.writer.write(firsts[number % len(firsts)])


KINDS: tuple[Kind, ...] = (silent, slow, garbage, cut, replayed)


def at(door: Path) -> Knock:
    """Return what opens a stream to a party over a local socket."""

    async def knock(_number: int) -> Stream:
        return Stream(*await asyncio.open_unix_connection(door))

    return knock


async def visit(
    knock: Knock,
    streams: int,
    firsts: Sequence[bytes],
    *,
    every_s: float = 0.0,
    on_all: Callable[[], None] = lambda: None,
) -> None:
    """Open so many streams, of all kinds in turns, and hold each until the party ends it.

    Args:
        knock: opens a stream to a party, given its number.
        firsts: first messages of parties' handshakes.
        every_s: how long to wait between two.
        on_all: called when all have come.
    """
    turn = asyncio.Semaphore(AT_ONCE)
    left = streams

    async def one(kind: Kind, number: int) -> None:
        nonlocal left
        async with turn:
            stream = await knock(number)
        left -= 1
        if not left:
            on_all()
        try:
            with contextlib.suppress(OSError):
                await kind(stream, number, firsts)
                await stream.reader.read()
        finally:
            await stream.close()

    async with asyncio.TaskGroup() as strangers:
        for number in range(streams):
            strangers.create_task(one(KINDS[number % len(KINDS)], number // len(KINDS)))
            await asyncio.sleep(every_s)


# -- sessions


def messages_to(number: int, state: Path) -> list[bytes]:
    """Return first messages to a party of a closed list, as the others would say them."""
    identities = [identity_of(each, state) for each in range(PARTIES)]
    listener = identities.pop(number)
    hellos = [Hello(identity.public_key, Purpose.MESH, bytes(16)) for identity in identities]
    return [
        DiallerHandshake(identity, listener.public_key, NO_PSK, hello, secrets.token_bytes(EPHEMERAL_BYTES)).message()
        for identity, hello in zip(identities, hellos, strict=True)
    ]


def identity_of(number: int, state: Path) -> Identity:
    """Return what `keep_identities` kept."""
    return decode_key_file((state / "identities" / f"party-{number}.key").read_bytes(), None)


@contextlib.contextmanager
def visited(streams: int, state: Path, sockets: Path) -> Iterator[None]:
    """Let strangers come to one of the parties meanwhile.

    Raises:
        Failed: not all came before the parties had ended.
    """
    command = [
        sys.executable,
        "-m",
        "benchmarks.attack",
        "--streams",
        str(streams),
        "--visit",
        str(state),
        str(sockets),
    ]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as strangers:
        try:
            yield
        finally:
            strangers.terminate()
        assert strangers.stdout is not None
        if not (told := strangers.stdout.read()).startswith("all"):
            raise Failed(f"the session ended before {streams} strangers had come: {told}")


async def visit_when_running(streams: int, state: Path, sockets: Path) -> None:
    """Come to the door of a party when its program runs; say so when all have come, and stay."""
    os.nice(NICE)
    listener = identity_of(VISITED, state)
    told = state.parent / f"output-{VISITED}.txt"
    while not (told.exists() and '"agreed"' in told.read_text()):  # noqa: ASYNC110 (another process writes it)
        await asyncio.sleep(WAIT_S)
    door = sockets / f"{listener.onion[:NAME_CHARACTERS]}.sock"
    await visit(
        at(door), streams, messages_to(VISITED, state), every_s=EVERY_S, on_all=lambda: print("all", flush=True)
    )


def compare(rounds: int, streams: int, repeats: int, budget_s: float) -> dict[str, list[Run]]:
    """Run the session quiet and attacked in turns; return what each run took.

    Raises:
        Failed: a run failed, or its strangers did not all come.
    """
    case = Case("chain", "../benchmarks/chain", (str(rounds), "1"), delay_ms=DELAY_MS)
    beside = {"quiet": nobody, "attacked": functools.partial(visited, streams)}
    runs: dict[str, list[Run]] = {side: [] for side in SIDES}
    until_s = time.monotonic() + budget_s
    for repeat in range(repeats):
        if repeat and time.monotonic() > until_s:
            say(f"stopping after {repeat} of {repeats} repeats: --budget is spent")
            break
        for side in sorted(SIDES, reverse=repeat % 2 == 0):
            with tempfile.TemporaryDirectory(prefix="onionmpc-bench-") as name:
                run = run_onionmpc(case, PARTIES, Path(name), beside[side])
            say(f"{repeat + 1}/{repeats} {side}: {run['compute_s'] * 1000:.0f} ms")
            runs[side].append(run)
        check_same_work(case, runs)
    return runs


def summarise(runs: dict[str, list[Run]]) -> dict[str, Any]:
    """Return what the runs say: time, processor time of all parties, and the highest memory of a supervisor."""
    found: dict[str, Any] = {
        key: {side: Spread.of(run[key] for run in runs[side]) for side in SIDES}
        for key in ("compute_s", "cpu_s", "supervisor_peak_mib")
    }
    pairs = [attacked["compute_s"] / quiet["compute_s"] for quiet, attacked in zip(*runs.values(), strict=True)]
    medians = {side: found["compute_s"][side].median for side in SIDES}
    found["compute_ratio"] = {
        "of_medians": medians["attacked"] / medians["quiet"],
        "lowest": min(pairs),
        "highest": max(pairs),
    }
    found["added_mib"] = found["supervisor_peak_mib"]["attacked"].median - found["supervisor_peak_mib"]["quiet"].median
    return found


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attack", description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=STREAMS, help=f"how many strangers come ({STREAMS})")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"of the program ({ROUNDS})")
    parser.add_argument("--repeats", type=int, default=7, help="runs of each side (7)")
    parser.add_argument("--budget", type=float, default=300, metavar="S", help="start no further repeat after S (300)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where to write (benchmarks/results/attack.json)")
    parser.add_argument("--visit", type=Path, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.visit:
        asyncio.run(visit_when_running(options.streams, *options.visit))
        return
    try:
        found = summarise(compare(options.rounds, options.streams, options.repeats, options.budget))
    except Failed as error:
        sys.exit(str(error))
    ratio = found["compute_ratio"]
    rows = [
        [
            side,
            found["compute_s"][side].show(2),
            found["cpu_s"][side].show(2),
            found["supervisor_peak_mib"][side].show(0),
        ]
        for side in SIDES
    ]
    shown = f"{ratio['of_medians']:.2f} ({ratio['lowest']:.2f} to {ratio['highest']:.2f})"
    report(
        "attack",
        f"{options.streams} strangers at one of {PARTIES} parties",
        [
            table(["", "program, s", "processor time of all parties, s", "highest memory of a supervisor, MiB"], rows),
            f"attacked / quiet: {shown}",
        ],
        {"parties": PARTIES, "streams": options.streams, "rounds": options.rounds, **found},
        options.output,
    )


if __name__ == "__main__":
    main()
