"""Pictures of results, as SVG (or whatever the name ends in): round trips, program times, guard discovery, growth.

Knows plain dictionaries, as they stand in results/*.json. Does not measure, and needs matplotlib only when it draws.
The same results give the same bytes (with the same matplotlib): a picture in the repository changes only when its
numbers do.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import say

# The colours of Okabe and Ito, which colour-blind people tell apart; the markers serve grey print.
COLOURS = ("#0072b2", "#e69f00", "#000000", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#f0e442")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
STYLE: Any = {
    "svg.hashsalt": "onionmpc",
    "svg.fonttype": "none",
    # The first comes with matplotlib; the others are for a viewer without it, the second as wide.
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"],
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "figure.dpi": 110,
}
DAY_TICKS: dict[float, str] = {1: "1 day", 7: "1 week", 30: "1 month", 365: "1 year", 3650: "10 years"}
ABOVE: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "frameon": False}
# Where zero stands on an axis of logarithms.
AT_ONCE_DAYS = 0.25


class NoMatplotlib(Exception):
    """There is nothing to draw with."""


def drawn(path: Path, draw: Callable[[Path], None]) -> None:
    """Draw a picture, or say why not."""
    try:
        draw(path)
    except NoMatplotlib as error:
        say(str(error))
    else:
        print(f"drawn: {path}")


def draw_round_trips(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw round trips against relays.

    Args:
        rows: name, relays (between the two parties), median_ms, p95_ms of each kind of circuit.

    Raises:
        NoMatplotlib: it is not installed.
    """
    with _axes(path, 1, width=7, height=4.2) as (axes,):
        beside: Counter[int] = Counter()
        sharing = Counter(row["relays"] for row in rows)
        for number, row in enumerate(rows):
            relays = row["relays"]
            # Of several kinds with the same relays none hides another.
            x = relays + 0.16 * (beside[relays] - (sharing[relays] - 1) / 2)
            beside[relays] += 1
            colour = COLOURS[number % len(COLOURS)]
            axes.vlines([x], row["median_ms"], row["p95_ms"], color=colour, linewidth=1.6)
            marker = MARKERS[number % len(MARKERS)]
            axes.plot([x], [row["median_ms"]], ls="none", marker=marker, color=colour, ms=7, label=row["name"])
        axes.set_xticks(sorted(sharing))
        axes.set_ylim(bottom=0)
        axes.set_xlabel("relays between the two parties")
        axes.set_ylabel("round trip, ms")
        axes.set_title("median (marker), and up to the 95th percentile (line)", loc="left", fontsize=10)
        axes.grid(axis="y", alpha=0.3)
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)


def draw_program_times(times: Mapping[str, Mapping[str, Mapping[str, float]]], path: Path) -> None:
    """Draw how long programs take by level, one panel for each program.

    Args:
        times: by program, then by level: median, lowest, highest, in seconds. All programs have the same levels.

    Raises:
        NoMatplotlib: it is not installed.
    """
    levels = list(next(iter(times.values())))
    with _axes(path, len(times), width=3.2 + 3.3 * len(times), height=1.3 + 0.42 * len(levels)) as panels:
        for axes, (program, by_level) in zip(panels, times.items(), strict=True):
            spreads = [by_level[level] for level in levels]
            medians = [spread["median"] for spread in spreads]
            ranges = [
                [spread["median"] - spread["lowest"] for spread in spreads],
                [spread["highest"] - spread["median"] for spread in spreads],
            ]
            axes.barh(levels, medians, xerr=ranges, capsize=3, height=0.62, color="#9ecae1", edgecolor="#08306b")
            for level, spread in zip(levels, spreads, strict=True):
                words = f"{spread['median']:.3g} s"
                axes.annotate(words, (spread["highest"], level), xytext=(6, 0), textcoords="offset points", va="center")
            axes.set_xlim(0, 1.25 * max(spread["highest"] for spread in spreads))
            axes.set_xlabel("seconds: median, and lowest to highest")
            axes.set_title(program, loc="left", fontsize=10)
            axes.grid(axis="x", alpha=0.3)
        panels[0].invert_yaxis()


