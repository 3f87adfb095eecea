"""A Network of plain unix sockets in one private directory: no tor, no privacy, no delay.

Knows where each onion's socket lies. It is the verified fake of the tests (tests/support/network_contract.py runs on
it and on tor alike) and the baseline of the benchmarks. It never leaves this machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from onionmpc.errors import NotExpected, PeerUnreachable, TorFailed
from onionmpc.files import write_private
from onionmpc.identity import Onion
from onionmpc.levels import Level
from onionmpc.mesh.listener import listening_unix
from onionmpc.mesh.network import OnStream, OwnPath, Stream

# 80 bits of the address: enough to tell parties apart, and short enough for a socket's path (103 bytes on
# macOS).
NAME_CHARACTERS = 16


class DirectNetwork:
    """One party's end of a direct network; an async context manager.

    Args:
        directory: shared by all parties, mode 0700.
        onion: the address that this party listens as.
        level: what to call the length of its circuits, of which there are none.
    """

    def __init__(self, directory: Path, onion: Onion, level: Level = Level.STANDARD) -> None:
        self.level = level
        self._directory = directory
        self._onion = onion
        self._keys: dict[Onion, bytes] = {}
        self._open = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Open nothing: `listen` does."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop listening, and cut the accepted streams."""
        await self._open.aclose()
        self._lock(self._onion).unlink(missing_ok=True)

    async def listen(self, on_stream: OnStream, keys: Iterable[bytes] = ()) -> None:
        """See `Network.listen`."""
        path = self._socket(self._onion)
        await self._open.aclose()
        self._lock(self._onion).unlink(missing_ok=True)
        if admitted := list(keys):
            self._seal(admitted)
        try:
            await self._open.enter_async_context(listening_unix(path, on_stream))
        except OSError as error:
            raise TorFailed(f"cannot listen on {path}: {error.strerror or error}") from error

    def admit(self, keys: Iterable[bytes]) -> None:
        """See `Network.admit`."""
        if self._lock(self._onion).exists():
            self._seal(keys)

    def unlock(self, onion: Onion, key: bytes) -> None:
        """See `Network.unlock`."""
        self._keys[onion] = key

    async def dial(self, onion: Onion, timeout_s: float) -> Stream:
        """See `Network.dial`."""
        lock = self._lock(onion)
        if lock.exists() and _print(self._keys.get(onion, b"")) not in lock.read_text().split():
            raise NotExpected("it can be found by those alone whom it expects, and this party is not one of them")
        try:
            async with asyncio.timeout(timeout_s):
                return Stream(*await asyncio.open_unix_connection(self._socket(onion)))
        except TimeoutError:
            raise PeerUnreachable(f"no answer within {timeout_s:g} s") from None
        except OSError as error:
            raise PeerUnreachable(f"nobody listens there ({error.strerror})") from error

    async def accepted_path(self, rendezvous: str) -> OwnPath | None:
        """See `Network.accepted_path`."""
        return None

    async def restored(self) -> None:
        """See `Network.restored`: local sockets have no outages."""
        await asyncio.Event().wait()

    async def refresh(self) -> None:
        """See `Network.refresh`: nobody has to find a local socket."""

    def _seal(self, keys: Iterable[bytes]) -> None:
        write_private(self._lock(self._onion), "\n".join(map(_print, keys)).encode())

    def _socket(self, onion: Onion) -> Path:
        return self._directory / f"{onion[:NAME_CHARACTERS]}.sock"

    def _lock(self, onion: Onion) -> Path:
        """The file with the keys that may find a party. There is none if everyone may."""
        return self._directory / f"{onion[:NAME_CHARACTERS]}.keys"


def _print(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()
