"""`python -m benchmarks.report`: every aim with its figure from the newest results: met, missed or not measured.

Knows where in results/*.json a figure stands and what was aimed at; both are in the table AIMS. Does not measure.
"""

from __future__ import annotations

import argparse
import enum
import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, table

MIB_IN_MB = 2**20 / 1e6

# Finds a figure in what a results file holds; None where it is not there.
Figure = Callable[[Any], float | None]


class Verdict(enum.Enum):
    """What is to be said of an aim."""

    MET = "met"
    MISSED = "missed"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True, slots=True)
class Aim:
    """What is aimed at.

    Attributes:
        name: what is measured.
        results: in which file: results/NAME.json.
        limit: the most that the figure may be.
        unit: of both; a ratio has none.
    """

    name: str
    results: str
    figure: Figure
    limit: float
    unit: str = ""

    def show(self, value: float) -> str:
        """Say a figure, or the limit, with its unit."""
        return f"{value:.2f}" if not self.unit else f"{value:.0f} {self.unit}"


@dataclass(frozen=True, slots=True)
class Finding:
    """An aim, its figure and the day on which that was measured."""

    aim: Aim
    figure: float | None
    date: str

    def describe(self) -> str:
        """Say the verdict, and by how much an aim is missed."""
        if self.figure is None or self.verdict is not Verdict.MISSED:
            return self.verdict.value
        return f"{self.verdict.value}, by {100 * (self.figure / self.aim.limit - 1):.0f} %"

    @property
    def verdict(self) -> Verdict:
        """Whether the aim is met."""
        if self.figure is None:
            return Verdict.NOT_MEASURED
        return Verdict.MET if self.figure <= self.aim.limit else Verdict.MISSED


def at(*path: str) -> Figure:
    """Return what finds the number at a path of keys, or the median of the spread there."""

    def figure(results: Any) -> float | None:  # noqa: ANN401 (whatever a file holds)
        for key in path:
            results = results.get(key) if isinstance(results, dict) else None
        if isinstance(results, dict):
            results = results.get("median")
        return float(results) if isinstance(results, int | float) and math.isfinite(results) else None

    return figure


def ratio(above: Figure, below: Figure) -> Figure:
    """Return what finds the ratio of two figures."""

    def figure(results: Any) -> float | None:  # noqa: ANN401
        numerator, denominator = above(results), below(results)
        return numerator / denominator if numerator is not None and denominator else None

    return figure


def in_mb(mib: Figure) -> Figure:
    """Return what finds a number of MiB and makes it MB."""

    def figure(results: Any) -> float | None:  # noqa: ANN401
        found = mib(results)
        return None if found is None else found * MIB_IN_MB

    return figure


def worst(prefix: str, *path: str) -> Figure:
    """Return what finds the largest of the figures at a path whose keys begin alike."""

    def figure(results: Any) -> float | None:  # noqa: ANN401
        for key in path:
            results = results.get(key) if isinstance(results, dict) else None
        keys = [key for key in results or () if key.startswith(prefix)]
        found = [at(key)(results) for key in keys]
        return None if not found or None in found else max(number for number in found if number is not None)

    return figure


def connected(parties: int) -> Figure:
    """Return what finds the time until all of so many parties are connected, in scale.json."""
    return at("parties", str(parties), "connected_s")


def by_hand(ours: str, other: str) -> Figure:
    """Return what finds a ratio of the many-round program, in byhand.json."""
    return at("cases", "chain", "ratios", f"ours {ours} / {other}")


# The last ones are of what survives faults, in results/recovery.json.
AIMS = (
    Aim("many rounds, 3 circuits: ours / by hand", "byhand", by_hand("--circuits 3", "by hand"), 0.55),
    Aim("many rounds, 8 circuits: ours / by hand", "byhand", by_hand("--circuits 8", "by hand"), 0.42),
    Aim("many rounds: ours / limit", "byhand", by_hand("--circuits 3", "limit of ours --circuits 3"), 1.10),
    Aim("all connected: 7 parties / 3", "scale", ratio(connected(7), connected(3)), 1.3),
    Aim("connected: ours / bootstrap, publication and one dial", "startup", at("over_raw"), 1.2),
    Aim("8 MB to each peer: ours with 4 circuits / one raw stream", "bulk", at("ratio"), 0.5),
    Aim(
        "direct sockets, secret santa: ours / plain MPyC",
        "overhead",
        at("cases", "secret_santa", "compute_ratio", "of_medians"),
        1.15,
    ),
    *(Aim(f"onionmpc {words}", "commands", at("commands", words, "ms"), 300, "ms") for words in ("--help", "programs")),
    Aim("1,000 strangers: attacked / quiet", "attack", at("compute_ratio", "of_medians"), 1.1),
    Aim("memory added by 1,000 strangers", "attack", in_mb(at("added_mib")), 20, "MB"),
    Aim("memory of a supervisor of 25 parties", "scale", in_mb(at("parties", "25", "supervisor_mib")), 150, "MB"),
    *(
        Aim(f"{fault}: back / {unit}", "recovery", at("faults", fault, "ratio"), limit)
        for fault, unit, limit in (
            ("circuit closed by the dialler", "one dial", 1.5),
            ("circuit closed by the listener", "one dial", 1.5),
            ("own tor killed (dialler)", "restart and dial", 1.2),
            ("own tor killed (listener)", "restart and dial", 1.2),
        )
    ),
    Aim("a link / one raw stream: bytes", "recovery", worst("bytes", "link_over_raw"), 1.03),
    Aim("a link / one raw stream: time", "recovery", worst("time", "link_over_raw"), 1.05),
)


def find(aim: Aim, directory: Path) -> Finding:
    """Look an aim's figure up."""
    try:
        results = json.loads((directory / f"{aim.results}.json").read_text())
    except (FileNotFoundError, ValueError):
        results = {}
    date = results.get("machine", {}).get("date", "")
    return Finding(aim, aim.figure(results), date)


def show(findings: Sequence[Finding]) -> str:
    """Return a table of all findings, and how many there are of each verdict."""
    rows = [
        [
            finding.aim.name,
            "" if finding.figure is None else finding.aim.show(finding.figure),
            finding.aim.show(finding.aim.limit),
            finding.describe(),
            f"{finding.aim.results}.json{finding.date and f' of {finding.date}'}",
        ]
        for finding in findings
    ]
    counts = Counter(finding.verdict for finding in findings)
    words = ", ".join(f"{counts[verdict]} {verdict.value}" for verdict in Verdict)
    return f"{table(['aim', 'figure', 'at most', 'verdict', 'results'], rows)}\n\n{len(findings)} aims: {words}."


def main(arguments: Sequence[str] | None = None) -> int:
    """Print all aims; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit with 1 while an aim is missed or not measured")
    parser.add_argument(
        "--results", type=Path, default=RESULTS, metavar="DIR", help="where the results are (benchmarks/results)"
    )
    options = parser.parse_args(arguments)
    findings = [find(aim, options.results) for aim in AIMS]
    print(show(findings))
    return int(options.check and any(finding.verdict is not Verdict.MET for finding in findings))


if __name__ == "__main__":
    sys.exit(main())