def draw_discovery(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw how long it takes to find a party's guard, by case and adversary.

    Args:
        rows: what guard_discovery.discovery_table returns.

    Raises:
        NoMatplotlib: it is not installed.
    """
    rows = [row for row in rows if row["finds"] == "guard"]
    cases = list(dict.fromkeys(row["case"] for row in rows))
    shares = sorted({row["share"] for row in rows})
    with _axes(path, 1, width=8.6, height=1.4 + 0.5 * len(cases)) as (axes,):
        for number, share in enumerate(shares):
            of_share = {row["case"]: row for row in rows if row["share"] == share}
            low, middle, high = (
                [max(of_share[case][key], AT_ONCE_DAYS) for case in cases]
                for key in ("p10_days", "median_days", "p90_days")
            )
            y = [place + 0.22 * (number - (len(shares) - 1) / 2) for place in range(len(cases))]
            colour = COLOURS[number]
            axes.hlines(y, low, high, color=colour, linewidth=1.6)
            axes.plot(middle, y, ls="none", marker=MARKERS[number], color=colour, ms=6, label=f"{share * 100:.0f} %")
        axes.set_xscale("log")
        axes.minorticks_off()
        ticks = {AT_ONCE_DAYS: "at once", **DAY_TICKS}
        axes.set_xticks(list(ticks), list(ticks.values()))
        axes.set_yticks(range(len(cases)), cases)
        axes.invert_yaxis()
        axes.grid(axis="x", alpha=0.3)
        axes.set_xlabel("time until half are found (marker), and 10 to 90 % (line)")
        axes.legend(title="the adversary's share of the bandwidth", ncols=len(shares), **ABOVE)


def draw_scale(results: Mapping[str, Mapping[str, Any]], growth: Mapping[str, float], path: Path) -> None:
    """Draw what more parties cost: time to connect, time of a round, memory.

    Args:
        results: by number of parties, then by measure: median, lowest, highest; no measures where all failed.
        growth: by measure, the power of the number of parties that it grows with, where there is one.

    Raises:
        NoMatplotlib: it is not installed.
    """
    panels = {
        "seconds until all are connected": {
            "connected_s": "connected",
            "links_s": "of these, after all were published",
        },
        "seconds of one round": {"round_s": "one round"},
        "highest memory of a process, MiB": {"supervisor_mib": "supervisor", "program_mib": "program"},
    }
    whole = {int(parties): of_size for parties, of_size in results.items() if "connected_s" in of_size}
    with _axes(path, len(panels), width=11, height=3.6, share_y=False) as all_axes:
        for axes, (title, measures) in zip(all_axes, panels.items(), strict=True):
            highest = 0.0
            for number, (measure, words) in enumerate(measures.items()):
                low, middle, high = (
                    [of_size[measure][key] for of_size in whole.values()] for key in ("lowest", "median", "highest")
                )
                highest = max(highest, *high)
                grows = f", as m$^{{{growth[measure]:.1f}}}$" if measure in growth else ""
                style = {"color": COLOURS[number], "linewidth": 1.6}
                axes.vlines(list(whole), low, high, **style)
                axes.plot(list(whole), middle, marker=MARKERS[number], ms=6, label=words + grows, **style)
            axes.set_xticks(list(whole))
            axes.set_ylim(0, 1.35 * highest)  # room for the legend above all lines
            axes.set_xlabel("parties")
            axes.set_title(title, loc="left", fontsize=10)
            axes.grid(alpha=0.3)
            axes.legend(frameon=False, loc="upper left")


@contextlib.contextmanager
def _axes(path: Path, panels: int, width: float, height: float, *, share_y: bool = True) -> Iterator[Sequence[Any]]:
    """Give panels beside each other, width and height in inches; write them to path afterwards."""
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError:
        raise NoMatplotlib(
            "no picture without matplotlib: pip install --constraint constraints.txt '.[bench]'"
        ) from None
    with rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        (of_row,) = figure.subplots(1, panels, sharey=share_y, squeeze=False)
        yield of_row
        path.parent.mkdir(parents=True, exist_ok=True)
        # No date and no version: the same numbers give the same file.
        nothing = {"Date": None, "Creator": None} if path.suffix == ".svg" else {}
        figure.savefig(path, metadata=nothing)
