"""Every aim is found in the results that have it, and said to be met, missed or not measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import report
from benchmarks.report import AIMS, Aim, Finding, Verdict, at, find, in_mb, main, ratio, worst

SPREAD = {"median": 2.0, "lowest": 1.0, "highest": 4.0, "count": 3}
LINK = {"time of 2 MiB": SPREAD, "time of 10 messages": {"median": 3.0}, "bytes of 2 MiB": {"median": 1.01}}


def write(directory: Path, name: str, **results: Any) -> None:
    content = {"benchmark": name, "machine": {"date": "2026-11-25"}, **results}
    (directory / f"{name}.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("figure", "found"),
    [
        (at("a", "b"), 0.5),
        (at("spread"), 2.0),
        (at("spread", "highest"), 4.0),
        (at("a"), None),
        (at("b"), None),
        (at("a", "b", "c"), None),
        (at("words"), None),
        (at("not a number"), None),
        (ratio(at("spread"), at("a", "b")), 4.0),
        (ratio(at("spread"), at("nothing")), None),
        (ratio(at("nothing"), at("spread")), None),
        (ratio(at("spread"), at("zero")), None),
        (in_mb(at("spread")), 2.097152),
        (in_mb(at("nothing")), None),
        (worst("time", "link"), 3.0),
        (worst("bytes", "link"), 1.01),
        (worst("rounds", "link"), None),
        (worst("time", "nothing"), None),
        (worst("time", "words"), None),
        (worst("time", "unmeasured"), None),
    ],
)
def test_a_figure_is_found_or_not_there(figure: report.Figure, found: float | None) -> None:
    results = {
        "a": {"b": 0.5}, "spread": SPREAD, "words": "2.0", "not a number": float("nan"), "zero": 0, "link": LINK,
        "unmeasured": {"time of 2 MiB": SPREAD, "time of 10 messages": {}},
    }  # fmt: skip
    assert figure(results) == found


@pytest.mark.parametrize(
    ("figure", "verdict"), [(None, "not measured"), (0.5, "met"), (0.55, "met"), (0.551, "missed"), (2.0, "missed")]
)
def test_an_aim_is_met_up_to_its_limit(figure: float | None, verdict: str) -> None:
    assert Finding(Aim("what", "file", at(), 0.55), figure, "").verdict.value == verdict


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
    write(directory, "overhead", cases={"secret_santa": {"compute_ratio": {"of_medians": 1.1}}})
    kinds = (
        *("circuit closed by the dialler", "circuit closed by the listener"),
        *("own tor killed (dialler)", "own tor killed (listener)"),
    )
    link = {"time of 2 MiB": {"median": 1.0}, "bytes of 2 MiB": {"median": 1.01}}
    write(directory, "recovery", faults={kind: {"ratio": 1.1} for kind in kinds}, link_over_raw=link)


def test_check_passes_once_all_aims_are_met(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    aims_met(tmp_path)
    assert {find(aim, tmp_path).verdict for aim in AIMS} == {Verdict.MET}
    assert main(["--check", "--results", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "| all connected: 7 parties / 3 | 1.27 | 1.30 | met | scale.json of 2026-11-25 |" in printed
    assert "| memory of a supervisor of 25 parties | 67 MB | 150 MB | met |" in printed
    assert printed.endswith(f"{len(AIMS)} aims: {len(AIMS)} met, 0 missed, 0 not measured.\n")


def test_check_fails_while_an_aim_is_missed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    aims_met(tmp_path)
    write(tmp_path, "overhead", cases={"secret_santa": {"compute_ratio": {"of_medians": 2.19}}})
    assert main(["--check", "--results", str(tmp_path)]) == 1
    assert (
        "| direct sockets, secret santa: ours / plain MPyC | 2.19 | 1.15 | missed, by 90 % |" in capsys.readouterr().out
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


def test_the_results_in_the_repository_can_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert capsys.readouterr().out.count("\n| ") == len(AIMS) + 1
