"""The catalogue finds the program that a user means, and lists its files."""

from __future__ import annotations

import hashlib
import os
import shlex
from pathlib import Path

import pytest

from onionmpc.errors import UsageError
from onionmpc.program.code.attached import attach
from onionmpc.program.code.catalogue import (
    MAX_CODE_BYTES,
    ProgramFile,
    catalogue,
    code_of,
    digest,
    digest_of_files,
    distributions,
    explain_difference,
    find_program,
    program_classes,
    program_files,
    title_of,
)
from tests.support.blocks import script_of


def write(folder: Path, contents: dict[str, str]) -> None:
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def paths_of(script: Path, *extra_files: Path) -> list[str]:
    return [file.path for file in program_files(find_program(str(script)), attach(extra_files))]


def test_each_shipped_program_has_a_name_and_a_title_in_its_block() -> None:
    listed = catalogue()
    assert dict(listed)["average_salary"] == "Average salary"
    assert "private_input" not in dict(listed)
    assert all(find_program(name).metadata.about for name, _ in listed)
    assert listed == sorted(listed)


def test_a_program_without_a_block_is_called_by_the_first_line_of_its_docstring(tmp_path: Path) -> None:
    write(tmp_path, {"script.py": '"""Adds up.\n\nAnd more."""\nimport mpyc', "silent.py": ""})
    assert title_of(find_program(str(tmp_path / "script.py"))) == "Adds up."
    assert title_of(find_program(str(tmp_path / "silent.py"))) == ""


def test_a_block_is_read_in_the_encoding_of_the_script(tmp_path: Path) -> None:
    text = "# -*- coding: latin-1 -*-\n" + script_of('[tool.onionmpc]\nversion = 1\ntitle = "Löhne"\nreveals = "R"')
    (tmp_path / "script.py").write_bytes(text.replace("\n", "\r\n").encode("latin-1"))
    assert title_of(find_program(str(tmp_path / "script.py"))) == "Löhne"


def test_a_mistake_in_the_block_of_the_script_is_refused_and_modules_may_have_their_own(tmp_path: Path) -> None:
    write(tmp_path, {"script.py": "import module", "module.py": script_of("[tool.onionmpc]\nversion = 2")})
    assert find_program(str(tmp_path / "script.py")).metadata.about is None
    with pytest.raises(UsageError, match=r"module\.py, line 5: version: expected 1"):
        find_program(str(tmp_path / "module.py"))


def test_a_name_is_found_with_dashes_and_with_underscores() -> None:
    assert find_program("average-salary") == find_program("average_salary")
    assert find_program("average-salary").path.name == "average_salary.py"


def test_a_shipped_program_includes_the_helper_that_it_imports() -> None:
    files = program_files(find_program("average_salary"))
    assert [file.path for file in files] == ["average_salary.py", "private_input.py"]


def test_the_same_script_has_the_same_digest_by_name_and_by_path() -> None:
    by_name = find_program("average_salary")
    assert digest(by_name) == digest(find_program(str(by_name.path)))


def test_a_misspelt_name_gets_the_nearest_one_as_a_hint() -> None:
    with pytest.raises(UsageError, match="there is no program avrage_salary") as caught:
        find_program("avrage_salary")
    assert "average_salary" in caught.value.hint


# Issue 12.
@pytest.mark.parametrize("name", ["my poll.ipynb", "POLL.IPYNB"])
def test_a_notebook_is_refused_with_the_command_that_makes_a_script_of_it(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('{"cells": []}')
    with pytest.raises(UsageError, match="is a notebook, expected a Python script") as caught:
        find_program(str(tmp_path / name))
    assert caught.value.hint == f"jupyter nbconvert --to script {shlex.quote(str(tmp_path / name))}"


# Issue 12.
def test_a_program_and_its_arguments_in_one_word_are_separated_in_the_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.py").write_text("")
    with pytest.raises(UsageError) as caught:
        find_program("my.py --input x")
    assert caught.value.hint == "what is for the program follows a lone --: my.py ... -- --input x"


def test_a_name_unlike_any_other_gets_the_list_as_a_hint() -> None:
    with pytest.raises(UsageError) as caught:
        find_program("qqq")
    assert "average_salary" in caught.value.hint


def test_a_directory_is_not_a_program(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a directory"):
        find_program(str(tmp_path))


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000])
def test_a_name_that_no_file_can_have_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        find_program(name)


