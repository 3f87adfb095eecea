"""Joins what MPyC writes to a peer in one turn of its event loop.

A round of many values is a message for each value. Written one by one, each costs a system call here, and each that
reaches the supervisor alone costs a record on the link.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

# A message of this size is an array's: what is computed before the next one may take longer than a round.
AT_ONCE_BYTES = 2**14


class WriteBatch:
    """What MPyC has written to all peers since the loop last ran its callbacks."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._held: dict[asyncio.Transport, list[bytes]] = {}

    def write(self, transport: asyncio.Transport, data: bytes) -> None:
        """Write at the end of this turn of the loop; at once if the loop does not run, or if `data` is an array."""
        if not self._held:
            self._loop.call_soon(self.flush)
        self._held.setdefault(transport, []).append(data)
        if len(data) >= AT_ONCE_BYTES or not self._loop.is_running():
            self.flush()

    def flush(self) -> None:
        """Write all that is held, in one piece for each peer."""
        for transport, parts in self._held.items():
            transport.write(b"".join(parts))
        self._held.clear()


class BatchedTransport:
    """MPyC's transport to one peer.

    Attributes:
        sent_bytes: how many bytes MPyC has written to it.
    """

    def __init__(self, transport: asyncio.Transport, batch: WriteBatch) -> None:
        self.sent_bytes = 0
        self._transport = transport
        self._batch = batch

    def write(self, data: bytes) -> None:
        """Add to the batch."""
        self.sent_bytes += len(data)
        self._batch.write(self._transport, data)

    def writelines(self, parts: Sequence[bytes]) -> None:
        """Add these to the batch."""
        self.write(b"".join(parts))

    def close(self) -> None:
        """Close the transport once all is written."""
        self._batch.flush()
        self._transport.close()
