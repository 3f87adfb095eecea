"""Opens the page in the user's browser, without showing the link to other users of this machine.

A command line can be read by all users (`ps`), and some browsers keep theirs as long as they run. So the browser gets
the path of a private file that leads it to the page. A browser that cannot read such a file gets the link itself, which
works once and for a short time.

Knows files and how desktops open them. Does not know tokens: the link comes in as text.
"""

from __future__ import annotations

import contextlib
import enum
import html
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from onionmpc.files import socket_directory, write_private

QUERY_S = 5.0
# A desktop entry of snap's is called after the snap and its program: firefox_firefox.desktop.
OF_SNAP = re.compile(r"[a-z0-9-]+_[A-Za-z0-9.-]+\.desktop")
REDIRECT = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="referrer" content="no-referrer">
<meta http-equiv="refresh" content="0; url={link}">
<title>onionmpc</title>
<p><a href="{link}">Open onionmpc</a></p>
</html>
"""


class Opened(enum.Enum):
    """What the browser was given."""

    FILE = enum.auto()
    LINK = enum.auto()
    NOTHING = enum.auto()


def format_link(port: int, start_token: str) -> str:
    """Return the link that opens the page. A browser sends nothing of what follows "#"."""
    return f"http://127.0.0.1:{port}/#start={start_token}"


@contextlib.contextmanager
def redirect_file(link: str) -> Iterator[Path]:
    """Yield a file, readable by this user alone, that leads a browser to a link; remove it at the end.

    The browser's history keeps the page and not the file: a refresh within a second replaces its entry.

    Raises:
        SystemRefused: it cannot be written.
    """
    with socket_directory() as folder:
        path = folder / "open.html"
        write_private(path, REDIRECT.format(link=html.escape(link)).encode())
        yield path


def open_page(link: str, redirect: Path) -> Opened:
    """Have the desktop open the page in the user's browser, which reads the file later.

    It asks the desktop for the default browser first, which may block for up to QUERY_S.

    Args:
        redirect: a file of `redirect_file` for this link.
    """
    opener = _opener()
    if opener is None:
        return Opened.NOTHING
    is_snap = OF_SNAP.fullmatch(_default_browser()) is not None
    try:
        process = subprocess.Popen(
            [opener, link if is_snap else redirect.as_uri()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for us and not for a browser that this starts
        )
    except OSError:
        return Opened.NOTHING
    # It may run for as long as the browser does, and outlive us.
    threading.Thread(target=process.wait, daemon=True).start()
    return Opened.LINK if is_snap else Opened.FILE


def _opener() -> str | None:
    """Return the desktop's own program for opening files, or None if there is no desktop."""
    if sys.platform == "darwin":
        return shutil.which("open")
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return None  # xdg-open would start a browser in our terminal
    return shutil.which("xdg-open")


def _default_browser() -> str:
    """Return the name of the default browser's desktop entry, or "" if it is not known."""
    program = shutil.which("xdg-settings")
    if program is None:
        return ""
    try:
        asked = subprocess.run(
            [program, "get", "default-web-browser"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=QUERY_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return asked.stdout.decode(errors="replace").strip()
