"""Starts a tor of our own, watches it and ends it.

Knows torrc.d/party.torrc, profiles (where guards and the consensus stay) and what tor says when it cannot start. Does
not speak to it: that is control.py.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import itertools
import os
import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from onionmpc.errors import TorFailed, UsageError
from onionmpc.files import lock, private_directory, socket_directory, write_private
from onionmpc.resources import shipped
from onionmpc.tor.binary import TorBinary, find_tor, install_hint
from onionmpc.tor.endpoint import Endpoint

START_TIMEOUT_S = 30.0
# tor ends within 0.1 s of SIGTERM; the rest is for a machine that is busy writing.
END_TIMEOUT_S = 5.0
POLL_S = 0.02
LOG_LINES = 40
TAIL_LINES = 6
ENVIRONMENT_PREFIX = "ONIONMPC_"


@dataclass
class OwnTor:
    """A tor that we started; made by `own_tor`.

    Attributes:
        binary: the program.
        directory: private, for sockets; ours and tor's alike.
        died: done, with the reason, when tor ends while we still want it.
    """

    binary: TorBinary
    directory: Path
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


@contextlib.asynccontextmanager
async def own_tor(profile: Path, extra_torrc: str = "") -> AsyncIterator[OwnTor]:
    """Run a tor of our own: from when it takes control connections to when it is gone.

    Args:
        profile: its directory, locked by the caller (`free_profile`, `named_profile`).
        extra_torrc: torrc lines that come last.
    Raises:
        TorNotFound, TorTooOld: there is no tor to start.
        TorFailed: it did not start.
    """
    binary = find_tor()
    with socket_directory() as directory:
        torrc = profile / "torrc"
        write_private(torrc, _torrc(private_directory(profile / "data"), directory, extra_torrc).encode())
        process = await _spawn(binary, torrc)
        log = TorLog()
        tor = OwnTor(binary, directory, asyncio.get_running_loop().create_future(), log)
        reading = asyncio.create_task(log.read(process))
        watching = asyncio.create_task(_watch(process, reading, tor))
        try:
            await _started(tor)
            yield tor
        finally:
            watching.cancel()
            await _end(process, reading)


def verify_config(binary: TorBinary) -> None:
    """Ask tor whether it would start from our lines; it opens nothing and changes nothing.

    Raises:
        TorFailed: it would not.
    """
    with socket_directory() as directory:
        torrc = directory / "torrc"
        torrc.write_text(_torrc(directory / "data", directory, ""))
        try:
            done = subprocess.run(
                [binary.path, "--verify-config", *_arguments(torrc)],
                capture_output=True,
                text=True,
                timeout=START_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise TorFailed(f"cannot start {binary.path} ({type(error).__name__})", hint=install_hint()) from error
        if done.returncode:
            log = TorLog()
            for line in done.stdout.splitlines():
                log.add(line)
            raise log.failure("tor would not start from torrc.d/party.torrc")


def _arguments(torrc: Path) -> list[str]:
    # The machine's own defaults could open ports; an absent file means none.
    return ["--defaults-torrc", str(torrc.with_name("no-defaults")), "-f", str(torrc)]


def _torrc(data: Path, sockets: Path, extra: str) -> str:
    party = (shipped("torrc.d") / "party.torrc").read_text()
    return f"""{party}
# The paths of this run.
DataDirectory {_quote(data)}
ControlSocket {_quote(sockets / "control")}
SocksPort unix:{_quote(sockets / "socks")} ExtendedErrors IsolateSOCKSAuth OnionTrafficOnly
# tor ends by itself when this process is gone, even if killed.
__OwningControllerProcess {os.getpid()}