def test_a_script_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_bytes(b"name = '\xff'")
    with pytest.raises(UsageError, match=r"script\.py is not UTF-8 \(byte 8\)"):
        digest(find_program(str(script)))


@pytest.mark.parametrize("text", ["def f(:\n", "x = 1\0", "(" * 5000])
def test_a_script_that_is_not_python_is_refused(tmp_path: Path, text: str) -> None:
    write(tmp_path, {"script.py": text})
    with pytest.raises(UsageError, match=r"script\.py is not Python"):
        digest(find_program(str(tmp_path / "script.py")))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_script_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {"script.py": ""})
    (tmp_path / "script.py").chmod(0)
    with pytest.raises(UsageError, match="cannot read"):
        digest(find_program(str(tmp_path / "script.py")))


def test_a_missing_attached_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {"script.py": ""})
    with pytest.raises(UsageError, match="cannot read"):
        digest(find_program(str(tmp_path / "script.py")), attach([tmp_path / "absent.csv"]))


def test_imports_are_followed_through_packages_and_modules(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "script.py": "import os, first\nfrom package import inner, name\nimport deep.down.below as alias",
            "first.py": "def f():\n    import second",
            "second.py": "import first",
            "unused.py": "",
            "package/__init__.py": "from . import sibling",
            "package/inner.py": "from .relative import x\nfrom ..first import f",
            "package/sibling.py": "",
            "package/relative.py": "",
            "package/unused.py": "",
            "deep/__init__.py": "",
            "deep/down/__init__.py": "",
            "deep/down/below.py": "",
            "deep/other.py": "",
        },
    )
    assert paths_of(tmp_path / "script.py") == [
        "deep/__init__.py",
        "deep/down/__init__.py",
        "deep/down/below.py",
        "first.py",
        "package/__init__.py",
        "package/inner.py",
        "package/relative.py",
        "package/sibling.py",
        "script.py",
        "second.py",
    ]


def test_a_star_import_includes_every_module_of_the_package(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"script.py": "from package import *", "package/__init__.py": "", "package/a.py": "", "package/b.py": ""},
    )
    assert paths_of(tmp_path / "script.py") == ["package/__init__.py", "package/a.py", "package/b.py", "script.py"]


def test_a_package_wins_over_a_module_which_wins_over_a_bare_folder(tmp_path: Path) -> None:
    write(tmp_path, {"script.py": "import a, b", "a/__init__.py": "", "a.py": "", "b/c.py": "", "b.py": ""})
    assert paths_of(tmp_path / "script.py") == ["a/__init__.py", "b.py", "script.py"]


def test_imports_do_not_leave_the_folder_of_the_script(tmp_path: Path) -> None:
    write(tmp_path, {"outside.py": "", "inner/script.py": "from .. import outside\nfrom ....far import x\nimport json"})
    assert paths_of(tmp_path / "inner" / "script.py") == ["script.py"]


def test_a_link_to_a_script_means_the_script(tmp_path: Path) -> None:
    write(tmp_path, {"real/script.py": "import beside", "real/beside.py": ""})
    (tmp_path / "link.py").symlink_to(tmp_path / "real" / "script.py")
    assert paths_of(tmp_path / "link.py") == ["beside.py", "script.py"]


