"""Which parts of tors' logs are kept. Needs no network."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from tests.e2e.torlog import MARGIN_S, between, keep_outage, logging_tor

LOG = """\
Nov 30 12:00:00.000 [notice] before
Nov 30 12:01:00.500 [info] first
   a line that goes on
Nov 30 12:02:00.000 [info] last
Nov 30 12:02:00.001 [info] after
"""


def at(text: str) -> float:
    return datetime.strptime(text, "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=UTC).timestamp()


def test_lines_without_a_timestamp_belong_to_the_time_before_them() -> None:
    chosen = list(between(LOG.splitlines(), at("2026-11-30 12:01:00.500"), at("2026-11-30 12:02:00.000")))
    assert [line.rpartition(" ")[2] for line in chosen] == ["first", "on", "last"]


def test_the_log_of_an_outage_includes_a_moment_before_and_after(tmp_path: Path) -> None:
    (tmp_path / "1.log").write_text(LOG)
    begin_s, end_s = at("2026-11-30 12:01:00.000"), at("2026-11-30 12:02:00.000")
    os.utime(tmp_path / "1.log", (end_s, end_s))
    keep_outage(tmp_path, tmp_path / "kept" / "outage", begin_s + MARGIN_S, end_s - MARGIN_S)
    kept = (tmp_path / "kept" / "outage" / "1.log").read_text()
    assert kept.splitlines()[0].endswith("first")
    assert kept.splitlines()[-1].endswith("last")


def test_the_log_of_a_tor_that_had_ended_before_is_not_kept(tmp_path: Path) -> None:
    (tmp_path / "1.log").write_text(LOG)
    ended_s = at("2026-11-30 12:02:00.001")
    os.utime(tmp_path / "1.log", (ended_s, ended_s))
    keep_outage(tmp_path, tmp_path / "kept", ended_s + 2 * MARGIN_S, ended_s + 3 * MARGIN_S)
    assert list((tmp_path / "kept").iterdir()) == []


def test_a_logging_tor_answers_as_tor_does(tmp_path: Path) -> None:
    script = logging_tor(tmp_path / "it's here")["ONIONMPC_TOR"]
    told = [
        subprocess.run([tor, "--version"], env=os.environ | {"TZ": "UTC"}, capture_output=True, check=True).stdout
        for tor in ("tor", script)
    ]
    assert told[0] == told[1] != b""
