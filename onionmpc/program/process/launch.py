"""Starts, watches and ends the program process: the supervisor's side."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass

import msgspec

from onionmpc.errors import ProgramError
from onionmpc.files import scratch_directory, state_directory
from onionmpc.machine import refusing
from onionmpc.program.process.streams import OWN_STREAMS, Streams
from onionmpc.program.process.tee import Tee
from onionmpc.program.spec import EXIT_STOPPED, HANDED_AT_ONCE, Notice, ProgramSpec, Trace, Wait, encode_spec
from onionmpc.program.walls.asked import AskedFiles, OutOfReach
from onionmpc.program.walls.environment import environment_of_program
from onionmpc.tasks import BackgroundTasks

# How long a program may take to restore its terminal after SIGTERM, before it is killed.
TERMINATE_S = 2.0
LAST_NOTICE_S = 1.0
# Output that a terminated program wrote still reaches the user, unless its reader does not take it in time.
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
        status: its exit status, or minus the signal that killed it.
        notice: what it reported before it stopped itself.
        output: the SHA-256 of its standard output, if that went through us.
        lost: why some output could not be written; empty if all was written, or if its reader (such as `head`) wanted
            no more.
    """

    status: int
    notice: Notice | None
    output: bytes | None = None
    lost: str = ""

    def describe(self) -> str:
        """Describe it in words."""
        if self.notice is not None:
            return self.notice.detail
        if self.status < 0:
            return f"it was killed by signal {-self.status} ({signal.strsignal(-self.status)})"
        return f"it exited with status {self.status}"


# Our end of the link to each peer, by its number, for one epoch.
Ends = Mapping[int, socket.socket]


def ignore(_what: Wait | Trace | None = None) -> None:
    """Do nothing."""


async def refuse(ends: Ends) -> None:
    """Close our ends of an epoch."""
    for end in ends.values():
        end.close()


