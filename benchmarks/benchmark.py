"""The shape of every benchmark: a question, turns that it takes again and again, and figures with their aims.

A benchmark knows how to take one turn. This module does the rest: the options, the order of the turns, failures,
medians, ratios, tables and results/NAME.json. Does not know what is measured.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from benchmarks.common import RESULTS, Failed, Spread, machine, say, table
from onionmpc.cli.loop import run_until_interrupted
from onionmpc.errors import OnionMPCError

# Spreads by row and figure.
Rows = dict[str, dict[str, Spread]]


@dataclass(frozen=True, slots=True)
class Aim:
    """A figure for the report, and what it may be.

    Attributes:
        words: what is measured.
        row: which row or ratio has it.
        limit: the most that the figure may be; None if nothing is aimed at.
        unit: of both; a ratio has none.
    """

    words: str
    row: str
    figure: str
    limit: float | None = None
    unit: str = ""


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


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a benchmark.

    Attributes:
        name: one of `Benchmark.turns`.
        order: the names of all turns, in the order of this repeat.
    """

    name: str
    network: int
    repeat: int
    order: Sequence[str]
    record: Record

    def note(self, row: str, **figures: float) -> None:
        """Note a sample, and show it to a person."""
        self.record.samples.append(Sample(self.network, self.repeat, row, figures))
        say(f"{row}: {', '.join(f'{name} {value:.4g}' for name, value in figures.items())}")

    def alternating(self, sides: Sequence[str]) -> list[str]:
        """Return two sides, of which each comes first every other time: the second may find a warmer machine."""
        return list(reversed(sides)) if (self.network + self.repeat) % 2 else list(sides)


