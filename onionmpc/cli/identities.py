"""`onionmpc id`: the identities that outlive a session.

Knows what to print and how to ask for a passphrase. Does not know key files: that is `onionmpc.session.keystore`.
"""

from __future__ import annotations

import dataclasses
import io
import json
import unicodedata

import click
import segno

from onionmpc.errors import InvalidIdentityFile
from onionmpc.identity import Onion
from onionmpc.session import keystore


def ask_passphrase(*, new: bool = False) -> bytes:
    """Ask for a passphrase without echo, twice if it is a new one; the prompt goes to stderr."""
    text: str = click.prompt("passphrase", hide_input=True, confirmation_prompt=new, err=True)
    # NFC: the same letters typed on another system may arrive as other code points.
    return unicodedata.normalize("NFC", text).encode("utf-8")


@click.group("id")
def identities() -> None:
    """Keep identities that outlive a session.

    An identity is a secret key, and its onion address is its name to others: whoever holds the key is the party at that
    address. A session needs none of this: by default each one gets a fresh identity that is thrown away at its end.

    Keep one only where the others must know you beforehand, as in a list of parties that everybody agreed on. Sessions
    under one identity are linked to each other, by the other parties at once, and for good.
    """


@identities.command()
@click.argument("name")
@click.option("--passphrase", is_flag=True, help="Seal the key file with a passphrase, asked for each time it is used.")
@click.option("--for-short", is_flag=True, help="For --circuit-length short, which shows an IP address, alone.")
def new(name: str, passphrase: bool, for_short: bool) -> None:
    """Make an identity, keep it under NAME and print its address.

    NAME is for you alone and never sent. The key file cannot be made again when it is lost: keep a copy of it if the
    address matters. Without --passphrase, whoever reads the file is you.
    """
    identity = keystore.create(name, ask_passphrase(new=True) if passphrase else None, exposed=for_short)
    click.echo(identity.onion)


@identities.command("list")
def list_identities() -> None:
    """List your identities and their addresses.

    Each line: name, address, whether a passphrase seals it, and whether it is for circuit length short. Asks for none.
    """
    names = keystore.list_names()
    width = max(map(len, names), default=0)
    for name in names:
        try:
            facts = keystore.describe(name)
        except InvalidIdentityFile as error:
            # One damaged file must not hide the others.
            click.echo(f"{name}: {error.message}", err=True)
            continue
        exposed = "  for short" if facts.exposed else ""
        click.echo(f"{name:{width}}  {facts.onion}  {'sealed' if facts.sealed else 'open'}{exposed}")
    if not names:
        click.echo('you keep no identity; "onionmpc id new NAME" makes one', err=True)


@identities.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON: name, onion, sealed, exposed.")
def show(name: str, as_json: bool) -> None:
    """Show the address of NAME, and a QR code of it.

    The address is no secret to those you compute with, but it links you to every session in which it took part. The
    code goes to the terminal (stderr), so that stdout carries the address alone. Asks for no passphrase.
    """
    facts = keystore.describe(name)
    if as_json:
        click.echo(json.dumps({"name": name, **dataclasses.asdict(facts)}))
        return
    click.echo(facts.onion)
    click.echo(_qr_code(facts.onion), err=True, nl=False)


def _qr_code(onion: Onion) -> str:
    """Draw an address as a QR code for a terminal with a dark background."""
    drawing = io.StringIO()
    # In upper case it fits QR's alphanumeric mode, 29 instead of 33 modules wide; addresses are read in either case.
    segno.make_qr(onion.upper()).terminal(drawing, compact=True)
    return drawing.getvalue()
