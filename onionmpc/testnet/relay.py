"""One relay or authority of the private network, and its process.

Knows how to start, signal and end a tor process, and how to read its progress from its files. Does not know what is in
its torrc, or when a network is ready.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from onionmpc.errors import TorFailed, UsageError
from onionmpc.files import open_private, private_directory
from onionmpc.machine import refusing
from onionmpc.testnet.status import consensus_flags, read_text
from onionmpc.tor.process.binary import TOR_UMASK, environment_of_tor

STOP_TIMEOUT_S = 5.0
RELAY_POLL_S = 0.02
# In tor's bootstrap events, this percentage means that the consensus and the descriptors have arrived.
ENOUGH_DIRECTORY_PERCENT = 75
READY_FLAGS = frozenset({"Fast", "Guard", "HSDir", "Running", "Stable", "V2Dir", "Valid"})


@dataclass(slots=True)
class Relay:
    """A relay, or an authority, which is a relay too. `process` is None while it should not run."""

    nickname: str
    region: str
    address: str
    directory: Path
    authority: bool
    or_port: int
    dir_port: int = 0
    fingerprint: str = ""
    v3_identity: str = ""
    gateway: str = ""
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    _log_from: int = field(default=0, repr=False)

    @property
    def notices(self) -> Path:
        """The file of its log."""
        return self.directory / "notices.log"

    @property
    def hint(self) -> str:
        """A hint for when it fails."""
        return f"see {self.notices}"

    def directory_authority(self) -> str:
        """Return the line by which other tors know this authority."""
        return (
            f"DirAuthority {self.nickname} orport={self.or_port} no-v2 v3ident={self.v3_identity} "
            f"{self.address}:{self.dir_port} {self.fingerprint}"
        )

    def log(self) -> str:
        """Return its log since the last start."""
        return read_text(self.notices)[self._log_from :]

    def start(self, program: Path) -> None:
        """Start it with its torrc."""
        self._log_from = len(read_text(self.notices))
        with open_private(self.directory / "output.log") as output, refusing(f"cannot start {program}"):
            self.process = subprocess.Popen(
                [program, "-f", self.directory / "torrc", "--quiet"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment_of_tor(),
                umask=TOR_UMASK,
                # Ctrl-C in the owner's terminal must reach only the owner, which ends its tors in order.
                start_new_session=True,
            )

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, unless it has ended."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def check_alive(self) -> None:
        """Raise TorFailed with its last warning if it has ended but should run."""
        if self.process is None or self.process.poll() is None:
            return
        lines = [line for line in self.log().splitlines() if "[warn]" in line or "[err]" in line]
        last = lines[-1].partition("] ")[2] if lines else f"exit code {self.process.returncode}"
        raise TorFailed(f"{self.nickname} ended: {last}", hint=self.hint)

    def knows_all(self, tors: int) -> bool:
        """Return whether this authority has the descriptors of this many relays."""
        known = read_text(self.directory / "cached-descriptors.new")
        # An authority's own descriptor is not in this file until it has been sent to the others.
        return len(set(re.findall(r"^router (\S+) ", known, re.MULTILINE)) | {self.nickname}) == tors

    def has_consensus(self, tors: int) -> bool:
        """Return whether this tor has a consensus of this many relays, each with all flags that it needs."""
        name = "cached-consensus" if self.authority else "cached-microdesc-consensus"
        flags = consensus_flags(self.directory / name)
        return len(flags) == tors and all(found >= READY_FLAGS for found in flags.values())

    def is_ready(self, tors: int) -> bool:
        """Return whether this relay can be part of a circuit: it has the consensus and all descriptors.

        This does not wait for "Bootstrapped 100%": that takes an extra circuit, which a relay does not need and
        builds late.
        """
        # tor skips lines when it passes several steps at once.
        steps = re.findall(r"Bootstrapped (\d+)%", self.log())
        return any(int(step) >= ENOUGH_DIRECTORY_PERCENT for step in steps) and self.has_consensus(tors)


async def end(relays: Sequence[Relay], *numbers: signal.Signals) -> None:
    """End relays with these signals, in order. Each has a few seconds to take effect."""
    for number in numbers:
        for relay in relays:
            relay.signal(number)
            # A stopped process handles no signal but SIGKILL until it continues.
            relay.signal(signal.SIGCONT)
        deadline = asyncio.get_running_loop().time() + STOP_TIMEOUT_S
        while asyncio.get_running_loop().time() < deadline:
            if all(relay.process is None or relay.process.poll() is not None for relay in relays):
                for relay in relays:
                    relay.process = None
                return
            await asyncio.sleep(RELAY_POLL_S)


def reserve_ports(stack: AsyncExitStack, address: str, count: int) -> list[int]:
    """Get ports from the kernel, and reserve them for as long as the stack lasts.

    Relays release their ports for some seconds while the network starts. As long as a socket is bound to a port, even
    without listening, the kernel gives that port to no other process that asks for a free one. tor can still bind it,
    because both set SO_REUSEADDR.
    """
    sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
    try:
        for one in sockets:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind((address, 0))
    except OSError as error:
        raise UsageError(f"cannot listen on {address}: {error.strerror}") from error
    return [int(one.getsockname()[1]) for one in sockets]


def fresh_directory(path: Path) -> Path:
    """Create a tor's directory, or remove everything in it except the keys: making those takes longest."""
    private_directory(path)
    for entry in path.iterdir():
        if entry.name == "keys":
            continue
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    return path
