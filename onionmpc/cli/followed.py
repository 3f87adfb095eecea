"""Runs one party of a demonstration as a process, and follows its output and its events.

stdout and stderr belong to the program. The party's events come through a separate pipe, so that a program cannot forge
them.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import os
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onionmpc.api.capture import LAST_OUTPUT_S
from onionmpc.cli.lines import Lines
from onionmpc.cli.output import StatusLine
from onionmpc.machine import READ_BYTES
from onionmpc.text import printable

SHOWN_LINE_CHARACTERS = 500
LAST_WORDS = 20

EventFields = dict[str, Any]


@dataclass(slots=True)
class Followed:
    """One party's process and what it wrote.

    Attributes:
        started_as: "host", "joiner 1" and so on: its name while its number is unknown.
        out, err, events: our ends of the pipes for its stdout, stderr and events.
        output: the lines of its program's stdout, if they are kept.
        results: the fields of its event "ended", one for each computation.
        failure: the fields of its event "failed"; empty without one.
        last_words: the last lines on its stderr.
        was_ended: whether this process ended it.
        taken_bytes: the number of bytes read from all its pipes.
    """

    started_as: str
    process: asyncio.subprocess.Process
    out: int
    err: int
    events: int
    number: int | None = None
    address: str = ""
    output: list[str] = field(default_factory=list)
    times_s: dict[str, float] = field(default_factory=dict)
    results: list[EventFields] = field(default_factory=list)
    failure: EventFields = field(default_factory=dict)
    last_words: collections.deque[str] = field(default_factory=lambda: collections.deque(maxlen=LAST_WORDS))
    was_ended: bool = False
    taken_bytes: int = 0

    @property
    def name(self) -> str:
        """Its name on the screen: "party 0" and so on once it has a number, `started_as` before."""
        return self.started_as if self.number is None else f"party {self.number}"

    @property
    def failed(self) -> bool:
        """True if it has ended with an error."""
        return self.process.returncode not in (None, 0)


async def start(
    name: str, command: Sequence[str], options: Sequence[str], private: Sequence[str], stdin: Path
) -> Followed:
    """Start a party.

    Args:
        command: the words before its options.
        private: arguments for its program alone.
        stdin: what its program reads.
    """
    # Not asyncio's own pipes: asyncio waits until every process has closed them, even after this one has ended.
    (out, its_out), (err, its_err), (events, its_events) = pipes = [os.pipe() for _ in range(3)]
    try:
        with stdin.open("rb") as read:
            process = await asyncio.create_subprocess_exec(
                *(*command, *options, "--yes", "--log-format", "json", "--events", str(its_events), "--", *private),
                stdin=read,
                stdout=its_out,
                stderr=its_err,
                pass_fds=[its_events],
                # The program inherits this: its output shows at once, although it goes into a pipe.
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
                start_new_session=True,  # the terminal's Ctrl-C reaches this process alone, which passes it on once
            )
    except BaseException:
        for near, _ in pipes:
            os.close(near)
        raise
    finally:
        for _, far in pipes:
            os.close(far)
    return Followed(name, process, out, err, events)


async def follow(
    party: Followed,
    status: StatusLine,
    on_event: Callable[[EventFields], None],
    *,
    keep: bool,
    last_output_s: float = LAST_OUTPUT_S,
) -> None:
    """Show what a party's program writes, until the party has ended.

    Args:
        on_event: called with each event.
        keep: whether to keep the program's output, with lines of any length.
        last_output_s: once the party has ended, stop when its pipes bring nothing for so long.
    """

    async def show(pipe: int, mark: str, take: Callable[[str], None], *, whole: bool) -> None:
        def show_state(lines: Lines) -> None:
            # On a screen without overwriting, half a line would be shown again with the whole line.
            if lines.overwritten or (lines.state and status.is_terminal):
                status.going_on(f"{party.name}{mark}", printable(lines.state, SHOWN_LINE_CHARACTERS))

        async for line in _lines(party, pipe, show_state, whole=whole):
            take(line)
            if not party.was_ended:  # a party that we interrupted complains about nothing new
                status.line(f"{party.name}{mark} | {printable(line, SHOWN_LINE_CHARACTERS)}")

    async def listen() -> None:
        async for line in _lines(party, party.events, lambda _: None, whole=True):
            with contextlib.suppress(ValueError):  # a party that was killed may leave half an event
                event = json.loads(line)
                party.times_s.setdefault(event["event"], event["at_s"])
                on_event(event)

    def forget(_line: str) -> None:
        pass

    async with asyncio.TaskGroup() as tasks:
        reading = {
            tasks.create_task(show(party.out, "", party.output.append if keep else forget, whole=keep)),
            tasks.create_task(show(party.err, " stderr", party.last_words.append, whole=False)),
            tasks.create_task(listen()),
        }
        await party.process.wait()
        # A process that the program left behind may hold the pipes open. So read until nothing came for a while.
        taken, before = party.taken_bytes, -1
        while taken > before:
            _, reading = await asyncio.wait(reading, timeout=last_output_s)
            before, taken = taken, party.taken_bytes if reading else 0
        for task in reading:
            task.cancel()


async def _lines(party: Followed, pipe: int, show_state: Callable[[Lines], None], *, whole: bool) -> AsyncIterator[str]:
    """Yield each complete line, and show the incomplete one after it, such as a progress bar."""
    lines = Lines(whole=whole)
    async with _reader(pipe) as reader:
        while chunk := await reader.read(READ_BYTES):
            party.taken_bytes += len(chunk)
            for line in lines.feed(chunk):
                yield line
            show_state(lines)
    for line in lines.end():
        yield line


@contextlib.asynccontextmanager
async def _reader(descriptor: int) -> AsyncIterator[asyncio.StreamReader]:
    reader = asyncio.StreamReader()
    pipe = os.fdopen(descriptor, "rb", buffering=0)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    try:
        yield reader
    finally:
        transport.close()
