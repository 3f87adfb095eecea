"""A package that is not installed is reported before parties are gathered, with the command that installs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from onionmpc.errors import UsageError
from onionmpc.program.code.catalogue import catalogue, find_program
from onionmpc.program.code.missing import hint_for, package_hint
from tests.support.rehearsal import write_spec


def find(folder: Path, script: str, **modules: str) -> None:
    """Find a program that consists of a script and modules beside it."""
    for name, content in {"script": script, **modules}.items():
        (folder / f"{name}.py").write_text(content)
    find_program(str(folder / "script.py"))


# Issue 12.
@pytest.mark.parametrize(
    ("script", "package"),
    [
        ("import nosuchpackage", "nosuchpackage"),
        ("import numpy, nosuchpackage.below", "nosuchpackage"),
        ("from nosuchpackage.below import one", "nosuchpackage"),
        ("import helper", "nosuchpackage"),
    ],
)
def test_a_missing_package_is_reported_with_the_command_that_installs_it(
    tmp_path: Path, script: str, package: str
) -> None:
    with pytest.raises(UsageError, match="which is not installed for the Python that runs it") as caught:
        find(tmp_path, script, helper="import nosuchpackage")
    assert caught.value.hint == f"{sys.executable} -m pip install {package}"


@pytest.mark.parametrize(
    "script",
    [
        "import os, sys, numpy.linalg\nfrom mpyc.runtime import mpc",
        "import helper",
        "import folder.below",
        "from . import nosuchpackage",
        "try:\n    import nosuchpackage\nexcept ImportError:\n    pass",
        "def later():\n    import nosuchpackage",
        "if False:\n    import nosuchpackage",
        "import sys; sys.path.append('elsewhere'); import nosuchpackage",
        "import ways; import nosuchpackage",
        "import winreg",
    ],
)
def test_an_import_that_may_succeed_or_fail_on_purpose_is_not_reported(tmp_path: Path, script: str) -> None:
    (tmp_path / "folder").mkdir()
    find(tmp_path, script, helper="", ways="import sys; sys.path.append('elsewhere')")


@pytest.mark.parametrize("name", [name for name, _ in catalogue()])
def test_the_shipped_programs_lack_no_package(name: str) -> None:
    find_program(name)


def test_a_package_with_another_name_than_its_module_is_called_by_its_own() -> None:
    assert package_hint("sklearn") == f"{sys.executable} -m pip install scikit-learn"


def test_the_hint_is_a_pipx_command_in_an_installation_by_pipx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", "/home/me/.local/share/pipx/venvs/onionmpc")
    assert package_hint("yaml") == "pipx inject onionmpc pyyaml"


@pytest.mark.parametrize("name", [None, "", "numpy.nosuch", "winreg"])
def test_a_name_that_is_not_a_package_gets_no_command(name: str | None) -> None:
    assert hint_for(ModuleNotFoundError("no", name=name)) == ""


def test_an_import_that_fails_while_the_program_runs_comes_with_the_command(tmp_path: Path) -> None:
    spec = write_spec(tmp_path, "import sys\nif sys: import nosuchpackage")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "onionmpc.cli", "estimate", spec.script, "-m3"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert f"{sys.executable} -m pip install nosuchpackage" in done.stderr
