"""Each benchmark, at its smallest, runs and writes what it promises. What it measures is not looked at."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import byhand, overhead
from benchmarks.benchmark import main
from benchmarks.common import Failed, memory_of
from benchmarks.sessions import TIMED, WORKLOAD, timed, times_of
from tests.support.rehearsal import spec_of

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 180.0


def run_benchmark(output: Path, name: str, *options: str) -> tuple[str, dict[str, Any]]:
    """Run a benchmark; return what it printed and what it wrote."""
    command = [sys.executable, "-m", f"benchmarks.{name}", "--repeats", "1", "--output", str(output)]
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


def test_commands_are_compared_with_a_bare_python(tmp_path: Path) -> None:
    printed, results = run_benchmark(tmp_path / "commands.json", "commands")
    assert "| onionmpc --help |" in printed
    for row in results["rows"].values():
        assert is_spread(row["ms"])
        assert is_spread(row["over_python"])


def test_overhead_compares_the_same_work_on_both_sides(tmp_path: Path) -> None:
    printed, results = run_benchmark(tmp_path / "overhead.json", "overhead", "--only", "secret_santa")
    for side in ("MPyC alone", "onionmpc"):
        for figure in ("compute_s", "cpu_s"):
            assert is_spread(results["rows"][f"secret_santa: {side}"][figure])
    assert is_spread(results["ratios"]["secret_santa: onionmpc / secret_santa: MPyC alone"]["compute_s"])
    assert "| secret_santa: onionmpc |" in printed


def test_runs_that_sent_other_messages_are_not_compared() -> None:
    overhead.check_same_work([{"messages": 222}, {"messages": 222}])
    with pytest.raises(Failed, match=r"different numbers of messages: \[222, 223\]"):
        overhead.check_same_work([{"messages": 222}, {"messages": 223}])


def test_cost_does_each_thing_with_and_without(tmp_path: Path) -> None:
    printed, results = run_benchmark(tmp_path / "cost.json", "cost")
    assert all(is_spread(row["microseconds"]) for row in results["rows"].values())
    for protection in ("handshake", "records", "walls", "unpickler"):
        assert f"| {protection}: " in printed
        assert protection == "handshake" or any(ratio.startswith(protection) for ratio in results["ratios"])


@pytest.mark.weekly
def test_attack_runs_the_same_session_with_strangers_and_without(tmp_path: Path) -> None:
    printed, results = run_benchmark(tmp_path / "attack.json", "attack")
    for side in ("quiet", "attacked"):
        assert is_spread(results["rows"][side]["compute_s"])
        assert is_spread(results["rows"][side]["peak_mb"])
        assert f"| {side} |" in printed
    assert is_spread(results["ratios"]["attacked / quiet"]["compute_s"])


@pytest.mark.tor
@pytest.mark.weekly
def test_startup_times_a_first_and_a_later_start(tmp_path: Path) -> None:
    printed, results = run_benchmark(tmp_path / "startup.json", "startup")
    assert results["failures"] == {}
    for start in ("first start", "later start"):
        steps = results["rows"][f"a host and its joiners, {start}"]
        assert all(is_spread(spread) for spread in steps.values())
        assert steps["address_s"]["median"] < steps["published_s"]["median"]
        assert steps["connected_s"]["median"] < steps["result_s"]["median"]
        assert f"| a host and its joiners, {start} |" in printed
        assert is_spread(results["rows"][f"full lists, {start}"]["connected_s"])
    [ratio] = results["ratios"].values()
    assert is_spread(ratio["connected_s"])


# --- by hand, ours and the limit


def test_the_limit_is_no_faster_than_its_slowest_link(tmp_path: Path) -> None:
    spec = spec_of(TIMED, *timed(tmp_path, WORKLOAD, ["rounds=5,4"]), parties=3)
    asyncio.run(byhand.run_direct(spec, {(0, 1): 0.0, (0, 2): 0.0, (1, 2): 0.1}))
    assert times_of(tmp_path, 3)["compute_s"] >= 5 * 0.1 / 2


def test_a_link_has_the_lower_of_what_both_ends_measured() -> None:
    summaries: list[dict[str, Any]] = [
        {"links": {"1": {"round_trip_s": 0.3}, "2": {"round_trip_s": None}}},
        {"links": {"0": {"round_trip_s": 0.2}, "2": {"round_trip_s": 0.4}}},
        {"links": {"0": {"round_trip_s": 0.5}, "1": {"round_trip_s": 0.6}}},
    ]
    assert byhand.link_round_trips(summaries) == {(0, 1): 0.2, (1, 2): 0.4, (0, 2): 0.5}


def test_a_port_is_taken_while_someone_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert byhand.is_taken(port)
    assert not byhand.is_taken(port)


def test_without_socat_there_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SystemExit, match="this benchmark needs socat"):
        main(byhand.BENCHMARK, ["--output", str(tmp_path / "byhand.json")])
