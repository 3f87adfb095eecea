"""Finds the folders that ship with the package: torrc.d/ and examples/.

In a wheel they are inside the package. In a checkout they are at the top level, where people look for them.
"""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).parent


def shipped(folder: str) -> Path:
    """Return the path of a shipped folder ("torrc.d" or "examples")."""
    inside = PACKAGE / folder
    return inside if inside.is_dir() else PACKAGE.parent / folder