def test_the_digest_is_the_same_in_another_folder(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        write(tmp_path / folder, {"script.py": "import a, b", "a.py": "1", "b.py": "2"})
        (tmp_path / folder / "data.csv").write_text("3")
    one, two = (
        digest(find_program(str(tmp_path / folder / "script.py")), attach([tmp_path / folder / "data.csv"]))
        for folder in ("one", "two")
    )
    assert one == two


@pytest.mark.parametrize("changed", ["script.py", "module.py", "data.csv"])
def test_a_changed_file_changes_the_digest_and_is_named(tmp_path: Path, changed: str) -> None:
    write(tmp_path, {"script.py": "import module", "module.py": "pass"})
    data = tmp_path / "data.csv"
    data.write_text("1,2\n")
    before = program_files(find_program(str(tmp_path / "script.py")), attach([data]))
    with (tmp_path / changed).open("a") as file:
        file.write("\n")
    after = program_files(find_program(str(tmp_path / "script.py")), attach([data]))
    assert digest_of_files(before) != digest_of_files(after)
    assert [file.path.removeprefix("with/") for file in after if file not in before] == [changed]


def test_two_attached_files_with_one_name_are_refused(tmp_path: Path) -> None:
    write(tmp_path, {"script.py": "", "a/data.py": "", "b/data.py": ""})
    with pytest.raises(UsageError, match=r"two files are called data\.py"):
        paths_of(tmp_path / "script.py", tmp_path / "a" / "data.py", tmp_path / "b" / "data.py")


def test_the_order_of_the_files_does_not_matter(tmp_path: Path) -> None:
    write(tmp_path, {"script.py": "", "a.py": "1", "b.py": "2"})
    program = find_program(str(tmp_path / "script.py"))
    a, b = tmp_path / "a.py", tmp_path / "b.py"
    assert digest(program, attach([a, b])) == digest(program, attach([b, a]))


def test_the_digest_is_computed_as_documented() -> None:
    content = hashlib.sha256(b"print()").digest()
    expected = hashlib.sha256(b"\0\0\0\x12onionmpc/program/1" + b"\0\0\0\x04a.py" + b"\0\0\0\x20" + content).digest()
    assert digest_of_files([ProgramFile("a.py", content)]) == expected


def test_two_lists_of_files_never_hash_the_same_bytes() -> None:
    zero = bytes(32)
    assert digest_of_files([ProgramFile("a", zero), ProgramFile("b", zero)]) != digest_of_files(
        [ProgramFile("a" + zero.decode("latin1") + "b", zero)]
    )


def test_the_classes_of_a_program_are_those_that_its_files_define(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "script.py": "import ballots, urns.wood\nfrom abc import ABC\nclass Vote:\n  class Inner: pass\n"
            "def f():\n  class Local: pass\n",
            "ballots.py": "import collections\nPaper = collections.namedtuple('Paper', 'x')\nx, y = 1, 2",
            "urns/__init__.py": "class Urn: ...",
            "urns/wood.py": "class Wood: ...",
            "unused.py": "class Unused: ...",
        },
    )
    assert program_classes(find_program(str(tmp_path / "script.py"))) == [
        "__main__.Vote",
        "ballots.Paper",
        "urns.Urn",
        "urns.wood.Wood",
    ]


def test_a_script_can_declare_another_encoding(tmp_path: Path) -> None:
    # Issue 12.
    text = "# -*- coding: latin-1 -*-\nimport beside\nprint('Grüße')\nclass Vote: ...\n"
    (tmp_path / "script.py").write_bytes(text.encode("latin-1"))
    (tmp_path / "beside.py").write_bytes(b"\xef\xbb\xbfclass Paper: ...\r\n")
    program = find_program(str(tmp_path / "script.py"))
    assert program_classes(program) == ["__main__.Vote", "beside.Paper"]
    assert program_files(program)[1].sha256 == hashlib.sha256(text.encode("latin-1")).digest()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"x = 1\n\n\ny = '\xff'\n", r"script\.py is not UTF-8 \(byte 13\)"),
        (b"# coding: ascii\nx = '\xff'\n", r"script\.py is not ASCII \(byte 21\)"),
        (b"# coding: klingon\n", r"script\.py is not Python: unknown encoding: klingon"),
        (b"# coding: rot13\n", r"script\.py is not Python: .*rot13.* is not a text encoding"),
        (b"\xef\xbb\xbf# coding: latin-1\n", r"script\.py is not Python: encoding problem"),
    ],
)
def test_a_wrong_encoding_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "script.py").write_bytes(content)
    with pytest.raises(UsageError, match=words):
        find_program(str(tmp_path / "script.py"))


