"""Draws an address as a QR code on the terminal."""

from __future__ import annotations

import io

import click

from onionmpc.cli.streams import shows_blocks


def draw_address(text: str) -> None:
    """Draw an address, or a link to one, on stderr for a dark background, if its encoding has the characters."""
    if not shows_blocks():
        return
    import segno  # not at the top: it imports urllib and XML, for one drawing

    drawing = io.StringIO()
    # Upper case fits QR's alphanumeric mode: 29 instead of 33 modules wide. Addresses are read in either case.
    segno.make_qr(text.upper()).terminal(drawing, compact=True)
    click.echo(drawing.getvalue(), err=True, nl=False)
