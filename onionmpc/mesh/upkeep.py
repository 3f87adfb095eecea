"""Keeps one link on streams: dials when none brings anything, until one does or patience ends.

Knows whose turn it is, backoff, and how long a peer may be away. Does not know what the link carries, nor who it leads
to. Rules: docs/PROTOCOL.md section 3.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable

from onionmpc.errors import AuthenticationFailed, LinkExpired, PeerUnreachable, TorError
from onionmpc.mesh.observer import Observer
from onionmpc.mesh.pace import DialTimes, Pace
from onionmpc.mesh.redial import DialFailed, backoff_s
from onionmpc.mesh.runner import LinkRunner
from onionmpc.mesh.secure import SecureStream
from onionmpc.text import duration
from onionmpc.wire.handshake import Answer, Reply

# The party that did not dial first leaves it to the other for so long: a dial and its handshake, most often.
GRACE_S = 5.0
QUIET_EVERY_S = 15.0
# tor builds no more than 32 circuits of clients at once, for all links together.
DIALS_AT_ONCE = 3

Redial = Callable[[int], Awaitable[tuple[Reply, SecureStream]]]
Carry = Callable[[SecureStream, tuple[int, int]], None]


class Upkeep:
    """What one link needs to outlive its streams.

    Args:
        party: the peer's number.
        observer: is told how the link fares.
        redial: dials the peer to resume this link; told which attempt of this outage it is, from 1.
        carry: takes a stream that the peer accepted, with how much of each channel has arrived there.
        times: of the dials of all links.
        goes_first: whether it is we who dial as soon as a stream breaks.
        patience_s: how long the peer may be away.
    """

    def __init__(
        self,
        party: int,
        runner: LinkRunner,
        observer: Observer,
        redial: Redial,
        carry: Carry,
        times: DialTimes,
        *,
        goes_first: bool,
        patience_s: float,
    ) -> None:
        self._party = party
        self._runner = runner
        self._observer = observer
        self._redial = redial
        self._carry = carry
        self._times = times
        self._goes_first = goes_first
        self._patience_s = patience_s
        self._pace = Pace()
        self._tasks = asyncio.TaskGroup()
        self._dialling: asyncio.Task[None] | None = None
        self._hurried = False

    async def run(self) -> None:
        """Bring the link back each time that no stream brings anything, until it is over."""
        async with self._tasks:
            while self._runner.alive:
                await self._runner.wanting.wait()
                lost_at = time.monotonic() - self._runner.silent_s
                if not self._runner.streams:
                    self._observer.link_broken(self._party, self._runner.break_reason)
                self._begin_to_dial()
                await self._until_back(lost_at)
                self._stop_dialling()
                self._hurried = False
                if self._runner.alive:
                    self._observer.link_resumed(self._party, time.monotonic() - lost_at)

    def hurry(self) -> None:
        """Dial now, whoever's turn it is: the peer cannot know that our way to it is back."""
        self._hurried = self._runner.wanting.is_set()
        if self._dialling is not None:
            self._begin_to_dial()

    def _begin_to_dial(self) -> None:
        self._stop_dialling()
        at_once = self._goes_first or self._hurried
        self._dialling = self._tasks.create_task(self._dial(0.0 if at_once else GRACE_S))

    def _stop_dialling(self) -> None:
        if self._dialling is not None:
            self._dialling.cancel()
            self._dialling = None

    async def _until_back(self, lost_at: float) -> None:
        """Wait until a stream brings something, or patience ends the link."""
        quiet_at = lost_at + QUIET_EVERY_S
        while self._runner.alive:
            patience_s = self._patience_s - self._runner.silent_s
            try:
                async with asyncio.timeout(max(0.0, min(patience_s, quiet_at - time.monotonic()))):
                    return await self._runner.contentment()
            except TimeoutError:
                pass
            if self._runner.silent_s >= self._patience_s:
                why = "" if self._runner.streams else f" ({self._runner.break_reason})"
                self._runner.fail(LinkExpired(f"nothing came for {duration(self._patience_s)}{why}"))
            elif time.monotonic() >= quiet_at:
                self._observer.link_quiet(self._party, time.monotonic() - lost_at)
                quiet_at += QUIET_EVERY_S
        return None

    async def _dial(self, after_s: float) -> None:
        """Dial again and again; a dial that says nothing for long goes on while the next one begins."""
        await asyncio.sleep(after_s)
        places = asyncio.Semaphore(DIALS_AT_ONCE)
        async with asyncio.TaskGroup() as dials:
            for attempt in itertools.count(1):
                await asyncio.sleep(self._pace.step(time.monotonic()))
                await places.acquire()
                dial = dials.create_task(self._dial_once(attempt))
                dial.add_done_callback(lambda _: places.release())
                if (await asyncio.wait([dial], timeout=self._times.next_after_s()))[0]:
                    reason = dial.result()
                    if not reason:
                        return
                    delay_s = backoff_s(attempt)
                    self._observer.dial_failed(self._party, DialFailed(reason, delay_s))
                    await asyncio.sleep(delay_s)

    async def _dial_once(self, attempt: int) -> str:
        """Dial; return why that failed, or the empty string if there is no more to do."""
        try:
            reply, secure = await self._redial(attempt)
        except (PeerUnreachable, AuthenticationFailed, TorError) as error:
            # A refusal too may mend itself, and nothing proves that it came from the peer.
            return error.message
        if reply.answer is Answer.ACCEPTED:
            self._carry(secure, reply.offsets)
            return ""
        await secure.close()
        if reply.answer is Answer.NOT_NOW:
            return "it answered: not now"
        # Said under keys that only the peer has.
        self._runner.fail(LinkExpired("it has ended or started anew, and does not know this session"))
        return ""
