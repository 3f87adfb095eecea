"""The files of the page."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest

from onionmpc.app.assets import Asset, read_assets
from onionmpc.app.gate import PLAIN_TARGET


def test_files_are_read_once(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("page")
    (tmp_path / "de.json").write_text("{}")
    assets = read_assets(tmp_path)
    (tmp_path / "index.html").write_text("changed")
    assert assets == {
        "index.html": Asset(b"page", "text/html; charset=utf-8"),
        "de.json": Asset(b"{}", "application/json"),
    }


@pytest.mark.parametrize("name", [".htaccess", "page.js.orig", "page.exe", "Page.js", "page", "a b.js"])
def test_a_file_that_no_request_could_ask_for_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("page")
    (tmp_path / name).write_text("")
    with pytest.raises(ValueError, match="cannot be a file of the page"):
        read_assets(tmp_path)


def test_a_page_has_an_entry(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no index\.html"):
        read_assets(tmp_path)


def test_each_file_of_our_page_can_be_asked_for() -> None:
    names = read_assets(files("onionmpc.app") / "page").keys()
    assert "main.js" in names
    assert [name for name in names if not PLAIN_TARGET.fullmatch(b"/page/" + name.encode())] == []
