"""Reads tor's bootstrap progress from its status events, and chooses a hint if it gets stuck."""

from __future__ import annotations

from dataclasses import dataclass

from onionmpc.tor.adapters.stem import parse_event

DONE_PERCENT = 100


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """The state of tor's bootstrap.

    Attributes:
        percent: 0 to 100.
        summary: what tor is doing, in its own words.
        warning: tor's latest complaint, in its own words.
        skew_s: how many seconds our clock is off, according to tor; 0 if it reports nothing.
    """

    percent: int = -1
    summary: str = "not started"
    warning: str = ""
    skew_s: int = 0

    def after(self, text: str) -> Bootstrap:
        """Return the state after a STATUS_CLIENT or STATUS_GENERAL event. Source: control-spec, "STATUS_CLIENT"."""
        event = parse_event("STATUS_CLIENT", text)
        said: dict[str, str] = event.arguments if event else {}
        if event and event.action == "BOOTSTRAP" and said.get("PROGRESS", "").isdigit():
            return Bootstrap(
                int(said["PROGRESS"]), said.get("SUMMARY", ""), said.get("WARNING", self.warning), self.skew_s
            )
        if event and event.action == "CLOCK_SKEW" and said.get("SKEW", "").lstrip("-").isdigit():
            return Bootstrap(self.percent, self.summary, self.warning, int(said["SKEW"]))
        return self

    @property
    def seen(self) -> str:
        """The summary and tor's complaint."""
        return f"{self.summary}; {self.warning}" if self.warning else self.summary

    @property
    def hint(self) -> str:
        """What may help."""
        if self.skew_s:
            return f"set this machine's clock: it is {abs(self.skew_s)} s {'fast' if self.skew_s > 0 else 'slow'}"
        return (
            "check the network and this machine's clock; where tor is blocked, --bridge helps, or another one: "
            "https://bridges.torproject.org"
        )
