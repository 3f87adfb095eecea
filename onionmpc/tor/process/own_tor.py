"""Starts a tor of our own, watches it and ends it.

It writes the torrc and runs the process. control/ talks to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from onionmpc.errors import TorFailed
from onionmpc.files import private_directory, socket_directory, write_private
from onionmpc.tasks import BackgroundTasks
from onionmpc.tor.endpoint import Endpoint
from onionmpc.tor.process.binary import TOR_UMASK, TorBinary, cannot_start, environment_of_tor, find_tor
from onionmpc.tor.process.log import TorLog
from onionmpc.tor.process.profile import data_directory
from onionmpc.tor.process.torrc import quote, shipped_lines

START_TIMEOUT_S = 30.0
# tor ends within 0.1 s of SIGTERM. The rest is for a machine whose disk is busy.
END_TIMEOUT_S = 5.0
# From tor's end to the last line of its log.
REST_OF_LOG_S = 1.0
START_POLL_S = 0.02


class Traffic(Enum):
    """What a tor of ours carries for us, by the flag of its SOCKS port."""

    ONION = "OnionTrafficOnly"
    # By exit relays, to one web site.
    WEB = "NoOnionTraffic"
    # Of peers alone: it connects straight to the rendezvous point, which shows our IP address, and cannot dial.
    EXPOSED = ""


@dataclass
class OwnTor:
    """A tor that we started; made by `own_tor`.

    Attributes:
        binary: the program.
        directory: private, for sockets of ours and of tor.
        died: done, with the reason, when tor ends although we still need it.
    """

    binary: TorBinary
    directory: Path
    process: asyncio.subprocess.Process = field(repr=False)
    died: asyncio.Future[TorFailed]
    log: TorLog = field(repr=False)

    @property
    def control(self) -> Endpoint:
        """Where its control port is."""
        return Endpoint(path=str(self.directory / "control"))

    @property
    def socks(self) -> Endpoint:
        """Where its SOCKS port is."""
        return Endpoint(path=str(self.directory / "socks"))

    async def kill(self) -> None:
        """Kill a tor that does not answer, and wait for its end."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        # Signalling a process that has just ended would take its exit code away from asyncio, which warns on stderr.
        await self.process.wait()


@contextlib.asynccontextmanager
async def own_tor(
    profile: Path,
    sockets: Path,
    extra_torrc: str = "",
    *,
    traffic: Traffic = Traffic.ONION,
    start_timeout_s: float = START_TIMEOUT_S,
    end_timeout_s: float = END_TIMEOUT_S,
) -> AsyncIterator[OwnTor]:
    """Run a tor of our own. The block begins when tor accepts control connections, and tor has exited after it.

    Args:
        profile: its directory, locked by the caller (`free_profile`, `named_profile`).
        sockets: a private directory for its sockets. Those that a killed tor left there do no harm.
        extra_torrc: torrc lines that come last.
        traffic: what it carries.
        start_timeout_s: until it accepts control connections.
        end_timeout_s: for it to end after SIGTERM. Then it is killed.
    Raises:
        TorNotFound, TorTooOld: there is no usable tor program.
        TorFailed: it did not start.
    """
    # In a thread: if this is not our first tor, the links need the loop in the meantime.
    binary = await asyncio.to_thread(find_tor)
    torrc = profile / "torrc"
    lines = _torrc(private_directory(data_directory(profile)), sockets, extra_torrc, traffic)
    write_private(torrc, lines.encode())
    process = await _spawn(binary, torrc)
    log = TorLog()
    tor = OwnTor(binary, sockets, process, asyncio.get_running_loop().create_future(), log)
    read = asyncio.Event()
    async with BackgroundTasks(_read(process, log, read)):
        try:
            async with BackgroundTasks(_watch(process, read, tor)):
                await _started(tor, start_timeout_s)
                yield tor
        finally:
            await _end(process, read, end_timeout_s)


def verify_config(binary: TorBinary) -> None:
    """Have tor check our torrc. It opens nothing and changes nothing.

    Raises:
        TorFailed: tor would not start.
    """
    with socket_directory() as directory:
        torrc = directory / "torrc"
        write_private(torrc, _torrc(directory / "data", directory, "").encode())
        try:
            done = subprocess.run(
                [binary.path, "--verify-config", *_arguments(torrc)],
                env=environment_of_tor(),
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=START_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise cannot_start(binary.path, error) from error
        if done.returncode:
            log = TorLog()
            for line in done.stdout.splitlines():
                log.add(line)
            raise log.failure("tor would not start from torrc.d/party.torrc")


def _arguments(torrc: Path) -> list[str]:
    # The machine's own defaults could open ports. A file that does not exist means no defaults.
    return ["--defaults-torrc", str(torrc.with_name("no-defaults")), "-f", str(torrc)]


def _torrc(data: Path, sockets: Path, extra: str, traffic: Traffic = Traffic.ONION) -> str:
    socks = f"SocksPort unix:{quote(sockets / 'socks')} ExtendedErrors IsolateSOCKSAuth {traffic.value}"
    return f"""{shipped_lines("party")}
{shipped_lines("party-short") if traffic is Traffic.EXPOSED else socks}
# The paths of this run.
DataDirectory {quote(data)}
ControlSocket {quote(sockets / "control")}
# tor ends by itself when this process ends, even if it is killed.
__OwningControllerProcess {os.getpid()}

# Lines asked for.
{extra}
"""


async def _spawn(binary: TorBinary, torrc: Path) -> asyncio.subprocess.Process:
    # tor notices our end by itself, but not while it is stopped (SIGSTOP). setpriv, on Linux, covers that case.
    with_us = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
    try:
        return await asyncio.create_subprocess_exec(
            *with_us,
            binary.path,
            *_arguments(torrc),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=environment_of_tor(),
            umask=TOR_UMASK,
            # So that Ctrl-C on the terminal reaches only us. We end tor after our last messages to the peers.
            start_new_session=True,
        )
    except OSError as error:
        raise cannot_start(binary.path, error) from error


async def _started(tor: OwnTor, timeout_s: float) -> None:
    """Wait until the control socket takes a connection."""
    try:
        async with asyncio.timeout(timeout_s):
            while not tor.died.done():
                with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                    (await tor.control.connect()).close()
                    return
                # Polling, because only the wording of tor's log would tell when the socket appears.
                await asyncio.wait({tor.died}, timeout=START_POLL_S)
    except TimeoutError:
        raise tor.log.failure(f"tor opened no control socket within {timeout_s:g} s") from None
    raise tor.died.result()


async def _read(process: asyncio.subprocess.Process, log: TorLog, read: asyncio.Event) -> None:
    await log.read(process)
    read.set()


async def _watch(process: asyncio.subprocess.Process, read: asyncio.Event, tor: OwnTor) -> None:
    status = await process.wait()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(REST_OF_LOG_S):
            await read.wait()
    ended = f"was killed by signal {-status}" if status < 0 else f"ended with exit code {status}"
    tor.died.set_result(tor.log.failure(f"tor {ended}"))


async def _end(process: asyncio.subprocess.Process, read: asyncio.Event, timeout_s: float) -> None:
    try:
        if process.returncode is None:
            process.terminate()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await process.wait()
                await read.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
