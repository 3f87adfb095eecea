"""A dry run in rounds: every message takes equally long, and computation takes no time.

Knows when a round is over: all parties rest, and all that they have sent has arrived here. Then it delivers everything
at once. So the speed of this machine does not matter, and the longest chain has one hop for each round.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import itertools
from collections.abc import Callable, Mapping, Sequence

import msgspec

from onionmpc.errors import ProgramError
from onionmpc.machine import READ_BYTES
from onionmpc.program.chain import Hop, longest_chain
from onionmpc.program.dry_run import Way, ignore_refused, run_parties
from onionmpc.program.spec import ProgramSpec, Rest, Sent, Trace
from onionmpc.program.walls.asked import OutOfReach

# MPyC takes uvloop where that is installed, whose callbacks cannot be followed.
TRACED_OPTIONS = ("--no-uvloop",)


async def trace(spec: ProgramSpec, on_refused: Callable[[OutOfReach], None] = ignore_refused) -> Sequence[Hop]:
    """Run a program in rounds; return the longest chain of its messages, the first one first.

    Args:
        spec: what to run; its number and sockets are filled in here.
        on_refused: called with the files that a party could not open, for each party that has some.

    Raises:
        ProgramError: a party failed.
    """
    rounds = Rounds(spec.parties)
    traced = msgspec.structs.replace(spec, trace=True, mpyc_options=(*spec.mpyc_options, *TRACED_OPTIONS))
    await run_parties(traced, rounds, on_refused)
    return longest_chain(rounds.messages)


class Rounds:
    """Carries bytes between all parties, round by round.

    Attributes:
        messages: what each party has sent so far, in order.
        count: the number of rounds that brought any bytes.
    """

    def __init__(self, parties: int) -> None:
        ways = list(itertools.permutations(range(parties), 2))
        self.messages: dict[Way, list[Sent]] = {way: [] for way in ways}
        self.count = 0
        self._parties = parties
        self._rests: dict[int, Rest] = {}
        self._ended: set[int] = set()
        self._held = {way: bytearray() for way in ways}
        # In bytes. The end of a connection counts as one more, as in the parties' reports.
        self._collected: collections.Counter[Way] = collections.Counter()
        self._delivered: collections.Counter[Way] = collections.Counter()
        self._open = set(ways)  # whose end has not arrived here
        self._over = set[Way]()  # whose end has been delivered
        self._changed = asyncio.Event()

    def started(self) -> None:
        """Do nothing: a party reports when it rests."""

    def traced(self, number: int, trace: Trace) -> None:
        """Note what a party has sent, and whether it rests.

        Raises:
            ProgramError: the report does not fit the number of parties.
        """
        counts = [len(each) for each in (trace.rest.sent, trace.rest.received)] if trace.rest else []
        others = {message.to for message in trace.messages}
        if any(count != self._parties for count in counts) or not all((number, to) in self.messages for to in others):
            raise ProgramError(f"the program of party {number} reports messages to parties that do not exist")
        for message in trace.messages:
            self.messages[number, message.to].append(message)
        if trace.rest is not None:
            self._rests[number] = trace.rest
            self._changed.set()

    def ended(self, number: int) -> None:
        """Note that a party's program has ended."""
        self._ended.add(number)
        self._changed.set()

    async def carry(
        self, readers: Mapping[Way, asyncio.StreamReader], writers: Mapping[Way, asyncio.StreamWriter]
    ) -> None:
        """Carry bytes until all connections have ended."""
        async with asyncio.TaskGroup() as tasks:
            for way, reader in readers.items():
                tasks.create_task(self._collect(way, reader))
            while len(self._over) < len(self._held):
                await self._changed.wait()
                self._changed.clear()
                if self._is_over():
                    self._deliver(writers)

    async def _collect(self, way: Way, reader: asyncio.StreamReader) -> None:
        more = True
        while more:
            chunk = b""
            with contextlib.suppress(ConnectionError):  # the program was killed; its exit status says more
                chunk = await reader.read(READ_BYTES)
            more = bool(chunk)
            self._held[way] += chunk
            self._collected[way] += len(chunk) or 1
            if not more:
                self._open.discard(way)
            self._changed.set()

    def _is_over(self) -> bool:
        """Tell whether all parties rest, and nothing is on its way."""
        if len(self._rests.keys() | self._ended) < self._parties:
            return False
        return all(self._is_quiet(*way) for way in self._held)

    def _is_quiet(self, one: int, other: int) -> bool:
        way = (one, other)
        all_here = way not in self._open or (
            one not in self._ended and self._rests[one].sent[other] in (None, self._collected[way])
        )
        return all_here and (other in self._ended or self._rests[other].received[one] in (None, self._delivered[way]))

    def _deliver(self, writers: Mapping[Way, asyncio.StreamWriter]) -> None:
        due = [way for way in self._held if self._collected[way] > self._delivered[way]]
        self.count += bool(due)
        for way in due:
            self._delivered[way] = self._collected[way]
            ends = way not in self._open
            if ends:
                self._over.add(way)
            with contextlib.suppress(OSError):
                if not writers[way].is_closing():  # a program that has ended wants no more
                    writers[way].write(bytes(self._held[way]))
                    if ends:
                        writers[way].write_eof()
            self._held[way].clear()
