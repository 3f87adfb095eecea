"""The lines of a torrc: those that ship, and how a value is written so that tor reads what was meant.

Knows tor's quoting. Does not know options. Source: tor's man page, "The configuration file format"; tor 0.4.9,
unescape_string in confline.c.
"""

from __future__ import annotations

import os
from pathlib import Path

from onionmpc.machine import refusing
from onionmpc.resources import shipped

# A number sign starts a comment and a newline ends the line, unless they are quoted.
ESCAPED = b'"\\'
PRINTABLE = range(0x20, 0x7F)


def quote(value: str | Path) -> str:
    """Return a whole value in quotes: ASCII, whatever bytes a path has."""
    shown = (chr(byte) if byte in PRINTABLE and byte not in ESCAPED else f"\\{byte:03o}" for byte in os.fsencode(value))
    return f'"{"".join(shown)}"'


def shipped_lines(name: str) -> str:
    """Return the torrc lines that ship under this name, without their ".torrc"."""
    path = shipped("torrc.d") / f"{name}.torrc"
    with refusing(f"cannot read {path}"):
        return path.read_text(encoding="utf-8")
