"""Runs an MPyC script and writes down when it connected and ended: the program of both sides of `overhead`.

Usage: timed.py DIRECTORY DELAY_MS SCRIPT [ARGUMENT...], with MPyC's own options among them. Knows mpyc, and
nothing of how the parties are connected. Both sides run it, so what it costs cancels out.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import json
import runpy
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mpyc.asyncoro
from mpyc.runtime import mpc

# With this, secret_santa of three parties draws three times, which is its average.
SEED = "1"


def fix_randomness() -> None:
    """Derive the keys of MPyC's pseudorandom secret sharing from SEED, in place of secret ones.

    All that a program draws jointly comes from these, such as how often secret_santa has to draw again.
    """
    for subset in mpc._prss_keys:  # noqa: SLF001 (keys have no public name)
        mpc._prss_keys[subset] = hashlib.sha256(f"{SEED} {subset}".encode()).digest()[:16]  # noqa: SLF001


def listen_here_only() -> None:
    """Let MPyC listen on 127.0.0.1, where it listens on all interfaces by itself. With onionmpc it does not listen."""
    loop = mpc._loop  # noqa: SLF001 (the loop has no public name)
    loop.create_server = functools.partial(loop.create_server, host="127.0.0.1")


def measure(notes: dict[str, Any]) -> None:
    """Note the times of mpc.start() and mpc.shutdown(), and how many messages are sent between them.

    Times are those of CLOCK_MONOTONIC, which all processes of a machine share.
    """
    start, shutdown, send = mpc.start, mpc.shutdown, mpc._send_message  # noqa: SLF001

    async def noted_start() -> None:
        await start()
        notes["connected_s"] = time.monotonic()

    async def noted_shutdown() -> None:
        await shutdown()
        notes["ended_s"] = time.monotonic()

    def counted_send(peer: int, data: bytes) -> None:
        notes["messages"] += 1
        send(peer, data)

    notes["messages"] = 0
    mpc.start, mpc.shutdown, mpc._send_message = noted_start, noted_shutdown, counted_send  # noqa: SLF001


def delay_arrivals(delay_s: float) -> None:
    """Let all that comes from other parties wait, their goodbyes too, as on a long way."""
    exchanger = mpyc.asyncoro.MessageExchanger
    for name in ("data_received", "connection_lost"):
        now = getattr(exchanger, name)

        def later(self: asyncio.Protocol, what: object, now: Callable[..., None] = now) -> None:
            mpc._loop.call_later(delay_s, now, self, what)  # noqa: SLF001 (the loop has no public name)

        setattr(exchanger, name, later)


def main(directory: str, delay_ms: str, script: str, *arguments: str) -> None:
    """Run the script with its arguments, then write notes-NUMBER.json."""
    notes: dict[str, Any] = {}
    listen_here_only()
    fix_randomness()
    if delay_s := int(delay_ms) / 1000:
        delay_arrivals(delay_s)
    measure(notes)
    sys.argv = [script, *arguments]
    sys.path.insert(0, str(Path(script).parent))
    runpy.run_path(script, run_name="__main__")
    (Path(directory) / f"notes-{mpc.pid}.json").write_text(json.dumps(notes))


if __name__ == "__main__":
    main(*sys.argv[1:])
