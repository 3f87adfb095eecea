"""Mounts and inherited descriptors of a process. Each test runs its own process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from onionmpc.program.spec import NO_WALLS
from onionmpc.program.walls.probe import probe_walls

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has these mounts")
DEADLINE_S = 30.0
START = "import fcntl, json, os, sys\nfrom pathlib import Path\nfrom onionmpc.program.walls import namespaces\n"


def ran(code: str, *arguments: object, **streams: Any) -> object:
    """Run code in a process; return the JSON that it prints."""
    command = [sys.executable, "-c", START + code, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=DEADLINE_S, check=True, **streams)
    return json.loads(done.stdout)


@pytest.fixture(scope="module", autouse=True)
def mounts() -> None:
    walls = probe_walls() if sys.platform == "linux" else NO_WALLS
    if not walls.frozen:
        pytest.skip("this machine allows no mounts here")


FREEZE = """
assert namespaces.leave_network()
mine, others = map(Path, sys.argv[1:])
os.chdir(mine)
assert namespaces.freeze_all_but([mine / "inner", mine])
done = []
for path in (Path("relative"), mine / "absolute", mine / "inner" / "file", others / "file", Path("/dev/null")):
    try:
        path.write_text("x")
        done.append(path.name)
    except OSError:
        continue
try:
    (others / "old").chmod(0o777)
    done.append("chmod")
except OSError:
    pass
(mine / "relative").chmod(0o600)
print(json.dumps([done, str(Path.cwd()) == str(mine), (others / "old").read_text()]))
"""


# Issue 12.
def test_everything_but_the_given_places_is_read_only(tmp_path: Path) -> None:
    mine, others = tmp_path / "mine", tmp_path / "others"
    (mine / "inner").mkdir(parents=True)
    others.mkdir()
    (others / "old").write_text("old")
    assert ran(FREEZE, mine, others) == [["relative", "absolute", "file", "null"], True, "old"]
    assert (mine / "relative").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in others.iterdir()) == ["old"]


READ_ONLY_INSIDE = """
assert namespaces.leave_network()
mine = Path(sys.argv[1])
assert namespaces.freeze(mine / "library")
assert namespaces.cover(mine / "keys")
assert namespaces.freeze_all_but([mine])
done = []
for path in (mine / "file", mine / "library" / "file", mine / "keys" / "file"):
    try:
        path.write_text("x")
        done.append(path.parent.name)
    except OSError:
        continue
print(json.dumps([done, os.listdir(mine / "keys")]))
"""


# Issue 12.
def test_a_folder_that_was_frozen_or_covered_inside_such_a_place_stays_so(tmp_path: Path) -> None:
    for name in ("library", "keys"):
        (tmp_path / "mine" / name).mkdir(parents=True)
    (tmp_path / "mine" / "keys" / "secret").touch()
    assert ran(READ_ONLY_INSIDE, tmp_path / "mine") == [["mine"], []]


NOT_HERE = """
assert namespaces.leave_network()
places = [Path(sys.argv[1]), Path(sys.argv[1]) / "missing"]
print(json.dumps([namespaces.freeze_all_but(places), (Path(sys.argv[1]) / "x").write_text("x")]))
"""


# Issue 12.
def test_if_one_place_fails_nothing_is_made_read_only(tmp_path: Path) -> None:
    assert ran(NOT_HERE, tmp_path) == [False, 1]


STREAMS = """
before = [os.fstat(number)[:3] for number in (0, 2)]
MEANT = os.O_ACCMODE | os.O_APPEND | os.O_NONBLOCK
flags = [fcntl.fcntl(number, fcntl.F_GETFL) & MEANT for number in (0, 2)]
assert sys.stdin.buffer.raw.read(3) == b"abc"
namespaces.reopen_streams()
assert [os.fstat(number)[:3] for number in (0, 2)] == before
assert [fcntl.fcntl(number, fcntl.F_GETFL) & MEANT for number in (0, 2)] == flags
assert all(os.get_inheritable(number) for number in (0, 1, 2))
print(json.dumps([sys.stdin.buffer.raw.read(10).decode(), os.isatty(2)]))
"""


# Issue 12.
def test_streams_that_are_opened_again_keep_their_position_and_flags(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("abcdef")
    master, terminal = os.openpty()
    try:
        with (tmp_path / "file").open("rb") as file:
            assert ran(STREAMS, stdin=file, stderr=terminal) == ["def", True]
            file.seek(0)
            (tmp_path / "file").unlink()
            assert ran(STREAMS, stdin=file, stderr=terminal) == ["def", True]
        with (tmp_path / "other").open("w+") as file:
            file.write("abc")
            file.flush()
            file.seek(0)
            assert ran(STREAMS, stdin=file, stderr=terminal) == ["", True]
        # Now another file has this name.
        (tmp_path / "other").write_text("abcdef")
        with (tmp_path / "other").open("rb") as file:
            (tmp_path / "other").rename(tmp_path / "moved")
            (tmp_path / "other").write_text("abcxyz")
            assert ran(STREAMS, stdin=file, stderr=terminal) == ["def", True]
    finally:
        os.close(master)
        os.close(terminal)


CLOSED = """
for number in (0, 2):
    os.close(number)
namespaces.reopen_streams()
print(json.dumps([os.path.exists(f"/proc/self/fd/{number}") for number in (0, 2)]))
"""


# Issue 12.
def test_closed_streams_stay_closed() -> None:
    assert ran(CLOSED) == [False, False]


SHARED = """
from multiprocessing.shared_memory import SharedMemory
assert namespaces.leave_network()
assert namespaces.own_shared_memory()
memory = SharedMemory(create=True, size=10)
print(json.dumps([os.listdir("/dev/shm") == [memory.name], memory.name]))
memory.close()
memory.unlink()
"""


# Issue 12.
def test_named_shared_memory_is_private() -> None:
    assert ran(SHARED)[0] is True  # type: ignore[index]
