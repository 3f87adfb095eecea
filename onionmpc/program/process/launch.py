"""Starts and ends the program process: the supervisor's side."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass

import msgspec

from onionmpc.errors import ProgramError
from onionmpc.files import scratch_directory, state_directory
from onionmpc.machine import refusing
from onionmpc.program.process.streams import OWN_STREAMS, Streams
from onionmpc.program.process.tee import Tee
from onionmpc.program.spec import EXIT_STOPPED, Notice, ProgramSpec, Wait, encode_spec
from onionmpc.program.walls.asked import Asked, OutOfReach
from onionmpc.program.walls.build import environment_of_program
from onionmpc.tasks import BackgroundTasks

# How long a program may take to put its terminal in order before it is killed.
TERMINATE_S = 2.0
LAST_NOTICE_S = 1.0
# What a program that is ended has written already still reaches its person, unless they do not take it.
REST_OF_OUTPUT_S = 1.0
NO_PROCESS = "cannot start the program process"
NEVER_STARTED = Notice(
    "setup",
    None,
    "it ended without starting MPyC; a program of several parties calls mpc.start() or begins with: async with mpc",
)


@dataclass(frozen=True, slots=True)
class ProgramExit:
    """How the program process ended.

    Attributes:
        status: its exit status; negative is the signal that killed it.
        notice: what it said before it stopped itself.
        output: the SHA-256 of its standard output, if that went through us.
        lost: why some of that could not be written where it should go; empty if it could, or if its reader, such as
            `head`, wanted no more.
    """

    status: int
    notice: Notice | None
    output: bytes | None = None
    lost: str = ""

    def describe(self) -> str:
        """Say it in words."""
        if self.notice is not None:
            return self.notice.detail
        if self.status < 0:
            return f"it was killed by signal {-self.status} ({signal.strsignal(-self.status)})"
        return f"it exited with status {self.status}"


def ignore(_wait: Wait | None = None) -> None:
    """Do nothing."""


class ProgramProcess:
    """A running program.

    Attributes:
        sockets: ours, for each peer's number.
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        control: asyncio.StreamReader,
        sockets: dict[int, socket.socket],
        tee: Tee | None = None,
        asked: Asked | None = None,
    ) -> None:
        self.sockets = sockets
        self._asked = asked or Asked()
        self._tee = tee
        self._process = process
        self._control = control

    async def wait(
        self,
        on_revealed: Callable[[], None] = ignore,
        *,
        on_started: Callable[[], None] = ignore,
        on_wait: Callable[[Wait | None], None] = ignore,
    ) -> ProgramExit:
        """Wait for the end of the process.

        Args:
            on_revealed: called when the script begins to open an output.
            on_started: called when the script begins to connect.
            on_wait: called with what it waits for once that lasts, and with None when it does so no longer.
        """
        started = asyncio.Event()

        def note_start() -> None:
            started.set()
            on_started()

        handlers: dict[str, Callable[[Notice], None]] = {
            "revealed": lambda _: on_revealed(),
            "started": lambda _: note_start(),
            "waiting": lambda notice: on_wait(notice.wait),
            "moving": lambda _: on_wait(None),
        }
        async with BackgroundTasks() as tasks:
            listening = tasks.start(self._listen(handlers))
            assert listening is not None  # noqa: S101 (the block has just begun)
            status = await self._process.wait()
            # All that it said is here already; a process that it left behind may hold the other end for ever.
            await asyncio.wait([listening], timeout=LAST_NOTICE_S)
        notice = None if listening.cancelled() else listening.result()
        if status == 0 and self.sockets and not started.is_set():
            # Not by its own lights, but nothing was computed with anyone, and peers may wait for it to start.
            status, notice = EXIT_STOPPED, notice or NEVER_STARTED
        if self._tee is None:
            return ProgramExit(status, notice)
        output, loss = await self._tee.finish(), self._tee.loss
        lost = "" if loss is None or isinstance(loss, BrokenPipeError) else loss.strerror or str(loss)
        return ProgramExit(status, notice, output, lost)

    def out_of_reach(self) -> OutOfReach | None:
        """Return the files that the program could not open so far, as far as they may be shown."""
        return self._asked.told()

    async def _listen(self, handlers: Mapping[str, Callable[[Notice], None]]) -> Notice | None:
        last: Notice | None = None
        while notice := await self._notice():
            if notice.kind == "refused":
                self._asked.note(notice.detail)
            elif notice.kind in handlers:
                handlers[notice.kind](notice)
            else:
                last = notice
        return last

    async def _notice(self) -> Notice | None:
        try:
            line = await self._control.readline()
            return msgspec.json.decode(line, type=Notice) if line else None
        except (msgspec.DecodeError, ValueError) as error:  # which a line without an end is, and text that is not UTF-8
            raise ProgramError("the program wrote to onionmpc's own channel, which is not for programs") from error

    async def end(self) -> None:
        """Terminate the process if it runs, and kill it if it does not end."""
        try:
            if not await self._ends_by(signal.SIGTERM):
                await self._ends_by(signal.SIGKILL)
            await self._process.wait()
        finally:
            self._send(signal.SIGKILL)  # if we are cancelled while we wait, no program is left behind either
        if self._tee is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REST_OF_OUTPUT_S):
                    await self._tee.finish()

    async def _ends_by(self, number: int) -> bool:
        """Send a signal; tell whether the process ended within TERMINATE_S."""
        self._send(number)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TERMINATE_S):
                await self._process.wait()
        return self._process.returncode is not None

    def _send(self, number: int) -> None:
        if self._process.returncode is None:
            # Not send_signal(): it would take the exit status of a process that has just ended from asyncio.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, number)


