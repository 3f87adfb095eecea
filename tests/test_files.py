"""Directories for sockets, and locks."""

from __future__ import annotations

import asyncio
import os
import pwd
import secrets
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from onionmpc.errors import InvalidIdentityFile, SystemRefused, UsageError
from onionmpc.files import (
    check_private,
    check_writable,
    is_held,
    lock,
    open_private,
    private_directory,
    socket_directory,
    state_directory,
    write_named,
    write_new,
    write_private,
)
from onionmpc.mesh.listener import listening_unix


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


# --- Issue 12: careless umasks, and places that are none ------------------------------------------------------------


@pytest.fixture
def careless() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): stat.S_IMODE(path.lstat().st_mode) for path in folder.rglob("*")}


@pytest.mark.usefixtures("careless")
def test_nothing_that_is_made_is_open_to_others_whatever_the_umask(tmp_path: Path) -> None:
    folder = private_directory(tmp_path / "a" / "b" / "c")
    write_private(folder / "written", b"")
    write_new(folder / "new", b"", must_be_private=True)
    write_named(folder / "named", b"")
    open_private(folder / "opened").close()
    with lock(folder / "locked") as ours:
        assert ours
    assert modes(tmp_path) == {
        **dict.fromkeys(["a", "a/b", "a/b/c"], 0o700),
        **{f"a/b/c/{name}": 0o600 for name in ("written", "new", "named", "opened", "locked")},
    }


@pytest.mark.usefixtures("careless")
def test_a_socket_is_its_owner_s_alone_whatever_the_umask() -> None:
    async def main() -> None:
        with socket_directory() as folder:
            async with listening_unix(folder / "party", lambda stream: stream.close()):
                assert modes(folder) == {"party": 0o600}

    asyncio.run(main())


def test_parents_are_made_below_a_folder_that_is_there_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert private_directory(Path("a/b")).is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="Not a directory"):
        private_directory(tmp_path / "file" / "a" / "b")


@pytest.mark.parametrize("name", ["/dev/full", "full"])
def test_a_device_is_written_to_and_not_replaced(tmp_path: Path, name: str) -> None:
    (tmp_path / "full").symlink_to("/dev/full")
    check_writable(tmp_path / name)
    with pytest.raises(SystemRefused, match=rf"cannot write .*{name}: No space left on device"):
        write_named(tmp_path / name, b"{}")
    assert stat.S_ISCHR(Path("/dev/full").stat().st_mode)
    assert (tmp_path / "full").is_symlink()


def test_a_pipe_takes_what_a_file_would(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as out:
        write_named(Path(f"/dev/fd/{writer}"), b"whole")
        os.close(writer)
        assert out.read() == b"whole"


def test_a_link_to_a_file_stays_one(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("file")
    write_named(tmp_path / "link", b"whole")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"whole"


def test_what_could_not_be_written_in_the_end_is_refused_in_the_beginning(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to("circle")
    for name in ("no/such/folder/file", "x" * 300 + "/file"):
        with pytest.raises(UsageError, match="cannot write"):
            check_writable(tmp_path / name)


@pytest.mark.parametrize(
    "runtime", ["run", "/tmp/a b", '/tmp/a"b', "/tmp/a#b", "/tmp/\udcff", "/nowhere", "/tmp/" + "x" * 40]
)
def test_sockets_do_not_go_where_tor_could_not_name_them(runtime: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: runtime != "/nowhere")
    monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
    with socket_directory() as directory:
        assert directory.parent == Path("/tmp")


def test_the_path_of_a_socket_is_short_enough_for_every_system(monkeypatch: pytest.MonkeyPatch) -> None:
    longest = Path("/tmp") / f"onionmpc-test-{secrets.token_hex(10)}"
    longest.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(longest))
    try:
        with socket_directory() as directory:
            assert directory.parent == longest
            assert len(bytes(directory / "control")) <= 103  # what macOS allows; Linux allows 107
    finally:
        longest.rmdir()


def test_who_has_no_home_is_told_to_choose_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(user: int) -> None:
        raise KeyError(user)

    for name in ("HOME", "ONIONMPC_STATE", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    with pytest.raises(UsageError, match="no home directory") as told:
        state_directory()
    assert "ONIONMPC_STATE" in told.value.hint


@pytest.mark.parametrize("error", [UsageError, InvalidIdentityFile])
def test_a_private_file_of_another_user_is_refused(tmp_path: Path, error: type[UsageError]) -> None:
    write_private(tmp_path / "key", b"")
    fields = list((tmp_path / "key").stat())
    check_private("the key", os.stat_result(fields), remedy="", error=error)
    fields[stat.ST_UID] += 1
    with pytest.raises(error, match="the key belongs to another user"):
        check_private("the key", os.stat_result(fields), remedy="", error=error)
