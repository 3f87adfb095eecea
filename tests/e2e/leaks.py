"""Finds what leaks from watched parties: packets, sockets, look-ups, and secrets in arguments, variables and logs.

Knows /proc, the packets of sealed.py and the notes of recorder/. Each check says what it found; nothing is good.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onionmpc.identity import Identity
from tests.e2e.kit import Outfit

HERE = Path(__file__).parent
SEAL_S = 20.0
MAX_PACKET_BYTES = 2**16
IPV4 = 0x0800
INHERITED = -1  # the family that socket.socket(fileno=...) is called with
LOOK_UPS = ("getaddrinfo", "gethostbyname", "gethostbyaddr", "getnameinfo")
# Of some tor, which a person may have at hand while a session runs.
CONTROL_PASSWORD = "correct-horse-9917"
STARTS = ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.system")
# All that /proc/PID/net tells of, but unix sockets.
NETWORK_TABLES = (
    *(f"{kind}{version}" for kind in ("tcp", "udp", "udplite", "raw", "icmp") for version in ("", "6")),
    *("packet", "netlink"),
)
LISTENS = "0A"  # a state of TCP's


# --- Started where they are watched --------------------------------------------------------------------------------


def outer_network() -> str:
    """Return the path of this process's network namespace, for nsenter."""
    return f"--net=/proc/{os.getpid()}/ns/net"


@functools.cache
def can_seal(*, with_a_way_back: bool = False) -> bool:
    """Tell whether a process may have a network of its own here; and what it starts, one that is ours again."""
    nsenter = shutil.which("nsenter") or "/bin/false"
    command = [nsenter, outer_network(), "/bin/true"] if with_a_way_back else ["/bin/true"]
    near, far = socket.socketpair()
    with near, far:
        words = [*sealing(far), *command]
        return subprocess.run(words, pass_fds=[far.fileno()], capture_output=True, timeout=SEAL_S).returncode == 0


def sealing(channel: socket.socket) -> tuple[str, ...]:
    """Return the words to put before a command so that it runs in its own network namespace."""
    return (sys.executable, "-I", "-S", str(HERE / "sealed.py"), str(channel.fileno()))


@dataclass(frozen=True)
class Note:
    """One event that recorder/ has recorded.

    Attributes:
        exposed: whether its process could then leave a core file, or be looked into.
    """

    event: str
    exposed: bool
    arguments: list[Any]


