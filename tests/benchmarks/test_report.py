"""Every aim is found in the results that have it, and said to be met, missed or not measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import report
from benchmarks.common import RESULTS
from benchmarks.report import (
    AIMS,
    README,
    Aim,
    Finding,
    Found,
    Verdict,
    at,
    discovered,
    find,
    in_mb,
    main,
    put_into,
    ratio,
    recovered,
    show,
    worst,
)

SPREAD = {"median": 2.0, "lowest": 1.0, "highest": 4.0, "count": 3}
LINK = {"time of 2 MiB": SPREAD, "time of 10 messages": {"median": 3.0}, "bytes of 2 MiB": {"median": 1.01}}


def write(directory: Path, name: str, **results: Any) -> None:
    content = {"benchmark": name, "machine": {"date": "2026-11-25"}, **results}
    (directory / f"{name}.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("figure", "found"),
    [
        (at("a", "b"), Found(0.5)),
        (at("spread"), Found(2.0, 1.0, 4.0)),
        (at("spread", "highest"), Found(4.0)),
        (at("a"), None),
        (at("b"), None),
        (at("a", "b", "c"), None),
        (at("words"), None),
        (at("not a number"), None),
        (ratio(at("spread"), at("a", "b")), Found(4.0)),
        (ratio(at("spread"), at("nothing")), None),
        (ratio(at("nothing"), at("spread")), None),
        (ratio(at("spread"), at("zero")), None),
        (in_mb(at("spread")), Found(2.097152, 1.048576, 4.194304)),
        (in_mb(at("nothing")), None),
        (worst("time", "link"), Found(3.0)),
        (worst("bytes", "link"), Found(1.01)),
        (worst("rounds", "link"), None),
        (worst("time", "nothing"), None),
        (worst("time", "words"), None),
        (worst("time", "unmeasured"), None),
    ],
)
def test_a_figure_is_found_or_not_there(figure: report.Figure, found: Found | None) -> None:
    results = {
        "a": {"b": 0.5}, "spread": SPREAD, "words": "2.0", "not a number": float("nan"), "zero": 0, "link": LINK,
        "unmeasured": {"time of 2 MiB": SPREAD, "time of 10 messages": {}},
    }  # fmt: skip
    assert figure(results) == found


@pytest.mark.parametrize(
    ("figure", "verdict"), [(None, "not measured"), (0.5, "met"), (0.55, "met"), (0.551, "missed"), (2.0, "missed")]
)
def test_an_aim_is_met_up_to_its_limit(figure: float | None, verdict: str) -> None:
    found = Finding(Aim("what", "file", at(), 0.55), None if figure is None else Found(figure)).verdict
    assert found is not None
    assert found.value == verdict


AIMED = sum(aim.limit is not None for aim in AIMS)


def aims_met(directory: Path) -> None:
    """Write results in which every aim is met."""
    ratios = {
        "ours --circuits 3 / by hand": 0.5, "ours --circuits 8 / by hand": 0.4,
        "ours --circuits 3 / limit of ours --circuits 3": 1.05,
    }  # fmt: skip
    write(directory, "byhand", cases={"chain": {"ratios": ratios}})
    sizes = {
        size: {"connected_s": {"median": seconds}, "supervisor_mib": {"median": 64}}
        for size, seconds in ((3, 15.0), (7, 19.0), (25, 60.0))
    }
    write(directory, "scale", parties=sizes)
    write(directory, "startup", over_raw=SPREAD | {"median": 1.1})
    write(directory, "bulk", ratio=0.45)
    write(directory, "commands", commands={words: {"ms": {"median": 90.0}} for words in ("--help", "programs")})
    write(directory, "attack", compute_ratio={"of_medians": 1.02}, added_mib=4.0)
    both = {"compute_ratio": {"of_medians": 1.1}}
    write(directory, "overhead", cases={"secret_santa": both, "secret_santa_delayed": both})
    kinds = (
        *("circuit closed by the dialler", "circuit closed by the listener"),
        *("own tor killed (dialler)", "own tor killed (listener)"),
    )
    link = {"time of 2 MiB": {"median": 1.0}, "bytes of 2 MiB": {"median": 1.01}}
    settings = {name: {"against_standard": {"rounds": SPREAD}} for name in ("short", "long", "standard, padded")}
    write(directory, "privacy_speed", settings=settings)
    days = {"share": 0.05, "p10_days": 1.0, "median_days": 18.0, "p90_days": 69.0}
    cases = [{"case": case, **days} for case in ("standard, lives as in tor 0.4.9.11", "long, by timing")]
    write(directory, "guard_discovery", cases=cases)
    write(directory, "recovery", faults={kind: {"ratio": 1.1} for kind in kinds}, link_over_raw=link)


def test_check_passes_once_all_aims_are_met(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    aims_met(tmp_path)
    assert {find(aim, tmp_path).verdict for aim in AIMS} == {Verdict.MET, None}
    assert main(["--check", "--results", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "| all connected: 7 parties / 3 | 1.30 | 1.27 |  | met | 1 | 2026-11-25 |" in printed
    assert "| memory of a supervisor of 25 parties | 150 MB | 67 MB |  | met |" in printed
    assert printed.endswith(f"{AIMED} aims: {AIMED} met, 0 missed, 0 not measured.\n")


def test_check_fails_while_an_aim_is_missed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    aims_met(tmp_path)
    slow, fast = ({"compute_ratio": {"of_medians": value}} for value in (2.19, 1.02))
    write(tmp_path, "overhead", cases={"secret_santa": slow, "secret_santa_delayed": fast})
    assert main(["--check", "--results", str(tmp_path)]) == 1
    assert (
        "| local sockets, secret santa: ours / plain MPyC | 1.15 | 2.19 |  | missed by 90 % |"
        in capsys.readouterr().out
    )
    assert main(["--results", str(tmp_path)]) == 0


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_text("{"), lambda path: path.write_text("{}")])
def test_check_fails_while_an_aim_is_not_measured(
    harm: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    aims_met(tmp_path)
    harm(tmp_path / "recovery.json")
    assert main(["--check", "--results", str(tmp_path)]) == 1
    assert "0 missed, 6 not measured." in capsys.readouterr().out


def test_a_fault_has_the_spread_of_its_seconds_over_its_unit() -> None:
    fault = {"seconds": SPREAD, "ratio": 1.5}
    assert recovered("cut")({"faults": {"cut": fault}}) == Found(1.5, 0.75, 3.0)
    assert recovered("cut")({"faults": {"cut": {"ratio": 1.5}}}) == Found(1.5)
    assert recovered("cut")({"faults": {}}) is None


def test_one_run_has_no_spread() -> None:
    assert at("once")({"once": SPREAD | {"count": 1}}) == Found(2.0)


def test_a_guard_is_found_by_case_and_share() -> None:
    row = {"case": "long", "share": 0.05, "p10_days": 1.0, "median_days": 2.0, "p90_days": 3.0}
    assert discovered("long", 0.05)({"cases": [row]}) == Found(2.0, 1.0, 3.0)
    assert discovered("long", 0.1)({"cases": [row]}) is None


def test_all_results_in_the_repository_can_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert capsys.readouterr().out.count("\n| ") == len(AIMS) + 1
    assert all(find(aim, RESULTS).figure for aim in AIMS)


def test_the_first_table_of_the_readme_is_what_the_report_prints() -> None:
    """Else run: python -m benchmarks.report --readme."""
    readme = README.read_text()
    assert put_into(readme, show([find(aim, RESULTS) for aim in AIMS])) == readme
    assert readme.index("| aim |") < readme.replace("| aim |", "").index("\n| ") + len("| aim |")
