"""The curves are those of all patients in one place, and end where few are at risk."""

from __future__ import annotations

import random
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from tests.support.examples import call_parties, read_input, run_parties

Patient = tuple[int, int, int]


def curve_in_the_clear(patients: list[Patient], group: int, horizon: int, smallest: int) -> list[list[int]]:
    """Count for each time, from the definition of the estimator."""
    mine = [(time, event) for number, time, event in patients if number == group]
    curve = []
    for time in range(1, horizon + 1):
        at_risk = sum(other >= time for other, _ in mine)
        if at_risk < smallest:
            break
        curve.append([at_risk, sum(other == time and event for other, event in mine)])
    return curve


@pytest.mark.parametrize("sizes", [(30,), (25, 1, 40), (10, 30, 0, 2, 20)])
def test_the_curves_are_those_of_all_patients_in_one_place(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    source = random.Random(str(sizes))
    tables = [
        [(source.choice([0, 0, 1]), source.randint(1, 15), source.randint(0, 1)) for _ in range(size)] for size in sizes
    ]
    everyone = [patient for table in tables for patient in table]
    [found] = call_parties(tmp_path, "kaplan_meier", "curves", [[(table, 2, 12, 1, 3) for table in tables]])
    assert found == [[curve_in_the_clear(everyone, group, 12, 3) for group in (0, 1)]] * len(sizes)


def test_times_are_rounded_up_to_the_end_of_their_interval(tmp_path: Path) -> None:
    coarse = [[(0, 0, 1), (0, 6, 1), (0, 7, 0), (0, 12, 1), (0, 99, 1)]]
    fine = [[(0, 1, 1), (0, 1, 1), (0, 2, 0), (0, 2, 1), (0, 17, 1)]]
    assert (
        call_parties(tmp_path, "kaplan_meier", "curves", [[(coarse[0], 1, 2, 6, 2)], [(fine[0], 1, 2, 1, 2)]])
        == [[[[[5, 2], [3, 1]]]]] * 2
    )


# Freireich's trial of 6-mercaptopurine: the curve of the treated, as in textbooks of survival analysis.
def test_a_known_curve_is_printed_and_drawn(tmp_path: Path) -> None:
    died = [6, 6, 6, 7, 10, 13, 16, 22, 23]
    left = [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
    lines = [f"6-MP,{time},1" for time in died] + [f"6-MP,{time},0" for time in left]
    tables = ["\n".join(lines[start::3]) for start in range(3)]
    options = read_input("6-MP", "--horizon", "23", "--width", "1", "--smallest", "2", "--plot", "plot.svg")
    printed = run_parties(tmp_path, "kaplan_meier", options, tables)
    assert len(set(printed)) == 1
    survival = {int(line.split(",")[1]): line.split(",")[4] for line in printed[0].splitlines()[1:]}
    expected = {
        5: "1.0000",
        6: "0.8571",
        7: "0.8067",
        10: "0.7529",
        13: "0.6902",
        16: "0.6275",
        22: "0.5378",
        23: "0.4482",
    }
    assert {time: survival[time] for time in expected} == expected
    drawn = ElementTree.fromstring((tmp_path / "plot.svg").read_text())
    assert len(drawn.findall("{http://www.w3.org/2000/svg}path")) == 2  # the axes and the curve
