"""A dry run: all parties of a program on this machine.

Knows how to start and end them, and how to describe a failure. Does not know what carries their bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import socket
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NoReturn, Protocol

import msgspec

from onionmpc.errors import ProgramError
from onionmpc.program.process.launch import Ends, ProgramExit, ProgramProcess, start_program
from onionmpc.program.process.streams import unattended
from onionmpc.program.process.stuck import Standstill, describe_all, likely_cause
from onionmpc.program.spec import ProgramSpec, Trace, Wait
from onionmpc.program.walls.asked import OutOfReach
from onionmpc.tasks import BackgroundTasks, cancel, together
from onionmpc.text import printable

# If one program fails, its peers stop themselves. Only when all have ended is it clear which one failed first.
STOP_S = 2.0
# A program that has waited this long reports it: many times the delay of a rehearsal.
DRY_RUN_WAITING_S = 2.0
SHOWN_LINES = 20
SHOWN_LOG_BYTES = 4096

# The numbers of the sender and the receiver.
Way = tuple[int, int]
# What a program sends to each peer and receives from it, by the peer's number.
PeerStreams = Mapping[int, tuple[asyncio.StreamReader, asyncio.StreamWriter]]


def ignore_refused(_refused: OutOfReach) -> None:
    """Do nothing."""


class DryRunNetwork(Protocol):
    """What carries bytes between the parties."""

    def begin(self, number: int, epoch: int, streams: PeerStreams) -> None:
        """Note that a party begins an epoch, in which its program is at the other ends of these streams.

        Args:
            epoch: the number of the epoch; the first is 1.
        """

    def traced(self, number: int, trace: Trace) -> None:
        """Note what a traced party reports."""

    def ended(self, number: int) -> None:
        """Note that a party's program has ended."""

    async def carry(self) -> None:
        """Carry bytes until `finish`, and then those on their way."""

    def finish(self) -> None:
        """Let `carry` end: all programs have ended, each after the same number of epochs."""


async def run_parties(
    spec: ProgramSpec,
    network: DryRunNetwork,
    on_refused: Callable[[OutOfReach], None] = ignore_refused,
    *,
    stdin: Path | None = None,
) -> None:
    """Run all parties of a program, each with the same arguments and without a user.

    Args:
        spec: what to run; its number is filled in here.
        network: what carries bytes between them.
        on_refused: called with the files that a party could not open, for each party that has some.
        stdin: what each program reads from standard input; None for nothing.

    Raises:
        ProgramError: a party failed.
    """
    spec = msgspec.structs.replace(spec, waiting_s=spec.waiting_s or DRY_RUN_WAITING_S)
    everyone = range(spec.parties)
    async with contextlib.AsyncExitStack() as stack:
        connections = stack.enter_context(Connections())
        logs = [stack.enter_context(tempfile.TemporaryFile()) for _ in everyone]  # noqa: SIM115 (the stack is one)
        programs = []
        for number, log in enumerate(logs):
            own, peers = msgspec.structs.replace(spec, number=number), [one for one in everyone if one != number]
            read = None if stdin is None else stack.enter_context(stdin.open("rb"))
            program = await stack.enter_async_context(start_program(own, peers, streams=unattended(log, read)))
            programs.append(program)
            stack.callback(_report_refused, program, on_refused)
        await _run(programs, logs, network, connections)


class Connections(contextlib.AbstractContextManager["Connections"]):
    """Our ends of all epochs of all programs, closed at the end of the block."""

    def __init__(self) -> None:
        self._ends: list[socket.socket] = []
        self._writers: list[asyncio.StreamWriter] = []

    async def open(self, ends: Ends) -> PeerStreams:
        """Open the streams of one epoch."""
        # Those that are closed are forgotten, or a program of many epochs would fill our memory.
        self._ends = [*(end for end in self._ends if end.fileno() >= 0), *ends.values()]
        self._writers = [writer for writer in self._writers if not writer.is_closing()]
        streams = {}
        for peer, end in ends.items():
            streams[peer] = await asyncio.open_unix_connection(sock=end)
            self._writers.append(streams[peer][1])
        return streams

    def __exit__(self, *_: object) -> None:
        """Close them at once."""
        for writer in self._writers:
            writer.transport.abort()
        for end in self._ends:
            end.close()


