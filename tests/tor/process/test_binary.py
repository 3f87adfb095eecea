"""Finding tor, and refusing programs that are too old or not tor."""

from __future__ import annotations

from pathlib import Path

import pytest

from onionmpc.errors import TorFailed, TorNotFound, TorTooOld
from onionmpc.tor.adapters.stem import Version
from onionmpc.tor.process import binary
from onionmpc.tor.process.binary import find_tor, has_pow, version_warning
from onionmpc.tor.process.own_tor import verify_config


def fake_tor(path: Path, body: str) -> str:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o700)
    return str(path)


def test_the_tor_named_by_the_environment_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = fake_tor(tmp_path / "my-tor", "echo 'Tor version 0.4.9.12 (git-0123456789abcdef).'")
    monkeypatch.setenv("ONIONMPC_TOR", path)
    assert find_tor() == binary.TorBinary(Path(path), Version("0.4.9.12"))


def test_no_tor_names_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ONIONMPC_TOR", raising=False)
    fake_tor(tmp_path / "apt-get", "exit 0")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    with pytest.raises(TorNotFound, match="no tor program") as raised:
        find_tor()
    assert raised.value.hint == "sudo apt-get install tor"


def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ONIONMPC_TOR", str(tmp_path / "nothing"))
    with pytest.raises(TorNotFound, match=r"ONIONMPC_TOR names .*nothing"):
        find_tor()


def test_an_old_tor_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ONIONMPC_TOR", fake_tor(tmp_path / "tor", "echo 'Tor version 0.3.5.8.'"))
    with pytest.raises(TorTooOld, match=r"is tor 0\.3\.5\.8, expected 0\.4\.8\.1 or newer"):
        find_tor()


@pytest.mark.parametrize("body", ["exit 1", "echo hello", "echo", "echo Tor version none."])
def test_a_program_that_does_not_report_its_version_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, body: str
) -> None:
    monkeypatch.setenv("ONIONMPC_TOR", fake_tor(tmp_path / "tor", body))
    with pytest.raises(TorFailed, match="did not report its version"):
        find_tor()


def test_no_tor_sees_our_variables_whatever_it_is_started_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told = tmp_path / "told"
    path = fake_tor(tmp_path / "tor", f"(echo started; env) >> {told}; echo 'Tor version 0.4.9.11.'")
    monkeypatch.setenv("ONIONMPC_TOR", path)
    monkeypatch.setenv("ONIONMPC_CONTROL_PASSWORD", "of another tor")
    binary = find_tor()
    verify_config(binary)
    has_pow(binary)
    assert told.read_text().count("started\n") == 3
    assert "ONIONMPC_" not in told.read_text()


def test_a_tor_with_bug_41297_causes_a_warning() -> None:
    assert "41297" in version_warning(Version("0.4.9.10"))
    assert version_warning(Version("0.4.9.11")) == ""
