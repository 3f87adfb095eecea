"""What every benchmark shares: options, turns, medians with ranges, Markdown tables, results as JSON."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from onionmpc import __version__
from onionmpc.cli.loop import run_until_interrupted
from onionmpc.errors import OnionMPCError

ROOT = Path(__file__).resolve().parent.parent
HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
MIB = 2**20

T = TypeVar("T")


class Failed(Exception):
    """A run whose figures do not count: it did not end, not well, or did other work than it should."""


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

    @property
    def data(self) -> dict[str, float]:
        """The same for JSON."""
        return {key: round(number, 4) for key, number in asdict(self).items()}

    def show(self, decimals: int = 2) -> str:
        """Say it: median and, where there are several, the range."""
        middle, low, high = (f"{value:.{decimals}f}" for value in (self.median, self.lowest, self.highest))
        return f"{middle} ({low} to {high})" if self.count > 1 else middle


def spreads(runs: Sequence[dict[str, float]]) -> dict[str, Spread]:
    """Sum up each figure of several runs."""
    return {key: Spread.of(run[key] for run in runs) for key in runs[0]} if runs else {}


def ratio_of(above: Sequence[float], below: Sequence[float]) -> dict[str, float]:
    """Return the ratio of two medians, and the lowest and highest ratio of the runs that followed each other."""
    pairs = [one / other for one, other in zip(above, below, strict=True)]
    return {
        "of_medians": statistics.median(above) / statistics.median(below),
        "lowest": min(pairs),
        "highest": max(pairs),
    }


def show_ratio(ratio: dict[str, float]) -> str:
    """Show what `ratio_of` returned."""
    return f"{ratio['of_medians']:.2f} ({ratio['lowest']:.2f} to {ratio['highest']:.2f})"


def options_of(name: str, about: str | None, *, repeats: int = 0, budget_s: float = 0) -> argparse.ArgumentParser:
    """Return the options that all benchmarks have.

    Args:
        about: the module's docstring; its first line is shown.
        repeats, budget_s: 0 for a benchmark without such an option.
    """
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=(about or "").splitlines()[0])
    if repeats:
        parser.add_argument("--repeats", type=int, default=repeats, metavar="N", help=f"how often ({repeats})")
    if budget_s:
        words = f"start no further repeat after S seconds ({budget_s:g})"
        parser.add_argument("--budget", type=float, default=budget_s, metavar="S", help=words)
    parser.add_argument("--output", type=Path, metavar="FILE", help=f"where to write (benchmarks/results/{name}.json)")
    return parser


def in_turns(variants: Sequence[T], repeats: int, budget_s: float) -> Iterator[tuple[int, T]]:
    """Yield each repeat's number with each variant, until there are enough or the time is up.

    Each repeat starts with another variant, because the first one may find a colder machine. The first repeat is
    always complete, and so is every other that has begun.
    """
    until_s = time.monotonic() + budget_s
    for repeat in range(repeats):
        if repeat and time.monotonic() > until_s:
            say(f"stopping after {repeat} of {repeats} repeats: --budget is spent")
            return
        first = repeat % len(variants)
        for variant in [*variants[first:], *variants[:first]]:
            yield repeat, variant


@contextlib.contextmanager
def failure_noted(what: str, note: Callable[[str], object]) -> Iterator[None]:
    """Go on after a run that failed: show a person why, and note it for the results."""
    try:
        yield
    except (Failed, OnionMPCError, OSError, EOFError) as error:
        words = str(error) or type(error).__name__
        note(words)
        say(f"{what}: failed ({words})")


def run(measuring: Coroutine[Any, Any, T]) -> T:
    """Measure to the end; end everything that was started if a signal comes.

    Raises:
        SystemExit: it cannot be measured, with a sentence that says why.
    """
    try:
        return run_until_interrupted(measuring)
    except (Failed, OnionMPCError) as error:
        sys.exit(f"cannot measure: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


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
        return value.data
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def _first(path: str, field: str) -> str:
    """Return the value of a field in a file of "field: value" lines, or the empty string."""
    try:
        lines = Path(path).read_text().splitlines()
    except FileNotFoundError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == field), "")
