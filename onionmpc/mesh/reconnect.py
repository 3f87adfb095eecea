"""Keeps one link on streams: races it once, and dials when none brings anything, until one does or patience ends.

Knows whose turn it is, backoff, and how long a peer may be away. Does not know what the link carries, nor who it leads
to, nor which stream is the fastest. Rules: docs/PROTOCOL.md section 3.
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

# A silent dial has so many times what the next one waited. tor builds no more than 32 circuits of clients at once, for
# all links together.
DIALS_AT_ONCE = 3
# Dials that a link keeps for when no stream brings anything.
DIALS_LEFT = 15


class Redialler(Protocol):
    """Dials the peers of a session again, and gives their links the streams that they accept."""

    async def redial(self, party: int, attempt: int, timeout_s: float) -> tuple[Reply, SecureStream]:
        """Dial a peer to resume its link.

        Args:
            attempt: of this outage, from 1.
        """

    def carry_dialled(self, party: int, secure: SecureStream, peer_offsets: tuple[int, int]) -> None:
        """Carry a peer's link over a stream that it accepted, with how much of each channel has arrived there."""


class Reconnector:
    """What one link needs to outlive its streams.

    Args:
        party: the peer's number.
        observer: is notified of the link's outages.
        dials: shared with all links of this party.
        goes_first: whether it is we who dial as soon as a stream breaks.
        patience_s: how long the peer may be away.
        timings: of its dials and its race.
    """

    def __init__(
        self,
        party: int,
        runner: LinkRunner,
        observer: Observer,
        redialler: Redialler,
        dials: SharedDials,
        *,
        goes_first: bool,
        patience_s: float,
        timings: MeshTimings,
    ) -> None:
        self._party = party
        self._runner = runner
        self._observer = observer
        self._redialler = redialler
        self._dials = dials
        self._goes_first = goes_first
        self._patience_s = patience_s
        self._timings = timings
        self._pace = Pace()
        self._tasks = asyncio.TaskGroup()
        self._dialling: asyncio.Task[None] | None = None
        self._hurried = False
        self._agreed: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def widen(self, circuits: int) -> None:
        """Race the link over so many streams, now that this is agreed, and keep the fastest; once, and more than 1."""
        self._runner.carriers.allow_race_of(circuits)
        self._agreed.set_result(circuits)

    async def run(self) -> None:
        """Bring the link back each time that no stream brings anything, until it is over."""
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
                    self._stop_dialling()  # or `hurry` would begin anew where nothing runs any more
                self._hurried = False
                if self._runner.alive:
                    self._observer.link_resumed(self._party, time.monotonic() - lost_at)
                    self._let_go_of_surplus()  # of streams that were doubted, some may be back beside the new one

    def hurry(self) -> None:
        """Dial now, even if it is the peer's turn: it cannot know that our network is back."""
        self._hurried = self._runner.silent
        if self._dialling is not None:
            self._begin_to_dial()

    def _begin_to_dial(self) -> None:
        self._stop_dialling()
        at_once = self._goes_first or self._hurried
        self._dialling = self._tasks.create_task(self._dial(0.0 if at_once else self._timings.grace_s))

    def _stop_dialling(self) -> None:
        if self._dialling is not None:
            self._dialling.cancel()
            self._dialling = None

    async def _race(self) -> None:
        """Once agreed, have as many streams at once as are raced, and from then on as many as are kept."""
        circuits = await asyncio.shield(self._agreed)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timings.race_s):
                if self._goes_first:
                    await together(*(self._dial_spare() for _ in range(circuits - 1)))
                await self._runner.until_measured(circuits)
        self._observer.link_raced(self._party, self._runner.link.measured())
        if self._goes_first:
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
        """Dial one stream for each that is lost, one after the other; never again as many as for a race."""
        failures = 0
        while True:
            await self._runner.until_short_of_streams()
            # Where all streams break at once, they do so one after the other in one turn of the loop.
            await asyncio.sleep(0.0)
            await self._runner.until_heard()  # while nothing comes, the stream to dial is another's business
            failures = failures + 1 if await self._dial_spare() else 0
            # What was dialled is carried from the next turn of the loop on.
            await asyncio.sleep(backoff_s(failures, timings=self._timings) if failures else 0.0)

    async def _dial_spare(self) -> str:
        """Dial a further stream; return why that failed, or the empty string."""
        await asyncio.sleep(self._pace.step(time.monotonic(), leaving=DIALS_LEFT))
        async with self._dials.spare:
            return await self._dial_once(1)

    async def _until_back(self, lost_at: float) -> None:
        """Wait until a stream brings something, or patience ends the link."""
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
        """Dial again and again; a dial that says nothing for long goes on while the next one begins."""
        await asyncio.sleep(after_s)
        async with asyncio.TaskGroup() as group:
            dials: set[asyncio.Task[str]] = set()
            for attempt in itertools.count(1):
                await asyncio.sleep(self._pace.step(time.monotonic()))
                delay_s = backoff_s(attempt, timings=self._timings)
                next_after_s = max(self._dials.next_after_s(), delay_s)
                # One that began before the way was back stays silent: it must not keep others from being tried.
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
        """Dial; return why that failed, or the empty string if there is no more to do."""
        try:
            reply, secure = await self._redialler.redial(self._party, attempt, timeout_s)
        except (PeerUnreachable, AuthenticationFailed, VersionDiffers, TorError) as error:
            # A refusal too may mend itself, and nothing proves that it came from the peer: it spoke our version before.
            return error.message
        if reply.answer is Answer.ACCEPTED:
            self._redialler.carry_dialled(self._party, secure, reply.offsets)
            return ""
        await secure.close()
        if reply.answer is Answer.NOT_NOW:
            return "it answered: not now"
        # Said under keys that only the peer has.
        self._runner.fail(LinkExpired("it has ended or restarted, and does not know this session"))
        return ""
