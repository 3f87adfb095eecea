"""Every aim is found in the results that have it, and said to be met, missed or not measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.benchmark import Aim, Benchmark
from benchmarks.common import RESULTS, Spread
from benchmarks.report import BENCHMARKS, README, Finding, Verdict, find, find_all, main, put_into, show_all

SPREAD = {"median": 2.0, "lowest": 1.0, "highest": 4.0, "count": 3}
AIMS = [aim for benchmark in BENCHMARKS for aim in benchmark.aims]
AIMED = sum(aim.limit is not None for aim in AIMS)


def write(directory: Path, name: str, networks: int = 1, **rows: dict[str, Any]) -> None:
    content = {"benchmark": name, "machine": {"date": "2026-11-25"}, "networks": networks, "rows": {}, **rows}
    (directory / f"{name}.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("aim", "found"),
    [
        (Aim("in a row", "row", "seconds"), Spread(2.0, 1.0, 4.0, 3)),
        (Aim("in a ratio", "row / other", "seconds"), Spread(2.0, 1.0, 4.0, 3)),
        (Aim("no such row", "other", "seconds"), None),
        (Aim("no such figure", "row", "memory_mb"), None),
    ],
)
def test_a_figure_is_found_or_not_there(aim: Aim, found: Spread | None) -> None:
    results = {"rows": {"row": {"seconds": SPREAD}}, "ratios": {"row / other": {"seconds": SPREAD}}}
    assert find(aim, results).figure == found


@pytest.mark.parametrize(
    ("figure", "verdict"), [(None, "not measured"), (0.5, "met"), (0.55, "met"), (0.551, "missed"), (2.0, "missed")]
)
def test_an_aim_is_met_up_to_its_limit(figure: float | None, verdict: str) -> None:
    spread = None if figure is None else Spread.of([figure])
    found = Finding(Aim("what", "row", "seconds", 0.55), spread).verdict
    assert found is not None
    assert found.value == verdict


def aims_met(directory: Path) -> None:
    """Write results in which every aim is met."""
    for benchmark in BENCHMARKS:
        rows: dict[str, dict[str, Any]] = {}
        for aim in benchmark.aims:
            rows.setdefault(aim.row, {})[aim.figure] = SPREAD | {
                "median": 0.9 * (1 if aim.limit is None else aim.limit),
                "count": 1,
            }
        write(directory, benchmark.name, benchmark.networks, rows=rows)


def test_check_passes_once_all_aims_are_met(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    aims_met(tmp_path)
    assert {finding.verdict for finding in find_all(tmp_path)} == {Verdict.MET, None}
    assert main(["--check"], tmp_path) == 0
    printed = capsys.readouterr().out
    assert "| all connected: 7 parties / 3 | 1.30 | 1.17 |  | met | 1 | 2026-11-25 |" in printed
    assert "| memory of a supervisor of 25 parties | 150 MB | 135 MB |  | met | 1 |" in printed
    assert "| onionmpc --help | 300 ms | 270 ms |  | met | no Tor |" in printed
    assert printed.endswith(f"{AIMED} aims: {AIMED} met, 0 missed, 0 not measured.\n")


def test_check_fails_while_an_aim_is_missed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    aims_met(tmp_path)
    slow = {"attacked / quiet": {"compute_s": SPREAD}, "attacked, more than quiet": {"peak_mb": SPREAD}}
    write(tmp_path, "attack", rows=slow)
    assert main(["--check"], tmp_path) == 1
    shown = "| 1,000 strangers: attacked / quiet | 1.10 | 2.00 | 1.00 to 4.00 | missed by 82 % |"
    assert shown in capsys.readouterr().out
    assert main([], tmp_path) == 0


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_text("{"), lambda path: path.write_text("{}")])
def test_check_fails_while_an_aim_is_not_measured(
    harm: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    aims_met(tmp_path)
    harm(tmp_path / "recovery.json")
    assert main(["--check"], tmp_path) == 1
    assert "0 missed, 4 not measured." in capsys.readouterr().out


def test_one_run_has_no_spread() -> None:
    aim = Aim("what", "row", "seconds")
    assert Finding(aim, Spread(2.0, 1.0, 4.0, 3)).row()[2:4] == ["2.00", "1.00 to 4.00"]
    assert Finding(aim, Spread(2.0, 2.0, 2.0, 1)).row()[2:4] == ["2.00", ""]


def test_every_benchmark_is_in_the_report_or_has_no_aim() -> None:
    """`cost` prices what no aim is about."""
    modules = {path.stem for path in README.parent.glob("*.py") if "BENCHMARK = " in path.read_text()}
    assert modules - {benchmark.name for benchmark in BENCHMARKS} == {"cost"}


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda benchmark: str(benchmark.name))
def test_every_aim_is_about_a_ratio_or_a_figure_that_its_benchmark_measures(benchmark: Benchmark) -> None:
    ratios = {f"{above} / {below}" for above, below in benchmark.ratios}
    for aim in benchmark.aims:
        assert aim.figure in benchmark.figures
        assert aim.row in ratios or " / " not in aim.row or benchmark.name == "link_cost"


def test_all_results_in_the_repository_can_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert capsys.readouterr().out.count("\n| ") == len(AIMS) + 1
    assert all(finding.figure for finding in find_all(RESULTS))


def test_the_first_table_of_the_readme_is_what_the_report_prints() -> None:
    """Else run: python -m benchmarks.report --readme."""
    readme = README.read_text()
    assert put_into(readme, show_all(find_all(RESULTS))) == readme
    assert readme.index("| aim |") < readme.replace("| aim |", "").index("\n| ") + len("| aim |")
