"""`onionmpc id`: makes, copies, lists and removes stored identities. onionmpc.session.keystore stores them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import click

from onionmpc.cli.passphrase import passphrase_from
from onionmpc.cli.prompt import is_interactive
from onionmpc.cli.qr import draw_address
from onionmpc.cli.statements import statement
from onionmpc.errors import InvalidIdentityFile, UsageError
from onionmpc.names.address_link import format_link
from onionmpc.session import keystore

KEY_FILE = click.Path(path_type=Path)
passphrase_file = click.option(
    "--passphrase-file", type=KEY_FILE, metavar="FILE", help="Read the passphrase from FILE (chmod 600)."
)


@click.group("id")
def identities() -> None:
    """Keep identities that outlive a session.

    An identity is a secret key. Others know it by its onion address: anyone who holds the key is the party at that
    address. A session needs no kept identity: by default, each one uses a fresh identity and discards it at the end.

    Keep an identity only if the others must know you beforehand, as in a list of parties that everyone agreed on. The
    other parties can link all sessions under one identity, at once and for good.
    """


identities.add_command(statement)


@identities.command()
@click.argument("name")
@click.option("--passphrase", is_flag=True, help="Seal the key file with a passphrase; each use asks for it.")
@passphrase_file
@click.option("--for-short", is_flag=True, help="Use it only with --circuit-length short, which shows your IP address.")
def new(name: str, passphrase: bool, passphrase_file: Path | None, for_short: bool) -> None:
    """Make an identity, keep it under NAME and print its address.

    NAME is only for you and is never sent. Nobody can restore a lost key file: keep a copy if the address matters
    (onionmpc id export). Without --passphrase, anyone who reads the file can act as you. With one, each guess costs a
    thief of the file 128 MiB and half a second: five random words resist that, a name and a year do not.
    """
    sealed = passphrase or passphrase_file is not None
    ask = passphrase_from(passphrase_file, new=True) if sealed else None
    click.echo(keystore.create(name, ask, exposed=for_short).onion)


@identities.command()
@click.argument("name")
@click.argument("file", type=KEY_FILE)
@click.option(
    "--no-passphrase", is_flag=True, help="Leave the copy of an open identity open: anyone who reads it can act as you."
)
@passphrase_file
def export(name: str, file: Path, no_passphrase: bool, passphrase_file: Path | None) -> None:
    """Copy the identity NAME into FILE, as a backup or for another machine.

    The copy of a sealed identity is sealed with the same passphrase. For an open identity, export asks for a
    passphrase, since a copy travels. Only you can read FILE (mode 0600), and it never replaces another file. An
    identity for circuit length short stays one in the copy.

    On the other machine: onionmpc id import NAME FILE. Never run two sessions under one identity at once: they answer
    each other's dials, and onionmpc can prevent that on one machine only. To move an identity, remove it here.
    """
    if no_passphrase and passphrase_file is not None:
        raise UsageError("--no-passphrase and --passphrase-file exclude each other", hint="leave one of them out")
    if no_passphrase and keystore.describe_identity(name).sealed:
        raise UsageError(
            f"the identity {name} is sealed, and so is its copy",
            hint="leave out --no-passphrase to export a sealed copy",
        )
    facts = keystore.export_to(file, name, None if no_passphrase else passphrase_from(passphrase_file, new=True))
    if not facts.sealed:
        click.echo(f"onionmpc: note: {file} has no passphrase: anyone who reads it can act as you", err=True)
    click.echo(facts.onion)


@identities.command("import")
@click.argument("name")
@click.argument("file", type=KEY_FILE)
@passphrase_file
def import_(name: str, file: Path, passphrase_file: Path | None) -> None:
    """Keep the identity in FILE under NAME, and print its address.

    FILE comes from onionmpc id export. If it is sealed, import asks for its passphrase, and the identity stays sealed
    with it. A sealed FILE may have any mode, as on a memory stick; an open one must be readable only by you (mode
    0600). Import never replaces a name or an identity that you already keep. FILE stays where it is.
    """
    click.echo(keystore.import_from(file, name, passphrase_from(passphrase_file)).onion)


@identities.command()
@click.argument("name")
@click.option("--yes", "-y", is_flag=True, help="Remove it without asking.")
def remove(name: str, yes: bool) -> None:
    """Remove the identity NAME, permanently unless you have a copy.

    The address goes with the key: parties that have it in a list do not find you any more. Only an exported copy brings
    it back (onionmpc id export), no passphrase does. The file's content may stay on the disk for an unknown time: if
    that matters, seal identities with a passphrase when you make them.
    """
    keystore.check_kept(name)
    if not yes:
        _ask_to_remove(name)
    keystore.remove(name)


def _ask_to_remove(name: str) -> None:
    if not is_interactive():
        raise UsageError(
            f"removing {name} needs your consent, but there is no terminal to ask at", hint="add --yes to consent"
        )
    try:
        click.echo(f"{name} is {keystore.describe_identity(name).onion}", err=True)
    except InvalidIdentityFile as error:
        click.echo(f"{name}: {error.message}", err=True)
    click.echo("This removes its address too, permanently unless you have exported a copy.", err=True)
    if click.prompt(f'Type "{name}" to remove it', default="", show_default=False, err=True).strip() != name:
        raise UsageError(f"{name} was not removed: you typed another name", hint="nothing has changed")


@identities.command("list")
def list_identities() -> None:
    """List your identities and their addresses.

    Each line has a name, its address, "sealed" (with a passphrase) or "open", and "for short" if it is for that circuit
    length. List asks for no passphrase.
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
        click.echo('you have no identity; make one with "onionmpc id new NAME"', err=True)


@identities.command()
@click.argument("name")
@click.option(
    "--link", "as_link", is_flag=True, help="Print the address as a link, onionmpc:ADDRESS, to send to others."
)
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON: name, onion, sealed, exposed.")
def show(name: str, as_link: bool, as_json: bool) -> None:
    """Show the address of NAME, and a QR code of it.

    The parties that you compute with know the address. It also links all sessions in which it took part. The code goes
    to the terminal (stderr), so that stdout has only the address. Show asks for no passphrase.

    The others keep a link or an address with: onionmpc contact add NAME LINK
    """
    facts = keystore.describe_identity(name)
    if as_json:
        click.echo(json.dumps({"name": name, **dataclasses.asdict(facts)}))
        return
    text = format_link(facts.onion) if as_link else facts.onion
    click.echo(text)
    draw_address(text)