@contextlib.asynccontextmanager
async def start_program(
    spec: ProgramSpec, peers: Iterable[int], *, streams: Streams = OWN_STREAMS, hash_output: bool = False
) -> AsyncIterator[ProgramProcess]:
    """Start a program process; it has ended when the context has.

    Args:
        spec: what to run; its `sockets` and `scratch` are filled in here, and what is ours is hidden from it.
        peers: the numbers of the other parties.
        streams: what the program reads and writes; the caller closes them. Unless they are our own, the program has no
            terminal to ask at.
        hash_output: whether its standard output goes through us wherever that leads, and its exit comes with its hash.
            Otherwise it has a terminal of ours for itself.
    Raises:
        SystemRefused: it cannot be started.
    """
    with scratch_directory() as scratch:
        hidden = (*spec.hidden, str(state_directory().absolute()))
        walled = msgspec.structs.replace(spec, scratch=str(scratch), hidden=hidden)
        async with _started(walled, peers, streams, hash_output=hash_output) as process:
            yield process


@contextlib.asynccontextmanager
async def _started(
    spec: ProgramSpec, peers: Iterable[int], streams: Streams, *, hash_output: bool
) -> AsyncIterator[ProgramProcess]:
    with refusing(NO_PROCESS):
        pairs = {peer: socket.socketpair() for peer in peers}
        ours, theirs = socket.socketpair()
    inherited = [theirs, *(pair[1] for pair in pairs.values())]
    control_writer: asyncio.StreamWriter | None = None
    process: ProgramProcess | None = None
    environment = environment_of_program() | {"TMPDIR": spec.scratch}
    out = streams.stdout
    asked = Asked(spec)
    tee: Tee | None = None
    if out != subprocess.DEVNULL and (hash_output or not os.isatty(out)):
        # What a program writes may depend on whether that is a terminal: where it is hashed, parties are to put out the
        # same. And a reader that goes away, or a full disk, is not to end it while others compute with it.
        with refusing(NO_PROCESS):
            tee = Tee(out)
        out = tee.end.fileno()
        if streams != OWN_STREAMS or os.isatty(streams.stdout):
            # A reader sees each line as it is written, as on the terminal itself.
            environment["PYTHONUNBUFFERED"] = "1"
    try:
        control, control_writer = await asyncio.open_unix_connection(sock=ours)
        with refusing(NO_PROCESS):
            started = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # the folder that we stand in is not ours to import from
                "-m",
                "onionmpc.program.process.child",
                str(theirs.fileno()),
                stdin=streams.stdin,
                stdout=out,
                stderr=streams.stderr,
                # Out of reach of the terminal: getpass would open it past stdin.
                start_new_session=streams != OWN_STREAMS,
                pass_fds=[end.fileno() for end in inherited],
                env=environment,
            )
        process = ProgramProcess(started, control, {peer: near for peer, (near, _) in pairs.items()}, tee, asked)
        filled = msgspec.structs.replace(spec, sockets={peer: far.fileno() for peer, (_, far) in pairs.items()})
        control_writer.write(encode_spec(filled))
        for end in inherited:
            end.close()
        if tee is not None:
            tee.end.close()
        yield process
    finally:
        for end in inherited:
            end.close()
        try:
            if process is not None:
                await process.end()
        finally:  # also if we are cancelled meanwhile
            if tee is not None:
                tee.close()
            if control_writer is not None:
                control_writer.transport.abort()
            for near, _ in pairs.values():
                near.close()
