"""Fixtures of the tests of commands."""

from __future__ import annotations

import os
import pty
from collections.abc import Iterator
from pathlib import Path

import pytest

from onionmpc.cli.main import run
from tests.support.commands import ERROR, HINT, Refused, fake_tor


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory of our own, a tor that only says its version, and nobody at the terminal."""
    monkeypatch.setenv("ONIONMPC_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("ONIONMPC_TOR", fake_tor(tmp_path / "tor"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(name="person")
def at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The end of a terminal at which a person types answers."""
    near, far = pty.openpty()
    with os.fdopen(far, "r") as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        yield near
    os.close(near)


@pytest.fixture
def refused(capfd: pytest.CaptureFixture[str]) -> Refused:
    """Run a command that must be refused; return the error, and the hint on a second line."""

    def run_refused(*arguments: str, code: int = 2) -> str:
        assert run(list(arguments)) == code
        out, err = capfd.readouterr()
        assert out == ""
        assert "Traceback" not in err
        assert err.count(ERROR) == 1
        sentence = err[err.index(ERROR) + len(ERROR) :]
        assert sentence.count(HINT) <= 1
        return sentence.replace(HINT, "").strip()

    return run_refused
