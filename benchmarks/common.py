"""What the parts of every benchmark share: runs that fail, medians with ranges, the machine, Markdown tables."""

from __future__ import annotations

import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from onionmpc import __version__

ROOT = Path(__file__).resolve().parent.parent
HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
MB = 10**6


class Failed(Exception):
    """A run whose figures do not count: it did not end, not well, or did other work than it should."""


@dataclass(frozen=True, slots=True)
class Spread:
    """The sum of repeated measurements of one thing, in its own unit."""

    median: float
    lowest: float
    highest: float
    count: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Sum up at least one value."""
        ordered = sorted(values)
        return cls(statistics.median(ordered), ordered[0], ordered[-1], len(ordered))

    @property
    def data(self) -> dict[str, float]:
        """The same for JSON."""
        return {key: round(number, 4) for key, number in asdict(self).items()}

    def show(self, decimals: int = 2) -> str:
        """Return the median and, if there are several values, the range."""
        middle, low, high = (f"{value:.{decimals}f}" for value in (self.median, self.lowest, self.highest))
        return f"{middle} ({low} to {high})" if self.count > 1 else middle


def machine() -> dict[str, Any]:
    """Describe this machine; the load tells how much else was going on."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _first("/proc/cpuinfo", "model name") or platform.processor() or "unknown",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "python": platform.python_version(),
        "onionmpc": __version__,
        "load": round(os.getloadavg()[0], 1),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def memory_of(process: int | str) -> dict[str, int]:
    """Return the resident memory of a process ("self" or a number) now and at its highest, in bytes.

    Without /proc only the highest of this very process is known.

    Raises:
        OSError: there is no such process any more.
    """
    status = f"/proc/{process}/status"
    if Path("/proc/self/status").exists():
        found = {name: _first(status, field) for name, field in (("rss_bytes", "VmRSS"), ("peak_bytes", "VmHWM"))}
        if not all(found.values()):  # one that has ended, but was not waited for yet, has no memory
            raise ProcessLookupError(f"process {process} has ended")
        return {name: int(value.split()[0]) * 1024 for name, value in found.items()}
    if process != "self":
        return {}
    unit = 1 if sys.platform == "darwin" else 1024
    return {"peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def say(text: str) -> None:
    """Show a person that something goes on."""
    print(text, file=sys.stderr, flush=True)


def _first(path: str, field: str) -> str:
    """Return the value of a field in a file of "field: value" lines, or the empty string."""
    try:
        lines = Path(path).read_text().splitlines()
    except FileNotFoundError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == field), "")
