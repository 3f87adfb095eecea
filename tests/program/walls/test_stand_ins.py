"""multiprocessing and shutil work inside the walls, with and without a namespace."""

from __future__ import annotations

import multiprocessing
import os
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from onionmpc.program.spec import ProgramSpec
from onionmpc.program.walls.stand_ins import RECURSIVE, Semaphore
from tests.support.walls import machine_walls, run_program, without

ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has walls")
NO_NAMESPACE = ("namespaces.leave_network",)
NO_MOUNTS = ("namespaces.freeze_all_but",)
SEMAPHORE = 1

POOLS = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

def square(number):
    return number * number

def count(lock, total, results):
    for _ in range(300):
        with lock, total.get_lock():
            total.value += 1
    results.put("done")

if __name__ == "__main__":
    with multiprocessing.Pool(2) as pool:
        assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]
    with ProcessPoolExecutor(2) as pool:
        assert list(pool.map(square, range(5))) == [0, 1, 4, 9, 16]
    lock, total, results = multiprocessing.RLock(), multiprocessing.Value("i", 0), multiprocessing.Queue()
    workers = [multiprocessing.Process(target=count, args=(lock, total, results)) for _ in range(2)]
    for worker in workers:
        worker.start()
    assert [results.get() for _ in workers] == ["done", "done"]
    for worker in workers:
        worker.join()
    assert total.value == 600
"""
SPAWNS = """
import multiprocessing

if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert pool.map(abs, [-1]) == [1]
"""
STUBBORN = """
import multiprocessing, signal, time

def ignore(ready):
    ready.set()
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass

def own(ready):
    signal.signal(signal.SIGTERM, lambda *_: exit(3))
    ready.set()
    time.sleep(60)

if __name__ == "__main__":
    for work, expected in ((ignore, -signal.SIGTERM), (own, 3)):
        ready = multiprocessing.Event()
        process = multiprocessing.Process(target=work, args=(ready,))
        process.start()
        ready.wait()
        process.terminate()
        process.join()
        assert process.exitcode == expected
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())
"""
COPIES = """
import os, shutil
from pathlib import Path
os.makedirs("from/private", exist_ok=True)
Path("from/file").write_text("content")
shutil.copy("from/file", "copy")
shutil.copy2("from/file", "copy2")
shutil.copytree("from", "tree")
shutil.move("copy", "tree/moved")
shutil.copy(__file__, "own")
shutil.copy2("private", "also_private")
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "here").mkdir()
    (tmp_path / "program").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("ONIONMPC_STATE", str(tmp_path / "state"))
    old = os.umask(0o022)
    yield tmp_path / "here"
    os.umask(old)


def spec_of(here: Path, text: str, *, allow_subprocess: bool = False) -> ProgramSpec:
    script = here.parent / "program" / "script.py"
    script.write_text(text)
    walls = machine_walls()
    return ProgramSpec(
        *(str(script), str(script.parent), (), 0, 1, 0, ()),
        code={str(script): script.read_bytes()},
        walls=walls,
        allow_subprocess=allow_subprocess,
    )


# Issue 12.
@ON_LINUX
@pytest.mark.parametrize("functions", [(), NO_MOUNTS, NO_NAMESPACE])
@pytest.mark.parametrize("default", ["", "forkserver"])  # as of Python 3.14
def test_process_pools_work_if_the_program_may_start_processes(
    here: Path, monkeypatch: pytest.MonkeyPatch, functions: tuple[str, ...], default: str
) -> None:
    without(monkeypatch, here.parent / "less", *functions)
    if default:
        with (here.parent / "less" / "sitecustomize.py").open("a") as file:
            file.write("\nfrom multiprocessing import context\n")
            file.write("context._default_context._default_context = context._concrete_contexts['forkserver']\n")
    assert run_program(spec_of(here, POOLS, allow_subprocess=True)).status == 0


