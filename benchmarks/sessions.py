"""Sessions of a benchmark: the commands that people type, and what the programs of parties write down.

Knows `onionmpc join`, and MPyC by itself. Does not know what is compared.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import secrets
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.common import HERE
from benchmarks.processes import Process, running
from onionmpc.files import private_directory, write_private
from onionmpc.identity import SEED_BYTES, Identity
from onionmpc.identity.key_file import KEY_FILE_NONCE_BYTES, KEY_FILE_SALT_BYTES, encode_key_file
from onionmpc.session.agreed_options import default_threshold

ONIONMPC = (sys.executable, "-P", "-m", "onionmpc.cli")
TIMED = HERE / "timed.py"
WORKLOAD = HERE / "workload.py"


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
    return [str(folder), str(delay_ms), str(script), *arguments]


def times_of(folder: Path, parties: int) -> dict[str, float]:
    """Return what the parties of timed.py wrote down together.

    Returns:
        compute_s: from the last connection to the end of the last shutdown.
        messages: how many all have sent.
    """
    notes = [json.loads((folder / f"notes-{number}.json").read_text()) for number in range(parties)]
    connected_s, ended_s = (max(note[key] for note in notes) for key in ("connected_s", "ended_s"))
    return {"compute_s": ended_s - connected_s, "messages": sum(note["messages"] for note in notes)}