def test_a_file_saved_after_the_program_was_found_changes_nothing(tmp_path: Path) -> None:
    # Issue 12.
    write(tmp_path, {"script.py": "import module", "module.py": "old = 1"})
    program = find_program(str(tmp_path / "script.py"))
    before = program_files(program), code_of(program), program_classes(program)
    write(tmp_path, {"script.py": "class New: ...", "module.py": "new = 1"})
    assert (program_files(program), code_of(program), program_classes(program)) == before


def test_more_paths_than_fit_into_an_offer_are_a_usage_error(tmp_path: Path) -> None:
    # JSON spells each of these letters with six bytes.
    write(tmp_path, {"script.py": "x = 1"} | {f"data/{number:03}" + "é" * 120: "" for number in range(700)})
    program = find_program(str(tmp_path / "script.py"))
    with pytest.raises(UsageError, match="701 files have paths that are too long for an offer"):
        program_files(program, attach([tmp_path / "data"]))


def test_more_python_than_the_supervisor_keeps_is_a_usage_error(tmp_path: Path) -> None:
    write(tmp_path, {"script.py": "x = 1", "large.py": ""})
    os.truncate(tmp_path / "large.py", MAX_CODE_BYTES)
    with pytest.raises(UsageError, match="the program has more than 64 MiB of Python"):
        program_files(find_program(str(tmp_path / "script.py")), attach([tmp_path / "large.py"]))


def test_a_name_that_no_message_can_carry_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {"script.py": ""})
    (tmp_path / os.fsdecode(b"data\xff.csv")).touch()
    with pytest.raises(UsageError, match="is not UTF-8"):
        program_files(find_program(str(tmp_path / "script.py")), attach([tmp_path / os.fsdecode(b"data\xff.csv")]))


def test_imported_distributions_are_listed_with_their_versions(tmp_path: Path) -> None:
    write(tmp_path, {"script.py": "import own, numpy.linalg, os\nfrom . import attr", "own.py": "", "yaml.py": ""})
    write(tmp_path, {"plug.py": "def f():\n    from mpyc.runtime import mpc\n    import own, yaml", "broken.py": "def"})
    program = find_program(str(tmp_path / "script.py"))
    assert list(distributions(program)) == ["numpy"]
    assert list(distributions(program, attach([tmp_path / "plug.py"]))) == ["PyYAML", "mpyc", "numpy"]
    assert list(distributions(program, attach([tmp_path / "broken.py"]))) == ["numpy"]


def test_a_difference_is_explained_for_each_kind_of_file(tmp_path: Path) -> None:
    write(tmp_path, {"script.py": "import own\n", "own.py": "x\n", "plug.py": "y\n", "data.csv": "z\n"})
    program, attached = find_program(str(tmp_path / "script.py")), attach([tmp_path / "plug.py", tmp_path / "data.csv"])
    for name, content in {"own.py": b"x\r\n", "with/plug.py": b"y\r\n", "with/data.csv": b"z\r\n"}.items():
        words = explain_difference(program, attached, name, hashlib.sha256(content).hexdigest())
        assert words == "in line endings only (LF or CRLF)"
    assert explain_difference(program, attached, "own.py", "00" * 32) == ""
    (tmp_path / "data.csv").unlink()
    assert explain_difference(program, attached, "with/data.csv", "00" * 32) == ""
    assert explain_difference(program, attached, "with/nothing", "00" * 32) == ""
