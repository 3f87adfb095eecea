"""Directories for sockets, and locks."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from onionmpc.files import is_held, lock, socket_directory


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where sockets go, with nobody else's in it; its path is short enough for a directory of ours in it."""
    with socket_directory() as directory:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(directory))
        yield directory


def left_by_a_killed_process(runtime: Path) -> Path:
    script = """if True:
        from onionmpc.files import socket_directory
        with socket_directory() as directory:
            (directory / "control").touch()
            print(directory, flush=True)
            input()
    """
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as party:
        assert party.stdout is not None
        directory = Path(party.stdout.readline().strip())
        assert directory.parent == runtime
        with socket_directory():
            assert (directory / "control").exists()
        party.kill()
    return directory


def test_a_directory_for_sockets_is_private_and_gone_at_the_end(runtime: Path) -> None:
    with socket_directory() as directory:
        assert list(runtime.iterdir()) == [directory]
        assert list(directory.iterdir()) == []
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        (directory / "socket").touch()
    assert list(runtime.iterdir()) == []


def test_what_a_killed_process_left_is_removed_by_the_next_and_what_is_in_use_is_not(runtime: Path) -> None:
    left = left_by_a_killed_process(runtime)
    with socket_directory() as first:
        assert not left.exists()
        with socket_directory() as second:
            assert set(runtime.iterdir()) == {first, second}


@pytest.mark.parametrize("name", ["onionmpc-test-1", "onionmpc-1234", "other"])
def test_directories_of_other_kinds_are_left_alone(runtime: Path, name: str) -> None:
    (runtime / name).mkdir()
    with socket_directory():
        assert (runtime / name).exists()
    (runtime / name).rmdir()


def test_neither_a_file_nor_a_link_is_taken_for_a_directory_of_ours(runtime: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    (runtime / "onionmpc.file").touch()
    (runtime / "onionmpc.link").symlink_to(tmp_path)
    with socket_directory():
        pass
    assert (tmp_path / "precious").exists()
    assert {path.name for path in runtime.iterdir()} == {"onionmpc.file", "onionmpc.link"}


def test_a_directory_of_another_user_is_left_alone(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (runtime / "onionmpc.theirs").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with socket_directory():
        pass
    assert (runtime / "onionmpc.theirs").exists()


@pytest.mark.parametrize("is_directory", [False, True], ids=["file", "directory"])
def test_a_lock_is_held_by_one_and_free_after_it(tmp_path: Path, *, is_directory: bool) -> None:
    path = tmp_path / "it"
    if is_directory:
        path.mkdir()
    else:
        assert not is_held(path)
    with lock(path, is_directory=is_directory) as ours:
        assert ours
        assert is_held(path)
        with lock(path, is_directory=is_directory) as again:
            assert not again
    assert not is_held(path)
