"""Forwards a program's standard output and hashes it.

If nobody reads the output any more, the program does not notice: an error would end it, and with it the session of all
parties.
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
        out: the descriptor to forward to.

    Attributes:
        write_end: the program writes here. The caller closes it when the program has its own copy.
        loss: why some output could not be written; None if all could.
    """

    def __init__(self, out: int) -> None:
        self._near, far = os.pipe()
        os.set_blocking(self._near, False)
        self.write_end = os.fdopen(far, "wb", buffering=0)
        self.loss: OSError | None = None
        self._out = out
        self._hash = hashlib.sha256()
        self._changed = asyncio.Event()
        self._unread_bytes: int | None = None  # in the pipe when the program ended
        self._copying = asyncio.create_task(self._copy())

    async def finish(self) -> bytes:
        """Wait until all output of the program, which has ended, is forwarded; return its SHA-256.

        The end of the pipe may never come: a process that the program left behind can hold it open. So this counts what
        is in the pipe now, and waits for nothing more.
        """
        if not self._copying.done():
            self._unread_bytes = int.from_bytes(fcntl.ioctl(self._near, termios.FIONREAD, bytes(4)), sys.byteorder)
            self._changed.set()
            await asyncio.wait([self._copying])
        self._copying.result()
        return self._hash.digest()

    def close(self) -> None:
        """Stop forwarding."""
        self.write_end.close()
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
        """Return the next bytes; none at the end."""
        while True:
            unread = self._unread_bytes
            try:
                chunk = os.read(self._near, READ_BYTES if unread is None else min(READ_BYTES, unread))
            except BlockingIOError:
                await self._until_changed()
            else:
                if unread is not None:
                    self._unread_bytes = unread - len(chunk)
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
        """Write in a thread: a reader may be slow, or a terminal stopped (Ctrl-S), and the links must go on."""
        loop = asyncio.get_running_loop()
        written: asyncio.Future[None] = loop.create_future()

        def finish(error: OSError | None) -> None:
            if written.done():
                return  # cancelled
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
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(finish, failure)

        # Not asyncio.to_thread(): asyncio.run() waits for the threads of its executor, and this one may never return.
        threading.Thread(target=write, daemon=True, name="output").start()
        await written
