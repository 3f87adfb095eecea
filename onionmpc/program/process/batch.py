"""Joins what MPyC writes to a peer in one turn of its event loop.

MPyC sends one message per value, so a round of many values is many messages. Each single write would cost a system call
here, and a record on the link if it reached the supervisor alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

# A message of this size is an array. The script may compute for longer than a round takes before it sends the next one.
AT_ONCE_BYTES = 2**14


class WriteBatch:
    """The bytes that MPyC has written to all peers in this turn of the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._held: dict[asyncio.Transport, list[bytes]] = {}

    def write(self, transport: asyncio.Transport, data: bytes) -> None:
        """Write at the end of this turn of the loop, or at once if the loop does not run or `data` is an array."""
        if not self._held:
            self._loop.call_soon(self.flush)
        self._held.setdefault(transport, []).append(data)
        # MPyC's coroutines start when they are called, which may be before the loop runs. A script may then compute, or
        # wait in input(), while its peers wait for these bytes.
        if len(data) >= AT_ONCE_BYTES or not self._loop.is_running():
            self.flush()

    def flush(self) -> None:
        """Write all held bytes, in one piece per peer."""
        for transport, parts in self._held.items():
            transport.write(b"".join(parts))
        self._held.clear()


class BatchedTransport:
    """MPyC's transport to one peer.

    Attributes:
        sent_bytes: how many bytes MPyC has written to this peer, earlier epochs included.
    """

    def __init__(self, transport: asyncio.Transport, batch: WriteBatch, sent_before_bytes: int = 0) -> None:
        self.sent_bytes = sent_before_bytes
        self._transport = transport
        self._batch = batch

    def write(self, data: bytes) -> None:
        """Add these bytes to the batch."""
        self.sent_bytes += len(data)
        self._batch.write(self._transport, data)

    def writelines(self, parts: Sequence[bytes]) -> None:
        """Add these parts to the batch."""
        self.write(b"".join(parts))

    def close(self) -> None:
        """Write all held bytes, then close the transport."""
        self._batch.flush()
        self._transport.close()
