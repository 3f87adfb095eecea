"""The file of a receipt, before there is one. Imports nothing of sessions."""

from __future__ import annotations

import os
from pathlib import Path

from onionmpc.errors import UsageError
from onionmpc.files import check_writable


def check_receipt(file: Path) -> None:
    """Check that a receipt can be kept in this file: at the end it would be too late.

    Raises:
        UsageError: there is such a file, or it cannot be written.
    """
    check_writable(file)
    if os.path.lexists(file):
        raise UsageError(f"{file} already exists", hint="choose another name: an older receipt is never replaced")