async def _run(
    programs: Sequence[ProgramProcess], logs: Sequence[BinaryIO], network: DryRunNetwork, connections: Connections
) -> None:
    """Run all programs to their ends, and what carries their bytes.

    Raises:
        ProgramError: one failed, or all wait for each other.
    """
    standstill = Standstill(len(programs))
    begun = [0] * len(programs)
    stuck = asyncio.Event()

    def note_wait(number: int, wait: Wait | None) -> None:
        standstill.note(number, wait)
        if standstill.all_wait():
            stuck.set()

    async def fail_when_stuck() -> NoReturn:
        await stuck.wait()
        waits = standstill.waits
        raise ProgramError(
            f"the programs wait for each other in the dry run: {describe_all(waits)}", hint=likely_cause(waits)
        )

    async def begin(number: int, ends: Ends) -> None:
        begun[number] += 1
        network.begin(number, begun[number], await connections.open(ends))

    async def end_of(number: int, program: ProgramProcess) -> ProgramExit:
        exited = await program.wait(
            on_epoch=functools.partial(begin, number),
            on_wait=functools.partial(note_wait, number),
            on_trace=functools.partial(network.traced, number),
        )
        network.ended(number)
        return exited

    ends = [asyncio.create_task(end_of(number, program)) for number, program in enumerate(programs)]

    async def succeed() -> None:
        await _all_succeed(ends, logs, begun)
        network.finish()

    try:
        async with BackgroundTasks(fail_when_stuck()):
            await together(succeed(), network.carry())
    finally:
        await cancel(*ends)


def _report_refused(program: ProgramProcess, on_refused: Callable[[OutOfReach], None]) -> None:
    if (refused := program.out_of_reach()) is not None:
        on_refused(refused)


async def _all_succeed(
    ends: Sequence[asyncio.Task[ProgramExit]], logs: Sequence[BinaryIO], begun: Sequence[int]
) -> None:
    """Wait until all programs have ended.

    Args:
        begun: how many epochs each has begun.

    Raises:
        ProgramError: one has failed, or has started MPyC less often than another.
    """
    running = set(ends)
    while running:
        # With a timeout: one that still runs may begin an epoch after another one has ended.
        done, running = await asyncio.wait(running, timeout=STOP_S, return_when=asyncio.FIRST_COMPLETED)
        if any(end.result().status for end in done):
            if running:
                await asyncio.wait(running, timeout=STOP_S)
            raise _failure({number: end.result() for number, end in enumerate(ends) if end.done()}, logs)
        most = max(begun)
        for number, end in enumerate(ends):
            if end.done() and begun[number] < most:
                raise ProgramError(
                    f"the program of party {number} ended after start {begun[number]} of MPyC, and that of party"
                    f" {begun.index(most)} has begun start {most}",
                    hint="all parties must start MPyC equally often",
                )


def _failure(exits: Mapping[int, ProgramExit], logs: Sequence[BinaryIO]) -> ProgramError:
    """Describe the failure of the lowest party that did not just stop because another party had ended."""
    failed = {number: end for number, end in exits.items() if end.status}
    at_fault = [number for number, end in failed.items() if end.notice is None or end.notice.kind != "closed"]
    number = min(at_fault or failed)
    message = f"the program of party {number} failed in the dry run: {failed[number].describe()}"
    words = _last_lines(logs[number])
    if words:
        message += "; its last lines:\n" + "\n".join(printable(line, 500) for line in words)
    # A script that reads the empty stdin fails with EOFError. The shipped programs end with a sentence instead.
    prompted = any("EOFError" in line or "use --input" in line for line in words)
    hint = "a dry run cannot prompt: pass the program's input after --, such as --input FILE or --demo"
    return ProgramError(message, hint=hint if prompted else "")


def _last_lines(log: BinaryIO) -> list[str]:
    log.seek(max(0, log.seek(0, os.SEEK_END) - SHOWN_LOG_BYTES))
    return log.read().decode(errors="replace").splitlines()[-SHOWN_LINES:]