class ProgramProcess:
    """A running program.

    Args:
        control: reads what the process sends.
        channel: the socket that `control` reads from.
        peers: the numbers of the other parties.
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        control: asyncio.StreamReader,
        channel: socket.socket,
        peers: Iterable[int],
        tee: Tee | None = None,
        asked: AskedFiles | None = None,
    ) -> None:
        self._asked = asked or AskedFiles()
        self._tee = tee
        self._process = process
        self._control = control
        self._channel = channel
        self._peers = tuple(peers)
        self._epochs = 0

    async def wait(
        self,
        on_revealed: Callable[[], None] = ignore,
        *,
        on_epoch: Callable[[Ends], Awaitable[None]] = refuse,
        on_wait: Callable[[Wait | None], None] = ignore,
        on_trace: Callable[[Trace], None] = ignore,
    ) -> ProgramExit:
        """Wait for the end of the process.

        Args:
            on_revealed: called when the script first opens an output.
            on_epoch: called at each start of MPyC with our ends of the links, which it must close. The program begins
                no further epoch before this returns.
            on_wait: called with what the program waits for once that lasts, and with None when it no longer waits.
            on_trace: called with each report of a traced program.
        """
        handlers: dict[str, Callable[[Notice], None]] = {
            "revealed": lambda _: on_revealed(),
            "waiting": lambda notice: on_wait(notice.wait),
            "moving": lambda _: on_wait(None),
            "traced": lambda notice: on_trace(notice.trace) if notice.trace else None,
        }
        async with BackgroundTasks() as tasks:
            listening = tasks.start(self._listen(handlers, on_epoch))
            assert listening is not None  # noqa: S101 (the block has just begun)
            status = await self._process.wait()
            # All its notices are in the socket now. A process that it left behind may never close the other end.
            await asyncio.wait([listening], timeout=LAST_NOTICE_S)
        notice = None if listening.cancelled() else listening.result()
        if status == 0 and self._peers and not self._epochs:
            # The script succeeded, but computed nothing with the peers, which may wait for it to start.
            status, notice = EXIT_STOPPED, notice or NEVER_STARTED
        if self._tee is None:
            return ProgramExit(status, notice)
        output, loss = await self._tee.finish(), self._tee.loss
        lost = "" if loss is None or isinstance(loss, BrokenPipeError) else loss.strerror or str(loss)
        return ProgramExit(status, notice, output, lost)

    def out_of_reach(self) -> OutOfReach | None:
        """Return those files that the program could not open so far and that we may show; None if there are none."""
        return self._asked.to_show()

    async def _listen(
        self, handlers: Mapping[str, Callable[[Notice], None]], on_epoch: Callable[[Ends], Awaitable[None]]
    ) -> Notice | None:
        last: Notice | None = None
        while notice := await self._notice():
            if notice.kind == "refused":
                self._asked.note(notice.detail)
            elif notice.kind == "started":
                await on_epoch(self._hand_over())
            elif notice.kind in handlers:
                handlers[notice.kind](notice)
            else:
                last = notice
        return last

    def _hand_over(self) -> Ends:
        """Make a pair of sockets for each peer, give the program its ends, and return ours.

        We make them, and take no descriptor from the program: what it would hand up could be anything.
        """
        self._epochs += 1
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
            ends, descriptors = {}, []
            with refusing("cannot connect the program to its peers"):
                for peer in self._peers:
                    near, far = socket.socketpair()
                    ends[peer] = ours.enter_context(near)
                    descriptors.append(theirs.enter_context(far).fileno())
                for first in range(0, len(descriptors), HANDED_AT_ONCE):
                    with contextlib.suppress(
                        BrokenPipeError, ConnectionResetError
                    ):  # killed: its exit status says more
                        socket.send_fds(self._channel, [b"\n"], descriptors[first : first + HANDED_AT_ONCE])
            ours.pop_all()
        return ends

    async def _notice(self) -> Notice | None:
        try:
            line = await self._control.readline()
            return msgspec.json.decode(line, type=Notice) if line else None
        except (msgspec.DecodeError, ValueError) as error:  # ValueError: text that is not UTF-8, or a line without end
            raise ProgramError("the program wrote to onionmpc's own channel, which is not for programs") from error

    async def end(self) -> None:
        """Terminate the process if it runs. Kill it if it does not end in time."""
        try:
            if not await self._ends_by(signal.SIGTERM):
                await self._ends_by(signal.SIGKILL)
            await self._process.wait()
        finally:
            self._send(signal.SIGKILL)  # even if this task is cancelled, the program must not stay
        if self._tee is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REST_OF_OUTPUT_S):
                    await self._tee.finish()

    async def _ends_by(self, number: int) -> bool:
        """Send a signal; return whether the process ended within TERMINATE_S."""
        self._send(number)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TERMINATE_S):
                await self._process.wait()
        return self._process.returncode is not None

    def _send(self, number: int) -> None:
        if self._process.returncode is None:
            # Not send_signal(): it polls first. If the process has just ended, that takes the exit status away from
            # asyncio, which then makes one up (255).
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, number)


@contextlib.asynccontextmanager
async def start_program(
    spec: ProgramSpec, peers: Iterable[int], *, streams: Streams = OWN_STREAMS, hash_output: bool = False
) -> AsyncIterator[ProgramProcess]:
    """Start a program process, which ends with the context at the latest.

    Args:
        spec: what to run. Its `scratch` is filled in here, and our state is added to `hidden`.
        peers: the numbers of the other parties.
        streams: the program's standard streams; the caller closes them. Unless they are our own, the program has no
            terminal to prompt at.
        hash_output: whether to hash its standard output, which then always goes through us. Otherwise, if stdout is a
            terminal, the program writes to it directly.

    Raises:
        SystemRefused: the process cannot be started.
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
    environment = environment_of_program(spec)
    async with contextlib.AsyncExitStack() as stack:
        with refusing(NO_PROCESS):
            ours, theirs = _socket_pair(stack)
            tee = _tee(stack, streams, hash_output=hash_output)
        if tee is not None and (streams != OWN_STREAMS or os.isatty(streams.stdout)):
            # Python buffers what goes into a pipe. The reader should see each line at once, as on a terminal.
            environment["PYTHONUNBUFFERED"] = "1"
        control, control_writer = await asyncio.open_unix_connection(sock=ours)
        stack.callback(control_writer.transport.abort)
        with refusing(NO_PROCESS):
            started = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # `-m` would put the working directory first on sys.path, before onionmpc itself
                "-m",
                "onionmpc.program.process.child",
                str(theirs.fileno()),
                stdin=streams.stdin,
                stdout=streams.stdout if tee is None else tee.write_end,
                stderr=streams.stderr,
                # Without a controlling terminal: getpass opens /dev/tty even if stdin is no terminal.
                start_new_session=streams != OWN_STREAMS,
                pass_fds=[theirs.fileno()],
                env=environment,
            )
        process = ProgramProcess(started, control, ours, peers, tee, AskedFiles(spec))
        stack.push_async_callback(process.end)
        control_writer.write(encode_spec(spec))
        theirs.close()
        if tee is not None:
            tee.write_end.close()
        yield process


def _socket_pair(stack: contextlib.AsyncExitStack) -> tuple[socket.socket, socket.socket]:
    near, far = socket.socketpair()
    stack.callback(near.close)
    stack.callback(far.close)
    return near, far


def _tee(stack: contextlib.AsyncExitStack, streams: Streams, *, hash_output: bool) -> Tee | None:
    """Return what the program's output goes through; None if the program writes it directly.

    Programs write other bytes to a terminal than to a pipe, and hashes of equal outputs must be equal. And if the
    reader goes away or the disk is full, the program must not fail: the other parties compute with it.
    """
    out = streams.stdout
    if out == subprocess.DEVNULL or (os.isatty(out) and not hash_output):
        return None
    tee = Tee(out)
    stack.callback(tee.close)
    return tee
