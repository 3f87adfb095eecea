"""Which program is used for which transport, and the torrc lines for bridges."""

from __future__ import annotations

from pathlib import Path

import pytest

from onionmpc.errors import TransportNotFound, UsageError
from onionmpc.tor.process.bridges import parse_bridge
from onionmpc.tor.process.transports import TRANSPORT_PROGRAMS, bridge_torrc, find_transport

PLAIN = parse_bridge("192.0.2.7:443")
OBFS4 = parse_bridge("obfs4 192.0.2.8:443 cert=abc iat-mode=0")
MEEK = parse_bridge("meek_lite 192.0.2.18:80 url=https://a.example")


def program(directory: Path, name: str) -> Path:
    directory.mkdir(exist_ok=True)
    path = directory / name
    path.write_text("#!/bin/sh\n")
    path.chmod(0o700)
    return path


def test_the_newer_program_is_preferred_and_the_older_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    older = program(tmp_path, "obfs4proxy")
    assert find_transport("obfs4") == older
    newer = program(tmp_path, "lyrebird")
    assert {find_transport(name) for name in TRANSPORT_PROGRAMS} == {newer}


def test_a_missing_program_is_reported_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        TransportNotFound, match="no program here for the transport obfs4, expected lyrebird or obfs4proxy"
    ) as told:
        find_transport("obfs4")
    assert told.value.hint == "install obfs4proxy (Debian's name of it)"
    program(tmp_path, "apt-get")
    with pytest.raises(TransportNotFound) as told:
        find_transport("snowflake")
    assert told.value.hint == "sudo apt-get install snowflake-client"
    with pytest.raises(TransportNotFound) as told:
        find_transport("webtunnel")
    assert "lyrebird comes with Tor Browser" in told.value.hint


def test_an_unknown_transport_is_reported_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="onionmpc does not know the transport obfs5") as told:
        find_transport("obfs5")
    assert "obfs4, meek_lite" in told.value.hint


def test_a_program_whose_path_tor_cannot_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "a b"
    program(directory, "obfs4proxy")
    monkeypatch.setenv("PATH", str(directory))
    with pytest.raises(UsageError, match="its path contains a space or another special character"):
        find_transport("obfs4")


def test_a_relative_path_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = program(tmp_path, "obfs4proxy")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", ".")
    assert find_transport("obfs4") == path


def test_bridges_become_lines_and_each_transport_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = program(tmp_path, "obfs4proxy")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert bridge_torrc([PLAIN, OBFS4, MEEK, OBFS4]).splitlines() == [
        "UseBridges 1",
        "Bridge 192.0.2.7:443",
        "Bridge obfs4 192.0.2.8:443 cert=abc iat-mode=0",
        "Bridge meek_lite 192.0.2.18:80 url=https://a.example",
        "Bridge obfs4 192.0.2.8:443 cert=abc iat-mode=0",
        f"ClientTransportPlugin obfs4 exec {path}",
        f"ClientTransportPlugin meek_lite exec {path}",
    ]


def test_a_plain_bridge_needs_no_program_and_without_bridges_there_are_no_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert bridge_torrc([PLAIN]) == "UseBridges 1\nBridge 192.0.2.7:443"
    assert bridge_torrc([]) == ""
