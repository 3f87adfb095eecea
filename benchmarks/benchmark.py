"""The shape of every benchmark: a question, turns that it takes again and again, and figures with their aims.

A benchmark knows how to take one turn. This module has the options and the order of the turns, and samples.py makes of
the samples what is printed and written. Neither knows what is measured.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common import RESULTS, Failed, machine, say
from benchmarks.samples import Figures, Record, Sample, Within, ratios_of, tables, write
from onionmpc.cli.loop import run_until_interrupted
from onionmpc.errors import OnionMPCError


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
        figures: in the order of their columns.
        ratios: pairs of rows, the second of which is the measure of the first.
        within: two rows are compared within one of these.
        networks: private Tor networks, one after the other; 0 without Tor.
    """

    name: str
    question: str
    turns: Sequence[str]
    opened: Callable[[], contextlib.AbstractAsyncContextManager[Take]]
    figures: Figures
    ratios: Sequence[tuple[str, str]] = ()
    within: Within = "repeat"
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
    words = f"what to measure, of: {'; '.join(benchmark.turns)} (all); repeatable"
    parser.add_argument("--only", action="append", choices=benchmark.turns, metavar="TURN", help=words)
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
    record, ratios = Record(), {}
    measured: set[str] = set()
    for network in range(max(networks, 1)):
        async with benchmark.opened() as take:
            for repeat, order in in_turns(turns, repeats):
                for name in order:
                    say(f"-- {name}, {repeat + 1} of {repeats}")
                    with record.attempt(name):
                        await take(Turn(name, network, repeat, order, record))
                        measured.add(name)
                    ratios = ratios_of(record.samples, benchmark.ratios, benchmark.within)
                    write(output, benchmark.name, networks, record, ratios)
    print(f"\n## {benchmark.question}\n\n{', '.join(f'{key} {value}' for key, value in machine().items())}\n")
    print("\n\n".join(tables(benchmark.figures, record, ratios)))
    print(f"\nwritten: {output}")
    return [name for name in turns if name not in measured]


def in_turns(turns: Sequence[str], repeats: int) -> Iterator[tuple[int, list[str]]]:
    """Yield each repeat's number and the order of its turns: each begins with another one.

    The first turn may find a colder machine.
    """
    for repeat in range(repeats):
        first = repeat % len(turns)
        yield repeat, [*turns[first:], *turns[:first]]
