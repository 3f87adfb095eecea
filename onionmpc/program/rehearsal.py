"""A dry run: all parties of a program on this machine, with only a chosen delay between them.

Knows how to compute from two dry runs how many hops, one after the other, a program takes. Does not know links, tor, or
how long a hop takes there.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO, NoReturn

import msgspec

from onionmpc.errors import ProgramError
from onionmpc.machine import READ_BYTES
from onionmpc.program.process.launch import ProgramExit, ProgramProcess, start_program
from onionmpc.program.process.streams import unattended
from onionmpc.program.process.stuck import Standstill, describe_all, likely_cause
from onionmpc.program.spec import ProgramSpec, Wait
from onionmpc.program.walls.asked import OutOfReach
from onionmpc.tasks import BackgroundTasks, Work, cancel, together
from onionmpc.text import duration, printable

# Neither is zero: in both runs the parties sleep at each hop and are woken, and that takes time as well.
DELAYS_S = (0.005, 0.030)
# If one program fails, its peers stop themselves. Only when all have ended is it clear which one failed first.
STOP_S = 2.0
# A program that has waited this long reports it: many times the delays above.
REHEARSAL_WAITING_S = 2.0
SHOWN_LINES = 20
SHOWN_LOG_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Hops:
    """What dry runs find out about a program.

    Attributes:
        count: the number of hops, one after the other.
        seconds: how long the program would take if a hop took no time.
    """

    count: int
    seconds: float

    def estimate_s(self, round_trip_s: float) -> float:
        """Return how long a run takes if this is the round trip of the slowest link."""
        return self.seconds + self.count * round_trip_s / 2


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """The times of one dry run.

    Attributes:
        seconds: from the moment at which all parties were ready to connect, to the end of all connections.
        held_s: how long bytes were held on their way, on average.
    """

    seconds: float
    held_s: float


def ignore_refused(_refused: OutOfReach) -> None:
    """Do nothing."""


async def count_hops(
    spec: ProgramSpec,
    timeout_s: float,
    delays_s: tuple[float, float] = DELAYS_S,
    on_refused: Callable[[OutOfReach], None] = ignore_refused,
) -> Hops:
    """Run a program twice, with different delays; see `rehearse`.

    Args:
        timeout_s: the limit for both runs together.

    Raises:
        ProgramError: a party failed, or the runs took too long.
    """
    try:
        async with asyncio.timeout(timeout_s):
            short, long = [await rehearse(spec, evenly(delay_s), on_refused) for delay_s in delays_s]
    except TimeoutError:
        raise ProgramError(
            f"the dry run did not end within {duration(timeout_s)}",
            hint="allow more time with --timeout, or estimate a smaller case of the same program",
        ) from None
    # Timers fire a little late, and over many hops that adds up. So use the measured delays, not the chosen ones.
    count = max(0, round((long.seconds - short.seconds) / (long.held_s - short.held_s)))
    return Hops(count, max(0.0, short.seconds - count * short.held_s))


def evenly(delay_s: float) -> Callable[[int, int], float]:
    """Return a function that gives any two parties this delay."""
    return lambda _sender, _receiver: delay_s


async def rehearse(
    spec: ProgramSpec,
    delay_s: Callable[[int, int], float],
    on_refused: Callable[[OutOfReach], None] = ignore_refused,
) -> Rehearsed:
    """Run all parties of a program, each with the same arguments and without a user.

    Args:
        spec: what to run; its number and sockets are filled in here.
        delay_s: takes the numbers of the sender and the receiver, returns how long bytes take between them.
        on_refused: called with the files that a party could not open, for each party that has some.

    Raises:
        ProgramError: a party failed.
    """
    start = StartGate(spec.parties)
    spec = msgspec.structs.replace(spec, waiting_s=spec.waiting_s or REHEARSAL_WAITING_S)
    everyone = range(spec.parties)
    delayed = {pair: DelayedStream(delay_s(*pair), start) for pair in itertools.permutations(everyone, 2)}
    async with contextlib.AsyncExitStack() as stack:
        logs = [stack.enter_context(tempfile.TemporaryFile()) for _ in everyone]  # noqa: SIM115 (the stack is one)
        programs = []
        for number, log in enumerate(logs):
            own, peers = msgspec.structs.replace(spec, number=number), [one for one in everyone if one != number]
            program = await stack.enter_async_context(start_program(own, peers, streams=unattended(log)))
            programs.append(program)
            stack.callback(_report_refused, program, on_refused)
        streams = {
            pair: await asyncio.open_unix_connection(sock=programs[pair[0]].sockets[pair[1]]) for pair in delayed
        }
        for _, writer in streams.values():
            stack.callback(writer.transport.abort)
        carrying = [
            one_way.carry(streams[one, other][0], streams[other, one][1]) for (one, other), one_way in delayed.items()
        ]
        await _run(programs, logs, start, carrying)
    held_s = sum(one.held_s / one.chunks for one in delayed.values()) / len(delayed)
    return Rehearsed(max(one.ended_s for one in delayed.values()) - start.given_s, held_s)


async def _run(
    programs: Sequence[ProgramProcess], logs: Sequence[BinaryIO], start: StartGate, carrying: Iterable[Work]
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

    ends = [
        asyncio.create_task(program.wait(on_started=start.one_more, on_wait=functools.partial(note_wait, number)))
        for number, program in enumerate(programs)
    ]
    try:
        async with BackgroundTasks(fail_when_stuck()):
            await together(_all_succeed(ends, logs), *carrying)
    finally:
        await cancel(*ends)


def _report_refused(program: ProgramProcess, on_refused: Callable[[OutOfReach], None]) -> None:
    if (refused := program.out_of_reach()) is not None:
        on_refused(refused)


class StartGate:
    """Holds all parties until the last one is ready. Otherwise the slowest import would count as part of the run.

    Attributes:
        given_s: the time at which all were ready, 0 until then.
    """

    def __init__(self, parties: int) -> None:
        self._missing = parties
        self._given = asyncio.Event()
        self.given_s = 0.0

    def one_more(self) -> None:
        """Note that one more party is ready."""
        self._missing -= 1
        if not self._missing:
            self.given_s = time.monotonic()
            self._given.set()

    async def wait(self) -> float:
        """Wait until all are ready; return the time at which they were."""
        await self._given.wait()
        return self.given_s


class DelayedStream:
    """Carries bytes from one party to another. Each comes out in order, a fixed delay after it went in.

    Nothing comes out before the start.

    Attributes:
        ended_s: the time at which the end came out.
        held_s: how long the chunks were held, in total.
        chunks: the number of chunks; the end counts as one.
    """

    def __init__(self, delay_s: float, start: StartGate) -> None:
        self._delay_s = delay_s
        self._start = start
        # Unbounded: to hold back a sender would add a delay. MPyC keeps what it cannot send without a limit, too.
        self._held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        self.ended_s = self.held_s = 0.0
        self.chunks = 0

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry all bytes, then the end."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._release(writer))
            more = True
            while more:
                chunk = b""
                with contextlib.suppress(ConnectionError):  # the program was killed; its exit status says more
                    chunk = await reader.read(READ_BYTES)
                self._held.put_nowait((time.monotonic(), chunk))
                more = bool(chunk)

    async def _release(self, writer: asyncio.StreamWriter) -> None:
        start_s = await self._start.wait()
        more = True
        while more:
            arrived_s, chunk = await self._held.get()
            since_s = max(start_s, arrived_s)
            await asyncio.sleep(max(0.0, since_s + self._delay_s - time.monotonic()))
            self.ended_s = time.monotonic()
            self.held_s += self.ended_s - since_s
            self.chunks += 1
            more = bool(chunk)
            with contextlib.suppress(OSError):
                if writer.is_closing():  # a program that has ended wants no more
                    continue
                if more:
                    writer.write(chunk)
                    await writer.drain()
                else:
                    writer.write_eof()


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
