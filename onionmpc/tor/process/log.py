"""Reads the log of a tor of our own, and finds out from it why tor failed.

It keeps the last lines, without the addresses in them.
"""

from __future__ import annotations

import asyncio
import collections
import re

from onionmpc.errors import TorFailed

LOG_LINES = 40
TAIL_LINES = 6
# "Nov 22 12:00:00.000 [warn] "
STAMP = re.compile(r"^\w{3} \d+ [\d:.]+ ")
COMPLAINT = re.compile(r"\[(warn|err)\] ")
# tor's SafeLogging hides our peers. This hides guards, bridges and what an extra torrc line makes tor log.
ADDRESS_PATTERN = re.compile(
    r"""\b[a-z2-7]{56}(\.onion)?\b             # an onion address
      | \$?\b[0-9A-F]{40}(~\w+)?\b            # a relay
      | \b(?<!Tor\ )\d{1,3}(\.\d{1,3}){3}\b   # IPv4, and not a version of tor
      | \[[0-9a-f:]*:[0-9a-f:.]*\]             # IPv6
      | \bnew\ bridge\ descriptor\ .*          # a bridge: its name, two fingerprints and address
    """,
    re.VERBOSE,
)
# What tor's messages mean, and what to do. The first match wins.
KNOWN_FAILURES = (
    (r"No space left on device|Disk quota exceeded", "the disk is full", "free some space where its profile is kept"),
    (
        r"Read-only file system|Permission denied|EACCES",
        "it has no permission to write",
        "check the owner and mode of its profile",
    ),
    (r"Address already in use", "a port or socket it wants is taken", "end the other program, or choose another port"),
    (r"another Tor process is running", "another tor uses its profile", "end that tor, or use another --profile"),
    (
        r"Failed to parse/validate config|Reading config failed",
        "it refused its configuration",
        "correct the extra torrc lines",
    ),
)
NO_CAUSE = ("", "run onionmpc doctor, which checks this machine")


class TorLog:
    """The last lines of tor's log."""

    def __init__(self) -> None:
        self._lines: collections.deque[str] = collections.deque(maxlen=LOG_LINES)

    async def read(self, process: asyncio.subprocess.Process) -> None:
        """Keep what tor logs until it closes the pipe."""
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
            self._lines.append(ADDRESS_PATTERN.sub("[hidden]", line))

    def failure(self, what: str) -> TorFailed:
        """Return an error that says `what`, the reason if the log has one, and tor's last lines."""
        cause, hint = next(
            (words for pattern, *words in KNOWN_FAILURES if any(re.search(pattern, line) for line in self._lines)),
            NO_CAUSE,
        )
        complaints = [line for line in self._lines if COMPLAINT.match(line)]
        shown = complaints[-TAIL_LINES:] or list(self._lines)[-TAIL_LINES:]
        message = ": ".join(filter(None, [what, cause]))
        return TorFailed("\n".join([message, *(f"  tor: {line}" for line in shown)]), hint=hint)
