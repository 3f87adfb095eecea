"""Watches the programs of a session while they run, and tells when they only wait for each other.

Knows who is told what, and when. Does not know how that is found out: onionmpc.program.stuck does. Rules:
docs/PROTOCOL.md section 3.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Container

import msgspec

from onionmpc.program.spec import Wait
from onionmpc.program.stuck import Standstill, describe_all
from onionmpc.session.ending import Ending
from onionmpc.session.events import Person, ProgramsMove, ProgramsStuck
from onionmpc.session.local import Plan
from onionmpc.session.marks import Marks
from onionmpc.session.messages import Moving, Waiting
from onionmpc.session.peers import Peers

# Whether links are up is looked at so often while all programs wait.
LOOK_S = 1.0


class ProgramWatch:
    """What is known of all programs.

    Args:
        own: our number.
        files: the names of the program's files, which are the only ones that others hear of.
    """

    def __init__(
        self,
        own: int,
        peers: Peers,
        ending: Ending,
        person: Person,
        files: Container[str],
        plan: Plan,
    ) -> None:
        self._own = own
        self._peers = peers
        self._ending = ending
        self._person = person
        self._files = files
        self._patience_s = max(plan.patience_s, plan.stuck_after_s)
        self._standstill = Standstill(len(peers) + 1, plan.stuck_after_s)
        self._look_s = min(LOOK_S, plan.stuck_after_s / 5)
        self._changed = asyncio.Event()
        self._is_shown = False

    def note_own(self, marks: Marks, wait: Wait | None) -> None:
        """Take what our own program says, and tell the others."""
        if wait is not None:
            places = tuple(place for place in wait.places if place.file in self._files)
            wait = msgspec.structs.replace(wait, places=places)
            wait = marks.of(wait)
        self._peers.broadcast(Moving() if wait is None else Waiting(wait))
        self._note(self._own, wait)

    def heed(self, party: int, message: Waiting | Moving) -> None:
        """Take what another party says of its program.

        Raises:
            RemoteProtocolError: it cannot be.
        """
        self._note(party, message.wait if isinstance(message, Waiting) else None)

    async def run(self) -> None:
        """Tell the person when all programs are stuck and when they move again; lose patience at last."""
        while True:
            stuck_s = self._standstill.stuck_s(time.monotonic(), connected=self._connected())
            if stuck_s is not None:
                waits = self._standstill.waits
                if not self._is_shown:
                    self._is_shown = True
                    self._person.tell(ProgramsStuck(self._own, waits, max(0.0, self._patience_s - stuck_s)))
                if stuck_s >= self._patience_s:
                    self._ending.report(self._own, "stuck", describe_all(waits))
                    return
            timeout_s = self._look_s if self._standstill.all_wait() else None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._changed.wait()
            self._changed.clear()

    def _note(self, party: int, wait: Wait | None) -> None:
        self._standstill.note(party, wait)
        if self._is_shown and not self._standstill.all_wait():
            self._is_shown = False
            self._person.tell(ProgramsMove())
        self._changed.set()

    def _connected(self) -> bool:
        return all(peer.runner is not None and peer.alive and not peer.runner.wanting.is_set() for peer in self._peers)
