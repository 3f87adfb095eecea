"""Libraries find their caches in the scratch directory, and do not start more than a program may have."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from onionmpc.program.spec import NO_WALLS, ProgramSpec, Walls
from onionmpc.program.walls.environment import MAX_THREADS, environment_of_program
from tests.support.rehearsal import write_spec
from tests.support.walls import run_program

SCRATCH = "/tmp/onionmpc.scratch"
ALL_WALLS = Walls(network=True, sockets=True, secrets=True, files=True, frozen=True)


def environment(
    *, allow_subprocess: bool = False, walls: Walls = NO_WALLS, processors: int | None = None
) -> dict[str, str]:
    spec = ProgramSpec(
        *("script.py", "/program", (), 0, 3, 1, ()), scratch=SCRATCH, allow_subprocess=allow_subprocess, walls=walls
    )
    return environment_of_program(spec, processors)


@pytest.mark.parametrize(("processors", "threads"), [(1, 1), (2, 2), (64, MAX_THREADS)])
def test_libraries_start_a_thread_per_processor_but_not_64(
    monkeypatch: pytest.MonkeyPatch, processors: int, threads: int
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert environment(processors=processors)["OMP_NUM_THREADS"] == str(threads)


def test_idle_threads_sleep_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENBLAS_THREAD_TIMEOUT", raising=False)
    assert int(environment()["OPENBLAS_THREAD_TIMEOUT"]) <= 22  # in powers of two of a processor's cycles: a few ms


@pytest.mark.parametrize(
    ("name", "value"),
    [("OMP_NUM_THREADS", "64"), ("OPENBLAS_THREAD_TIMEOUT", "28"), ("JOBLIB_MULTIPROCESSING", "1")],
)
def test_a_user_may_choose_threads_and_jobs(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    assert environment()[name] == value


@pytest.mark.parametrize(
    ("allow_subprocess", "walls", "starts"),
    [
        (False, ALL_WALLS, False),
        (True, ALL_WALLS, True),
        (True, Walls(sockets=True, secrets=True, files=True), False),  # its processes could not share locks
        (True, NO_WALLS, True),
    ],
)
def test_joblib_starts_processes_only_where_they_work(
    monkeypatch: pytest.MonkeyPatch, *, allow_subprocess: bool, walls: Walls, starts: bool
) -> None:
    monkeypatch.delenv("JOBLIB_MULTIPROCESSING", raising=False)
    given = environment(allow_subprocess=allow_subprocess, walls=walls)
    assert given.get("JOBLIB_MULTIPROCESSING") == (None if starts else "0")


@pytest.mark.parametrize("name", ["TMPDIR", "XDG_CACHE_HOME", "MPLCONFIGDIR", "JOBLIB_TEMP_FOLDER", "NUMBA_CACHE_DIR"])
def test_caches_are_in_the_scratch_directory_whatever_the_user_has_set(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "/home/user/.cache")
    assert Path(environment()[name]).is_relative_to(SCRATCH)


# A notebook sets this one, and matplotlib fails to import it elsewhere.
def test_plots_need_no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    assert environment()["MPLBACKEND"] == "agg"


def test_a_program_takes_uvloop_only_if_its_user_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MPYC_NOUVLOOP", raising=False)
    assert environment()["MPYC_NOUVLOOP"] == "1"


def test_a_program_sees_no_settings_of_ours_or_of_mpyc_except_which_packages_its_party_leaves_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ONIONMPC_CONTROL_PASSWORD", "secret")
    monkeypatch.setenv("MPYC_MAXWORKERS", "1")
    monkeypatch.setenv("MPYC_NOGMPY", "1")
    monkeypatch.setenv("MPYC_NOUVLOOP", "0")
    monkeypatch.setenv("LANG", "C.UTF-8")
    given = environment()
    ours = {name: value for name, value in given.items() if name.startswith(("ONIONMPC_", "MPYC_"))}
    assert ours == {"MPYC_NOGMPY": "1", "MPYC_NOUVLOOP": "0"}
    assert given["LANG"] == "C.UTF-8"


def test_a_program_gets_this_environment_and_can_write_its_caches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "program").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("XDG_CACHE_HOME", "/home/user/.cache")
    script = """
    import os
    from pathlib import Path
    cache = Path(os.environ["XDG_CACHE_HOME"])
    (cache / "library").mkdir(parents=True)
    (cache / "library" / "file").write_text(os.environ["OMP_NUM_THREADS"])
    Path("cache").write_text(str(cache))
    """
    assert run_program(write_spec(tmp_path / "program", script, parties=1)).status == 0
    assert not os.path.lexists((tmp_path / "here" / "cache").read_text())
