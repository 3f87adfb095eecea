"""What a command can tell before it needs a network: notes on a program, and a receipt that could not be kept.

Imports nothing of sessions or tor, so that `estimate` and `demo` start without them.
"""

from __future__ import annotations

import os
from pathlib import Path

import click

from onionmpc.errors import UsageError
from onionmpc.files import check_writable
from onionmpc.program.code.attached import SKIPPED, Attachments
from onionmpc.program.code.catalogue import Program
from onionmpc.program.code.sources import imported_names
from onionmpc.text import printable


def note_program(program: Program | None, attached: Attachments) -> None:
    """Say what a person should know of the program that they named, if they did, and of what goes with it."""
    _note_skipped(attached)
    if program is not None:
        _note_without_mpyc(program)


def _note_without_mpyc(program: Program) -> None:
    """Say beforehand of a script that it will most likely compute nothing together, and fail in the end."""
    if "mpyc" not in imported_names(program.sources):
        click.echo(
            f"onionmpc: note: {printable(program.path.name)} imports nothing of mpyc: unless a library of its does, it "
            "computes nothing with the other parties (see what does: onionmpc programs)",
            err=True,
        )


def _note_skipped(attached: Attachments) -> None:
    """Say what of the folders after --with is not compared."""
    if attached.skipped:
        first, *others = attached.skipped
        more = f" and {len(others)} more" if others else ""
        names = " and ".join(SKIPPED)
        click.echo(
            f"onionmpc: note: --with skips {names}: {printable(str(first))}{more} may differ between the parties",
            err=True,
        )


def check_receipt(file: Path) -> None:
    """Check that a receipt can be kept there: found out in the end, it would be too late."""
    check_writable(file)
    if os.path.lexists(file):
        raise UsageError(
            f"there is a file {file} already", hint="an older receipt is not replaced: choose another name"
        )
