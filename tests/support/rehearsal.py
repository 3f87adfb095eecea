"""Programs for dry runs, and a way to see their processes come and go."""

from __future__ import annotations

import asyncio
import contextlib
import os
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

from onionmpc.program.code.catalogue import code_of, find_program
from onionmpc.program.spec import ProgramSpec
from onionmpc.session.agreed_options import default_threshold

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
# Says which process it is in the pipe that its argument names, and then does nothing.
PAUSE = """
import os, signal, sys
with open(sys.argv[1], "w") as end:
    end.write(f"{os.getpid()}\\n")
signal.pause()
"""


def write_spec(folder: Path, script: str, *arguments: str, parties: int = 3) -> ProgramSpec:
    """Write a script; return what runs it."""
    path = folder / "script.py"
    path.write_text(textwrap.dedent(script))
    return spec_of(path, *arguments, parties=parties)


def spec_of(script: str | Path, *arguments: str, parties: int = 3) -> ProgramSpec:
    """Return what runs a script, or a program of ours, without a network."""
    program = find_program(str(script))
    return ProgramSpec(
        script=str(program.path),
        folder=str(program.folder),
        arguments=arguments,
        number=0,
        parties=parties,
        threshold=default_threshold(parties),
        mpyc_options=(),
        named=arguments,
        code=code_of(program),
    )


@contextlib.asynccontextmanager
async def pids_at(path: Path) -> AsyncIterator[asyncio.StreamReader]:
    """Make a pipe for processes that run `PAUSE`; yields what reads a line of each."""
    os.mkfifo(path)
    told = asyncio.StreamReader()
    end = os.fdopen(os.open(path, os.O_RDWR | os.O_NONBLOCK), buffering=0, mode="r+b")
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(told), end)
    try:
        yield told
    finally:
        transport.close()


def is_there(process: int) -> bool:
    """Tell whether a process exists."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
