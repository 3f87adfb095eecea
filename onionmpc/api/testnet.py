"""A private Tor network on this machine, to try sessions in and for tests."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from onionmpc.api import arguments
from onionmpc.testnet.network import MIN_RELAYS, PrivateNetwork
from onionmpc.testnet.progress import NetworkProgress
from onionmpc.testnet.regions import Latency
from onionmpc.testnet.state import read_state

__all__ = ["Latency", "NetworkProgress", "latency_of", "private_network"]


@contextlib.asynccontextmanager
async def private_network(
    directory: str | os.PathLike[str] | None = None,
    *,
    relays: int = MIN_RELAYS,
    latency: Latency = "regions",
    progress: Callable[[NetworkProgress], None] = lambda _: None,
) -> AsyncIterator[Path]:
    """Run a private Tor network of real tor processes on loopback. It takes about 15 seconds to start.

    Args:
        directory: for its keys and logs. None uses a temporary one.
        relays: the number of relays besides the three authorities, 12 or more.
        latency: "regions" for delays like those between regions of the world, "none", or milliseconds one way.
        progress: called at each step.
    Yields:
        The directory, to pass to `onionmpc.party` as `testnet`.

    Raises:
        UsageError: a setting is out of bounds, or a network already runs in the directory.
        TorError: tor was not found, or one did not start.
    """
    relays = arguments.whole("relays", relays)
    if latency not in ("regions", "none"):
        latency = arguments.number("latency", latency)
    arguments.function("progress", progress)
    with contextlib.ExitStack() as stack:
        place = arguments.optional(arguments.path)("directory", directory)
        if place is None:
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="onionmpc-net-")))
        async with PrivateNetwork(place, relays=relays, latency=latency, progress=progress):
            yield place


def latency_of(directory: Path) -> str:
    """Return the latency of a running network.

    Raises:
        UsageError: no network runs in the directory.
    """
    return read_state(directory).latency
