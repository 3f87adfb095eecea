"""The count of policy runs on the disk, by real processes: whatever kills one, a run that could happen is counted."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onionmpc import files
from onionmpc.errors import SystemRefused, UsageError
from onionmpc.session.policy_runs import (
    MAX_RUNS_BYTES,
    RUNS_HEADER,
    RUNS_LOCK_NAME,
    RUNS_NAME,
    Run,
    RunCount,
    decode_runs,
    encode_runs,
    new_run_id,
    own_count,
)

NOW = datetime(2026, 12, 1, 6, tzinfo=UTC)
HEX32 = "0a" * 32
ROOT = Path(__file__).parents[2]


def run_at(at: datetime, number: int = 0) -> Run:
    return Run(f"{number:016x}", at, HEX32, HEX32, ("/data/q.csv",), ("bank", "c.onion"))


def count_at(folder: Path, at: datetime = NOW, lock_wait_s: float = 0.05) -> RunCount:
    return RunCount(folder, lambda: at, lock_wait_s)


def take(_runs: tuple[Run, ...], now: datetime) -> Run:
    return Run(new_run_id(), now, HEX32, HEX32, (), ())


@pytest.fixture(name="folder")
def folder_of_our_own(tmp_path: Path) -> Path:
    return tmp_path / "state"


# -- what is kept


def test_reading_makes_nothing_and_counting_makes_private_files(folder: Path) -> None:
    assert count_at(folder).load() == ()
    assert not folder.exists()
    run = count_at(folder).reserve(take)
    assert run is not None
    assert count_at(folder).load() == (run,)
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.iterdir())} == {
        "state": 0o700,
        RUNS_NAME: 0o600,
        RUNS_LOCK_NAME: 0o600,
    }


def test_a_run_that_never_started_is_taken_back_and_no_other_one(folder: Path) -> None:
    runs = [count_at(folder).reserve(take) for _ in range(3)]
    assert runs[1] is not None
    count_at(folder).refund(runs[1])
    count_at(folder).refund(runs[1])  # a second time changes nothing
    assert count_at(folder).load() == (runs[0], runs[2])


def test_what_needs_no_count_or_is_refused_writes_nothing(folder: Path) -> None:
    count_at(folder).reserve(lambda _runs, _now: None)
    assert not (folder / RUNS_NAME).exists()

    def refuse(_runs: tuple[Run, ...], _now: datetime) -> Run:
        raise UsageError("no")

    with pytest.raises(UsageError, match="no"):
        count_at(folder).reserve(refuse)
    assert not (folder / RUNS_NAME).exists()


def test_the_count_of_this_user_is_in_the_state_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONIONMPC_STATE", str(tmp_path))
    assert own_count().path == tmp_path / "policy-runs"


@given(st.lists(st.integers(0, 10**6), max_size=5), st.text(max_size=20), st.text(max_size=20))
def test_runs_read_the_same_once_written(seconds: list[int], file: str, name: str) -> None:
    runs = tuple(
        Run(f"{number:016x}", NOW + timedelta(seconds=second), HEX32, HEX32, (file,), (name,))
        for number, second in enumerate(sorted(seconds))
    )
    assert decode_runs(encode_runs(runs), "runs") == runs


# -- what cannot be trusted refuses


@pytest.mark.parametrize("behind", [timedelta(microseconds=1), timedelta(days=400)])
def test_a_clock_that_went_back_refuses(folder: Path, behind: timedelta) -> None:
    count_at(folder).reserve(take)
    with pytest.raises(UsageError, match="clock shows") as raised:
        count_at(folder, NOW - behind).reserve(take)
    assert raised.value.exit_code == 2
    assert len(count_at(folder).load()) == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", r"line 1 .* expected"),
        (b"onionmpc policy runs 2\n", r"line 1 .* expected"),
        (RUNS_HEADER, r"line 1 .* cut short"),
        (RUNS_HEADER + b"\ngibberish\n", r"line 2 .* expected a run"),
        (RUNS_HEADER + b"\n" + b"[" * 5000 + b"\n", r"line 2 .* expected a run"),
        (encode_runs((run_at(NOW),))[:-1], r"line 2 .* cut short"),
        (encode_runs((run_at(NOW),)).replace(b",", b", ", 1), r"line 2 .* not as onionmpc writes"),
        (encode_runs((run_at(NOW),)).replace(b"Z", b"+01:00"), r"line 2 .* not as onionmpc writes"),
        (encode_runs((run_at(NOW),)).replace(b'"id"', b'"new":1,"id"'), r"line 2 .* expected a run"),
        (encode_runs((run_at(NOW), run_at(NOW - timedelta(1), 1))), r"line 3 .* older than the one above"),
        (encode_runs((run_at(NOW), run_at(NOW))), "same id"),
        (RUNS_HEADER + b"\n" * MAX_RUNS_BYTES, "more than"),
    ],
)
def test_a_damaged_count_refuses_and_is_not_replaced(folder: Path, content: bytes, words: str) -> None:
    files.private_directory(folder)
    files.write_private(folder / RUNS_NAME, content)
    for use in (
        count_at(folder).load,
        lambda: count_at(folder).reserve(take),
        lambda: count_at(folder).refund(run_at(NOW)),
    ):
        with pytest.raises(UsageError, match=words) as raised:
            use()
        assert raised.value.exit_code == 2
        assert "restore the file" in raised.value.hint
    assert (folder / RUNS_NAME).read_bytes() == content


def test_a_count_that_others_can_read_or_that_is_no_file_refuses(folder: Path) -> None:
    count_at(folder).reserve(take)
    path = folder / RUNS_NAME
    path.chmod(0o604)
    with pytest.raises(UsageError, match="open to others"):
        count_at(folder).reserve(take)
    path.chmod(0o600)
    path.rename(folder / "elsewhere")
    path.symlink_to(folder / "elsewhere")
    with pytest.raises(UsageError, match="cannot read"):
        count_at(folder).reserve(take)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UsageError, match="is not a file"):
        count_at(folder).reserve(take)
    path.unlink()
    folder.chmod(0o755)
    with pytest.raises(UsageError, match="open to others"):
        count_at(folder).reserve(take)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_count_of_another_user_refuses(folder: Path) -> None:
    count_at(folder).reserve(take)
    os.chown(folder / RUNS_NAME, 12345, -1)
    with pytest.raises(UsageError, match="belongs to another user"):
        count_at(folder).reserve(take)


def test_a_full_count_refuses(folder: Path) -> None:
    big = Run(new_run_id(), NOW, HEX32, HEX32, ("x" * (MAX_RUNS_BYTES - 600),), ())
    count_at(folder).reserve(lambda _runs, _now: big)
    count_at(folder).reserve(take)
    with pytest.raises(UsageError, match="is full"):
        count_at(folder).reserve(take)


def test_a_folder_that_cannot_be_made_refuses(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemRefused, match="cannot use the directory"):
        count_at(tmp_path / "file" / "state").reserve(take)


# -- real processes

# Counts a run and says so, then takes it back; kills itself at the n-th call that touches a file, if n is given.
COUNTING = """
import os, signal, sys
from pathlib import Path
from datetime import UTC, datetime
from onionmpc.session.policy_runs import Run, RunCount, new_run_id
folder, refunds, fatal = Path(sys.argv[1]), sys.argv[2] == "refund", int(sys.argv[3])
seen = 0
def watch(event, arguments):
    global seen
    if event in ("open", "os.rename", "os.remove", "os.mkdir", "fcntl.flock", "os.chmod", "tempfile.mkstemp"):
        seen += 1
        if seen == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(watch)
