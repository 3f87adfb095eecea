"""Passes a program's standard output on, and hashes it on its way.

If nobody reads the output any more, the program does not notice: other parties compute with it, and need it to go on
to its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import sys
import termios
import threading

from onionmpc.machine import READ_BYTES


class Tee:
    """One program's standard output.

    Args:
        out: the descriptor that everything goes to.

    Attributes:
        end: what the program writes into; the caller closes this one when the program has its own.
        loss: why some of it could not be written there, if so.
    """

    def __init__(self, out: int) -> None:
        self._near, far = os.pipe()
        os.set_blocking(self._near, False)
        self.end = os.fdopen(far, "wb", buffering=0)
        self.loss: OSError | None = None
        self._out = out
        self._hash = hashlib.sha256()
        self._changed = asyncio.Event()
        self._left: int | None = None  # when the program has ended: how much of what it wrote was not read yet
        self._copying = asyncio.create_task(self._copy())

    async def finish(self) -> bytes:
        """Wait until all that the program has written is passed on; return its SHA-256.

        The program has ended. What another process writes, that it left behind, is not waited for.
        """
        if not self._copying.done():
            self._left = int.from_bytes(fcntl.ioctl(self._near, termios.FIONREAD, bytes(4)), sys.byteorder)
            self._changed.set()
            await asyncio.wait([self._copying])
        self._copying.result()
        return self._hash.digest()

    def close(self) -> None:
        """Pass nothing more on."""
        self.end.close()
        self._copying.cancel()

    async def _copy(self) -> None:
        try:
            while chunk := await self._read():
                self._hash.update(chunk)
                if self.loss is None:
                    try:
                        await self._write(chunk)
                    except OSError as error:
                        self.loss = error
        finally:
            os.close(self._near)

    async def _read(self) -> bytes:
        """Return what comes next, nothing at the end."""
        while True:
            try:
                chunk = os.read(self._near, READ_BYTES if self._left is None else min(READ_BYTES, self._left))
            except BlockingIOError:
                await self._until_changed()
            else:
                if self._left is not None:
                    self._left -= len(chunk)
                return chunk

    async def _until_changed(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(self._near, self._changed.set)
        try:
            await self._changed.wait()
            self._changed.clear()
        finally:
            loop.remove_reader(self._near)

    async def _write(self, chunk: bytes) -> None:
        """Write it, in a thread: a reader may be slow and a terminal stopped, and links have to live meanwhile."""
        loop = asyncio.get_running_loop()
        written: asyncio.Future[None] = loop.create_future()

        def tell(error: OSError | None) -> None:
            if written.done():
                return  # nobody waits for it any more
            if error is None:
                written.set_result(None)
            else:
                written.set_exception(error)

        def write() -> None:
            failure: OSError | None = None
            rest = memoryview(chunk)
            try:
                while rest:
                    rest = rest[os.write(self._out, rest) :]
            except OSError as error:
                failure = error
            with contextlib.suppress(RuntimeError):  # the loop has been closed
                loop.call_soon_threadsafe(tell, failure)

        # Not one of the loop's own threads: those are waited for in the end, and this one may wait for ever.
        threading.Thread(target=write, daemon=True, name="output").start()
        await written
