"""`onionmpc contact`: keeps addresses under this user's names. onionmpc.names.contacts stores them."""

from __future__ import annotations

import json
from typing import Any

import click

from onionmpc.cli.completion import contact_names
from onionmpc.cli.learn import learn
from onionmpc.cli.lists import expand
from onionmpc.cli.prompt import is_interactive
from onionmpc.cli.qr import draw_address
from onionmpc.errors import UsageError
from onionmpc.identity import Onion, looks_like_onion, parse_onion
from onionmpc.names import contacts as store
from onionmpc.names.address_book import AddressBook, Contact, check_contact_name
from onionmpc.names.address_link import format_link
from onionmpc.text import printable

contact_argument = click.argument("name", shell_complete=contact_names)
yes_option = click.option("--yes", "-y", is_flag=True, help="Do it without asking.")


@click.group("contact")
def contact_commands() -> None:
    """Keep the addresses of people you know, under your own names.

    A name stands for an address wherever you type one: onionmpc host --expect acme, onionmpc join acme bank my.py, and
    in files of addresses. Names are yours: they are sent to nobody, and no other party can choose one. They are shown
    beside addresses on your own screen.

    \b
    onionmpc contact add acme onionmpc:ADDRESS
    onionmpc contact list
    onionmpc contact show acme --link
    onionmpc contact learn acme.example    from the page on which that site posts its address

    An address is a key: onionmpc checks that a party has the key, and you have to know whose it is. Take an address
    from its owner, over a channel that nobody else can change.
    """


contact_commands.add_command(learn)


@contact_commands.command()
@contact_argument
@click.argument("address", metavar="ADDRESS|LINK|FILE")
@click.option("--replace", "replacing", is_flag=True, help="Give an existing contact another address, after asking.")
@yes_option
def add(name: str, address: str, replacing: bool, yes: bool) -> None:
    """Keep ADDRESS under NAME, and print it.

    NAME has 1 to 32 of a-z, 0-9, dot, dash and underscore. It must not look like an address or another contact's name,
    nor be the name of a program that comes with onionmpc. ADDRESS is an onion address, a link (onionmpc:ADDRESS), or a
    file or message with one of these in it; - reads standard input.

    If NAME has another address already, add refuses and shows both. A new address is a new key: it may belong to
    someone else. Ask the contact over a channel that you trust, then use --replace.
    """
    check_contact_name(name)
    onion = _one_address(address)
    before = store.load_book().contacts.get(name)
    if replacing and before is not None and before.onion != onion and not yes:
        _ask_to_replace(before, onion)
    store.add_contact(name, onion, replacing=replacing)
    click.echo(onion)


@contact_commands.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON for each: name, onion, met.")
def list_contacts(as_json: bool) -> None:
    """List your contacts, their addresses, and when you last computed with them."""
    book = store.load_book()
    width = max(map(len, book.contacts), default=0)
    for contact in book.contacts.values():
        if as_json:
            click.echo(json.dumps(_data(contact)))
        else:
            click.echo(f"{contact.name:{width}}  {contact.onion}{f'  {contact.met}' if contact.met else ''}")
    if not book.contacts:
        click.echo('you have no contacts; keep one with "onionmpc contact add NAME ADDRESS"', err=True)


@contact_commands.command()
@contact_argument
@click.option("--link", "as_link", is_flag=True, help="Print the address as a link, onionmpc:ADDRESS.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON: name, onion, link, met.")
def show(name: str, as_link: bool, as_json: bool) -> None:
    """Show the address of NAME, and a QR code of it.

    With --link, show prints a link that someone else can give to onionmpc contact add. The code, and when you last
    computed with this contact, go to the terminal (stderr).
    """
    contact = store.load_book().contact(name)
    if as_json:
        click.echo(json.dumps(_data(contact) | {"link": format_link(contact.onion)}))
        return
    text = format_link(contact.onion) if as_link else contact.onion
    click.echo(text)
    draw_address(text)
    if contact.met is not None:
        click.echo(str(contact.met), err=True)


@contact_commands.command()
@contact_argument
@yes_option
def remove(name: str, yes: bool) -> None:
    """Forget NAME, its address and when you met. The file's old content may stay on the disk for an unknown time."""
    contact = store.load_book().contact(name)
    if not yes:
        _ask(f"{contact.name} is {contact.onion}", f"forgetting {contact.name}", contact.name)
    store.remove_contact(name)


@contact_commands.command()
@click.argument("setting", type=click.Choice(["on", "off"]), required=False)
def history(setting: str | None) -> None:
    """Say whether meetings are kept, or turn that on or off.

    After a computation that succeeded, onionmpc notes for each contact that took part: how often you met, the day, and
    the program's name. It never notes inputs or results, nor anything of a session with a fresh address (without
    --identity). "off" also deletes what was noted.
    """
    if setting is not None:
        store.keep_history(keep=setting == "on")
    click.echo("on" if store.load_book().history else "off")


def _one_address(word: str) -> Onion:
    # No names here: one contact is never added by the name of another one.
    words = expand([word], AddressBook())
    if len(words) != 1:
        raise UsageError(f"{printable(word, 60)} contains {len(words)} addresses, expected one")
    if not looks_like_onion(words[0]):
        raise UsageError(
            f"{printable(word, 60)} is neither an address, a link nor a file with one",
            hint="an address has 56 characters and .onion; a link starts with onionmpc:",
        )
    return parse_onion(words[0])


def _ask_to_replace(before: Contact, onion: Onion) -> None:
    _ask(
        f"{before.name} was  {before.onion}\n{before.name} will be {onion}\n"
        "This is another key, and may be another person. Ask them over a channel that you trust.",
        f"replacing the address of {before.name}",
        before.name,
    )


def _ask(facts: str, what: str, name: str) -> None:
    if not is_interactive():
        raise UsageError(f"{what} needs your consent, but there is no terminal to ask at", hint="add --yes to consent")
    click.echo(facts, err=True)
    if click.prompt(f'Type "{name}" to do it', default="", show_default=False, err=True).strip() != name:
        raise UsageError(f"{what} was not done: you typed another name", hint="nothing has changed")


def _data(contact: Contact) -> dict[str, Any]:
    met = contact.met
    return {
        "name": contact.name,
        "onion": contact.onion,
        "met": None if met is None else {"count": met.count, "last": met.last.isoformat(), "program": met.program},
    }