class Watch:
    """Watches the parties of a stage, each in a network of its own where there is such a thing.

    Args:
        folder: empty; for notes and logs.
        sealed: whether each party gets a network of its own.
    """

    def __init__(self, folder: Path, *, sealed: bool) -> None:
        self.sealed = sealed
        self._notes = folder / "notes"
        self._logs = folder / "logs"
        for path in (self._notes, self._logs):
            path.mkdir()
        self._tor = folder / "tor"
        self._write_tor()
        self._channels: dict[str, tuple[socket.socket, socket.socket]] = {}

    def outfit(self, name: str) -> Outfit:
        """Return what a party is started with."""
        paths = [str(HERE / "recorder"), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {
            "PYTHONPATH": os.pathsep.join(paths),
            "RECORDER_NOTES": str(self._notes),
            "ONIONMPC_TOR": str(self._tor),
            "ONIONMPC_CONTROL_PASSWORD": CONTROL_PASSWORD,
        }
        if not self.sealed:
            return Outfit(environment=environment)
        _, far = self._channels[name] = socket.socketpair()
        return Outfit(sealing(far), environment, (far.fileno(),))

    def log_of(self, name: str) -> Path:
        """Return where a tor logs that none of the parties starts."""
        return self._logs / name

    def packets(self) -> list[str]:
        """Say which packets left processes of the parties, wherever to; to be asked once."""
        found = []
        for name, (near, far) in self._channels.items():
            far.close()
            with near:
                (descriptor,) = socket.recv_fds(near, 1, 1)[1]
            with socket.socket(fileno=descriptor) as packets:
                packets.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    while True:
                        packet, (_, protocol, kind, *_) = packets.recvfrom(MAX_PACKET_BYTES)
                        if kind == socket.PACKET_OUTGOING:  # each comes twice: as it leaves and as it arrives
                            found.append(f"{name}: {_describe_packet(protocol, packet)}")
        return found

    def notes(self, word: str = "") -> dict[int, list[Note]]:
        """Return the notes of each Python process that has this word in its command line."""
        noted = {int(path.name): list(map(_note, path.read_text().splitlines())) for path in self._notes.iterdir()}
        return {process: notes for process, notes in noted.items() if word in " ".join(notes[0].arguments[0])}

    def logs(self) -> dict[str, str]:
        """Return what each tor logged, and our own processes at any level."""
        logs = {f"the log of tor {path.name}": path.read_text() for path in self._logs.iterdir()}
        for process, notes in self.notes().items():
            logs[f"the log of {process}"] = "\n".join(note.arguments[0] for note in notes if note.event == "log")
        return logs

    def _write_tor(self) -> None:
        """Write a tor that logs here too, and has the network that we have."""
        tor = shutil.which(os.environ.get("ONIONMPC_TOR", "tor"))
        back = f"{shutil.which('nsenter')} {outer_network()} " if self.sealed else ""
        self._tor.write_text(
            f"""#!/bin/sh
case " $* " in *" -f "*) set -- +Log "notice file {self._logs}/$$" "$@" ;; esac
exec {back}{shlex.quote(str(tor))} "$@"
"""
        )
        self._tor.chmod(0o755)


def _note(line: str) -> Note:
    event, exposed, *arguments = json.loads(line)
    return Note(event, exposed != [0, 0], arguments)


def _describe_packet(protocol: int, packet: bytes) -> str:
    if protocol == IPV4:
        return f"protocol {packet[9]} to {socket.inet_ntop(socket.AF_INET, packet[16:20])}"
    return f"protocol {packet[6]} to {socket.inet_ntop(socket.AF_INET6, packet[24:40])}"


# --- What they reach for -------------------------------------------------------------------------------------------


def reached(notes: Iterable[Note], reachable: frozenset[str]) -> list[str]:
    """Return which sockets other than unix sockets were opened, what was looked up, and what else was reached.

    Args:
        reachable: names of sockets in a private directory.
    """
    return [found for note in notes if (found := _reached(note, reachable))]


def _reached(note: Note, reachable: frozenset[str]) -> str:
    what = note.event.removeprefix("socket.")
    if what in LOOK_UPS:
        return f"{what} of {note.arguments[0]}"
    if what == "__new__" and note.arguments[1] not in (socket.AF_UNIX, INHERITED):
        return f"a socket of family {note.arguments[1]}"
    address = note.arguments[1] if what in ("connect", "bind", "sendto", "sendmsg") else None
    if address is not None and not _is_private(address, reachable):
        return f"{what} {address}"
    return ""


def _is_private(address: object, names: frozenset[str]) -> bool:
    """Return whether this is a unix socket with one of these names, in a directory that onionmpc makes."""
    return (
        isinstance(address, str) and Path(address).name in names and Path(address).parent.name.startswith("onionmpc.")
    )


def open_sockets(processes: Mapping[int, str]) -> list[str]:
    """Return which sockets of running processes are not unix sockets. Of tor's sockets, only those that listen.

    Args:
        processes: by number, which one it is; "tor" for a tor, which has connections to its guard.
    """
    kinds: dict[str, str] = {}
    # A socket stays in the table of the network where it was made: by a parent, or by whoever dialled us.
    for process in (*processes, os.getpid()):
        kinds |= {line[6]: "unix" for line in _table(process, "unix")}
        for kind in NETWORK_TABLES:
            for line in _table(process, kind):
                listens = kind.startswith("tcp") and line[3] == LISTENS
                kinds[line[8 if kind == "packet" else 9]] = f"{kind} that listens" if listens else kind
    fine = {"tor": {"unix", "tcp", "tcp6"}}
    return [
        f"{name} has a socket of {kind}"
        for process, name in processes.items()
        for inode in _sockets(process)
        if (kind := kinds.get(inode, "an unknown kind")) not in fine.get(name, {"unix"})
    ]


def _table(process: int, kind: str) -> Iterator[list[str]]:
    with contextlib.suppress(FileNotFoundError):  # this kernel has no such sockets
        for line in Path(f"/proc/{process}/net/{kind}").read_text().splitlines()[1:]:
            yield line.split()


def _sockets(process: int) -> Iterator[str]:
    """Yield the inode of each socket that a process has open."""
    for descriptor in Path(f"/proc/{process}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            target = str(descriptor.readlink())
            if target.startswith("socket:"):
                yield target.removeprefix("socket:[").removesuffix("]")


# --- What they say -------------------------------------------------------------------------------------------------


def spellings(name: str, secret: bytes) -> dict[str, str]:
    """Return the spellings of a secret, each with a name."""
    written = {secret.hex(): "hex", base64.b64encode(secret).decode().rstrip("="): "base64", repr(secret)[2:-1]: "repr"}
    written[base64.b32encode(secret).decode().rstrip("=").lower()] = "base32"
    return {text: f"{name} in {how}" for text, how in written.items()}


def secrets_of(name: str, identity: Identity) -> dict[str, str]:
    """Return all spellings of an identity's seed, keys and address."""
    return {
        **spellings(f"{name}'s seed", identity.seed),
        **spellings(f"{name}'s key for tor", identity.expanded_key),
        **spellings(f"{name}'s key for links", identity.x25519_private),
        identity.onion[:50]: f"{name}'s address",  # with which an invite begins too
    }


def told(texts: Mapping[str, str], secrets: Mapping[str, str]) -> list[str]:
    """Return which texts contain which secrets, by the names of the texts and the spellings."""
    return [
        f"{place} has {name}" for place, text in texts.items() for secret, name in secrets.items() if secret in text
    ]


def started(notes: Mapping[int, list[Note]]) -> dict[str, str]:
    """Return the arguments and variables of all processes that these processes started."""
    return {
        # Without variables of its own it gets those of who starts it.
        f"how {process} starts {note.arguments[1]}": json.dumps(
            [note.arguments, note.arguments[-1] or noted[0].arguments]
        )
        for process, noted in notes.items()
        for note in noted
        if note.event in STARTS
    }


def as_it_runs(processes: Mapping[int, str]) -> dict[str, str]:
    """Return the arguments and variables of running processes."""
    return {
        f"{what} of {name}, {process}, as it runs": Path(f"/proc/{process}/{file}")
        .read_bytes()
        .decode(errors="backslashreplace")
        for process, name in processes.items()
        for what, file in (("argv", "cmdline"), ("environment", "environ"))
    }


def children(process: int) -> Iterator[int]:
    """Yield all descendants of a process."""
    for thread in Path(f"/proc/{process}/task").iterdir():
        for child in map(int, (thread / "children").read_text().split()):
            yield child
            yield from children(child)
