"""Each benchmark, at its smallest, runs and writes what it promises. What it measures is not looked at."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
DEADLINE_S = 180


def run_benchmark(output: Path, name: str, *options: str) -> tuple[str, dict[str, Any]]:
    """Run a benchmark; return what it printed and what it wrote."""
    command = [sys.executable, "-m", f"benchmarks.{name}", "--repeats", "1", "--parties", "3", "--output", output]
    ended = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S)
    assert ended.returncode == 0, ended.stderr
    results = json.loads(output.read_text())
    assert results["benchmark"] == name
    assert results["machine"]["cores"] >= 1
    return ended.stdout, results


def is_spread(value: dict[str, float]) -> bool:
    return value["count"] >= 1 and 0 <= value["lowest"] <= value["median"] <= value["highest"]


def test_overhead_compares_the_same_work_on_both_sides(tmp_path: Path) -> None:
    printed, results = run_benchmark(tmp_path / "overhead.json", "overhead", "--case", "secret_santa")
    case = results["cases"]["secret_santa"]
    assert case["messages"] > 0
    for span in ("connect_s", "compute_s", "command_s", "cpu_s"):
        assert is_spread(case[span]["plain"])
        assert is_spread(case[span]["onionmpc"])
    assert case["compute_ratio"]["lowest"] <= case["compute_ratio"]["of_medians"] <= case["compute_ratio"]["highest"]
    assert is_spread(case["supervisor_peak_mib"])
    assert "| secret_santa |" in printed


@pytest.mark.tor
def test_startup_times_a_first_and_a_later_start(tmp_path: Path) -> None:
    printed, results = run_benchmark(tmp_path / "startup.json", "startup", "--latency", "none")
    assert results["failed_sessions"] == 0
    for start in ("first", "later"):
        steps = results["parties"]["3"][start]
        assert all(is_spread(spread) for spread in steps.values())
        assert steps["address_s"]["median"] < steps["published_s"]["median"]
        assert steps["connected_s"]["median"] < steps["result_s"]["median"] <= steps["ended_s"]["median"]
        assert f"| 3 | {start} |" in printed
