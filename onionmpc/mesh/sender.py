"""When a link sends (as soon as something is queued, or at a constant rate), and when it must look at the clock.

The link decides what is sent, and when something is due.
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

# Something may be due that no stream can send, because none takes bytes. The alarm then rings this often, not
# constantly.
ALARM_FLOOR_S = 0.01


class Alarm:
    """Rings no later than a given time, and from then on at least every `again_after_s` seconds.

    Args:
        on_ring: called each time.
    """

    def __init__(self, on_ring: Callable[[], None], again_after_s: float) -> None:
        self._on_ring = on_ring
        self._again_after_s = again_after_s
        self._timer: asyncio.TimerHandle | None = None

    def set_by(self, at: float | None) -> None:
        """Ring at `at` or before, on time.monotonic(), which is also the clock of asyncio's loop; None changes nothing.

        If the alarm rings too early, it is set again then. Postponing it with each message would cost more.
        """
        if at is not None and (self._timer is None or at < self._timer.when()):
            self.drop()
            self._set(max(at, time.monotonic() + ALARM_FLOOR_S))

    def drop(self) -> None:
        """Stop ringing until it is set again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set(self, at: float) -> None:
        self._timer = asyncio.get_running_loop().call_at(at, self._ring)

    def _ring(self) -> None:
        # Set it again even if nothing is due: a stream that takes no bytes and delivers none causes no other alarm, but
        # must become suspicious.
        self._set(time.monotonic() + self._again_after_s)
        self._on_ring()


class Sender:
    """Sends what a link has queued over its streams.

    Args:
        alarm: set to the time at which the link next has something to do.
        forwarding_bugs: gets what a callback of the loop raises.
        rate: records per second, all of one size, over one stream at a time; 0 to send whenever something is queued.
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
        """Send what is queued; at a constant rate, wait for the next tick."""
        if self._due is None and self._link.wants_to_send():
            self.send_soon()

    def wake_in_time(self) -> None:
        """Send what is queued, and set the alarm for what falls due later."""
        self.wake()
        self._alarm.set_by(self._link.wake_at())

    def send_soon(self) -> None:
        """Send in the loop's next turn, so that what is queued in one turn leaves in one record."""
        if self._due is None and not self.rate:
            self._due = asyncio.get_running_loop().call_soon(self._send_due)

    def _send_due(self) -> None:
        with self._forwarding_bugs:
            self.send_now()

    def send_now(self) -> None:
        """Send what is queued, over each stream as much as it takes; at a constant rate, do nothing."""
        self._due = None
        if self.rate:
            return
        now = time.monotonic()
        for carrier in self._carriers:
            carrier.send(self._link, now)
        self._alarm.set_by(self._link.wake_at())

    async def send_at_rate(self, carrier: Carrier) -> None:
        """Send a record at each tick and at no other time; stop after the first one that follows the link's end."""
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
