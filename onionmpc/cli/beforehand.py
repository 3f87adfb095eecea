"""Notes on a program that commands print before they need a network.

Imports nothing of sessions or tor, so that `estimate` and `demo` start without them.
"""

from __future__ import annotations

from collections.abc import Sequence

import click

from onionmpc.program.code.attached import SKIPPED_FOLDERS, Attachments
from onionmpc.program.code.catalogue import Program
from onionmpc.text import printable


def note_program(program: Program | None, attached: Attachments) -> None:
    """Print what the user should know about the program, if one was named, and about its attached files."""
    _note_skipped(attached)
    if program is not None:
        _note_without_mpyc(program)


def note_try_out(notes: Sequence[str]) -> None:
    """Print what the program gets only because nobody takes part for real."""
    for note in notes:
        click.echo(f"onionmpc: note: {printable(note, 500)}", err=True)


def _note_without_mpyc(program: Program) -> None:
    """Warn about a script that does not import MPyC. Most likely it computes nothing together, and fails at its end."""
    if not any("mpyc" in source.imports for source in program.sources.values()):
        click.echo(
            f"onionmpc: note: {printable(program.path.name)} does not import mpyc: unless a library that it uses "
            "does, it computes nothing with the other parties (for programs that do: onionmpc programs)",
            err=True,
        )


def _note_skipped(attached: Attachments) -> None:
    """Print which parts of the folders after --with are not compared."""
    if attached.skipped:
        first, *others = attached.skipped
        more = f" and {len(others)} more" if others else ""
        names = " and ".join(SKIPPED_FOLDERS)
        click.echo(
            f"onionmpc: note: --with skips {names}: {printable(str(first))}{more} may differ between the parties",
            err=True,
        )
