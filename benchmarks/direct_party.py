"""The onionmpc command with plain local sockets where tor would be.

Usage: direct_party.py DIRECTORY ARGUMENT..., the arguments being those of `onionmpc`. All else is as people run it,
imports included: its memory is that of a supervisor but for what a connection to tor holds.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from onionmpc.api import party
from onionmpc.cli import main as command
from onionmpc.identity import Identity, Onion
from onionmpc.mesh.network import Stream
from tests.support.direct import DirectNetwork

# As often as MPyC tries. A supervisor would wait a second, which suits onion services and is nothing to measure here.
RETRY_S = 0.1


class DirectPlace(DirectNetwork):
    """A direct network that waits for a peer who does not listen yet, and never dies, as a tor may."""

    def __init__(self, directory: Path, onion: Onion) -> None:
        super().__init__(directory, onion)
        self.died: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.failure = None

    async def dial(self, onion: Onion, timeout_s: float) -> Stream:
        """Dial as soon as there is something to dial."""
        async with asyncio.timeout(timeout_s):
            while not self._socket(onion).exists():  # noqa: ASYNC110 (another process makes it)
                await asyncio.sleep(RETRY_S)
        return await super().dial(onion, timeout_s)


def main(directory: str, *arguments: str) -> int:
    """Run the command; return its exit code."""

    @contextlib.asynccontextmanager
    async def direct_network(identity: Identity, _options: object, _progress: object) -> AsyncIterator[DirectPlace]:
        async with DirectPlace(Path(directory), identity.onion) as network:
            yield network

    party.tor_network = direct_network  # type: ignore[assignment,attr-defined]
    return command.run(list(arguments))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
