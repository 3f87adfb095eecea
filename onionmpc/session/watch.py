"""Exchanges what the parties' programs wait for, and warns the user when they all wait for each other.

The rule for that is in onionmpc.program.process.stuck. Rules: docs/PROTOCOL.md section 3.
"""

from __future__ import annotations

import asyncio
import contextlib
import time

import msgspec

from onionmpc.program.process.stuck import Standstill, describe_all
from onionmpc.program.spec import Wait
from onionmpc.session.ending import Ending
from onionmpc.session.events import ProgramsMove, ProgramsStuck, UserInterface
from onionmpc.session.marks import Marks
from onionmpc.session.messages import Moving, Waiting
from onionmpc.session.own_party import OwnParty
from onionmpc.session.peers import Peers

# While all programs wait, this party checks this often whether its links are up.
LOOK_S = 1.0


class ProgramWatch:
    """Watches what all programs wait for."""

    def __init__(self, own: OwnParty, peers: Peers, ending: Ending, ui: UserInterface) -> None:
        stuck_after_s = own.plan.stuck_after_s
        self._own = own
        self._peers = peers
        self._ending = ending
        self._ui = ui
        self._patience_s = max(own.plan.patience_s, stuck_after_s)
        self._standstill = Standstill(len(own.roster), stuck_after_s)
        self._look_s = min(LOOK_S, stuck_after_s / 5)
        self._changed = asyncio.Event()
        self._is_shown = False

    def note_own(self, marks: Marks, wait: Wait | None) -> None:
        """Take what our own program waits for, None if it does not wait, and send it to the peers."""
        if wait is not None:
            # Peers learn places in agreed files only: other paths are this party's own business.
            places = tuple(place for place in wait.places if place.file in self._own.shared.files)
            wait = marks.of(msgspec.structs.replace(wait, places=places))
        self._peers.broadcast(Moving() if wait is None else Waiting(wait))
        self._note(self._own.number, wait)

    def take(self, party: int, message: Waiting | Moving) -> None:
        """Take what another party's program waits for.

        Raises:
            RemoteProtocolError: no program can wait like that.
        """
        self._note(party, message.wait if isinstance(message, Waiting) else None)

    async def run(self) -> None:
        """Warn the user when all programs are stuck; report it as a failure when patience ends."""
        while True:
            stuck_s = self._standstill.stuck_s(time.monotonic(), connected=self._connected())
            if stuck_s is not None:
                waits = self._standstill.waits
                if not self._is_shown:
                    self._is_shown = True
                    self._ui.tell(ProgramsStuck(self._own.number, waits, max(0.0, self._patience_s - stuck_s)))
                if stuck_s >= self._patience_s:
                    self._ending.report(self._own.number, "stuck", describe_all(waits))
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
            self._ui.tell(ProgramsMove())
        self._changed.set()

    def _connected(self) -> bool:
        return self._peers.all(lambda peer: peer.alive and not peer.runner.silent)
