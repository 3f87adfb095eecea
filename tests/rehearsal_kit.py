"""Programs for dry runs, and a way to see their processes come and go."""

from __future__ import annotations

import asyncio
import contextlib
import os
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

from onionmpc.program.catalogue import find_program
from onionmpc.program.spec import ProgramSpec
from onionmpc.session.local import default_threshold

# Multiplies a secret number ROUNDS times, each product of the one before.
CHAIN = """
import sys
from mpyc.runtime import mpc
async def main():
    secint = mpc.SecInt(32)
    async with mpc:
        [one] = mpc.input([secint(1)], senders=0)
        product = one
        for _ in range(int(sys.argv[1])):
            product = product * one
        assert await mpc.output(product) == 1
mpc.run(main())
"""
# The first product waits for the hello of a lower party and then for the factors; after the last one come its opening,
# the transfer by which MPyC says that a party is done, and the end of a connection.
HOPS_BESIDE_ROUNDS = 5
# Says which process it is at the unix socket that its argument names, and then does nothing.
PAUSE = """
import os, signal, socket, sys
with socket.socket(socket.AF_UNIX) as end:
    end.connect(sys.argv[1])
    end.sendall(str(os.getpid()).encode())
signal.pause()
"""


def write_spec(folder: Path, script: str, *arguments: str, parties: int = 3) -> ProgramSpec:
    """Write a script; return what runs it."""
    path = folder / "script.py"
    path.write_text(textwrap.dedent(script))
    program = find_program(str(path))
    return ProgramSpec(
        script=str(program.path),
        folder=str(program.folder),
        arguments=arguments,
        number=0,
        parties=parties,
        threshold=default_threshold(parties),
        mpyc_options=(),
        sockets={},
    )


@contextlib.asynccontextmanager
async def pids_at(path: Path) -> AsyncIterator[asyncio.Queue[int]]:
    """Listen at a unix socket for processes that run `PAUSE`."""
    told: asyncio.Queue[int] = asyncio.Queue()

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        told.put_nowait(int(await reader.read()))
        writer.close()

    async with await asyncio.start_unix_server(hear, path):
        yield told


def is_there(process: int) -> bool:
    """Tell whether a process exists."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
