"""`onionmpc contact learn`: fetches the page on which a site posts its address, over Tor, after asking.

onionmpc.tor.web fetches the page, onionmpc.names.posting reads it, and onionmpc.names.contacts keeps the address.
"""

from __future__ import annotations

import contextlib
import datetime
import ssl
from pathlib import Path

import click
import cloup

from onionmpc.cli.bridges import read_bridges
from onionmpc.cli.loop import run_until_interrupted
from onionmpc.cli.options import HELP_LAYOUT, SESSION, TOR, grouped, option, shared_options
from onionmpc.cli.output import StatusLine
from onionmpc.cli.prompt import confirm, is_interactive
from onionmpc.errors import UsageError
from onionmpc.identity import parse_onion
from onionmpc.names import contacts as store
from onionmpc.names.address_book import check_contact_name
from onionmpc.names.posting import MAX_PAGE_BYTES, POSTING_PATH, Posting, parse_posting
from onionmpc.testnet.place import join_testnet
from onionmpc.text import printable
from onionmpc.tor.control.bootstrap import DONE_PERCENT
from onionmpc.tor.process.binary import find_tor
from onionmpc.tor.report import TorReport
from onionmpc.tor.web.fetch import WebOptions, fetch_page
from onionmpc.tor.web.https import tls_context
from onionmpc.tor.web.site import WebSite, parse_site

DISCLOSURE = """\
onionmpc fetches https://{site}{path} over Tor. It starts its own tor for this.
  {site} learns that someone asks for its address, and when. It does not learn your IP address.
  An exit relay looks up {domain} and connects to it. It learns when, but neither your IP address nor the page.
  Your network learns that you use Tor, and when.
The page says what its author likes: anyone who controls {domain}, or can get a certificate for it."""
PHASES = {"tor": "starting tor", "bootstrap": "connecting to the Tor network"}


@cloup.command(formatter_settings=HELP_LAYOUT)
@click.argument("domain")
@grouped(
    option(SESSION, "--as", "name", metavar="NAME", help="Keep the address under this name. Default: DOMAIN."),
    option(SESSION, "--address", metavar="ADDRESS", help="Of several posted addresses, keep this one."),
    option(SESSION, "--yes", "-y", is_flag=True, help="Fetch the page without asking."),
    option(
        TOR,
        "--ca",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Trust the certificate authorities in FILE (PEM), and no others. Default: the public ones.",
        details="For a site with a certificate of its company's own authority.",
    ),
    *shared_options("bridge", "testnet", "bootstrap_timeout"),
)
def learn(
    domain: str,
    name: str | None,
    address: str | None,
    ca: Path | None,
    yes: bool,
    bridge: tuple[str, ...],
    testnet: Path | None,
    bootstrap_timeout: float,
) -> None:
    """Keep the address that a web site posts.

    Fetches the page https://DOMAIN/.well-known/onionmpc, keeps its address as a contact, and prints it. The page comes
    over Tor by TLS: an exit relay looks up the name, and this machine asks no DNS server. onionmpc says beforehand who
    learns what, and asks.

    The page shows that DOMAIN posts this address. It does not show that DOMAIN is honest. If the contact has another
    address already, learn refuses and shows both.
    """
    site = parse_site(domain)
    name = _name(name, site)
    wanted = None if address is None else parse_onion(address)
    context = tls_context(ca)
    kept = store.load_book().contacts.get(name)
    bridges = read_bridges(bridge)
    find_tor()
    if not yes and not is_interactive():
        raise UsageError(
            f"fetching a page of {site} needs your consent, but there is no terminal to ask at",
            hint="add --yes to consent; --help says what others learn",
        )
    click.echo(DISCLOSURE.format(site=site, domain=site.domain, path=POSTING_PATH), err=True)
    with contextlib.ExitStack() as stack:
        options = WebOptions(bridges=bridges, bootstrap_timeout_s=bootstrap_timeout)
        if testnet is not None:
            place = stack.enter_context(join_testnet(testnet))
            options = WebOptions(place.profiles, place.torrc, bridges, bootstrap_timeout)
        content = run_until_interrupted(_fetch(site, context, options, asks=not yes))
    posting = parse_posting(content, datetime.datetime.now(datetime.UTC).date())
    _show(posting, site)
    onion = posting.choose(wanted=wanted, kept=None if kept is None else kept.onion).onion
    store.add_contact(name, onion)  # refuses another address than the one that is kept
    click.echo(onion)


def _name(name: str | None, site: WebSite) -> str:
    """Return the contact's name. That of a port needs choosing: it may have another owner than the domain."""
    try:
        check_contact_name(name := str(site) if name is None else name)
    except UsageError as error:
        raise UsageError(error.message, hint=f"choose one with --as NAME; {error.hint}") from error
    return name


async def _fetch(site: WebSite, context: ssl.SSLContext, options: WebOptions, *, asks: bool) -> bytes:
    if asks and not await confirm("Fetch the page?", default=False):
        raise UsageError("nothing was fetched: you did not consent", hint="nobody has learnt anything")
    with contextlib.closing(StatusLine()) as status:

        def show(report: TorReport) -> None:
            if report.phase == "bootstrap" and report.percent == DONE_PERCENT:
                status.going_on(f"fetching the page of {site}")
            else:
                status.going_on(PHASES[report.phase], f"{report.percent} %, {printable(report.detail)}")

        return await fetch_page(site, POSTING_PATH, context, MAX_PAGE_BYTES, options, show)


def _show(posting: Posting, site: WebSite) -> None:
    for each in posting.valid:
        click.echo(f"{site} posts {each}", err=True)
    for each in posting.expired:
        click.echo(f"expired, ignored: {each}", err=True)
