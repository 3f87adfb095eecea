"""`onionmpc programs show` explains a program by its block, without running anything of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from onionmpc.cli.main import run
from onionmpc.program.code.catalogue import catalogue
from tests.support.blocks import EVERY_KEY, script_of

AT_STDIN = "given to the program at standard input"


def shown(capfd: pytest.CaptureFixture[str], *words: str) -> str:
    assert run(["programs", "show", *words]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    return out


@pytest.mark.parametrize("name", [name for name, _ in catalogue()])
def test_each_shipped_program_is_explained(capfd: pytest.CaptureFixture[str], name: str) -> None:
    text = shown(capfd, name)
    assert text.startswith(f"{name}: {dict(catalogue())[name]}\n")
    assert "its author says that it reveals" in text


def test_every_key_is_explained(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "my.py").write_text(EVERY_KEY)
    assert shown(capfd, str(tmp_path / "my.py")).splitlines()[:-2] == [
        "my: Every key",
        "  its author says that it reveals nothing to anyone",
        "  parties      at least 3",
        "  threshold    1, unless the host chooses another",
        "  packages     all parties must have the same versions of what it imports",
        "  The host chooses these, and all parties see them:",
        "    candidates: Candidates, separated by commas",
        "      2 to 10 values, each a text of at most 30 characters",
        "    rounds: Rounds",
        "      a whole number; optional",
        "  Each party gives these, and keeps them to itself:",
        "    vote: Your vote",
        "      one of: candidates; given to the program at standard input",
        "    salary: Your monthly gross salary",
        f"      a whole number from 0 to 1000000000 EUR; usually from 500 to 50000; {AT_STDIN}",
        "    share: Your share",
        "      a number from 0.05 to 1; at most 2 digits after the point; given to the program at standard input",
        "    sure: Are you sure?",
        "      yes or no; given to the program at standard input",
        "    letter: A letter",
        "      Any format.",
        "      a file of at most 1000 bytes; given to the program in a private file",
        "    rows: Your rows",
        f"      a table of 2 to 9 rows; columns age, income; its cells are whole numbers from -5 to 5; {AT_STDIN}",
        "  prints       Votes: lines like name: value, in votes, which can be drawn as bars",
        "  needs        mpyc>=0.11, numpy",
    ]


def test_json_has_every_key_by_its_name(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "my.py").write_text(EVERY_KEY)
    data = json.loads(shown(capfd, str(tmp_path / "my.py"), "--json"))
    assert (data["name"], data["title"], data["dependencies"]) == ("my", "Every key", ["mpyc>=0.11", "numpy"])
    assert data["block"]["min-parties"] == 3
    assert data["block"]["input"][1]["warn-max"] == 50_000
    assert list(data["files"]) == ["my.py"]


def test_a_script_without_a_block_says_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "my.py").write_text('"""Adds up."""\n')
    assert "It has no block that says what it reveals or asks for" in shown(capfd, str(tmp_path / "my.py"))
    assert json.loads(shown(capfd, str(tmp_path / "my.py"), "--json"))["block"] is None


def test_words_of_the_author_cannot_command_the_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    odd = r"\u001b[2J\u202e\n"
    toml = f'[tool.onionmpc]\nversion = 1\ntitle = "T{odd}"\nreveals = "R{odd}"\n'
    toml += f'[[tool.onionmpc.input]]\nname = "n"\nlabel = "L{odd}"\nhelp = "H{odd}"\ntype = "integer"\nunit = "U{odd}"'
    (tmp_path / "my.py").write_text(script_of(f'dependencies = ["D{odd}"]\n' + toml))
    assert all(line.isprintable() for line in shown(capfd, str(tmp_path / "my.py")).splitlines())


def test_a_program_whose_packages_are_missing_is_explained(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "my.py").write_text("import absent_package\n" + script_of('dependencies = ["absent-package"]'))
    assert "  needs        absent-package" in shown(capfd, str(tmp_path / "my.py"))


def test_a_mistake_is_shown_with_its_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "my.py").write_text(script_of("[tool.onionmpc]\nversion = 1\ntitel = 1"))
    assert run(["programs", "show", str(tmp_path / "my.py")]) == 2
    assert capfd.readouterr().err.splitlines() == [
        "onionmpc: error: my.py, line 6: there is no key titel",
        "onionmpc: hint: did you mean title?",
    ]
