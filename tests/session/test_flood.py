"""A thousand strangers dial a running session: its result does not change, and its memory stays bounded."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from onionmpc.files import socket_directory
from tests.support.flooded import RIGHT
from tests.support.session import run
from tests.support.stages import Gate, with_our_path
from tests.support.strangers import at, visit

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="limits and memory of another process are Linux's"),
    pytest.mark.usefixtures("enough_descriptors"),
]

STREAMS = 1000
ADDED_BYTES = 20 * 10**6
# Fewer than there are strangers; the three supervisors and their links take some 60 of them.
DESCRIPTORS = 400
AGAIN = b"\n"

Ask = Callable[..., Awaitable[Any]]


@contextlib.asynccontextmanager
async def flooded(folder: Path, gate: Gate) -> AsyncIterator[tuple[Ask, asyncio.subprocess.Process]]:
    """A session in a separate process, and a function that sends it a line and returns its next line."""
    session = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.flooded", str(folder), str(gate.path)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=with_our_path(),
        limit=2**20,
    )
    given, told = session.stdin, session.stdout
    assert given is not None
    assert told is not None

    async def ask(line: bytes = b"") -> Any:
        given.write(line)
        return json.loads(await told.readline())

    try:
        yield ask, session
        assert await session.wait() == 0
    finally:
        if session.returncode is None:
            session.kill()
        given.close()
        await session.wait()


def test_a_thousand_strangers_change_no_result_and_fill_no_memory(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async def main() -> None:
        with socket_directory() as directory:
            gate = Gate(directory / "gate")
            async with gate.open(), flooded(tmp_path, gate) as (ask, session):
                await gate.holds(3)
                door, firsts, before = await ask()
                resource.prlimit(session.pid, resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
                came = asyncio.Event()
                recorded = [bytes.fromhex(first) for first in firsts]
                strangers = asyncio.create_task(visit(at(Path(door)), STREAMS, recorded, on_all=came.set))
                await came.wait()
                await ask(AGAIN)  # a party that has lost its streams gets in past them
                await gate.release()
                assert session.stdin is not None
                session.stdin.write_eof()
                answered, after = await ask()
                await strangers
        assert answered == RIGHT
        assert after["peak_bytes"] - before["rss_bytes"] < ADDED_BYTES

    run(main())
    assert capfd.readouterr() == ("", "")  # nothing that asyncio could not do, for want of descriptors
