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

from benchmarks import byhand
from benchmarks.common import Failed, Spread, failure_noted, memory_of
from benchmarks.sessions import TIMED, WORKLOAD, direct_spec, timed, times_of
from benchmarks.startup import over_plain

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
    assert "| `onionmpc --help` |" in printed
    for case in results["commands"].values():
        assert is_spread(case["ms"])
        assert is_spread(case["over_python"])


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
    for protection in ("handshake", "records", "walls", "unpickler"):
        assert any(price["protection"].startswith(protection) for price in prices)
        assert f"| {protection}" in printed


def test_attack_runs_the_same_session_with_strangers_and_without(tmp_path: Path) -> None:
    printed, results = run_benchmark(tmp_path / "attack.json", "attack", "--rounds", "100", "--streams", "30")
    for side in ("quiet", "attacked"):
        assert is_spread(results["compute_s"][side])
        assert is_spread(results["supervisor_peak_mib"][side])
        assert f"| {side} |" in printed
    assert results["compute_ratio"]["lowest"] == results["compute_ratio"]["of_medians"]


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
        assert is_spread(results["listed"][start]["connected_s"])
    assert results["raw"]["whole_s"]["median"] >= results["raw"]["dial_s"]["median"]
    assert is_spread(results["over_raw"])


def test_a_start_is_compared_with_the_plain_tors_just_before_it() -> None:
    connected = [{"connected_s": 6.0}, {"connected_s": 12.0}]
    assert over_plain(connected, [{"whole_s": 5.0}, {"whole_s": 8.0}]) == Spread(1.35, 1.2, 1.5, 2)
    assert over_plain([], []) is None


# --- by hand, ours and the limit


def test_a_run_that_fails_is_noted_and_the_next_one_begins(capsys: pytest.CaptureFixture[str]) -> None:
    failures: list[str] = []
    for error in (Failed("party 2 was lost"), EOFError(), TimeoutError()):
        with failure_noted("3 parties", failures.append):
            raise error
    assert failures == ["party 2 was lost", "EOFError", "TimeoutError"]
    assert "3 parties: failed (party 2 was lost)\n" in capsys.readouterr().err
    with pytest.raises(ZeroDivisionError), failure_noted("a mistake of ours", failures.append):
        raise ZeroDivisionError


def test_the_limit_is_no_faster_than_its_slowest_link(tmp_path: Path) -> None:
    spec = direct_spec(TIMED, timed(tmp_path, WORKLOAD, ["rounds=5,4"]), 3)
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


def test_ratios_are_of_one_network_and_of_a_run_with_its_own_limit() -> None:
    def network(**seconds: float) -> dict[str, Spread]:
        return {way.replace("_", " "): Spread.of([value]) for way, value in seconds.items()}

    first = network(by_hand=10, ours=5, ours_more=4, limit_of_ours=4, limit_of_ours_more=2)
    second = network(ours=9, limit_of_ours=6)
    found = byhand.ratios([first, second], ["ours", "ours more"])
    assert {name: (spread.lowest, spread.highest) for name, spread in found.items()} == {
        "ours / by hand": (0.5, 0.5),
        "ours / limit of ours": (1.25, 1.5),
        "ours more / by hand": (0.4, 0.4),
        "ours more / limit of ours more": (2.0, 2.0),
    }


def test_without_socat_and_a_way_to_install_it_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SystemExit, match="this benchmark needs socat"):
        byhand.see_to_socat()
