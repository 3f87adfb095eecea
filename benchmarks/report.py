"""`python -m benchmarks.report`: every aim with its figure from the newest results: met, missed or not measured.

Knows where in results/*.json a figure is, and what the aim was; both are in the table AIMS. Does not measure.
`--readme` puts the table into benchmarks/README.md.
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
from typing import Any, TypeGuard

from benchmarks.common import HERE, RESULTS, table

MIB_IN_MB = 2**20 / 1e6
README = HERE / "README.md"
HEADER = ["aim", "at most", "figure", "spread", "verdict", "networks", "date"]


@dataclass(frozen=True, slots=True)
class Found:
    """A figure in a results file; its lowest and highest where several runs gave it."""

    value: float
    lowest: float | None = None
    highest: float | None = None

    def ends(self) -> tuple[float | None, float | None]:
        """Return the lowest and the highest."""
        return self.lowest, self.highest

    def times(self, factor: float) -> Found:
        """Return it in another unit."""
        ends = (None if end is None else end * factor for end in self.ends())
        return Found(self.value * factor, *ends)


# Finds a figure in what a results file holds; None where it is not there.
Figure = Callable[[Any], Found | None]


class Verdict(enum.Enum):
    """Whether an aim is met."""

    MET = "met"
    MISSED = "missed"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True, slots=True)
class Aim:
    """A figure, and what it may be.

    Attributes:
        name: what is measured.
        results: in which file: results/NAME.json.
        limit: the most that the figure may be; None if nothing was aimed at.
        unit: of both; a ratio has none.
    """

    name: str
    results: str
    figure: Figure
    limit: float | None = None
    unit: str = ""

    def show(self, value: float | None) -> str:
        """Show a figure, or the limit, with its unit."""
        if value is None:
            return ""
        decimals = 2 if not self.unit else 1 if self.unit == "s" else 0
        return f"{value:.{decimals}f} {self.unit}".rstrip()


@dataclass(frozen=True, slots=True)
class Finding:
    """An aim, its figure, on how many networks and on which day that was measured."""

    aim: Aim
    figure: Found | None
    networks: str = ""
    date: str = ""

    @property
    def verdict(self) -> Verdict | None:
        """Whether the aim is met; None if there is no aim."""
        if self.figure is None:
            return Verdict.NOT_MEASURED
        if self.aim.limit is None:
            return None
        return Verdict.MET if self.figure.value <= self.aim.limit else Verdict.MISSED

    def row(self) -> list[str]:
        """Show it, in the columns of HEADER."""
        aim, found = self.aim, self.figure
        value = None if found is None else found.value
        spread = (
            "" if found is None or found.lowest is None else f"{aim.show(found.lowest)} to {aim.show(found.highest)}"
        )
        verdict = "" if self.verdict is None else self.verdict.value
        if self.verdict is Verdict.MISSED and value is not None and aim.limit:
            verdict += f" by {100 * (value / aim.limit - 1):.0f} %"
        return [aim.name, aim.show(aim.limit), aim.show(value), spread, verdict, self.networks, self.date]


def at(*path: str) -> Figure:
    """Return what finds the number at a path of keys, or the median of the spread there."""

    def figure(results: Any) -> Found | None:  # noqa: ANN401 (whatever a file holds)
        for key in path:
            results = results.get(key) if isinstance(results, dict) else None
        if not isinstance(results, dict):
            return Found(float(results)) if is_number(results) else None
        median = results.get("median", results.get("of_medians"))
        ends = (results.get("lowest"), results.get("highest"))
        several = all(map(is_number, ends)) and results.get("count", 2) > 1
        return Found(float(median), *(ends if several else ())) if is_number(median) else None

    return figure


def is_number(value: object) -> TypeGuard[float]:
    """Whether this is a number that was measured."""
    return isinstance(value, int | float) and math.isfinite(value)


def ratio(above: Figure, below: Figure) -> Figure:
    """Return what finds the ratio of two figures, which were not measured pair by pair: without a spread."""

    def figure(results: Any) -> Found | None:  # noqa: ANN401
        numerator, denominator = above(results), below(results)
        return Found(numerator.value / denominator.value) if numerator and denominator and denominator.value else None

    return figure


def in_mb(mib: Figure) -> Figure:
    """Return what finds a number of MiB and makes it MB."""

    def figure(results: Any) -> Found | None:  # noqa: ANN401
        found = mib(results)
        return found and found.times(MIB_IN_MB)

    return figure


def worst(prefix: str, *path: str) -> Figure:
    """Return what finds the largest of the figures at a path whose keys begin alike."""

    def figure(results: Any) -> Found | None:  # noqa: ANN401
        for key in path:
            results = results.get(key) if isinstance(results, dict) else None
        found = [at(key)(results) for key in results or () if key.startswith(prefix)]
        whole = [each for each in found if each is not None]
        return max(whole, key=lambda each: each.value) if whole and len(whole) == len(found) else None

    return figure


def recovered(fault: str) -> Figure:
    """Return what finds the ratio of a fault, in recovery.json, with the spread of its seconds over the same unit."""

    def figure(results: Any) -> Found | None:  # noqa: ANN401
        seconds, over = at("faults", fault, "seconds")(results), at("faults", fault, "ratio")(results)
        if over is None or seconds is None or not seconds.value:
            return over
        return Found(over.value, *(seconds.times(over.value / seconds.value).ends()))

    return figure


def discovered(case: str, share: float) -> Figure:
    """Return what finds after how many days half of all guards are found, in guard_discovery.json."""

    def figure(results: Any) -> Found | None:  # noqa: ANN401
        for row in results.get("cases", ()):
            if (row["case"], row["share"]) == (case, share):
                return Found(row["median_days"], row["p10_days"], row["p90_days"])
        return None

    return figure


def connected(parties: int) -> Figure:
    """Return what finds the time until all of so many parties are connected, in scale.json."""
    return at("parties", str(parties), "connected_s")


def by_hand(ours: str, other: str) -> Figure:
    """Return what finds a ratio of the many-round program, in byhand.json."""
    return at("cases", "chain", "ratios", f"ours {ours} / {other}")


OWN_LIMIT = "limit of ours --circuits 3"
WITHOUT_TOR = ("overhead", "commands", "attack", "guard_discovery")
AIMS = (
    Aim("many rounds, 3 circuits: ours / by hand", "byhand", by_hand("--circuits 3", "by hand"), 0.55),
    Aim("many rounds, 8 circuits: ours / by hand", "byhand", by_hand("--circuits 8", "by hand"), 0.42),
    Aim("many rounds: ours / the same circuits' delays", "byhand", by_hand("--circuits 3", OWN_LIMIT), 1.10),
    Aim("all connected: 7 parties / 3", "scale", ratio(connected(7), connected(3)), 1.3),
    Aim("connected: ours / bootstrap, publication and one dial", "startup", at("over_raw"), 1.2),
    Aim("8 MB to each peer: ours with 4 circuits / one raw stream", "bulk", at("ratio"), 0.5),
    Aim(
        "local sockets, secret santa: ours / plain MPyC",
        "overhead",
        at("cases", "secret_santa", "compute_ratio"),
        1.15,
    ),
    Aim("the same, 25 ms apart", "overhead", at("cases", "secret_santa_delayed", "compute_ratio")),
    *(Aim(f"onionmpc {words}", "commands", at("commands", words, "ms"), 300, "ms") for words in ("--help", "programs")),
    Aim("1,000 strangers: attacked / quiet", "attack", at("compute_ratio"), 1.1),
    Aim("memory added by 1,000 strangers", "attack", in_mb(at("added_mib")), 20, "MB"),
    Aim("memory of a supervisor of 25 parties", "scale", in_mb(at("parties", "25", "supervisor_mib")), 150, "MB"),
    *(
        Aim(f"{fault}: back / {unit}", "recovery", recovered(fault), limit)
        for fault, unit, limit in (
            ("circuit closed by the dialler", "one dial", 1.5),
            ("circuit closed by the listener", "one dial", 1.5),
            ("own tor killed (dialler)", "restart and dial", 1.2),
            ("own tor killed (listener)", "restart and dial", 1.2),
        )
    ),
    Aim("a link / one raw stream: bytes", "recovery", worst("bytes", "link_over_raw"), 1.03),
    Aim("a link / one raw stream: time", "recovery", worst("time", "link_over_raw"), 1.05),
    *(
        Aim(f"50 rounds: {level} / standard", "privacy_speed", at("settings", level, "against_standard", "rounds"))
        for level in ("short", "long", "standard, padded")
    ),
    *(
        Aim(
            f"half of all guards found by 5 % of the relays: {case}",
            "guard_discovery",
            discovered(case, 0.05),
            unit="days",
        )
        for case in ("standard, lives as in tor 0.4.9.11", "long, by timing")
    ),
)


def networks_of(name: str, results: Any) -> str:  # noqa: ANN401
    """Say on how many private networks something was measured."""
    if name in WITHOUT_TOR:
        return "no Tor"
    if name == "byhand":
        return str(len(results["cases"]["chain"].get("networks", [])) or "") if "cases" in results else ""
    return str(results.get("networks", 1)) if results else ""


def find(aim: Aim, directory: Path) -> Finding:
    """Look an aim's figure up."""
    try:
        results = json.loads((directory / f"{aim.results}.json").read_text())
    except (FileNotFoundError, ValueError):
        results = {}
    date = results.get("machine", {}).get("date", "")
    return Finding(aim, aim.figure(results), networks_of(aim.results, results), date)


