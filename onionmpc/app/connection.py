"""Bounds what a connection costs: uvicorn limits neither the time of a request nor that of a reply.

Knows when a request is complete and whether the client reads. Does not know what either says.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What a connection may cost.

    Attributes:
        most: connections at once. A browser opens six at most.
        request_s: to a request's last byte, from the start of the connection or the end of the reply before.
        stalled_s: how long a client may leave a full buffer unread. A page that sleeps longer connects again.
        idle_s: between two requests.
    """

    most: int = 64
    request_s: float = 10.0
    stalled_s: float = 60.0
    idle_s: int = 5


class BoundedConnection(H11Protocol):
    """uvicorn's connection, aborted when it passes a limit, and at once when the server ends."""

    def __init__(
        self,
        limits: ConnectionLimits,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._limits = limits
        self._request_timer: asyncio.TimerHandle | None = None
        self._stalled_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in uvicorn
        """Begin, unless there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self._limits.most:
            transport.abort()
        else:
            self._watch_request()

    def data_received(self, data: bytes) -> None:
        """Take bytes of a request."""
        super().data_received(data)
        self._watch_request()

    def on_response_complete(self) -> None:
        """Continue with the next request, which may have begun to arrive."""
        super().on_response_complete()
        self._watch_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._request_timer = _cancelled(self._request_timer)
        self._stalled_timer = _cancelled(self._stalled_timer)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Note that the client does not read."""
        super().pause_writing()
        self._stalled_timer = self.loop.call_later(self._limits.stalled_s, self.transport.abort)

    def resume_writing(self) -> None:
        """Note that the client reads again."""
        super().resume_writing()
        self._stalled_timer = _cancelled(self._stalled_timer)

    def shutdown(self) -> None:
        """End with the server: a stream has no end of its own, and a client that reads nothing would keep us."""
        super().shutdown()
        self.transport.abort()

    def _watch_request(self) -> None:
        """Start the timer of a request once, no matter how its bytes trickle in, and stop it when it is complete."""
        incomplete = self.conn.their_state in (h11.IDLE, h11.SEND_BODY) and not self.transport.is_closing()
        if not incomplete:
            self._request_timer = _cancelled(self._request_timer)
        elif self._request_timer is None:
            self._request_timer = self.loop.call_later(self._limits.request_s, self.transport.abort)


def _cancelled(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    """Cancel a timer, if there is one, and return what remains of it: nothing."""
    if timer is not None:
        timer.cancel()
    return None
