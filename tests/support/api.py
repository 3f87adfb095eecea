"""Parties of the public API in one process, over local sockets instead of tor."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from onionmpc.api.party import Party
from onionmpc.api.runtime import OnSessionEvent, PartyRuntime
from onionmpc.errors import TorError
from onionmpc.files import socket_directory
from onionmpc.identity import Identity, Onion
from tests.support.direct import DirectNetwork
from tests.support.session import new_identities


class LocalNetwork(DirectNetwork):
    """A network that the test can lose for good."""

    def __init__(self, directory: Path, onion: Onion) -> None:
        super().__init__(directory, onion)
        self.died: asyncio.Future[TorError] = asyncio.get_running_loop().create_future()

    @property
    def failure(self) -> TorError | None:
        return self.died.result() if self.died.done() else None


@contextlib.asynccontextmanager
async def local_party(
    directory: Path, identity: Identity, on_event: OnSessionEvent | None = None
) -> AsyncIterator[Party]:
    """What `onionmpc.party` yields, without tor."""
    runtime = PartyRuntime(identity, LocalNetwork(directory, identity.onion), on_event)
    async with runtime.running():
        yield Party(runtime)


@contextlib.asynccontextmanager
async def local_parties(number: int) -> AsyncIterator[list[Party]]:
    """So many of them, in the order of their addresses."""
    with socket_directory() as directory:
        async with contextlib.AsyncExitStack() as stack:
            yield [
                await stack.enter_async_context(local_party(directory, identity)) for identity in new_identities(number)
            ]
