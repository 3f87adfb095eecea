"""tor reads a quoted value as it was meant, whatever bytes it has."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from onionmpc.tor.process.binary import find_tor
from onionmpc.tor.process.torrc import quote

PATHS = [
    b"plain",
    b"a b",
    b"a#b",
    b'a"b',
    b"a\\b",
    b"a\nb",
    b"\xff\xfe",
    "é€".encode(),
    b"$x %y",
    b"'~'",
    b"\\042 \\x41",
]


# Issue 12.
@pytest.mark.tor
@pytest.mark.parametrize("name", PATHS)
def test_tor_reads_a_quoted_path_as_it_was_meant(name: bytes, tmp_path: Path) -> None:
    data = tmp_path / os.fsdecode(name)
    torrc = tmp_path / "torrc"
    torrc.write_text(f"DataDirectory {quote(data)}\nSocksPort 0\nDisableNetwork 1\n", encoding="ascii")
    tor: list[str | Path] = [
        find_tor().path,
        "--defaults-torrc",
        tmp_path / "none",
        "-f",
        torrc,
        "--list-fingerprint",
        "--ORPort",
        "auto",
    ]
    subprocess.run(tor, capture_output=True, timeout=60, check=False)
    assert (data / "keys").is_dir()


@pytest.mark.parametrize("name", PATHS)
def test_a_value_is_one_line_of_ascii_in_quotes(name: bytes) -> None:
    quoted = quote(os.fsdecode(name))
    assert quoted.isascii()
    assert quoted.isprintable()
    assert quoted[0] == quoted[-1] == '"'
    assert '"' not in quoted[1:-1]
