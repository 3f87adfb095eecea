"""How the page is opened, with programs of a desktop that only note what they are given."""

from __future__ import annotations

import os
import stat
import sys
import time
from pathlib import Path

import pytest

from onionmpc.app.opening import Opened, format_link, open_page, redirect_file

TOKEN = "Zm9vYmFy-_QUJD"
LINK = format_link(40123, TOKEN)
pytestmark = pytest.mark.skipif(sys.platform == "darwin", reason="macOS has its own opener")


@pytest.fixture
def desktop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A desktop whose default browser is no snap. It keeps the command line of what it opens in `opened`."""
    folder = tmp_path / "bin"
    folder.mkdir()
    os.mkfifo(tmp_path / "opened")
    program(folder / "xdg-open", f'tr "\\0" "\\n" </proc/$$/cmdline >{tmp_path / "opened"}')
    program(folder / "xdg-settings", "echo firefox-esr.desktop")
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("DISPLAY", ":0")
    return folder


def program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def opened(desktop: Path) -> list[str]:
    """Return the command line that a browser got; opening a pipe waits for its writer."""
    return (desktop.parent / "opened").read_text().splitlines()


def test_the_browser_gets_the_path_of_a_private_file_and_no_command_line_has_the_token(desktop: Path) -> None:
    with redirect_file(LINK) as path:
        assert open_page(LINK, path) is Opened.FILE
        words = opened(desktop)
        assert words[-1] == path.as_uri()
        assert TOKEN not in " ".join(words)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert f'content="0; url={LINK}"' in path.read_text()
        assert TOKEN not in path.name
    assert not path.exists()
    assert not path.parent.exists()


@pytest.mark.parametrize("entry", ["firefox_firefox.desktop", "chromium_chromium.desktop"])
def test_a_snap_which_cannot_read_the_file_gets_the_link(desktop: Path, entry: str) -> None:
    program(desktop / "xdg-settings", f"echo {entry}")
    with redirect_file(LINK) as path:
        assert open_page(LINK, path) is Opened.LINK
        assert opened(desktop)[-1] == LINK


@pytest.mark.parametrize(
    "script", ["exit 1", "echo org.mozilla.firefox.desktop", "echo google-chrome.desktop", "kill $$"]
)
def test_any_other_browser_gets_the_file(desktop: Path, script: str) -> None:
    program(desktop / "xdg-settings", script)
    with redirect_file(LINK) as path:
        assert open_page(LINK, path) is Opened.FILE
        assert opened(desktop)[-1] == path.as_uri()


def test_a_browser_that_starts_slowly_keeps_nobody_waiting(desktop: Path) -> None:
    program(desktop / "xdg-open", f"exec cat {desktop.parent / 'opened'}")  # which ends when the test writes into it
    with redirect_file(LINK) as path:
        began_s = time.monotonic()
        assert open_page(LINK, path) is Opened.FILE
        assert time.monotonic() - began_s < 5
    (desktop.parent / "opened").write_text("")


def test_without_a_desktop_nothing_is_opened(desktop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with redirect_file(LINK) as path:
        monkeypatch.delenv("DISPLAY")
        monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
        assert open_page(LINK, path) is Opened.NOTHING
        monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
        monkeypatch.setenv("PATH", str(desktop.parent))
        assert open_page(LINK, path) is Opened.NOTHING


def test_a_program_that_cannot_be_started_is_nothing(desktop: Path) -> None:
    (desktop / "xdg-open").write_bytes(b"\0")
    with redirect_file(LINK) as path:
        assert open_page(LINK, path) is Opened.NOTHING


def test_the_token_is_in_the_part_of_the_link_that_is_never_sent() -> None:
    address, _, fragment = LINK.partition("#")
    assert address == "http://127.0.0.1:40123/"
    assert fragment == f"start={TOKEN}"