def show(findings: Sequence[Finding]) -> str:
    """Return a table of all findings, and how many there are of each verdict."""
    counts = Counter(finding.verdict for finding in findings)
    words = ", ".join(f"{counts[verdict]} {verdict.value}" for verdict in Verdict)
    aims = sum(finding.aim.limit is not None for finding in findings)
    return f"{table(HEADER, [finding.row() for finding in findings])}\n\n{aims} aims: {words}."


def put_into(readme: str, shown: str) -> str:
    """Return a text whose first table, and the line after it, are what `show` returned."""
    begin = readme.index("| aim |")
    end = readme.index("not measured.\n", begin) + len("not measured.")
    return readme[:begin] + shown + readme[end:]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print all aims; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit with 1 while an aim is missed or not measured")
    parser.add_argument(
        "--results", type=Path, default=RESULTS, metavar="DIR", help="where the results are (benchmarks/results)"
    )
    parser.add_argument("--readme", action="store_true", help="put the table into benchmarks/README.md")
    options = parser.parse_args(arguments)
    findings = [find(aim, options.results) for aim in AIMS]
    print(show(findings))
    if options.readme:
        README.write_text(put_into(README.read_text(), show(findings)))
    return int(options.check and any(finding.verdict in (Verdict.MISSED, Verdict.NOT_MEASURED) for finding in findings))


if __name__ == "__main__":
    sys.exit(main())
