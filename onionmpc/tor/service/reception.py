"""The socket to which tor connects the streams that our service accepts."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

from onionmpc.errors import TorFailed
from onionmpc.mesh.listener import listening_local, listening_unix
from onionmpc.mesh.network import OnStream
from onionmpc.tor.endpoint import LOCALHOST, UNIX_PREFIX, Endpoint, parse_listener
from onionmpc.tor.report import Reporter


@contextlib.asynccontextmanager
async def reception(
    on_stream: OnStream, sockets: Path, asked: str | None, reporter: Reporter, *, reaches_files: bool
) -> AsyncIterator[str]:
    """Listen where tor can reach us, and yield the endpoint in tor's notation.

    Args:
        on_stream: see `Network.listen`.
        sockets: a directory for a unix socket.
        asked: see `TorOptions.listen`.
        reporter: is notified of a port that others can reach as well.
        reaches_files: see `TorInstance`.
    Raises:
        TorFailed: we cannot listen there.
    """
    async with contextlib.AsyncExitStack() as listening:
        try:
            if reaches_files and asked is None:
                path = sockets / "party"
                await listening.enter_async_context(listening_unix(path, on_stream))
                target = f"{UNIX_PREFIX}{path}"
            else:
                place = parse_listener(asked) if asked else Endpoint()
                port = await listening.enter_async_context(listening_local(on_stream, place.host, place.port))
                place = replace(place, port=port)
                others = "other users of this machine" if place.host == LOCALHOST else "others who reach this address"
                reporter.publish(
                    0,
                    f"listening for tor's streams at {place}; {others} can connect too, and every party is "
                    "authenticated",
                )
                target = str(place)
        except OSError as error:
            raise TorFailed(
                f"cannot listen for tor's streams: {error.strerror or error}",
                hint="with --listen, choose another address or port" if asked else "",
            ) from error
        yield target
