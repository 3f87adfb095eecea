"""Checks the path of a future receipt. Imports nothing of sessions."""

from __future__ import annotations

import os
from pathlib import Path

from onionmpc.errors import UsageError
from onionmpc.files import check_writable


def check_receipt(file: Path) -> None:
    """Check that a receipt can be written to this file. After the computation it would be too late.

    Raises:
        UsageError: the file exists, or cannot be written.
    """
    check_writable(file)
    if os.path.lexists(file):
        raise UsageError(f"{file} already exists", hint="choose another name: an older receipt is never replaced")
