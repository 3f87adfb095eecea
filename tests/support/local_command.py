"""The command line with local sockets in place of tor, as a process: `python -m tests.support.local_command DIR WORDS`.

For what happens at terminals and on signals, where a session needs processes but no Tor network. The variable
ONIONMPC_TOR must name a tor that says its version (tests/support/commands.py).
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import onionmpc.api.party
from onionmpc.cli.main import main
from onionmpc.identity import Identity
from tests.support.api import LocalNetwork

if __name__ == "__main__":
    directory, *words = sys.argv[1:]

    @contextlib.asynccontextmanager
    async def local_network(identity: Identity, *_: Any) -> AsyncIterator[LocalNetwork]:
        async with LocalNetwork(Path(directory), identity.onion) as network:
            yield network

    setattr(onionmpc.api.party, "tor_network", local_network)  # noqa: B010 (a name that the module only imports)
    main(words)