Take = Callable[[Turn], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """A question, and what it takes to answer it.

    Attributes:
        name: of its module and its results.
        turns: what takes turns.
        opened: sets up what all turns need and yields what takes one; entered once for each network.
        figures: for each, the head of its column and how many decimals to show.
        ratios: pairs of rows, the second of which is the measure of the first.
        within: two rows are compared within one of these.
        networks: private Tor networks, one after the other; 0 without Tor.
    """

    name: str
    question: str
    turns: Sequence[str]
    opened: Callable[[], contextlib.AbstractAsyncContextManager[Take]]
    figures: Mapping[str, tuple[str, int]]
    ratios: Sequence[tuple[str, str]] = ()
    within: Literal["repeat", "network"] = "repeat"
    aims: Sequence[Aim] = ()
    repeats: int = 1
    networks: int = 0


def no_setup(take: Take) -> Callable[[], contextlib.AbstractAsyncContextManager[Take]]:
    """Return the `opened` of a benchmark that needs nothing set up."""
    return lambda: contextlib.nullcontext(take)


def main(benchmark: Benchmark, arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write; exit with 1 if something was never measured."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{benchmark.name}", description=benchmark.question)
    words = f"how often ({benchmark.repeats})"
    parser.add_argument("--repeats", type=int, default=benchmark.repeats, metavar="N", help=words)
    parser.add_argument("--only", action="append", choices=benchmark.turns, help="what to measure (all); repeatable")
    if benchmark.networks > 1:
        words = f"private Tor networks, one after the other ({benchmark.networks})"
        parser.add_argument("--networks", type=int, default=benchmark.networks, metavar="N", help=words)
    else:
        parser.set_defaults(networks=benchmark.networks)
    output = RESULTS / f"{benchmark.name}.json"
    parser.add_argument("--output", type=Path, default=output, metavar="FILE", help="where to write (results/)")
    options = parser.parse_args(arguments)
    turns = [name for name in benchmark.turns if not options.only or name in options.only]
    try:
        never = run_until_interrupted(measure(benchmark, turns, options.repeats, options.networks, options.output))
    except (Failed, OnionMPCError) as error:
        sys.exit(f"cannot measure: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    if never:
        sys.exit(f"never measured: {', '.join(never)}")


async def measure(
    benchmark: Benchmark, turns: Sequence[str], repeats: int, networks: int, output: Path
) -> Sequence[str]:
    """Take all turns, and write after each what there is; return those that failed every time."""
    record = Record()
    measured: set[str] = set()
    for network in range(max(networks, 1)):
        async with benchmark.opened() as take:
            for repeat, order in in_turns(turns, repeats):
                for name in order:
                    say(f"-- {name}, {repeat + 1} of {repeats}")
                    with record.attempt(name):
                        await take(Turn(name, network, repeat, order, record))
                        measured.add(name)
                    write(output, benchmark, networks, record)
    print(f"\n## {benchmark.question}\n\n{', '.join(f'{key} {value}' for key, value in machine().items())}\n")
    print("\n\n".join(tables(benchmark, record)))
    print(f"\nwritten: {output}")
    return [name for name in turns if name not in measured]


def in_turns(turns: Sequence[str], repeats: int) -> Iterator[tuple[int, list[str]]]:
    """Yield each repeat's number and the order of its turns: each begins with another one.

    The first turn may find a colder machine.
    """
    for repeat in range(repeats):
        first = repeat % len(turns)
        yield repeat, [*turns[first:], *turns[:first]]


def rows_of(samples: Iterable[Sample]) -> Rows:
    """Sum up each figure of each row."""
    values: dict[str, dict[str, list[float]]] = {}
    for sample in samples:
        for figure, value in sample.figures.items():
            values.setdefault(sample.row, {}).setdefault(figure, []).append(value)
    return {row: {figure: Spread.of(each) for figure, each in figures.items()} for row, figures in values.items()}


def ratios_of(benchmark: Benchmark, samples: Sequence[Sample]) -> Rows:
    """Return the ratios of medians within each repeat, or each network, summed up."""

    def block(sample: Sample) -> tuple[int, ...]:
        return (sample.network,) if benchmark.within == "network" else (sample.network, sample.repeat)

    blocks = [rows_of(group) for _, group in itertools.groupby(sorted(samples, key=block), key=block)]
    found = []
    for (above, below), rows in itertools.product(benchmark.ratios, blocks):
        over, under = rows.get(above, {}), rows.get(below, {})
        ratios = {
            figure: over[figure].median / under[figure].median
            for figure in over
            if figure in under and under[figure].median
        }
        found.append(Sample(0, 0, f"{above} / {below}", ratios))
    return rows_of(found)


def write(output: Path, benchmark: Benchmark, networks: int, record: Record) -> None:
    """Write everything measured so far as JSON."""
    results: dict[str, Any] = {
        "benchmark": benchmark.name,
        "machine": machine(),
        "networks": networks,
        "rows": rows_of(record.samples),
        "ratios": ratios_of(benchmark, record.samples),
        "failures": record.failures,
    }
    if networks > 1:
        results["each_network"] = [rows for _, rows in by_network(record)]
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(results, indent=2, default=_as_data) + "\n", encoding="utf-8")


def by_network(record: Record) -> list[tuple[int, Rows]]:
    """Return each network that has samples, and its rows."""
    groups = itertools.groupby(record.samples, key=lambda sample: sample.network)
    return [(network, rows_of(group)) for network, group in groups]


def tables(benchmark: Benchmark, record: Record) -> list[str]:
    """Show the results to a person: each network by itself, then ratios and failures."""
    networks = by_network(record)
    shown = [
        _table(benchmark, rows, "" if len(networks) == 1 else f"network {network + 1}") for network, rows in networks
    ]
    if ratios := ratios_of(benchmark, record.samples):
        shown.append(_table(benchmark, ratios, "ratio", decimals=2))
    failed = [[name, str(len(words)), "; ".join(dict.fromkeys(words))] for name, words in record.failures.items()]
    return [*shown, table(["failed", "times", "why"], failed)] if failed else shown


def _table(benchmark: Benchmark, rows: Rows, corner: str, decimals: int | None = None) -> str:
    """Show the figures that these rows have."""
    figures = {name: form for name, form in benchmark.figures.items() if any(name in row for row in rows.values())}

    def cell(row: Mapping[str, Spread], name: str) -> str:
        return row[name].show(figures[name][1] if decimals is None else decimals) if name in row else ""

    header = [corner, *(head for head, _ in figures.values())]
    return table(header, [[name, *(cell(row, figure) for figure in figures)] for name, row in rows.items()])


def _as_data(value: object) -> Any:  # noqa: ANN401
    if isinstance(value, Spread):
        return value.data
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
