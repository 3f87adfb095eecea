"""Runs a private Tor network as a user would: in the foreground, in its own process."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

# A network without latency: these tests check what happens, not how long it takes.
UP = (sys.executable, "-P", "-m", "onionmpc.cli", "testnet", "up", "--latency", "none")
END_TIMEOUT_S = 30.0


@contextlib.contextmanager
def running_testnet(directory: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Run `onionmpc testnet up` in the foreground; yield when it is ready."""
    log = directory.with_suffix(".log")
    with (
        log.open("w", encoding="utf-8") as errors,
        subprocess.Popen([*UP, *options, str(directory)], stdout=subprocess.PIPE, stderr=errors, text=True) as owner,
    ):
        try:
            assert owner.stdout is not None
            # It prints its directory when it is ready; nothing if it ends before.
            ready = owner.stdout.readline()
            assert ready.strip() == str(directory), log.read_text(encoding="utf-8")
            yield owner
        finally:
            owner.terminate()
            owner.wait(END_TIMEOUT_S)
