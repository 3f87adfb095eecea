"""What samples come to: medians, ratios, Markdown tables, and the form of results/NAME.json.

Does not know what is measured, or how.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from benchmarks.common import Failed, Spread, machine, say, table
from onionmpc.errors import OnionMPCError

# Spreads by row and figure.
Rows = dict[str, dict[str, Spread]]
# For each figure, the head of its column and how many decimals to show.
Figures = Mapping[str, tuple[str, int]]
Within = Literal["repeat", "network"]


@dataclass(frozen=True, slots=True)
class Sample:
    """Figures of one row, and when they were measured."""

    network: int
    repeat: int
    row: str
    figures: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Record:
    """Everything measured so far, and why the rest failed, by turn or row."""

    samples: list[Sample] = field(default_factory=list)
    failures: dict[str, list[str]] = field(default_factory=dict)

    @contextlib.contextmanager
    def attempt(self, name: str) -> Iterator[None]:
        """Go on after an attempt that failed: show a person why, and note it."""
        try:
            yield
        except (Failed, OnionMPCError, OSError, EOFError) as error:
            words = str(error) or type(error).__name__
            say(f"{name}: failed ({words})")
            # What follows the colon may name files of this machine, which no results should.
            self.failures.setdefault(name, []).append(words.partition(":")[0])

    @property
    def networks(self) -> list[Rows]:
        """The rows of each network."""
        return [rows_of(group) for _, group in itertools.groupby(self.samples, key=lambda sample: sample.network)]


def rows_of(samples: Iterable[Sample]) -> Rows:
    """Sum up each figure of each row."""
    values: dict[str, dict[str, list[float]]] = {}
    for sample in samples:
        for figure, value in sample.figures.items():
            values.setdefault(sample.row, {}).setdefault(figure, []).append(value)
    return {row: {figure: Spread.of(each) for figure, each in figures.items()} for row, figures in values.items()}


def ratios_of(samples: Iterable[Sample], pairs: Sequence[tuple[str, str]], within: Within) -> Rows:
    """Return the ratios of medians within each repeat, or each network, summed up."""

    def block(sample: Sample) -> tuple[int, ...]:
        return (sample.network,) if within == "network" else (sample.network, sample.repeat)

    blocks = [rows_of(group) for _, group in itertools.groupby(sorted(samples, key=block), key=block)]
    found = []
    for (above, below), rows in itertools.product(pairs, blocks):
        over, under = rows.get(above, {}), rows.get(below, {})
        comparable = [figure for figure in over if figure in under and under[figure].median]
        ratios = {figure: over[figure].median / under[figure].median for figure in comparable}
        found.append(Sample(0, 0, f"{above} / {below}", ratios))
    return rows_of(found)


def write(output: Path, name: str, networks: int, record: Record, ratios: Rows) -> None:
    """Write everything measured so far as JSON."""
    results: dict[str, Any] = {
        "benchmark": name,
        "machine": machine(),
        "networks": networks,
        "rows": rows_of(record.samples),
        "ratios": ratios,
        "failures": record.failures,
    }
    if networks > 1:
        results["each_network"] = record.networks
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(results, indent=2, default=_as_data) + "\n", encoding="utf-8")


def tables(figures: Figures, record: Record, ratios: Rows) -> list[str]:
    """Show the results to a person: each network by itself, then ratios and failures."""
    several = len(record.networks) > 1
    shown = [
        _table(figures, rows, f"network {number}" if several else "") for number, rows in enumerate(record.networks, 1)
    ]
    if ratios:
        shown.append(_table({name: (head, 2) for name, (head, _) in figures.items()}, ratios, "ratio"))
    failed = [[name, str(len(words)), "; ".join(dict.fromkeys(words))] for name, words in record.failures.items()]
    return [*shown, table(["failed", "times", "why"], failed)] if failed else shown


def _table(figures: Figures, rows: Rows, corner: str) -> str:
    """Show the figures that these rows have."""
    found = {name: form for name, form in figures.items() if any(name in row for row in rows.values())}
    shown = [
        [name, *(row[figure].show(decimals) if figure in row else "" for figure, (_, decimals) in found.items())]
        for name, row in rows.items()
    ]
    return table([corner, *(head for head, _ in found.values())], shown)


def _as_data(value: object) -> Any:  # noqa: ANN401
    if isinstance(value, Spread):
        return value.data
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
