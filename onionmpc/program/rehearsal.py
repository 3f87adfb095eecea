"""A dry run: all parties of a program on this machine, and between them nothing but a delay of our choice.

Knows how to tell from two of these how many hops a program takes, one after the other. Does not know links, tor, or how
long a hop takes there.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

import msgspec

from onionmpc.errors import ProgramError
from onionmpc.machine import READ_BYTES
from onionmpc.program.process.launch import ProgramExit, ProgramProcess, start_program
from onionmpc.program.process.streams import unattended
from onionmpc.program.process.stuck import Standstill, describe_all, likely_cause
from onionmpc.program.spec import ProgramSpec, Wait
from onionmpc.program.walls.asked import OutOfReach
from onionmpc.text import duration, printable

# Two delays, and not one and none: in both runs the parties sleep at each hop and are woken, which takes its time too.
DELAYS_S = (0.005, 0.030)
# When one program fails its peers stop themselves; whose fault it was shows when all have.
STOP_S = 2.0
# A program that waits for the others says so after this time: many of the delays here.
REHEARSAL_WAITING_S = 2.0
SHOWN_LINES = 20
SHOWN_LOG_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Hops:
    """What dry runs say of a program.

    Attributes:
        count: how many times in a row a message has to get from one party to another.
        seconds: how long the program takes where that takes no time.
    """

    count: int
    seconds: float

    def estimate_s(self, round_trip_s: float) -> float:
        """Return how long a run takes where that is the round trip of the slowest link."""
        return self.seconds + self.count * round_trip_s / 2


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What one dry run took.

    Attributes:
        seconds: from when all parties were ready to connect to the end of all connections.
        held_s: how long bytes were held on their way, on average.
    """

    seconds: float
    held_s: float


def untold(_beyond: OutOfReach) -> None:
    """Tell nobody."""


async def count_hops(
    spec: ProgramSpec,
    timeout_s: float,
    delays_s: tuple[float, float] = DELAYS_S,
    tell: Callable[[OutOfReach], None] = untold,
) -> Hops:
    """Run a program twice, with different delays; see `rehearse`.

    Args:
        timeout_s: for both together.
    Raises:
        ProgramError: a party did not end well, or not in time.
    """
    try:
        async with asyncio.timeout(timeout_s):
            short, long = [await rehearse(spec, evenly(delay_s), tell) for delay_s in delays_s]
    except TimeoutError:
        raise ProgramError(
            f"the dry run did not end within {duration(timeout_s)}",
            hint="allow more time with --timeout, or estimate a smaller case of the same program",
        ) from None
    # Timers fire a little late, and over many hops that adds up: what counts is what a delay came to.
    count = max(0, round((long.seconds - short.seconds) / (long.held_s - short.held_s)))
    return Hops(count, max(0.0, short.seconds - count * short.held_s))


def evenly(delay_s: float) -> Callable[[int, int], float]:
    """Return the same delay for any two parties."""
    return lambda _sender, _receiver: delay_s


