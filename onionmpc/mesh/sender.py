"""When a link sends: as soon as it has something to say, or at a constant rate; and when it has to look at the clock.

Knows the loop's callbacks and its clock. What is sent, and when something is due, is the link's to say.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from onionmpc.mesh.carriers import Carrier, Carriers
from onionmpc.mesh.pace import Ticks
from onionmpc.tasks import ErrorForwarder
from onionmpc.wire.link import Link, State
from onionmpc.wire.records import FILLED_PLAINTEXT_BYTES

# An alarm that is due already, since a stream takes no more bytes, rings no sooner than this.
ALARM_FLOOR_S = 0.01


class Alarm:
    """Rings at a time at the latest, and from then on at least every `again_after_s` seconds.

    Args:
        on_ring: called each time.
    """

    def __init__(self, on_ring: Callable[[], None], again_after_s: float) -> None:
        self._on_ring = on_ring
        self._again_after_s = again_after_s
        self._timer: asyncio.TimerHandle | None = None

    def set_by(self, at: float | None) -> None:
        """Ring at `at` or before, in time.monotonic(), which is also the clock of asyncio's loop; None changes nothing.

        An alarm that rings too early is set again then: to put it off with each message would cost more.
        """
        if at is not None and (self._timer is None or at < self._timer.when()):
            self.drop()
            self._set(max(at, time.monotonic() + ALARM_FLOOR_S))

    def drop(self) -> None:
        """Do not ring any more, unless it is set again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set(self, at: float) -> None:
        self._timer = asyncio.get_running_loop().call_at(at, self._ring)

    def _ring(self) -> None:
        # A stream that takes no bytes and brings nothing sets no alarm, and has to be doubted all the same.
        self._set(time.monotonic() + self._again_after_s)
        self._on_ring()


class Sender:
    """Sends what a link has to say over its streams.

    Args:
        alarm: set to the time at which the link next has something to do.
        forwarding_bugs: is given what a callback of the loop raises.
        rate: records that go out each second, all of one size, over one stream at a time; 0 sends what there is to say
            when there is.
    """

    def __init__(
        self, link: Link, carriers: Carriers, alarm: Alarm, forwarding_bugs: ErrorForwarder, rate: int
    ) -> None:
        self.rate = rate
        self._link = link
        self._carriers = carriers
        self._alarm = alarm
        self._forwarding_bugs = forwarding_bugs
        self._due: asyncio.Handle | None = None

    def wake(self) -> None:
        """Send what the link has to say, if not at its rate."""
        if self._due is None and self._link.wants_to_send():
            self.send_soon()

    def wake_in_time(self) -> None:
        """Wake now if the link has something to say, and when something falls due, or before."""
        self.wake()
        self._alarm.set_by(self._link.wake_at())

    def send_soon(self) -> None:
        """Send in the loop's next turn: what is written in one turn leaves in one record."""
        if self._due is None and not self.rate:
            self._due = asyncio.get_running_loop().call_soon(self._send_due)

    def _send_due(self) -> None:
        with self._forwarding_bugs:
            self.send_now()

    def send_now(self) -> None:
        """Send all that there is to say, each stream as much as it takes; nothing at a constant rate."""
        self._due = None
        if self.rate:
            return
        now = time.monotonic()
        for carrier in self._carriers:
            carrier.send(self._link, now)
        self._alarm.set_by(self._link.wake_at())

    async def send_at_rate(self, carrier: Carrier) -> None:
        """Send a record at each tick and at no other time, until one was sent after the link is over."""
        secure = carrier.secure
        ticks = Ticks(self.rate, time.monotonic())
        while True:
            over = self._link.state is not State.OPEN
            now = time.monotonic()
            count = ticks.take(now)
            if records := [self._link.fill(carrier.number, now, FILLED_PLAINTEXT_BYTES) for _ in range(count)]:
                secure.send(records)
                if over:
                    return
                await secure.drain()
            self._alarm.set_by(self._link.wake_at())
            await asyncio.sleep(ticks.next_at - time.monotonic())
