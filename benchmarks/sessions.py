"""Sessions of a benchmark: the commands that people type, one process each, and what these say.

Knows processes, the JSON events of `onionmpc`, and what timed.py and workload.py write. Does not know what is compared.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import resource
import secrets
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.common import HERE, ROOT, Failed, memory_of
from onionmpc.files import private_directory, write_private
from onionmpc.identity import SEED_BYTES, Identity
from onionmpc.identity.key_file import KEY_FILE_NONCE_BYTES, KEY_FILE_SALT_BYTES, encode_key_file
from onionmpc.program.code.catalogue import code_of, find_program
from onionmpc.program.spec import ProgramSpec
from onionmpc.session.agreed_options import default_threshold

ONIONMPC = (sys.executable, "-P", "-m", "onionmpc.cli")
TIMED = HERE / "timed.py"
WORKLOAD = HERE / "workload.py"
# With this seed, secret_santa of three parties draws three times, which is its average.
SEED = "1"
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
            env={**os.environ, **self._environment},
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


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A temporary directory of one run."""
    with tempfile.TemporaryDirectory(prefix="onionmpc-bench-") as name:
        yield Path(name)


def keep_identities(state: Path, parties: int, *, exposed: bool = False) -> list[str]:
    """Keep identities named party-0 and so on, each of which will be the party of that number; return the onions.

    Args:
        exposed: they are for circuit length short.
    """
    directory = private_directory(state / "identities")
    identities = sorted((Identity(secrets.token_bytes(SEED_BYTES)) for _ in range(parties)), key=lambda i: i.onion)
    for number, identity in enumerate(identities):
        content = encode_key_file(
            identity, None, bytes(KEY_FILE_SALT_BYTES), bytes(KEY_FILE_NONCE_BYTES), exposed=exposed
        )
        write_private(directory / f"party-{number}.key", content)
    return [identity.onion for identity in identities]


def listed(
    onions: Sequence[str], program: Sequence[str | Path], ways: Sequence[Sequence[str | Path]], private: Sequence[str]
) -> list[list[str | Path]]:
    """Return the words after `onionmpc` of each party of a session with full lists.

    Args:
        program: and options that are the same for all.
        ways: the options of each party in turn, such as where its tor is.
        private: of each party's program.
    """
    return [
        [
            *("join", *(onion for onion in onions if onion != own), *program),
            *("--identity", f"party-{number}", "--yes", "--log-format", "json", *way, "--", *private),
        ]
        for number, (own, way) in enumerate(zip(onions, itertools.cycle(ways), strict=False))
    ]


async def run_listed(
    parties: int,
    program: Sequence[str | Path],
    ways: Sequence[Sequence[str | Path]],
    private: Sequence[str],
    limit_s: float,
) -> list[Process]:
    """Run one session of `onionmpc join` with full lists to its end; return its parties.

    Raises:
        Failed: it did not end well.
    """
    with scratch() as folder:
        state = private_directory(folder / "state")
        async with running(limit_s, ONIONMPC_STATE=state) as processes:
            for words in listed(keep_identities(state, parties), program, ways, private):
                await processes.start(*ONIONMPC, *words)
            await processes.ended(processes.all)
            return processes.all


def direct(sockets: Path) -> list[str | Path]:
    """Return what starts the onionmpc command with local sockets in tor's place."""
    return [sys.executable, "-m", "benchmarks.direct_party", sockets]


def plain(ports: Sequence[int], number: int, arguments: Sequence[str]) -> list[str | Path]:
    """Return what starts a party of plain MPyC with timed.py, which finds the others at these ports of 127.0.0.1."""
    options = [*(f"-P127.0.0.1:{port}" for port in ports), f"-T{default_threshold(len(ports))}", f"-I{number}"]
    return [sys.executable, TIMED, *options, "--no-log", *arguments]


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 that are free at this moment."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [bound.getsockname()[1] for bound in sockets]


def timed(folder: Path, script: Path, arguments: Sequence[str], *, delay_ms: int = 0) -> list[str]:
    """Return the arguments of timed.py."""
    return [str(folder), SEED, str(delay_ms), str(script), *arguments]


def direct_spec(script: str | Path, arguments: Sequence[str], parties: int) -> ProgramSpec:
    """Return what runs a script without a network."""
    program = find_program(str(script))
    return ProgramSpec(
        script=str(program.path),
        folder=str(program.folder),
        arguments=tuple(arguments),
        number=0,
        parties=parties,
        threshold=default_threshold(parties),
        mpyc_options=(),
        sockets={},
        named=tuple(arguments),
        code=code_of(program),
    )


def times_of(folder: Path, parties: int) -> dict[str, float]:
    """Return what the parties of timed.py wrote down together.

    Returns:
        compute_s: from the last connection to the end of the last shutdown.
        messages: how many all have sent.
    """
    notes = [json.loads((folder / f"notes-{number}.json").read_text()) for number in range(parties)]
    connected_s, ended_s = (max(note[key] for note in notes) for key in ("connected_s", "ended_s"))
    return {"compute_s": ended_s - connected_s, "messages": sum(note["messages"] for note in notes)}


def children_cpu_s() -> float:
    """Return the processor time of all processes that were waited for, and that those waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
