"""Reads the torrc lines that ship with onionmpc, and quotes values for torrc lines.

Source: tor's man page, "The configuration file format"; tor 0.4.9, unescape_string in confline.c.
"""

from __future__ import annotations

import os
from pathlib import Path

from onionmpc.machine import refusing
from onionmpc.resources import shipped

# Inside quotes, these two end the value or begin an escape.
ESCAPED = b'"\\'
PRINTABLE = range(0x20, 0x7F)


def quote(value: str | Path) -> str:
    """Return a value in quotes, without which # starts a comment. Bytes beyond ASCII become octal escapes."""
    shown = (chr(byte) if byte in PRINTABLE and byte not in ESCAPED else f"\\{byte:03o}" for byte in os.fsencode(value))
    return f'"{"".join(shown)}"'


def shipped_lines(name: str) -> str:
    """Return the torrc lines that ship under this name, given without ".torrc"."""
    path = shipped("torrc.d") / f"{name}.torrc"
    with refusing(f"cannot read {path}"):
        return path.read_text(encoding="utf-8")
