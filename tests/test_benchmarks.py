"""Each benchmark, at its smallest, runs and writes what it promises. What it measures is not looked at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.common import memory_of

ROOT = Path(__file__).resolve().parent.parent
DEADLINE_S = 180


def run_benchmark(output: Path, name: str, *options: str) -> tuple[str, dict[str, Any]]:
    """Run a benchmark; return what it printed and what it wrote."""
    command = [sys.executable, "-m", f"benchmarks.{name}", "--repeats", "1", "--output", output]
    ended = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S)
    assert ended.returncode == 0, ended.stderr
    results = json.loads(output.read_text())
    assert results["benchmark"] == name
    assert results["machine"]["cores"] >= 1
    return ended.stdout, results


def is_spread(value: dict[str, float]) -> bool:
    return value["count"] >= 1 and 0 <= value["lowest"] <= value["median"] <= value["highest"]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells")
def test_a_process_that_has_ended_has_no_memory() -> None:
    assert 0 < memory_of("self")["rss_bytes"] <= memory_of("self")["peak_bytes"]
    process = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.read() == b""
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    for _ in ("not waited for yet", "gone"):
        with pytest.raises(ProcessLookupError):
            memory_of(process.pid)
        process.wait()
    process.stdout.close()


def test_overhead_compares_the_same_work_on_both_sides(tmp_path: Path) -> None:
    printed, results = run_benchmark(tmp_path / "overhead.json", "overhead", "--parties", "3", "--case", "secret_santa")
    case = results["cases"]["secret_santa"]
    assert case["messages"] > 0
    for span in ("connect_s", "compute_s", "command_s", "cpu_s"):
        assert is_spread(case[span]["plain"])
        assert is_spread(case[span]["onionmpc"])
    assert case["compute_ratio"]["lowest"] <= case["compute_ratio"]["of_medians"] <= case["compute_ratio"]["highest"]
    assert is_spread(case["supervisor_peak_mib"])
    assert "| secret_santa |" in printed


def test_cost_does_each_thing_with_and_without(tmp_path: Path) -> None:
    printed, results = run_benchmark(tmp_path / "cost.json", "cost")
    prices = results["prices"]
    assert all(is_spread(price["with"]) for price in prices)
    assert all(price["without"] is None or is_spread(price["without"]) for price in prices)
    for protection in ("handshake", "records", "padding", "unpickler", "own process"):
        assert any(price["protection"].startswith(protection) for price in prices)
        assert f"| {protection}" in printed


@pytest.mark.tor
def test_scale_runs_parties_that_share_tors(tmp_path: Path) -> None:
    few = ("--parties", "3", "--tors", "2", "--rounds", "2")
    printed, results = run_benchmark(tmp_path / "scale.json", "scale", *few)
    of_size = results["parties"]["3"]
    assert (of_size["tors"], of_size["failures"]) == (2, [])
    for measure in ("published_s", "connected_s", "round_s", "supervisor_mib", "program_mib"):
        assert is_spread(of_size[measure])
    assert "| 3 | 2 |" in printed


@pytest.mark.tor
def test_startup_times_a_first_and_a_later_start(tmp_path: Path) -> None:
    printed, results = run_benchmark(tmp_path / "startup.json", "startup", "--parties", "3", "--latency", "none")
    assert results["failed_sessions"] == 0
    for start in ("first", "later"):
        steps = results["parties"]["3"][start]
        assert all(is_spread(spread) for spread in steps.values())
        assert steps["address_s"]["median"] < steps["published_s"]["median"]
        assert steps["connected_s"]["median"] < steps["result_s"]["median"] <= steps["ended_s"]["median"]
        assert f"| 3 | {start} |" in printed
