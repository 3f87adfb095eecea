"""`python -m benchmarks.report`: every aim with its figure from the newest results: met, missed or not measured.

Knows the form of results/*.json; each benchmark names its aims. Does not measure. `--readme` puts the table into
benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import enum
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import (
    attack,
    bulk,
    byhand,
    commands,
    further,
    guard_discovery,
    link_cost,
    overhead,
    privacy_speed,
    recovery,
    scale,
    startup,
)
from benchmarks.benchmark import Aim, Benchmark
from benchmarks.common import HERE, RESULTS, Spread, table

README = HERE / "README.md"
HEADER = ["aim", "at most", "figure", "spread", "verdict", "networks", "date"]
BENCHMARKS: tuple[Benchmark, ...] = tuple(
    module.BENCHMARK
    for module in (
        *(byhand, scale, startup, bulk, overhead, further, commands, attack, recovery, link_cost, privacy_speed),
        guard_discovery,
    )
)


class Verdict(enum.Enum):
    """Whether an aim is met."""

    MET = "met"
    MISSED = "missed"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True, slots=True)
class Finding:
    """An aim, its figure, on how many networks and on which day that was measured."""

    aim: Aim
    figure: Spread | None
    networks: str = ""
    date: str = ""

    @property
    def verdict(self) -> Verdict | None:
        """Whether the aim is met; None if there is no aim."""
        if self.figure is None:
            return Verdict.NOT_MEASURED
        if self.aim.limit is None:
            return None
        return Verdict.MET if self.figure.median <= self.aim.limit else Verdict.MISSED

    def row(self) -> list[str]:
        """Show it, in the columns of HEADER."""
        figure, spread = "", ""
        if self.figure is not None:
            figure = show(self.aim, self.figure.median)
            if self.figure.count > 1:
                spread = f"{show(self.aim, self.figure.lowest)} to {show(self.aim, self.figure.highest)}"
        verdict = "" if self.verdict is None else self.verdict.value
        if self.verdict is Verdict.MISSED and self.figure is not None and self.aim.limit:
            verdict += f" by {100 * (self.figure.median / self.aim.limit - 1):.0f} %"
        limit = "" if self.aim.limit is None else show(self.aim, self.aim.limit)
        return [self.aim.words, limit, figure, spread, verdict, self.networks, self.date]


def show(aim: Aim, value: float) -> str:
    """Show a figure, or the limit, with its unit."""
    return f"{value:.0f} {aim.unit}" if aim.unit else f"{value:.2f}"


def read(benchmark: Benchmark, directory: Path) -> Mapping[str, Any]:
    """Return what a results file holds; nothing if there is none, or it is broken."""
    try:
        return dict(json.loads((directory / f"{benchmark.name}.json").read_text()))
    except (FileNotFoundError, ValueError):
        return {}


def find(aim: Aim, results: Mapping[str, Any]) -> Finding:
    """Look an aim's figure up."""
    rows = results.get("rows", {}) | results.get("ratios", {})
    found = rows.get(aim.row, {}).get(aim.figure)
    networks, date = str(results.get("networks", "")), results.get("machine", {}).get("date", "")
    return Finding(aim, Spread(**found) if found else None, "no Tor" if networks == "0" else networks, date)


def find_all(directory: Path) -> list[Finding]:
    """Look the figures of all aims up."""
    return [find(aim, read(benchmark, directory)) for benchmark in BENCHMARKS for aim in benchmark.aims]


def show_all(findings: Sequence[Finding]) -> str:
    """Return a table of all findings, and how many there are of each verdict."""
    counts = Counter(finding.verdict for finding in findings)
    words = ", ".join(f"{counts[verdict]} {verdict.value}" for verdict in Verdict)
    aims = sum(finding.aim.limit is not None for finding in findings)
    return f"{table(HEADER, [finding.row() for finding in findings])}\n\n{aims} aims: {words}."


def put_into(readme: str, shown: str) -> str:
    """Return a text whose first table, and the line after it, are what `show_all` returned."""
    begin = readme.index("| aim |")
    end = readme.index("not measured.\n", begin) + len("not measured.")
    return readme[:begin] + shown + readme[end:]


def main(arguments: Sequence[str] | None = None, directory: Path = RESULTS) -> int:
    """Print all aims; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit with 1 while an aim is missed or not measured")
    parser.add_argument("--readme", action="store_true", help="put the table into benchmarks/README.md")
    options = parser.parse_args(arguments)
    findings = find_all(directory)
    print(show_all(findings))
    if options.readme:
        README.write_text(put_into(README.read_text(), show_all(findings)))
    return int(options.check and any(finding.verdict in (Verdict.MISSED, Verdict.NOT_MEASURED) for finding in findings))


if __name__ == "__main__":
    sys.exit(main())
