"""A dry run in rounds: every message takes equally long, and computation takes no time.

Knows when a round is over: all parties rest, and all that they have sent has arrived here. Then it delivers everything
at once. So the speed of this machine does not matter, and the longest chain has one hop for each round.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from onionmpc.errors import ProgramError
from onionmpc.machine import READ_BYTES
from onionmpc.program.chain import Hop, longest_chain
from onionmpc.program.dry_run import PeerStreams, Way, ignore_refused, run_parties
from onionmpc.program.spec import ProgramSpec, Rest, Sent, Trace
from onionmpc.program.walls.asked import OutOfReach

# MPyC takes uvloop where that is installed, whose callbacks cannot be followed.
TRACED_OPTIONS = ("--no-uvloop",)


async def trace(
    spec: ProgramSpec, on_refused: Callable[[OutOfReach], None] = ignore_refused, *, stdin: Path | None = None
) -> Sequence[Hop]:
    """Run a program in rounds; return the longest chain of its messages, the first one first.

    Args:
        spec: what to run; its number is filled in here.
        on_refused, stdin: as for `run_parties`.

    Raises:
        ProgramError: a party failed.
    """
    rounds = Rounds(spec.parties)
    traced = msgspec.structs.replace(spec, trace=True, mpyc_options=(*spec.mpyc_options, *TRACED_OPTIONS))
    await run_parties(traced, rounds, on_refused, stdin=stdin)
    return longest_chain(rounds.messages)


_Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


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
        self._begun = dict.fromkeys(range(parties), 0)
        self._ended: set[int] = set()
        self._begin: dict[Way, asyncio.Queue[_Stream | None]] = {way: asyncio.Queue() for way in ways}
        self._mailboxes = {way: Mailbox() for way in ways}
        self._finished = False
        self._changed = asyncio.Event()

    def begin(self, number: int, epoch: int, streams: PeerStreams) -> None:
        """Begin an epoch of one party. It gets at once what was delivered to it before."""
        self._begun[number] = epoch
        for peer, (reader, writer) in streams.items():
            self._begin[number, peer].put_nowait((reader, writer))
            self._mailboxes[peer, number].connect(writer)

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

    async def carry(self) -> None:
        """Deliver what each round brings until `finish`, and then what is held."""
        async with asyncio.TaskGroup() as tasks:
            for way, streams in self._begin.items():
                tasks.create_task(self._collect(way, streams))
            while not self._finished or any(mailbox.held for mailbox in self._mailboxes.values()):
                await self._changed.wait()
                self._changed.clear()
                if self._is_over():
                    self._deliver()

    def finish(self) -> None:
        """Let `carry` end: all programs have ended, each after the same number of epochs."""
        self._finished = True
        for streams in self._begin.values():
            streams.put_nowait(None)
        self._changed.set()

    async def _collect(self, way: Way, streams: asyncio.Queue[_Stream | None]) -> None:
        while (stream := await streams.get()) is not None:
            reader, writer = stream
            more = True
            while more:
                chunk = b""
                with contextlib.suppress(ConnectionError):  # killed: its exit status says more
                    chunk = await reader.read(READ_BYTES)
                more = bool(chunk)
                self._mailboxes[way].collect(chunk)
                self._changed.set()
            writer.close()  # the program has closed its end; one of many epochs would use up our descriptors

    def _is_over(self) -> bool:
        """Tell whether all parties rest, and nothing is on its way."""
        if len(self._rests.keys() | self._ended) < self._parties:
            return False
        return all(self._is_quiet(*way) for way in self._mailboxes)

    def _is_quiet(self, one: int, other: int) -> bool:
        mailbox = self._mailboxes[one, other]
        if one in self._ended:
            all_here = mailbox.ends == self._begun[one]
        else:
            all_here = self._rests[one].sent[other] in (None, mailbox.collected)
        if other in self._ended:
            return all_here
        rest = self._rests[other]
        epoch = self._begun[other]
        return all_here and rest.epoch == epoch and rest.received[one] in (None, mailbox.passed_on[epoch])

    def _deliver(self) -> None:
        due = [mailbox for mailbox in self._mailboxes.values() if mailbox.held]
        self.count += bool(due)
        for mailbox in due:
            mailbox.deliver()


class Mailbox:
    """What goes from one party to another: held until the round is over, then delivered.

    Attributes:
        collected: how many bytes; the end of an epoch counts as one.
        ends: how many epochs have ended, of what was collected.
        held: what was collected in this round; an empty one is the end of an epoch.
        passed_on: how many bytes the receiver was given in each epoch, its end included. The first epoch is 1.
    """

    def __init__(self) -> None:
        self.collected = self.ends = 0
        self.held: list[bytes] = []
        self.passed_on: collections.Counter[int] = collections.Counter()
        self._epoch = 1
        self._delivered: collections.deque[bytes] = collections.deque()  # and the receiver has not begun that epoch
        self._writers: collections.deque[asyncio.StreamWriter] = collections.deque()

    def connect(self, writer: asyncio.StreamWriter) -> None:
        """Deliver to the receiver's next epoch."""
        self._writers.append(writer)
        self._pass_on()

    def collect(self, chunk: bytes) -> None:
        """Hold a chunk, or the end of an epoch if it is empty."""
        self.held.append(chunk)
        self.collected += len(chunk) or 1
        self.ends += not chunk

    def deliver(self) -> None:
        """Deliver all that is held."""
        self._delivered += self.held
        self.held.clear()
        self._pass_on()

    def _pass_on(self) -> None:
        while self._delivered and self._writers:
            chunks = list(itertools.takewhile(bool, self._delivered))
            ends = len(chunks) < len(self._delivered)
            for _ in range(len(chunks) + ends):
                self._delivered.popleft()
            writer = self._writers[0]
            with contextlib.suppress(OSError):
                if not writer.is_closing():  # a program that has ended wants no more
                    # In one piece: the receiver must not act on a part of what comes at the same time.
                    writer.write(b"".join(chunks))
                    if ends:
                        writer.write_eof()
            self.passed_on[self._epoch] += sum(map(len, chunks)) + ends
            if ends:
                self._writers.popleft()
                self._epoch += 1
