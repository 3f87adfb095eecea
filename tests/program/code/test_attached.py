"""The files and folders of `--with`: which files are compared, which are refused, and how a change is noticed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from onionmpc.errors import AgreementError, UsageError
from onionmpc.program.code import attached
from onionmpc.program.code.attached import attach


def write(folder: Path, contents: dict[str, str]) -> None:
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def names(*paths: Path) -> list[str]:
    return [file.name for file in attach(paths).files]


def test_a_folder_means_all_files_below_it_in_order(tmp_path: Path) -> None:
    write(tmp_path / "lib", {"b.py": "1", "a/z.csv": "2", "a/a.so": "3", "c": ""})
    (tmp_path / "lib" / "empty").mkdir()
    found = attach([tmp_path / "lib"])
    assert [file.name for file in found.files] == ["with/lib/a/a.so", "with/lib/a/z.csv", "with/lib/b.py", "with/lib/c"]
    assert [file.source for file in found.files] == [None, None, b"1", None]
    assert found.skipped == ()


def test_a_folder_has_the_same_names_and_digests_in_any_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("one", "two"):
        write(tmp_path / place / "lib", {"a.csv": "1", "b/c.csv": "2"})
    monkeypatch.chdir(tmp_path / "two" / "lib")
    by_path, by_dot = attach([tmp_path / "one" / "lib"]), attach([Path()])
    assert [(file.name, file.sha256) for file in by_path.files] == [(file.name, file.sha256) for file in by_dot.files]


def test_git_and_bytecode_folders_are_skipped_at_any_depth_and_listed(tmp_path: Path) -> None:
    write(
        tmp_path / "lib", {".git/config": "", "a/__pycache__/b.pyc": "", "a/b.py": "", "c/.git": "", ".gitignore": ""}
    )
    found = attach([tmp_path / "lib"])
    assert [file.name for file in found.files] == ["with/lib/.gitignore", "with/lib/a/b.py"]
    assert sorted(path.relative_to(tmp_path).as_posix() for path in found.skipped) == [
        "lib/.git",
        "lib/a/__pycache__",
        "lib/c/.git",
    ]


def test_a_link_within_a_folder_counts_as_the_file(tmp_path: Path) -> None:
    write(tmp_path / "lib", {"a/b.csv": "1"})
    (tmp_path / "lib" / "link.csv").symlink_to("a/b.csv")
    (tmp_path / "way").symlink_to(tmp_path / "lib")
    one, other = attach([tmp_path / "way"]).files
    assert (one.name, other.name, one.sha256) == ("with/lib/a/b.csv", "with/lib/link.csv", other.sha256)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("../outside.csv", "is a symbolic link that points outside lib"),
        ("/etc/passwd", "is a symbolic link that points outside lib"),
        ("..", "is a symbolic link that points outside lib"),
        ("a", "is a symbolic link to a folder"),
        ("nowhere", "cannot read"),
        ("link", "cannot read"),
    ],
)
def test_other_links_are_refused(tmp_path: Path, target: str, words: str) -> None:
    write(tmp_path, {"lib/a/b.csv": "", "outside.csv": ""})
    (tmp_path / "lib" / "link").symlink_to(target)
    with pytest.raises(UsageError, match=words):
        names(tmp_path / "lib")


def test_pipes_and_devices_are_refused_without_waiting(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    os.mkfifo(tmp_path / "lib" / "pipe")
    for place in (tmp_path / "lib", tmp_path / "lib" / "pipe", Path("/dev/zero")):
        with pytest.raises(UsageError, match="is neither a file nor a folder"):
            names(place)


def test_two_folders_with_the_same_name_must_not_contain_the_same_path(tmp_path: Path) -> None:
    write(tmp_path, {"a/lib/x": "", "b/lib/y": "", "c/lib/x": ""})
    assert names(tmp_path / "a/lib", tmp_path / "b/lib") == ["with/lib/x", "with/lib/y"]
    with pytest.raises(UsageError, match="two files are called lib/x"):
        names(tmp_path / "a/lib", tmp_path / "c/lib")


def test_too_many_or_too_large_files_are_a_usage_error(tmp_path: Path) -> None:
    write(tmp_path / "lib", {"a": "1234", "b": "1234", "c": ""})
    with (tmp_path / "large").open("wb") as file:
        file.truncate(attached.MAX_ATTACHED_BYTES + 1)  # takes no room
    with pytest.raises(UsageError, match="names more than 16 GiB"):
        names(tmp_path / "large")
    with pytest.raises(UsageError, match="names more than 2 files"):
        attach([tmp_path / "lib"], max_files=2)


def test_unchanged_files_pass_the_check(tmp_path: Path) -> None:
    write(tmp_path, {"lib/a.csv": "1", "data.csv": "1"})
    attach([tmp_path / "lib", tmp_path / "data.csv"]).check_unchanged()


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda folder: (folder / "data.csv").write_text("2"), "with/data.csv"),
        (lambda folder: (folder / "data.csv").unlink(), "with/data.csv"),
        (lambda folder: (folder / "lib/a.csv").unlink(), "with/lib/a.csv"),
        (lambda folder: (folder / "lib/new.py").touch(), "with/lib/new.py"),
        (lambda folder: (folder / "lib/new.py").symlink_to("/etc/passwd"), "with/lib"),
    ],
)
def test_a_changed_file_is_named_as_all_parties_know_it(tmp_path: Path, change: object, name: str) -> None:
    write(tmp_path, {"lib/a.csv": "1", "data.csv": "1"})
    found = attach([tmp_path / "lib", tmp_path / "data.csv"])
    change(tmp_path)  # type: ignore[operator]
    with pytest.raises(AgreementError) as caught:
        found.check_unchanged()
    assert caught.value.message == f"{name} changed after the parties had agreed on it"
