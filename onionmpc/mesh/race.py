"""Races one link over several streams, once, and keeps the fastest ones from then on.

It decides how many streams there are. wire/paths.py says which are the fastest. Rules: docs/PROTOCOL.md section 3.
"""

from __future__ import annotations

import asyncio
import contextlib
import random

from onionmpc.mesh.link_dials import LinkDials
from onionmpc.mesh.observer import Observer
from onionmpc.mesh.redial import backoff_s
from onionmpc.mesh.runner import LinkRunner
from onionmpc.mesh.timings import MeshTimings
from onionmpc.tasks import together


class Race:
    """The race of one link, and the streams that are kept after it.

    Args:
        party: the peer's number.
        observer: is notified of the end of the race.
        dials_first: whether we dial the streams; otherwise the peer does.
        timings: of the race.
    """

    def __init__(
        self,
        party: int,
        runner: LinkRunner,
        observer: Observer,
        dials: LinkDials,
        *,
        dials_first: bool,
        timings: MeshTimings,
    ) -> None:
        self._party = party
        self._runner = runner
        self._observer = observer
        self._dials = dials
        self._dials_first = dials_first
        self._timings = timings
        self._tasks = asyncio.TaskGroup()
        self._agreed: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def widen(self, streams: int) -> None:
        """Race the link over this many streams (2 or more) and keep the fastest. Call once, after the agreement."""
        self._runner.carriers.allow_race_of(streams)
        self._agreed.set_result(streams)

    async def run(self) -> None:
        """Race streams once the number is agreed, and keep the fastest from then on."""
        async with self._tasks:
            streams = await asyncio.shield(self._agreed)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._timings.race_s):
                    if self._dials_first:
                        await together(*(self._dials.dial_spare() for _ in range(streams - 1)))
                    await self._runner.until_measured(streams)
            self._observer.link_raced(self._party, self._runner.link.measured())
            if self._dials_first:
                self._runner.keep(min(streams, self._timings.link.max_stripes))
                self.let_go_of_surplus()
                await self._replace()

    def let_go_of_surplus(self) -> None:
        """Close the slowest streams in a while, if the race is over and there are more than are kept."""
        carriers = self._runner.carriers
        if carriers.kept > 1:
            for _ in range(carriers.open - carriers.kept):
                self._tasks.create_task(self._let_go())

    async def _let_go(self) -> None:
        await asyncio.sleep(random.SystemRandom().uniform(*self._timings.let_go_after_s))
        self._runner.carriers.end_slowest()

    async def _replace(self) -> None:
        """Dial one stream for each that is lost, one after the other; never again as many as for the race.

        With a race for each lost stream, a peer that cuts streams would make us draw many more relays
        (docs/THREATS.md).
        """
        failures = 0
        while True:
            await self._runner.until_short_of_streams()
            # If all streams break together, they do so one after the other within one turn of the loop: see them all.
            await asyncio.sleep(0.0)
            await self._runner.until_heard()  # while nothing arrives, the reconnector dials
            failures = failures + 1 if await self._dials.dial_spare() else 0
            # A stream that was dialled is counted only from the next turn of the loop on.
            await asyncio.sleep(backoff_s(failures, timings=self._timings) if failures else 0.0)
