"""The events of a session, as frozen dataclasses. Public as `onionmpc.events`.

`Table.events` yields them. Match on their types::

    async for event in table.events:
        match event:
            case events.JoinerArrived(seat, onion):
                ...
            case events.LinkUp(party=party):
                ...
"""

from __future__ import annotations

import asyncio
import collections
from collections.abc import AsyncIterator

from onionmpc.program.walls.asked import OutOfReach
from onionmpc.session.events import (
    AddressKnown,
    Agreed,
    DialRetry,
    Event,
    InviteReady,
    JoinerArrived,
    JoinerLeft,
    Left,
    LinkBroken,
    LinkMeasured,
    LinkResumed,
    LinkUp,
    OtherVersion,
    PeerDone,
    PeerQuiet,
    ProgramEnded,
    ProgramsMove,
    ProgramsStuck,
    Proposed,
    Published,
    ReceiptWritten,
    RosterKnown,
    Rounding,
    SeatsRefused,
    SeatsTaken,
    Signing,
    SpentInvite,
    TorProgress,
    Trouble,
)

__all__ = [
    "AddressKnown",
    "Agreed",
    "DialRetry",
    "Event",
    "InviteReady",
    "JoinerArrived",
    "JoinerLeft",
    "Left",
    "LinkBroken",
    "LinkMeasured",
    "LinkResumed",
    "LinkUp",
    "OtherVersion",
    "OutOfReach",
    "PeerDone",
    "PeerQuiet",
    "ProgramEnded",
    "ProgramsMove",
    "ProgramsStuck",
    "Proposed",
    "Published",
    "ReceiptWritten",
    "RosterKnown",
    "Rounding",
    "SeatsRefused",
    "SeatsTaken",
    "Signing",
    "SpentInvite",
    "TorProgress",
    "Trouble",
]

# A program need not read the events, so the queue is bounded. When it is full, the oldest event is dropped.
KEPT_EVENTS = 1000


class EventQueue(AsyncIterator[Event]):
    """The events of one table, in order. Iterate over it once. The iteration ends when the table is left."""

    def __init__(self) -> None:
        self._events: collections.deque[Event] = collections.deque(maxlen=KEPT_EVENTS)
        self._changed = asyncio.Event()
        self._closed = False

    def put(self, event: Event) -> None:
        """Add an event."""
        self._events.append(event)
        self._changed.set()

    def close(self) -> None:
        """End the iteration after the events that are already here."""
        self._closed = True
        self._changed.set()

    async def __anext__(self) -> Event:
        """Wait for the next event."""
        while not self._events:
            if self._closed:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        return self._events.popleft()
