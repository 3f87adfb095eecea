"""Lets the parties' tors log what they do, and keeps the parts that explain a long outage.

Knows how a party is told which tor to run, and the stamps of tor's log. Does not know what made the outage long: that
is for whoever reads the lines.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

# What tor did just before an outage and just after it belongs to it.
MARGIN_S = 30.0
STAMP_CHARACTERS = len("Nov 30 12:00:00.000")


def logging_tor(folder: Path) -> dict[str, str]:
    """Return the environment for parties whose tors each write an info log in `folder`.

    With the names of relays, which a log that people send must not have: all of them stand on this machine.
    """
    tor = shutil.which("tor")
    assert tor is not None
    folder.mkdir()
    script = folder / "tor"
    script.write_text(f'#!/bin/sh\nexec {tor} "$@" +Log "info file $(dirname "$0")/$$.log" --SafeLogging 0\n')
    script.chmod(0o700)
    return {"ONIONMPC_TOR": str(script), "TZ": "UTC"}


def keep_outage(folder: Path, kept: Path, lost_at_s: float, back_at_s: float) -> None:
    """Copy what all tors logged during an outage into a new folder.

    Args:
        lost_at_s, back_at_s: when it began and ended, in seconds of `time.time`.
    """
    kept.mkdir(parents=True)
    for log in folder.glob("*.log"):
        if log.stat().st_mtime < lost_at_s - MARGIN_S:
            continue  # of a tor that had ended before: the faults kill many
        with log.open(errors="replace") as lines, (kept / log.name).open("w") as chosen:
            chosen.writelines(between(lines, lost_at_s - MARGIN_S, back_at_s + MARGIN_S))


def between(lines: Iterable[str], first_s: float, last_s: float) -> Iterator[str]:
    """Yield the lines of a tor's log between two times. A line without a timestamp belongs to the line before it."""
    year = time.gmtime(first_s).tm_year
    at_s = 0.0
    for line in lines:
        with contextlib.suppress(ValueError):
            stamp = f"{year} {line[:STAMP_CHARACTERS]} +0000"
            at_s = datetime.strptime(stamp, "%Y %b %d %H:%M:%S.%f %z").timestamp()
        if first_s <= at_s <= last_s:
            yield line
