"""Dials while no stream of a link delivers anything, until one does or patience ends.

It decides who dials, when to dial again, and how long a peer may be away. Rules: docs/PROTOCOL.md section 3.
"""

from __future__ import annotations

import asyncio
import itertools
import time

from onionmpc.errors import LinkExpired
from onionmpc.mesh.link_dials import LinkDials
from onionmpc.mesh.observer import Observer
from onionmpc.mesh.race import Race
from onionmpc.mesh.redial import DIAL_TIMEOUT_S, DialFailed, backoff_s
from onionmpc.mesh.runner import LinkRunner
from onionmpc.mesh.timings import MeshTimings
from onionmpc.text import duration

# At most this many dials of a link run at once: each is given this many times the wait until the next one begins. tor
# builds the circuit of at most 32 dials at once, for all links together.
DIALS_AT_ONCE = 3


class Reconnector:
    """Lets one link outlive its streams.

    Args:
        party: the peer's number.
        observer: is notified of the link's outages.
        race: lets go of streams when the link is back.
        dials_first: whether we dial as soon as a stream breaks; otherwise the peer does, and we dial a little later.
        patience_s: how long the peer may be away.
        timings: of dials.
    """

    def __init__(
        self,
        party: int,
        runner: LinkRunner,
        observer: Observer,
        dials: LinkDials,
        race: Race,
        *,
        dials_first: bool,
        patience_s: float,
        timings: MeshTimings,
    ) -> None:
        self._party = party
        self._runner = runner
        self._observer = observer
        self._dials = dials
        self._race = race
        self._dials_first = dials_first
        self._patience_s = patience_s
        self._timings = timings
        self._tasks = asyncio.TaskGroup()
        self._dialling: asyncio.Task[None] | None = None
        self._hurried = False

    async def run(self) -> None:
        """Bring the link back whenever no stream delivers anything, until the link is over."""
        async with self._tasks:
            while self._runner.alive:
                await self._runner.until_silent()
                lost_at = time.monotonic() - self._runner.silent_s
                if not self._runner.streams:
                    self._observer.link_broken(self._party, self._runner.carriers.break_reason)
                self._begin_to_dial()
                try:
                    await self._until_back(lost_at)
                finally:
                    self._stop_dialling()  # otherwise `hurry` could start a dial in a task group that has ended
                self._hurried = False
                if self._runner.alive:
                    self._observer.link_resumed(self._party, time.monotonic() - lost_at)
                    self._race.let_go_of_surplus()  # suspicious streams may have come back beside the new one

    def hurry(self) -> None:
        """Dial now, even if it is the peer's turn. The peer cannot know that our network is back."""
        self._hurried = self._runner.silent
        if self._dialling is not None:
            self._begin_to_dial()

    def _begin_to_dial(self) -> None:
        self._stop_dialling()
        at_once = self._dials_first or self._hurried
        self._dialling = self._tasks.create_task(self._dial(0.0 if at_once else self._timings.grace_s))

    def _stop_dialling(self) -> None:
        if self._dialling is not None:
            self._dialling.cancel()
            self._dialling = None

    async def _until_back(self, lost_at: float) -> None:
        """Wait until a stream delivers something, or patience ends the link."""
        quiet_at = lost_at + self._timings.quiet_every_s
        while self._runner.alive:
            patience_s = self._patience_s - self._runner.silent_s
            try:
                async with asyncio.timeout(max(0.0, min(patience_s, quiet_at - time.monotonic()))):
                    return await self._runner.until_heard()
            except TimeoutError:
                pass
            if self._runner.silent_s >= self._patience_s:
                why = "" if self._runner.streams else f" ({self._runner.carriers.break_reason})"
                self._runner.fail(LinkExpired(f"nothing arrived for {duration(self._patience_s)}{why}"))
            elif time.monotonic() >= quiet_at:
                self._observer.link_quiet(self._party, time.monotonic() - lost_at)
                quiet_at += self._timings.quiet_every_s
        return None

    async def _dial(self, after_s: float) -> None:
        """Dial again and again. A dial that stays silent continues while the next one begins."""
        await asyncio.sleep(after_s)
        async with asyncio.TaskGroup() as group:
            dials: set[asyncio.Task[str]] = set()
            for attempt in itertools.count(1):
                await self._dials.turn()
                delay_s = backoff_s(attempt, timings=self._timings)
                next_after_s = max(self._dials.shared.next_after_s(), delay_s)
                # A dial that began before the network was back stays silent. It must not take the place of later ones.
                timeout_s = min(DIAL_TIMEOUT_S, DIALS_AT_ONCE * next_after_s)
                dials.add(group.create_task(self._dials.dial(attempt, timeout_s)))
                ended, dials = await asyncio.wait(dials, timeout=next_after_s, return_when=asyncio.FIRST_COMPLETED)
                for reason in [dial.result() for dial in ended]:
                    if not reason:
                        return
                    self._observer.dial_failed(self._party, DialFailed(reason, delay_s))
                if ended:
                    await asyncio.sleep(delay_s)