# Issue 12.
@ON_LINUX
def test_a_forked_process_ends_at_sigterm_as_usual(here: Path) -> None:
    assert run_program(spec_of(here, STUBBORN, allow_subprocess=True)).status == 0


# Issue 12.
@ON_LINUX
def test_spawning_works_with_a_namespace_and_is_refused_with_an_explanation_without(
    here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    spec = spec_of(here, SPAWNS, allow_subprocess=True)
    if spec.walls.network:
        assert run_program(spec).status == 0
    without(monkeypatch, here.parent / "less", *NO_NAMESPACE)
    spec = spec_of(here, SPAWNS, allow_subprocess=True)
    assert run_program(spec).status == (1 if spec.walls.files else 0)
    if spec.walls.files:
        assert "processes that share locks must be started by fork" in capfd.readouterr().err


# Issue 12.
@ON_LINUX
@pytest.mark.parametrize("functions", [(), NO_MOUNTS, NO_NAMESPACE])
def test_files_and_trees_can_be_copied_where_the_program_may_write(
    here: Path, monkeypatch: pytest.MonkeyPatch, functions: tuple[str, ...]
) -> None:
    without(monkeypatch, here.parent / "less", *functions)
    (here / "private").touch(mode=0o600)
    (here / "from").mkdir()
    (here / "from" / "private").mkdir(mode=0o700)
    spec = spec_of(here, COPIES)
    assert run_program(spec).status == 0
    for name in ("copy2", "tree/file", "tree/moved"):
        assert (here / name).read_text() == "content"
    assert (here / "own").read_text() == COPIES
    modes = {name: stat.S_IMODE((here / name).stat().st_mode) for name in ("copy2", "also_private", "tree/private")}
    # A user who cannot read the original cannot read the copy.
    wide = 0o644 if spec.walls.frozen or not spec.walls.sockets else 0o600
    assert modes == {"copy2": wide, "also_private": 0o600, "tree/private": 0o700}


def native(kind: int, value: int, most: int) -> Any:
    import _multiprocessing  # type: ignore[import-not-found]

    return _multiprocessing.SemLock(kind, value, most, name=f"/test-{os.getpid()}-{os.urandom(4).hex()}", unlink=True)


def ours(kind: int, value: int, most: int) -> Any:
    return Semaphore(kind, value, most, name="", unlink=True)  # as joblib calls it


# Issue 12.
@ON_LINUX
@pytest.mark.parametrize("make", [native, ours])
def test_our_semaphores_behave_like_those_of_multiprocessing(make: Any) -> None:
    two = make(SEMAPHORE, 2, 2)
    assert (two._get_value(), two._is_zero(), two._count()) == (2, False, 0)
    assert two.acquire()
    assert two.acquire(True, 5.0)
    assert not two.acquire(False)
    assert not two.acquire(True, 0.01)
    assert not two.acquire(True, -1.0)
    assert (two._get_value(), two._is_zero(), two._count(), two._is_mine()) == (0, True, 2, True)
    two.release()
    two.release()
    with pytest.raises(ValueError, match="semaphore or lock released too many times"):
        two.release()
    assert two.name is None

    lock = make(RECURSIVE, 1, 1)
    with lock, lock:
        assert (lock._get_value(), lock._count()) == (0, 2)
        seen: list[tuple[bool, bool]] = []
        other = threading.Thread(target=lambda: seen.append((lock._is_mine(), lock.acquire(False))))
        other.start()
        other.join()
        assert seen == [(False, False)]
    with pytest.raises(AssertionError, match="attempt to release recursive lock not owned by thread"):
        lock.release()


# Issue 12.
@ON_LINUX
def test_our_semaphores_are_shared_with_forked_processes() -> None:
    semaphore = ours(SEMAPHORE, 0, 5)
    child = multiprocessing.get_context("fork").Process(target=semaphore.release)
    child.start()
    assert semaphore.acquire(True, 30.0)
    child.join()
    assert child.exitcode == 0