fsync = os.fsync
def watched(descriptor):
    watch("open", ())
    fsync(descriptor)
    watch("open", ())
os.fsync = watched
run = RunCount(folder).reserve(lambda runs, now: Run(new_run_id(), now, "0a" * 32, "0a" * 32, (), ()))
os.write(1, b"counted\\n")
if refunds:
    RunCount(folder).refund(run)
    os.write(1, b"taken back\\n")
"""


def counting(folder: Path, refunds: str, fatal: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", COUNTING, str(folder), refunds, str(fatal)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)


@pytest.mark.parametrize("refunds", ["keep", "refund"])
def test_whenever_a_process_is_killed_a_run_that_could_have_started_is_counted(tmp_path: Path, refunds: str) -> None:
    fatal = 1
    while True:
        folder = tmp_path / str(fatal)
        ended = counting(folder, refunds, fatal)
        runs = RunCount(folder).load()  # readable, whatever happened
        if "taken back" in ended.stdout:
            assert runs == ()
        elif "counted" in ended.stdout and refunds == "keep":
            assert len(runs) == 1  # what the party was told is on the disk
        RunCount(folder).reserve(take)  # no lock is left behind
        if ended.returncode == 0:
            break
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        fatal += 1
    assert fatal > 6  # it was killed at several steps


RACING = """
import sys
from pathlib import Path
from onionmpc.errors import UsageError
from onionmpc.session.policy_runs import Run, RunCount, new_run_id
def decide(runs, now):
    if len(runs) >= 3:
        raise UsageError("used up")
    return Run(new_run_id(), now, "0a" * 32, "0a" * 32, (), ())
print("ready", flush=True)
sys.stdin.readline()
taken = 0
for _ in range(5):
    try:
        RunCount(Path(sys.argv[1])).reserve(decide)
        taken += 1
    except UsageError as error:
        assert error.message == "used up", error
print(taken)
"""


def test_processes_that_count_at_once_take_no_run_twice(folder: Path) -> None:
    command = [sys.executable, "-c", RACING, str(folder)]
    pipe = subprocess.PIPE
    racing = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT) for _ in range(4)]
    try:
        for each in racing:
            assert each.stdout is not None
            assert each.stdout.readline() == "ready\n"
        for each in racing:
            assert each.stdin is not None
            each.stdin.write("go\n")
            each.stdin.flush()
        taken = [int(each.communicate(timeout=60)[0]) for each in racing]
    finally:
        for each in racing:
            each.kill()
            each.wait()
    assert sum(taken) == 3
    assert len(RunCount(folder).load()) == 3


def test_a_lock_that_another_process_holds_refuses(folder: Path) -> None:
    files.private_directory(folder)
    with files.lock(folder / RUNS_LOCK_NAME) as held:
        assert held
        with pytest.raises(UsageError, match="another onionmpc process is changing the count of policy runs") as raised:
            count_at(folder).reserve(take)
        assert raised.value.exit_code == 2
    assert count_at(folder).load() == ()


def test_the_file_is_text_that_a_person_can_read(folder: Path) -> None:
    count_at(folder).reserve(lambda _runs, _now: run_at(NOW))
    header, line, end = (folder / RUNS_NAME).read_text().split("\n")
    assert header == "onionmpc policy runs 1"
    assert json.loads(line) == {
        "id": "0" * 16,
        "at": "2026-12-01T06:00:00Z",
        "rule": HEX32,
        "program": HEX32,
        "files": ["/data/q.csv"],
        "roster": ["bank", "c.onion"],
    }
    assert end == ""
