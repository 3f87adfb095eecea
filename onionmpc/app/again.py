"""One app for each state directory: a second start asks the running one for a fresh link.

The running app listens on a unix socket that only this user can reach. Each connection gets one link, on a line.

Knows the lock, the socket and how they are found. Does not know what a link is for.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from onionmpc.errors import UsageError
from onionmpc.files import (
    FILE_MODE,
    lock,
    private_directory,
    read_private,
    socket_directory,
    state_directory,
    write_private,
)

LOCK = "app.lock"
# Holds the path of the socket. The socket itself is elsewhere, since its path must be short.
POINTER = "app.socket"
MAX_POINTER_BYTES = 200
MAX_LINK_BYTES = 512
# From the lock to the socket takes an app far less. If one is stopped, this says so after a moment.
ANSWER_S = 5.0
RETRY_S = 0.05


class AlreadyRunning(UsageError):
    """Another process of this user is the app."""


@contextlib.asynccontextmanager
async def answering(new_link: Callable[[], str]) -> AsyncIterator[None]:
    """Be the app during the block, and give a fresh link to each later start.

    Raises:
        AlreadyRunning: another process is.
        UsageError: the state directory cannot be used.
    """
    folder = private_directory(state_directory())

    def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(new_link().encode() + b"\n")
        writer.close()

    with lock(folder / LOCK) as is_ours:
        if not is_ours:
            raise AlreadyRunning("onionmpc app is running", hint="use its window, or end it")
        with socket_directory() as private:
            path = private / "again"
            server = await asyncio.start_unix_server(answer, path)
            path.chmod(FILE_MODE)
            async with server:
                write_private(folder / POINTER, str(path).encode())
                try:
                    yield
                finally:
                    (folder / POINTER).unlink(missing_ok=True)


async def ask_running(within_s: float = ANSWER_S) -> str:
    """Return a fresh link from the app that runs.

    Raises:
        UsageError: it gives none within this time.
    """
    folder = private_directory(state_directory())
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            while True:
                # It may just be starting, or ending.
                if link := await _ask_once(folder):
                    return link
                await asyncio.sleep(RETRY_S)
    raise UsageError("onionmpc app is running, but does not answer", hint="end it, and start it again")


async def _ask_once(folder: Path) -> str | None:
    path = read_private(folder / POINTER, MAX_POINTER_BYTES, "the address of the running app")
    if not path:
        return None
    try:
        reader, writer = await asyncio.open_unix_connection(path.decode(), limit=MAX_LINK_BYTES)
    except OSError:
        return None
    try:
        line = await reader.readuntil(b"\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
        return None
    finally:
        writer.close()
    return line.decode().rstrip("\n")
