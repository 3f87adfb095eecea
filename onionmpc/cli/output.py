"""How lines look on stderr. stdout belongs to results."""

from __future__ import annotations

import click


def print_error(message: str, hint: str = "") -> None:
    """Print what went wrong and, if there is one, how to mend it."""
    click.secho("onionmpc: error: ", fg="red", nl=False, err=True)
    click.echo(message, err=True)
    if hint:
        click.secho("onionmpc: hint: ", fg="yellow", nl=False, err=True)
        click.echo(hint, err=True)
