"""A gateway where a party's network can be taken away, and where its bytes can be counted."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable

from onionmpc.testnet.delay_line import DelayLine
from onionmpc.testnet.proxy import Gateway, RelayAddress, Side


class Traffic(enum.Enum):
    """What happens to bytes at a gateway."""

    OPEN = "they travel"
    CUT = "connections are dropped, new ones at once"
    STALLED = "nothing arrives, and nobody is informed"


class FaultyGateway(Gateway):
    """The way out of a tor: open, cut as by a router without power, or stalled as by a path that swallows packets.

    Attributes:
        traffic: what happens to bytes now.
        on_bytes: called with the size of each piece that passes, and whether it is on its way out. It sees what the
            provider of this party would see.
    """

    def __init__(self, address: str, one_way_s: Callable[[RelayAddress], float | None]) -> None:
        super().__init__(address, one_way_s)
        self.traffic = Traffic.OPEN
        self.on_bytes: Callable[[int, bool], None] = lambda _size, _outward: None
        self._may_dial = asyncio.Event()
        self._may_dial.set()

    def cut(self) -> None:
        """Drop all connections, and each new one, until `restore`."""
        self._go(Traffic.CUT)
        self.drop_all()

    def stall(self) -> None:
        """Deliver nothing, neither bytes nor ends, until `restore`. New connections are accepted and lead nowhere yet.

        What comes in the meantime is held, as much as one direction may hold, and arrives late: TCP would resend it.
        """
        self._go(Traffic.STALLED)

    def restore(self) -> None:
        """Deliver bytes again."""
        self._go(Traffic.OPEN)
        for side in self.sides:
            # The far side may be lost already, with an end still to deliver.
            for one in (side, side._far):
                if one is not None:
                    one.arm()

    def connect(self, dialler: Side, target: RelayAddress, back: DelayLine) -> None:
        dialler._line = _FaultyLine(self, dialler._line, outward=True)
        if self.traffic is Traffic.CUT:
            dialler.abort()
        else:
            super().connect(dialler, target, _FaultyLine(self, back, outward=False))

    async def _connect(self, dialler: Side, target: RelayAddress, back: DelayLine) -> None:
        await self._may_dial.wait()
        await super()._connect(dialler, target, back)

    def _go(self, traffic: Traffic) -> None:
        self.traffic = traffic
        if traffic is Traffic.STALLED:
            self._may_dial.clear()
        else:
            self._may_dial.set()


class _FaultyLine(DelayLine):
    """A line that is as slow as `line`, and delivers nothing while its gateway stalls."""

    def __init__(self, gateway: FaultyGateway, line: DelayLine, *, outward: bool) -> None:
        super().__init__(line._one_way_s, line._open_at_s)
        self._gateway = gateway
        self._outward = outward

    def push(self, chunk: bytes, now_s: float) -> None:
        self._gateway.on_bytes(len(chunk), self._outward)
        super().push(chunk, now_s)

    def pop_due(self, now_s: float) -> bytes:
        return b"" if self._stalled else super().pop_due(now_s)

    def ended(self, now_s: float) -> bool:
        return not self._stalled and super().ended(now_s)

    def next_s(self) -> float | None:
        return None if self._stalled else super().next_s()

    @property
    def _stalled(self) -> bool:
        return self._gateway.traffic is Traffic.STALLED
