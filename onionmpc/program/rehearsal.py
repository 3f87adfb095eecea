"""What dry runs find out about a program: its hops, and how long it takes besides.

Knows how to delay bytes. Does not know links, tor, or how long a hop takes there.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from onionmpc.errors import ProgramError
from onionmpc.machine import READ_BYTES
from onionmpc.program.chain import Hop
from onionmpc.program.dry_run import PeerStreams, ignore_refused, run_parties
from onionmpc.program.rounds import trace
from onionmpc.program.spec import ProgramSpec, Trace
from onionmpc.program.walls.asked import OutOfReach
from onionmpc.text import duration

# Not zero: in a session, too, the parties sleep at each hop and are woken, and that takes time.
DELAY_S = 0.005


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


@dataclass(frozen=True, slots=True)
class Profile:
    """What dry runs find out about a program, line by line.

    Attributes:
        chain: the longest chain of its messages, the first one first.
    """

    hops: Hops
    chain: Sequence[Hop]


async def profile(
    spec: ProgramSpec,
    timeout_s: float,
    on_refused: Callable[[OutOfReach], None] = ignore_refused,
    *,
    stdin: Path | None = None,
) -> Profile:
    """Run a program twice: in rounds, to find its hops, and with a short delay, to find how long it takes besides.

    Args:
        timeout_s: the limit for both runs together.
        on_refused, stdin: as for `run_parties`.

    Raises:
        ProgramError: a party failed, or the runs took too long.
    """
    try:
        async with asyncio.timeout(timeout_s):
            chain = await trace(spec, on_refused, stdin=stdin)
            ran = await rehearse(spec, evenly(DELAY_S), on_refused, stdin=stdin)
    except TimeoutError:
        raise ProgramError(
            f"the dry run did not end within {duration(timeout_s)}",
            hint="allow more time with --timeout, or estimate a smaller case of the same program",
        ) from None
    # Timers fire a little late, and over many hops that adds up. So use the measured delay, not the chosen one.
    return Profile(Hops(len(chain), max(0.0, ran.seconds - len(chain) * ran.held_s)), chain)


def evenly(delay_s: float) -> Callable[[int, int], float]:
    """Return a function that gives any two parties this delay."""
    return lambda _sender, _receiver: delay_s


async def rehearse(
    spec: ProgramSpec,
    delay_s: Callable[[int, int], float],
    on_refused: Callable[[OutOfReach], None] = ignore_refused,
    *,
    stdin: Path | None = None,
) -> Rehearsed:
    """Run all parties of a program with delays between them.

    Args:
        spec: what to run; its number is filled in here.
        delay_s: takes the numbers of the sender and the receiver, returns how long bytes take between them.
        on_refused, stdin: as for `run_parties`.

    Raises:
        ProgramError: a party failed.
    """
    delays = Delays(spec.parties, delay_s)
    await run_parties(spec, delays, on_refused, stdin=stdin)
    return delays.rehearsed()


class _Wire(NamedTuple):
    epoch: int
    sender: int
    receiver: int


class Delays:
    """Carries bytes between all parties, with a delay each way; a stream for each epoch and way.

    Args:
        delay_s: as for `rehearse`.
    """

    def __init__(self, parties: int, delay_s: Callable[[int, int], float]) -> None:
        self._delay_s = delay_s
        self._start = StartGate(parties)
        self._streams: dict[_Wire, DelayedStream] = {}
        self._ready: asyncio.Queue[tuple[_Wire, asyncio.StreamReader, asyncio.StreamWriter] | None] = asyncio.Queue()

    def begin(self, number: int, epoch: int, streams: PeerStreams) -> None:
        """Begin an epoch of one party."""
        for peer, (reader, writer) in streams.items():
            self._stream(_Wire(epoch, peer, number)).writer.set_result(writer)
            self._ready.put_nowait((_Wire(epoch, number, peer), reader, writer))
        if epoch == 1:
            self._start.one_more()

    def traced(self, number: int, trace: Trace) -> None:
        """Do nothing: only times count here."""

    def ended(self, number: int) -> None:
        """Do nothing: its connections end too."""

    async def carry(self) -> None:
        """Carry the bytes of all epochs until `finish`, and then those on their way."""
        async with asyncio.TaskGroup() as tasks:
            while (ready := await self._ready.get()) is not None:
                tasks.create_task(self._carry(*ready))

    def finish(self) -> None:
        """Let `carry` end: all programs have ended, each after the same number of epochs."""
        self._ready.put_nowait(None)

    def rehearsed(self) -> Rehearsed:
        """Return the times of the run, after it."""
        streams = self._streams.values()
        held_s = sum(one.held_s / one.chunks for one in streams) / len(streams)
        return Rehearsed(max(one.ended_s for one in streams) - self._start.given_s, held_s)

    async def _carry(self, wire: _Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._stream(wire).carry(reader)
        writer.close()  # the program has closed its end; one of many epochs would use up our descriptors

    def _stream(self, wire: _Wire) -> DelayedStream:
        if wire not in self._streams:
            self._streams[wire] = DelayedStream(self._delay_s(wire.sender, wire.receiver), self._start)
        return self._streams[wire]


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
        writer: where bytes come out; its receiver provides it when it begins this epoch.
        ended_s: the time at which the end came out.
        held_s: how long the chunks were held, in total.
        chunks: the number of chunks; the end counts as one.
    """

    def __init__(self, delay_s: float, start: StartGate) -> None:
        self._delay_s = delay_s
        self._start = start
        # Unbounded: to hold back a sender would add a delay. MPyC keeps what it cannot send without a limit, too.
        self._held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        self.writer: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()
        self.ended_s = self.held_s = 0.0
        self.chunks = 0

    async def carry(self, reader: asyncio.StreamReader) -> None:
        """Carry all bytes, then the end."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._release())
            more = True
            while more:
                chunk = b""
                with contextlib.suppress(ConnectionError):  # the program was killed; its exit status says more
                    chunk = await reader.read(READ_BYTES)
                self._held.put_nowait((time.monotonic(), chunk))
                more = bool(chunk)

    async def _release(self) -> None:
        start_s = await self._start.wait()
        writer = await self.writer
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
