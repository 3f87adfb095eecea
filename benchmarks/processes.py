"""Processes of a benchmark: started together, followed line by line, and ended with their context.

Knows the JSON events of `onionmpc`. Does not know which commands are run, or what is compared.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, Failed, memory_of

# A party may take so long to say goodbye before it is killed.
GOODBYE_S = 10.0
LINE_LIMIT_BYTES = 2**20
LAST_WORDS = 20

Event = dict[str, Any]


@dataclass(slots=True)
class Process:
    """A process that is followed to its end.

    Attributes:
        started_s, heard_s: by this machine's monotonic clock; the latter by the name of an event, its first time.
        events: what an `onionmpc` command said, in order.
        printed: the lines on its standard output.
        words: the other lines on its standard error.
        peak_bytes: the highest resident memory so far, as of the last event.
    """

    process: asyncio.subprocess.Process
    on_event: Callable[[], None]
    started_s: float = field(default_factory=time.monotonic)
    heard_s: dict[str, float] = field(default_factory=dict)
    connected_s: float = 0.0
    events: list[Event] = field(default_factory=list)
    printed: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    peak_bytes: int = 0

    def heard(self, name: str) -> list[Event]:
        """Return the events of this name."""
        return [event for event in self.events if event["event"] == name]

    @property
    def last_words(self) -> str:
        """The end of what it said."""
        return "\n".join([*(event.get("error", "") for event in self.heard("failed")), *self.words[-LAST_WORDS:]])

    @property
    def results(self) -> Any:  # noqa: ANN401 (whatever the program measured)
        """What its program printed last, which is JSON."""
        if not self.printed:
            raise Failed("a program printed nothing")
        return json.loads(self.printed[-1])

    async def follow(self) -> int:
        """Note what it says until it has ended; return its exit code."""
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read(self.process.stdout, self.printed.append))
            tasks.create_task(self._read(self.process.stderr, self.take_line))
        return await self.process.wait()

    async def _read(self, pipe: asyncio.StreamReader, take: Callable[[str], None]) -> None:
        async for line in pipe:
            take(line.decode(errors="replace").rstrip())

    def take_line(self, line: str) -> None:
        """Note a line of its standard error: an event, or other words."""
        try:
            event = json.loads(line)
            name = event["event"]
        except (ValueError, KeyError, TypeError):
            self.words.append(line)
            return
        self.events.append(event)
        self.heard_s.setdefault(name, time.monotonic())
        if name == "link_up" and event["connected"] == event["peers"]:
            self.connected_s = time.monotonic()
        with contextlib.suppress(OSError):  # it may have ended since it wrote this
            self.peak_bytes = memory_of(self.process.pid).get("peak_bytes", 0)
        self.on_event()


class Processes:
    """Processes that end with the context `running()`, and what they have started too.

    Attributes:
        all: in the order of their start.
        changed: set at each event.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        self.all: list[Process] = []
        self.changed = asyncio.Event()
        self._environment = environment
        self._following: dict[asyncio.Task[int], Process] = {}

    async def start(self, *command: str | Path) -> Process:
        """Start one, and follow it."""
        started = await asyncio.create_subprocess_exec(
            *command,
            cwd=ROOT,
            # Plain MPyC takes uvloop where it is installed, and a program of ours does not: compare equal loops.
            env={**os.environ, "MPYC_NOUVLOOP": "1", **self._environment},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=LINE_LIMIT_BYTES,
            start_new_session=True,  # Ctrl-C is ours to pass on
        )
        process = Process(started, self.changed.set)
        self.all.append(process)
        self._following[asyncio.create_task(process.follow())] = process
        return process

    async def ended(self, parties: Sequence[Process], *, allowed: Callable[[Process], bool] = lambda _: False) -> None:
        """Wait until all of these have ended well.

        Args:
            allowed: whether a process may end with another status than 0.

        Raises:
            Failed: one did not end well.
        """
        waiting = {task for task, process in self._following.items() if process in parties}
        while waiting:
            ended, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                process = self._following[task]
                if task.result() != 0 and not allowed(process):
                    number = self.all.index(process)
                    raise Failed(f"party {number} ended with status {task.result()}: {process.last_words}")

    async def hears(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition about events holds.

        Raises:
            Failed: a process ended before.
        """
        while not condition():
            if any(task.done() for task in self._following):
                raise Failed("a party ended too early: " + "\n".join(process.last_words for process in self.all))
            self.changed.clear()
            changed = asyncio.create_task(self.changed.wait())
            await asyncio.wait({changed, *self._following}, return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()

    async def end(self) -> None:
        """End all that still run."""
        for number in (signal.SIGINT, signal.SIGKILL):
            left = {task for task in self._following if not task.done()}
            for task in left:
                with contextlib.suppress(ProcessLookupError):
                    self._following[task].process.send_signal(number)
            if left:
                await asyncio.wait(left, timeout=GOODBYE_S)


@contextlib.asynccontextmanager
async def running(limit_s: float, **environment: str | Path) -> AsyncIterator[Processes]:
    """Processes of one run, which may take so long.

    Raises:
        Failed: it took longer.
    """
    processes = Processes({name: str(value) for name, value in environment.items()})
    try:
        async with asyncio.timeout(limit_s):
            yield processes
    except TimeoutError:
        said = "\n".join(process.last_words for process in processes.all)
        raise Failed(f"it did not end within {limit_s:.0f} s: {said}") from None
    finally:
        await processes.end()


def children_cpu_s() -> float:
    """Return the processor time of all processes that were waited for, and that those waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
