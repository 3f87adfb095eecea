"""What every benchmark shares: the machine, medians with ranges, Markdown tables, results as JSON.

Knows nothing of onionmpc but its version and where it lies.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform
import resource
import signal
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from onionmpc import __version__

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"
# What a party may take to say goodbye before it is killed.
GOODBYE_S = 15.0


@dataclass(frozen=True, slots=True)
class Spread:
    """What repeated measurements of one thing came to, in its own unit."""

    median: float
    lowest: float
    highest: float
    count: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Sum up at least one value."""
        ordered = sorted(values)
        return cls(statistics.median(ordered), ordered[0], ordered[-1], len(ordered))

    def show(self, decimals: int = 2) -> str:
        """Say it: median and, where there are several, the range."""
        middle, low, high = (f"{value:.{decimals}f}" for value in (self.median, self.lowest, self.highest))
        return f"{middle} ({low} to {high})" if self.count > 1 else middle


def machine() -> dict[str, Any]:
    """Describe what was measured on; the load tells how much else was going on."""
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


async def end_party(process: asyncio.subprocess.Process) -> None:
    """End a party that still runs, and wait for it; its program and its tor end with it."""
    for number in (signal.SIGINT, signal.SIGKILL):
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GOODBYE_S):
                    await process.wait()


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def report(name: str, title: str, tables: Sequence[str], results: dict[str, Any], output: Path | None) -> None:
    """Print the tables for a person, and write all results as JSON.

    Args:
        output: where to write instead of results/NAME.json.
    """
    about = machine()
    described = ", ".join(f"{key} {value}" for key, value in about.items())
    print(f"\n## {title}\n\n{described}\n")
    print("\n\n".join(tables))
    print(f"\nwritten: {write(name, results, output, about)}")


def write(name: str, results: dict[str, Any], output: Path | None, about: dict[str, Any] | None = None) -> Path:
    """Write results as JSON, and nothing for a person: for what is measured so far; return where they are."""
    path = output or RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"benchmark": name, "machine": about or machine(), **results}
    path.write_text(json.dumps(content, indent=2, default=_as_data) + "\n", encoding="utf-8")
    return path


def say(text: str) -> None:
    """Show a person that something goes on."""
    print(text, file=sys.stderr, flush=True)


def _as_data(value: object) -> Any:  # noqa: ANN401
    if isinstance(value, Spread):
        return {key: round(number, 4) for key, number in asdict(value).items()}
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def _first(path: str, field: str) -> str:
    """Return the value of a field in a file of "field: value" lines, or the empty string."""
    try:
        lines = Path(path).read_text().splitlines()
    except FileNotFoundError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == field), "")
