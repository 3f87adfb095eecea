"""`onionmpc programs`: lists the programs that come with onionmpc."""

from __future__ import annotations

import click

from onionmpc.program.code.catalogue import catalogue


@click.command()
def programs() -> None:
    """List the programs that come with onionmpc.

    Give a name in place of a script's path. They are plain MPyC scripts: read them, copy them, change them.
    """
    entries = catalogue()
    width = max(len(name) for name, _ in entries)
    for name, summary in entries:
        click.echo(f"{name:{width}}  {summary}")
