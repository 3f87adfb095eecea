"""`onionmpc id`: makes, copies, lists and removes stored identities. onionmpc.session.keystore stores them."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import click

from onionmpc.cli.passphrase import HELP as PASSPHRASE_HELP
from onionmpc.cli.passphrase import passphrase_from
from onionmpc.cli.prompt import is_interactive
from onionmpc.cli.streams import shows_blocks
from onionmpc.errors import InvalidIdentityFile, UsageError
from onionmpc.identity import Onion
from onionmpc.session import keystore

KEY_FILE = click.Path(path_type=Path)
passphrase_file = click.option("--passphrase-file", type=KEY_FILE, metavar="FILE", help=PASSPHRASE_HELP)


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
@passphrase_file
@click.option("--for-short", is_flag=True, help="For --circuit-length short, which shows an IP address, alone.")
def new(name: str, passphrase: bool, passphrase_file: Path | None, for_short: bool) -> None:
    """Make an identity, keep it under NAME and print its address.

    NAME is for you alone and never sent. The key file cannot be made again when it is lost: keep a copy of it if the
    address matters (onionmpc id export). Without --passphrase, whoever reads the file is you. Whoever steals a sealed
    one pays 128 MiB and half a second for each guess: five words drawn at random outlive him, a name and a year do not.
    """
    sealed = passphrase or passphrase_file is not None
    ask = passphrase_from(passphrase_file, new=True) if sealed else None
    click.echo(keystore.create(name, ask, exposed=for_short).onion)


@identities.command()
@click.argument("name")
@click.argument("file", type=KEY_FILE)
@click.option("--no-passphrase", is_flag=True, help="Leave the copy of an open identity open: whoever reads it is you.")
@passphrase_file
def export(name: str, file: Path, no_passphrase: bool, passphrase_file: Path | None) -> None:
    """Copy the identity NAME into FILE, for another machine or against loss.

    The copy of a sealed identity is sealed with the same passphrase. For that of an open one a passphrase is asked for,
    since a copy travels. FILE is made for you alone (mode 0600) and never replaces another. What the identity is for
    goes along: one for circuit length short stays so.

    On the other machine: onionmpc id import NAME FILE. Two sessions at once under one identity answer each other's
    dials, which only on one machine can be prevented: to move it, remove it here.
    """
    if no_passphrase and passphrase_file is not None:
        raise UsageError("--no-passphrase and --passphrase-file exclude each other", hint="leave one of them out")
    if no_passphrase and keystore.describe_identity(name).sealed:
        raise UsageError(
            f"the identity {name} is sealed, and so will its copy be", hint="leave out --no-passphrase to copy it so"
        )
    facts = keystore.export_to(file, name, None if no_passphrase else passphrase_from(passphrase_file, new=True))
    if not facts.sealed:
        click.echo(f"onionmpc: note: no passphrase seals {file}: whoever reads it is you", err=True)
    click.echo(facts.onion)


@identities.command("import")
@click.argument("name")
@click.argument("file", type=KEY_FILE)
@passphrase_file
def import_(name: str, file: Path, passphrase_file: Path | None) -> None:
    """Keep the identity in FILE under NAME, and print its address.

    FILE is what onionmpc id export has written. It is opened once, which takes its passphrase if it is sealed; the
    identity stays sealed with it. A sealed FILE may have any mode, as on a memory stick; an open one must be closed to
    others (mode 0600). Neither a name nor an identity that is kept already is replaced. FILE stays where it is.
    """
    click.echo(keystore.import_from(file, name, passphrase_from(passphrase_file)).onion)


@identities.command()
@click.argument("name")
@click.option("--yes", "-y", is_flag=True, help="Consent unasked.")
def remove(name: str, yes: bool) -> None:
    """Remove the identity NAME, for ever unless there is a copy of it.

    With the key goes the address: whoever has it in a list waits for you in vain, and no passphrase brings it back.
    Only an exported copy does (onionmpc id export). What was in the file may stay on the disk for as long as the disk
    likes: where that matters, seal identities with a passphrase when they are made.
    """
    keystore.check_kept(name)
    if not yes:
        _ask_to_remove(name)
    keystore.remove(name)


def _ask_to_remove(name: str) -> None:
    if not is_interactive():
        raise UsageError(
            f"to remove {name} takes consent, and nobody can be asked: there is no terminal", hint="--yes consents"
        )
    try:
        click.echo(f"{name} is {keystore.describe_identity(name).onion}", err=True)
    except InvalidIdentityFile as error:
        click.echo(f"{name}: {error.message}", err=True)
    click.echo("With its key goes its address, for ever unless you have exported a copy.", err=True)
    if click.prompt(f'Type "{name}" to remove it', default="", show_default=False, err=True).strip() != name:
        raise UsageError(f"{name} was not removed: that was not its name", hint="nothing has changed")


@identities.command("list")
def list_identities() -> None:
    """List your identities and their addresses.

    Each line: name, address, whether a passphrase seals it, and whether it is for circuit length short. Asks for none.
    """
    names = keystore.list_names()
    width = max(map(len, names), default=0)
    for name in names:
        try:
            facts = keystore.describe_identity(name)
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
    facts = keystore.describe_identity(name)
    if as_json:
        click.echo(json.dumps({"name": name, **dataclasses.asdict(facts)}))
        return
    click.echo(facts.onion)
    if shows_blocks():
        click.echo(_qr_code(facts.onion), err=True, nl=False)


def _qr_code(onion: Onion) -> str:
    """Draw an address as a QR code for a terminal with a dark background."""
    drawing = io.StringIO()
    # Upper case fits QR's alphanumeric mode: 29 instead of 33 modules wide. Addresses are read in either case.
    import segno  # not at the top: it imports urllib and XML, for one drawing

    segno.make_qr(onion.upper()).terminal(drawing, compact=True)
    return drawing.getvalue()
