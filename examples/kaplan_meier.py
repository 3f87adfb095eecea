# /// script
# dependencies = ["mpyc", "numpy"]
#
# [tool.onionmpc]
# version = 1
# title = "Survival curves over the patients of all hospitals"
# reveals = """all parties learn, for each group and interval, how many are at risk and how many events there are, \
# until too few are at risk"""
# min-parties = 3
#
# [[tool.onionmpc.public]]
# name = "groups"
# label = "The groups of patients"
# type = "text"
# many = true
# max-count = 10
# demo = "treated,control"
#
# [[tool.onionmpc.public]]
# name = "horizon"
# label = "The time at which the curves end"
# type = "integer"
# min = 1
# max = 100_000
# option = "--horizon"
# optional = true
#
# [[tool.onionmpc.public]]
# name = "width"
# label = "The length of an interval"
# type = "integer"
# min = 1
# max = 100_000
# option = "--width"
# optional = true
#
# [[tool.onionmpc.public]]
# name = "smallest"
# label = "A curve ends when fewer patients than this are at risk"
# type = "integer"
# min = 2
# max = 100_000
# option = "--smallest"
# optional = true
#
# [[tool.onionmpc.input]]
# name = "patients"
# label = "Your patients: group, time, and 1 for an event or 0 if the patient left the study"
# type = "table"
# columns = ["group", "time", "event"]
# max-rows = 100_000
# option = "--input"
#
# [tool.onionmpc.output]
# type = "table"
# ///
"""Survival curves (Kaplan-Meier) over the patients of all hospitals.

Each party has a row for each patient: the group, a time, and whether the event took place then (1) or the patient left
the study (0). All learn, for each group and interval, how many patients are at risk at its start and how many events
there are in it. From the interval on in which fewer than --smallest are at risk, they learn nothing more about a group.
Nobody learns from which party a patient is, or how many patients a party has.

hops: 14 with three parties, and as many with more, for any number of patients, groups and intervals.

accuracy: the curve is exact for times that are rounded up to a multiple of --width. With --width 1 it is the usual one.
"""

from __future__ import annotations

import argparse
import html
import math
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mpyc.runtime import mpc
from private_input import add_private_arguments, different_names, private_text

MOST_ROWS = 100_000  # of a party
MOST_GROUPS = 10
MOST_INTERVALS = 1000
LATEST = 100_000
DEMO_ROWS = 20
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf")

Patient = tuple[int, int, int]  # the number of the group, the time, and 1 for an event or 0
Interval = tuple[int, int]  # how many are at risk at its start, and how many events there are in it


