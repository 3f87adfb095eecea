"""A dry run: all parties of a program on this machine.

Knows how to start and end them, and how to describe a failure. Does not know what carries their bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import BinaryIO, NoReturn, Protocol

import msgspec

from onionmpc.errors import ProgramError
from onionmpc.program.process.launch import ProgramExit, ProgramProcess, start_program
from onionmpc.program.process.streams import unattended
from onionmpc.program.process.stuck import Standstill, describe_all, likely_cause
from onionmpc.program.spec import ProgramSpec, Trace, Wait
from onionmpc.program.walls.asked import OutOfReach
from onionmpc.tasks import BackgroundTasks, Work, cancel, together
from onionmpc.text import printable

# If one program fails, its peers stop themselves. Only when all have ended is it clear which one failed first.
STOP_S = 2.0
# A program that has waited this long reports it: many times the delay of a rehearsal.
DRY_RUN_WAITING_S = 2.0
SHOWN_LINES = 20
SHOWN_LOG_BYTES = 4096

# The numbers of the sender and the receiver.
Way = tuple[int, int]


def ignore_refused(_refused: OutOfReach) -> None:
    """Do nothing."""


class DryRunNetwork(Protocol):
    """What carries bytes between the parties."""

    def started(self) -> None:
        """Note that one more party is ready to connect."""

    def traced(self, number: int, trace: Trace) -> None:
        """Note what a traced party reports."""

    def ended(self, number: int) -> None:
        """Note that a party's program has ended."""

    async def carry(
        self, readers: Mapping[Way, asyncio.StreamReader], writers: Mapping[Way, asyncio.StreamWriter]
    ) -> None:
        """Carry bytes until all connections have ended."""


async def run_parties(
    spec: ProgramSpec, network: DryRunNetwork, on_refused: Callable[[OutOfReach], None] = ignore_refused
) -> None:
    """Run all parties of a program, each with the same arguments and without a user.

    Args:
        spec: what to run; its number and sockets are filled in here.
        network: what carries bytes between them.
        on_refused: called with the files that a party could not open, for each party that has some.

    Raises:
        ProgramError: a party failed.
    """
    spec = msgspec.structs.replace(spec, waiting_s=spec.waiting_s or DRY_RUN_WAITING_S)
    everyone = range(spec.parties)
    async with contextlib.AsyncExitStack() as stack:
        logs = [stack.enter_context(tempfile.TemporaryFile()) for _ in everyone]  # noqa: SIM115 (the stack is one)
        programs = []
        for number, log in enumerate(logs):
            own, peers = msgspec.structs.replace(spec, number=number), [one for one in everyone if one != number]
            program = await stack.enter_async_context(start_program(own, peers, streams=unattended(log)))
            programs.append(program)
            stack.callback(_report_refused, program, on_refused)
        streams = {
            (one, other): await asyncio.open_unix_connection(sock=programs[one].sockets[other])
            for one, other in itertools.permutations(everyone, 2)
        }
        for _, writer in streams.values():
            stack.callback(writer.transport.abort)
        readers = {way: reader for way, (reader, _) in streams.items()}
        writers = {(one, other): writer for (other, one), (_, writer) in streams.items()}
        await _run(programs, logs, network, network.carry(readers, writers))


async def _run(
    programs: Sequence[ProgramProcess], logs: Sequence[BinaryIO], network: DryRunNetwork, carrying: Work
) -> None:
    """Run all programs to their ends, and what carries their bytes.

    Raises:
        ProgramError: one failed, or all wait for each other.
    """
    standstill = Standstill(len(programs))
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

    async def end_of(number: int, program: ProgramProcess) -> ProgramExit:
        exited = await program.wait(
            on_started=network.started,
            on_wait=functools.partial(note_wait, number),
            on_trace=functools.partial(network.traced, number),
        )
        network.ended(number)
        return exited

    ends = [asyncio.create_task(end_of(number, program)) for number, program in enumerate(programs)]
    try:
        async with BackgroundTasks(fail_when_stuck()):
            await together(_all_succeed(ends, logs), carrying)
    finally:
        await cancel(*ends)


def _report_refused(program: ProgramProcess, on_refused: Callable[[OutOfReach], None]) -> None:
    if (refused := program.out_of_reach()) is not None:
        on_refused(refused)


async def _all_succeed(ends: Sequence[asyncio.Task[ProgramExit]], logs: Sequence[BinaryIO]) -> None:
    """Wait until all programs have ended.

    Raises:
        ProgramError: one has failed.
    """
    running = set(ends)
    while running:
        done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        if any(end.result().status for end in done):
            if running:
                await asyncio.wait(running, timeout=STOP_S)
            raise _failure({number: end.result() for number, end in enumerate(ends) if end.done()}, logs)


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
