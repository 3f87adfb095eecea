"""Keeps one link on streams: races it once, and dials while no stream delivers, until one does or patience ends.

It decides who dials, when to dial again, and how long a peer may be away. Rules: docs/PROTOCOL.md section 3.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from typing import Protocol

from onionmpc.errors import AuthenticationFailed, LinkExpired, PeerUnreachable, TorError, VersionDiffers
from onionmpc.mesh.observer import Observer
from onionmpc.mesh.pace import Pace, SharedDials
from onionmpc.mesh.redial import DIAL_TIMEOUT_S, DialFailed, backoff_s
from onionmpc.mesh.runner import LinkRunner
from onionmpc.mesh.secure import SecureStream
from onionmpc.mesh.timings import MeshTimings
from onionmpc.tasks import together
from onionmpc.text import duration
from onionmpc.wire.handshake import Answer, Reply

# At most this many dials of a link run at once: each is given this many times the wait until the next one begins. tor
# builds at most 32 circuits of clients at once, for all links together.
DIALS_AT_ONCE = 3
# Dials that a link saves for when no stream delivers: replacing slow streams must not use up all that `Pace` allows.
DIALS_LEFT = 15


class Redialler(Protocol):
    """Dials the peers of a session again, and gives their links the streams that they accept."""

    async def redial(self, party: int, attempt: int, timeout_s: float) -> tuple[Reply, SecureStream]:
        """Dial a peer to resume its link.

        Args:
            attempt: of this outage, from 1.
        """

    def carry_dialled(self, party: int, secure: SecureStream, peer_offsets: tuple[int, int]) -> None:
        """Carry a peer's link over a stream that it accepted. `peer_offsets` are how much of each channel it has."""


class Reconnector:
    """Lets one link outlive its streams.

    Args:
        party: the peer's number.
        observer: is notified of the link's outages.
        dials: shared by all links of this party.
        dials_first: whether we dial as soon as a stream breaks; otherwise the peer does, and we dial a little later.
        patience_s: how long the peer may be away.
        timings: of dials and the race.
    """

    def __init__(
        self,
        party: int,
        runner: LinkRunner,
        observer: Observer,
        redialler: Redialler,
        dials: SharedDials,
        *,
        dials_first: bool,
        patience_s: float,
        timings: MeshTimings,
    ) -> None:
        self._party = party
        self._runner = runner
        self._observer = observer
        self._redialler = redialler
        self._dials = dials
        self._dials_first = dials_first
        self._patience_s = patience_s
        self._timings = timings
        self._pace = Pace()
        self._tasks = asyncio.TaskGroup()
        self._dialling: asyncio.Task[None] | None = None
        self._hurried = False
        self._agreed: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def widen(self, circuits: int) -> None:
        """Race the link over this many streams (2 or more) and keep the fastest. Call once, after the agreement."""
        self._runner.carriers.allow_race_of(circuits)
        self._agreed.set_result(circuits)

    async def run(self) -> None:
        """Bring the link back whenever no stream delivers anything, until the link is over."""
        async with self._tasks:
            self._tasks.create_task(self._race())
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
                    self._let_go_of_surplus()  # suspicious streams may have come back beside the new one

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

    async def _race(self) -> None:
        """Race streams once the number is agreed, and keep the fastest from then on."""
        circuits = await asyncio.shield(self._agreed)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timings.race_s):
                if self._dials_first:
                    await together(*(self._dial_spare() for _ in range(circuits - 1)))
                await self._runner.until_measured(circuits)
        self._observer.link_raced(self._party, self._runner.link.measured())
        if self._dials_first:
            self._runner.keep(min(circuits, self._timings.link.max_stripes))
            self._let_go_of_surplus()
            await self._replace()

    def _let_go_of_surplus(self) -> None:
        carriers = self._runner.carriers
        if carriers.kept > 1:
            for _ in range(carriers.open - carriers.kept):
                self._tasks.create_task(self._let_go())

    async def _let_go(self) -> None:
        await asyncio.sleep(random.SystemRandom().uniform(*self._timings.let_go_after_s))
        self._runner.carriers.end_slowest()

    async def _replace(self) -> None:
        """Dial one stream for each that is lost, one after the other; never again as many as for the race.

        With a race for each lost stream, a peer that cuts streams would make us build many more circuits
        (docs/THREATS.md).
        """
        failures = 0
        while True:
            await self._runner.until_short_of_streams()
            # If all streams break together, they do so one after the other within one turn of the loop: see them all.
            await asyncio.sleep(0.0)
            await self._runner.until_heard()  # while nothing arrives, `run` dials
            failures = failures + 1 if await self._dial_spare() else 0
            # A stream that was dialled is counted only from the next turn of the loop on.
            await asyncio.sleep(backoff_s(failures, timings=self._timings) if failures else 0.0)

    async def _dial_spare(self) -> str:
        """Dial a further stream; return why that failed, or an empty string."""
        await asyncio.sleep(self._pace.step(time.monotonic(), leaving=DIALS_LEFT))
        async with self._dials.spare:
            return await self._dial_once(1)

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
                await asyncio.sleep(self._pace.step(time.monotonic()))
                delay_s = backoff_s(attempt, timings=self._timings)
                next_after_s = max(self._dials.next_after_s(), delay_s)
                # A dial that began before the network was back stays silent. It must not take the place of later ones.
                timeout_s = min(DIAL_TIMEOUT_S, DIALS_AT_ONCE * next_after_s)
                dials.add(group.create_task(self._dial_once(attempt, timeout_s)))
                ended, dials = await asyncio.wait(dials, timeout=next_after_s, return_when=asyncio.FIRST_COMPLETED)
                for reason in [dial.result() for dial in ended]:
                    if not reason:
                        return
                    self._observer.dial_failed(self._party, DialFailed(reason, delay_s))
                if ended:
                    await asyncio.sleep(delay_s)

    async def _dial_once(self, attempt: int, timeout_s: float = DIAL_TIMEOUT_S) -> str:
        """Dial; return why that failed, or an empty string if there is nothing left to do."""
        try:
            reply, secure = await self._redialler.redial(self._party, attempt, timeout_s)
        except (PeerUnreachable, AuthenticationFailed, VersionDiffers, TorError) as error:
            # Even a refusal or another version may be temporary: neither proves that it came from the peer, which has
            # spoken our version before.
            return error.message
        if reply.answer is Answer.ACCEPTED:
            self._redialler.carry_dialled(self._party, secure, reply.offsets)
            return ""
        await secure.close()
        if reply.answer is Answer.NOT_NOW:
            return "it answered: not now"
        # This answer is final: it came encrypted under keys that only the peer has.
        self._runner.fail(LinkExpired("it has ended or restarted, and does not know this session"))
        return ""
