"""What a tor network reports: its progress, and warnings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from onionmpc.tor.control.bootstrap import DONE_PERCENT


@dataclass(frozen=True, slots=True)
class TorReport:
    """The progress of a tor network: percent of its phase, and a description."""

    phase: Literal["tor", "bootstrap", "publish"]
    percent: int
    detail: str


OnTorReport = Callable[[TorReport], None]


class Reporter:
    """Has one method for each phase, so that no part of the network needs to know the phase of another."""

    def __init__(self, show: OnTorReport) -> None:
        self._show = show

    def tor(self, percent: int, words: str) -> None:
        """Report the starts and losses of tor."""
        self._show(TorReport("tor", percent, words))

    def warn(self, words: str) -> None:
        """Report a problem while tor runs."""
        self.tor(DONE_PERCENT, words)

    def bootstrap(self, percent: int, summary: str) -> None:
        """Report how tor reaches its network."""
        self._show(TorReport("bootstrap", percent, summary))

    def publish(self, percent: int, words: str) -> None:
        """Report how our service is published."""
        self._show(TorReport("publish", percent, words))