def life_table(patients: Sequence[Patient], groups: int, intervals: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return how many of a party's patients are at risk, and have the event, by group and interval."""
    at_risk, events = np.zeros((2, groups, intervals), dtype=int)
    for group, time, event in patients:
        number = max(0, math.ceil(time / width) - 1)  # an interval contains its end
        at_risk[group, : number + 1] += 1
        if event and number < intervals:
            events[group, number] += 1
    return at_risk, events


async def curves(
    patients: Sequence[Patient], groups: int, intervals: int, width: int, smallest: int
) -> list[list[Interval]]:
    """Add up the patients of all parties in secret, and open the intervals with enough patients, by group."""
    secint = mpc.SecInt(32)
    mine = np.stack(life_table(patients, groups, intervals, width)).reshape(2, groups * intervals)
    total = sum(mpc.input(secint.array(mine)))
    bits = (len(mpc.parties) * MOST_ROWS).bit_length() + 1
    too_few = await mpc.output(mpc.np_sgn(total[0] - smallest, l=bits, LT=True))
    enough = [place for place, few in enumerate(too_few) if not few]
    found: list[list[Interval]] = [[] for _ in range(groups)]
    if enough:
        # Nobody comes to be at risk later, so these are the first intervals of each group.
        at_risk, events = await mpc.output(total[:, np.array(enough)])
        for place, *interval in zip(enough, at_risk, events, strict=True):
            found[place // intervals].append((int(interval[0]), int(interval[1])))
    return found


def survival(intervals: Sequence[Interval]) -> list[float]:
    """Return the part that survives the end of each interval."""
    parts = [1.0]
    for at_risk, events in intervals:
        parts.append(parts[-1] * (1 - events / at_risk))
    return parts[1:]


def plot(names: Sequence[str], found: Sequence[Sequence[Interval]], width: int, horizon: int) -> str:
    """Return the curves as an SVG image."""
    left, top, wide, high = 60, 20, 560, 320
    lines = [
        '<svg xmlns="http://www.w3.org/2000/svg" width="640" height="400" font-family="sans-serif" font-size="12">',
        '<rect width="640" height="400" fill="white"/>',
        f'<path d="M{left},{top}V{top + high}H{left + wide}" fill="none" stroke="black"/>',
    ]
    for tick in range(5):
        x, y = left + wide * tick / 4, top + high - high * tick / 4
        lines.append(f'<text x="{x}" y="{top + high + 18}" text-anchor="middle">{horizon * tick / 4:g}</text>')
        lines.append(f'<text x="{left - 8}" y="{y + 4}" text-anchor="end">{25 * tick} %</text>')
    for number, (name, intervals) in enumerate(zip(names, found, strict=True)):
        steps = [f"M{left},{top}"]
        for interval, part in enumerate(survival(intervals), start=1):
            steps.append(f"H{left + wide * min(interval * width, horizon) / horizon:.1f}V{top + high * (1 - part):.1f}")
        colour = COLOURS[number]
        lines.append(f'<path d="{"".join(steps)}" fill="none" stroke="{colour}" stroke-width="2"/>')
        label = html.escape(name)
        lines.append(f'<text x="{left + 12}" y="{top + high - 12 - 16 * number}" fill="{colour}">{label}</text>')
    return "\n".join([*lines, "</svg>\n"])


def save(file: str, drawing: str) -> None:
    """Write the drawing to a file, or end with a sentence."""
    try:
        Path(file).write_text(drawing, encoding="utf-8")
    except OSError as error:
        sys.exit(f"cannot write the plot to {file}: {error.strerror}")


def parse_patients(text: str, names: list[str]) -> list[Patient]:
    """Return a patient for each line of `text` (semicolons separate patients, too), or end with a sentence."""
    patients = []
    for number, line in enumerate(text.replace(";", "\n").splitlines(), start=1):
        cells = [cell.strip() for cell in line.split(",")]
        if cells == [""]:
            continue
        if len(cells) != 3 or cells[0] not in names or cells[2] not in ("0", "1"):
            sys.exit(f"line {number} of the patients must have a group ({', '.join(names)}), a time, and 0 or 1")
        if not cells[1].isdecimal() or len(cells[1]) > 6 or int(cells[1]) > LATEST:
            sys.exit(f"the time in line {number} of the patients must be a whole number from 0 to {LATEST}")
        patients.append((names.index(cells[0]), int(cells[1]), int(cells[2])))
    if len(patients) > MOST_ROWS:
        sys.exit(f"there must be at most {MOST_ROWS} patients")
    return patients


def made_up(names: list[str], horizon: int) -> str:
    """Return patients of this party, the same ones at each run. Those of the first group live longest."""
    source = random.Random(mpc.pid)
    lines = []
    for _ in range(DEMO_ROWS):
        group = source.randrange(len(names))
        time = 1 + int(min(source.expovariate((1 + group) / horizon), 2 * horizon))
        lines.append(f"{names[group]},{min(time, LATEST)},{int(source.random() < 0.8)}")
    return "\n".join(lines)


async def main(patients: list[Patient], names: list[str], settings: argparse.Namespace) -> None:
    """Find the curves in secret, and print them; also draw them if there is a file for that."""
    horizon, width = settings.horizon, settings.width
    async with mpc:
        found = await curves(patients, len(names), math.ceil(horizon / width), width, settings.smallest)
    print("group,until,at risk,events,survival")
    for name, intervals in zip(names, found, strict=True):
        for number, (interval, part) in enumerate(zip(intervals, survival(intervals), strict=True), start=1):
            print(f"{name},{number * width},{interval[0]},{interval[1]},{part:.4f}")
    if settings.plot:
        save(settings.plot, plot(names, found, width, horizon))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("groups", help="names, separated by commas; the same for all parties")
    parser.add_argument("--horizon", type=int, default=60, help="where the curves end (60)")
    parser.add_argument("--width", type=int, default=6, help="length of an interval (6)")
    parser.add_argument("--smallest", type=int, default=5, help="end a curve when fewer patients are at risk (5)")
    parser.add_argument("--plot", metavar="FILE", help="draw the curves into FILE, an SVG image")
    add_private_arguments(parser, "patients")
    arguments = parser.parse_args()
    names = different_names(arguments.groups, "groups", 1, MOST_GROUPS)
    if not 1 <= arguments.width <= arguments.horizon <= min(LATEST, MOST_INTERVALS * max(1, arguments.width)):
        sys.exit(f"expected --width up to --horizon, --horizon up to {LATEST}, and at most {MOST_INTERVALS} intervals")
    if not 2 <= arguments.smallest <= MOST_ROWS:
        sys.exit(f"--smallest must be from 2 to {MOST_ROWS}")
    text = private_text(arguments, "patients", [made_up(names, arguments.horizon)])
    mpc.run(main(parse_patients(text, names), names, arguments))
