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
        raise UsageError(
            f"there is a file {file} already", hint="an older receipt is not replaced: choose another name"
        )
