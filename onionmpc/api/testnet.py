"""A private Tor network on this machine, to try and to test with."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from onionmpc.testnet.network import MIN_RELAYS, PrivateNetwork
from onionmpc.testnet.progress import NetworkProgress
from onionmpc.testnet.regions import Latency
from onionmpc.testnet.state import read_state

__all__ = ["Latency", "NetworkProgress", "latency_of", "private_network"]


@contextlib.asynccontextmanager
async def private_network(
    directory: Path | None = None,
    *,
    relays: int = MIN_RELAYS,
    latency: Latency = "regions",
    progress: Callable[[NetworkProgress], None] = lambda _: None,
) -> AsyncIterator[Path]:
    """Run a private Tor network of real tor processes on loopback; it takes some 20 seconds to start.

    Args:
        directory: where it keeps its keys and logs; None for a temporary one.
        relays: how many relays there are beside three authorities, 12 or more.
        latency: "regions" for delays as between regions of the world, "none", or milliseconds one way.
        progress: called at each step.
    Yields:
        The directory: `testnet=` of `onionmpc.party`.

    Raises:
        UsageError: a setting is out of range, or a network runs in the directory already.
        TorError: there is no tor, or one did not start.
    """
    with contextlib.ExitStack() as stack:
        if directory is None:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="onionmpc-net-")))
        async with PrivateNetwork(directory, relays=relays, latency=latency, progress=progress):
            yield directory


def latency_of(directory: Path) -> str:
    """Return the latency of a network that runs.

    Raises:
        UsageError: none runs there.
    """
    return read_state(directory).latency