async def rehearse(
    spec: ProgramSpec, delay_s: Callable[[int, int], float], tell: Callable[[OutOfReach], None] = untold
) -> Rehearsed:
    """Run all parties of a program, each with the same arguments and nobody to ask.

    Args:
        spec: what to run; its number and sockets are filled in here.
        delay_s: how long bytes take from one party to another, by their numbers.
        tell: called with what each of them asked for in vain, however it ends.
    Raises:
        ProgramError: one of them did not end well.
    """
    everyone = range(spec.parties)
    start = StartGate(spec.parties)
    spec = msgspec.structs.replace(spec, waiting_s=spec.waiting_s or REHEARSAL_WAITING_S)
    standstill = Standstill(spec.parties)
    stuck = asyncio.Event()

    def waits(number: int, wait: Wait | None) -> None:
        standstill.note(number, wait)
        if standstill.all_wait():
            stuck.set()

    delayed = {
        (one, other): DelayedStream(delay_s(one, other), start)
        for one in everyone
        for other in everyone
        if one != other
    }
    async with contextlib.AsyncExitStack() as stack:
        logs: list[BinaryIO] = [stack.enter_context(tempfile.TemporaryFile()) for _ in everyone]  # noqa: SIM115
        programs = []
        for number, log in enumerate(logs):
            own, peers = msgspec.structs.replace(spec, number=number), [one for one in everyone if one != number]
            program = await stack.enter_async_context(start_program(own, peers, streams=unattended(log)))
            programs.append(program)
            stack.callback(_tell, program, tell)
        streams = {
            pair: await asyncio.open_unix_connection(sock=programs[pair[0]].sockets[pair[1]]) for pair in delayed
        }
        for _, writer in streams.values():
            stack.callback(writer.transport.abort)
        async with asyncio.TaskGroup() as tasks:
            ends = [
                tasks.create_task(program.wait(on_started=start.one_more, on_wait=functools.partial(waits, number)))
                for number, program in enumerate(programs)
            ]
            standing = tasks.create_task(stuck.wait())
            carrying = [
                tasks.create_task(one_way.carry(streams[one, other][0], streams[other, one][1]))
                for (one, other), one_way in delayed.items()
            ]
            failing = tasks.create_task(_failure(ends, logs))
            await asyncio.wait([failing, standing], return_when=asyncio.FIRST_COMPLETED)
            failure = failing.result() if failing.done() else _stuck(standstill)
            standing.cancel()
            if failure is not None:
                for task in (failing, *ends, *carrying):
                    task.cancel()
    if failure is not None:
        raise failure
    held_s = sum(one.held_s / one.chunks for one in delayed.values()) / len(delayed)
    return Rehearsed(max(one.ended_s for one in delayed.values()) - start.given_s, held_s)


def _tell(program: ProgramProcess, tell: Callable[[OutOfReach], None]) -> None:
    if (beyond := program.out_of_reach()) is not None:
        tell(beyond)


class StartGate:
    """The moment at which all parties are ready: one may need longer than others to load what it needs.

    Attributes:
        given_s: when it was, 0 until then.
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
        """Wait for it, and return when it was."""
        await self._given.wait()
        return self.given_s


class DelayedStream:
    """From one party to another: from the start on bytes come out in order, each as long after it went in.

    Attributes:
        ended_s: when the end came out.
        held_s: how long chunks were held, in all.
        chunks: how many there were, the end being one.
    """

    def __init__(self, delay_s: float, start: StartGate) -> None:
        self._delay_s = delay_s
        self._start = start
        # Without a limit: holding back a sender would be a delay of its own, and MPyC keeps what it cannot send, too.
        self._held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        self.ended_s = self.held_s = 0.0
        self.chunks = 0

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry all bytes, and then the end."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._release(writer))
            more = True
            while more:
                chunk = b""
                with contextlib.suppress(ConnectionError):  # killed: its exit status says more
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


def _stuck(standstill: Standstill) -> ProgramError:
    waits = standstill.waits
    return ProgramError(
        f"the programs wait for each other in the dry run: {describe_all(waits)}", hint=likely_cause(waits)
    )


async def _failure(ends: list[asyncio.Task[ProgramExit]], logs: list[BinaryIO]) -> ProgramError | None:
    """Wait for the end of all programs, or for one that fails; return what to say of that."""
    waiting = set(ends)
    while waiting:
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if any(end.result().status for end in done):
            if waiting:
                await asyncio.wait(waiting, timeout=STOP_S)
            return _describe({number: end.result() for number, end in enumerate(ends) if end.done()}, logs)
    return None


def _describe(exits: dict[int, ProgramExit], logs: list[BinaryIO]) -> ProgramError:
    """Say what went wrong, and not at a party that only stopped because another one had ended."""
    failed = {number: end for number, end in exits.items() if end.status}
    at_fault = [number for number, end in failed.items() if end.notice is None or end.notice.kind != "closed"]
    number = min(at_fault or failed)
    message = f"the program of party {number} failed in the dry run: {failed[number].describe()}"
    words = _last_lines(logs[number])
    if words:
        message += "; its last lines:\n" + "\n".join(printable(line, 500) for line in words)
    # What reading an empty stdin leads to, in a script's words and in those of the programs that come along.
    asked = any("EOFError" in line or "use --input" in line for line in words)
    hint = "a dry run asks nobody: pass the program's input after --, such as --input FILE or --demo"
    return ProgramError(message, hint=hint if asked else "")


def _last_lines(log: BinaryIO) -> list[str]:
    log.seek(max(0, log.seek(0, os.SEEK_END) - SHOWN_LOG_BYTES))
    return log.read().decode(errors="replace").splitlines()[-SHOWN_LINES:]