# Lines asked for.
{extra}
"""


def _quote(path: Path) -> str:
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


async def _spawn(binary: TorBinary, torrc: Path) -> asyncio.subprocess.Process:
    # Our own variables (the control password of another tor, say) are not tor's business.
    environment = {key: value for key, value in os.environ.items() if not key.startswith(ENVIRONMENT_PREFIX)}
    try:
        return await asyncio.create_subprocess_exec(
            binary.path,
            *_arguments(torrc),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=environment,
            # Ctrl-C on the terminal goes to us, and we end tor once peers have been told.
            start_new_session=True,
        )
    except OSError as error:
        raise TorFailed(f"cannot start {binary.path}: {error.strerror}", hint=install_hint()) from error


async def _started(tor: OwnTor) -> None:
    """Wait until the control socket takes a connection."""
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            while not tor.died.done():
                with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                    (await tor.control.connect()).close()
                    return
                # Nothing tells when a socket appears, short of trusting the words of tor's log.
                await asyncio.wait({tor.died}, timeout=POLL_S)
    except TimeoutError:
        raise tor.log.failure(f"tor opened no control socket within {START_TIMEOUT_S:g} s") from None
    raise tor.died.result()


async def _watch(process: asyncio.subprocess.Process, reading: asyncio.Task[None], tor: OwnTor) -> None:
    status = await process.wait()
    await asyncio.wait({reading}, timeout=1)  # its last words
    ended = f"was ended by signal {-status}" if status < 0 else f"ended with exit code {status}"
    tor.died.set_result(tor.log.failure(f"tor {ended}"))


async def _end(process: asyncio.subprocess.Process, reading: asyncio.Task[None]) -> None:
    try:
        if process.returncode is None:
            process.terminate()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_TIMEOUT_S):
                await process.wait()
                await reading
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        reading.cancel()


# --- What tor says ---------------------------------------------------------------------------------------------

# "Nov 22 12:00:00.000 [warn] "
STAMP = re.compile(r"^\w{3} \d+ [\d:.]+ ")
COMPLAINT = re.compile(r"\[(warn|err)\] ")
# SafeLogging hides our peers; guards, bridges and what an extra torrc line brings in are hidden here.
ADDRESSES = re.compile(
    r"\b[a-z2-7]{56}(\.onion)?\b|\$?\b[0-9A-F]{40}(~\w+)?\b|\b\d{1,3}(\.\d{1,3}){3}\b|\[[0-9a-f:]*:[0-9a-f:.]*\]"
)
# What tor's words mean, and what to do: first match wins.
CAUSES = (
    (r"No space left on device|Disk quota exceeded", "the disk is full", "free some space where its profile is kept"),
    (
        r"Read-only file system|Permission denied|EACCES",
        "it may not write",
        "look at the owner and mode of its profile",
    ),
    (r"Address already in use", "a port or socket it wants is taken", "end the other program, or choose another port"),
    (r"another Tor process is running", "another tor uses its profile", "end that tor, or use another --profile"),
    (
        r"Failed to parse/validate config|Reading config failed",
        "it refused its configuration",
        "mend the extra torrc lines",
    ),
)
NO_CAUSE = ("", "run it by hand to see more: tor --verify-config")


class TorLog:
    """The last lines of tor's log."""

    def __init__(self) -> None:
        self._lines: collections.deque[str] = collections.deque(maxlen=LOG_LINES)

    async def read(self, process: asyncio.subprocess.Process) -> None:
        """Keep what tor says until it says no more."""
        assert process.stdout is not None  # noqa: S101 (a pipe was asked for)
        rest = b""
        while chunk := await process.stdout.read(2**16):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self.add(line.decode("utf-8", "replace"))
        self.add(rest.decode("utf-8", "replace"))

    def add(self, line: str) -> None:
        """Keep one line, without its time and without addresses."""
        if line := STAMP.sub("", line.strip()):
            self._lines.append(ADDRESSES.sub("[hidden]", line))

    def failure(self, what: str) -> TorFailed:
        """Return an error that says `what`, why as far as tor said it, and tor's last lines."""
        cause, hint = next(
            (words for pattern, *words in CAUSES if any(re.search(pattern, line) for line in self._lines)), NO_CAUSE
        )
        complaints = [line for line in self._lines if COMPLAINT.match(line)]
        shown = complaints[-TAIL_LINES:] or list(self._lines)[-TAIL_LINES:]
        message = ": ".join(filter(None, [what, cause]))
        return TorFailed("\n".join([message, *(f"  tor: {line}" for line in shown)]), hint=hint)


# --- Profiles --------------------------------------------------------------------------------------------------

PROFILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")


@contextlib.contextmanager
def named_profile(base: Path, name: str) -> Iterator[Path]:
    """Lock and return the profile `base/name`: a tor's guards and consensus, kept from run to run.

    Raises:
        UsageError: the name will not do, or another party of this machine uses the profile now.
    """
    if not PROFILE_NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no profile name, expected up to 32 letters, digits, - and _")
    with _try_profile(base, name) as profile:
        if profile is None:
            raise UsageError(f"another party uses the profile {name} now", hint="leave --profile out, or wait")
        yield profile


@contextlib.contextmanager
def free_profile(base: Path) -> Iterator[Path]:
    """Lock and return the first of the profiles "1", "2", ... that no running party uses.

    So a party without a name of its own still keeps its guards: a fresh draw in each run would sooner or later pick
    a guard of the adversary's.
    """
    for number in itertools.count(1):
        with _try_profile(base, str(number)) as profile:
            if profile is not None:
                yield profile
                return


@contextlib.contextmanager
def _try_profile(base: Path, name: str) -> Iterator[Path | None]:
    profile = private_directory(private_directory(base) / name)
    with contextlib.ExitStack() as held:
        try:
            ours = held.enter_context(lock(profile / "lock"))
        except OSError as error:
            raise TorFailed(f"cannot lock the profile {profile}: {error.strerror}", hint="free some space") from error
        yield profile if ours else None
