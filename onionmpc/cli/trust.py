"""`onionmpc trust`: shows whom this user trusts to prove names. onionmpc.names.trust reads the folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from onionmpc import files
from onionmpc.names.allowed_signers import Signer
from onionmpc.names.ssh import NAMESPACE, check_key, fingerprint
from onionmpc.names.trust import (
    COMPANIES_NAME,
    DOMAINS_NAME,
    ISSUERS_NAME,
    PEOPLE_NAME,
    Trust,
    load_trust,
    trust_folder,
)
from onionmpc.text import printable

FILE_WIDTH = 16


@click.command()
def trust() -> None:
    """Show whom you trust to prove who parties are.

    Parties may show evidence of who they are: a statement signed by an SSH key, or a certificate. It counts only if one
    of your own files says so, and the name that you then see comes from that file. Trust prints the folder of these
    files, makes it if it does not exist, and checks what is in it. You write the files with an editor:

    \b
    allowed_signers  people: a name and an SSH key in each line, as for ssh-keygen and git
                     alice@acme.example ssh-ed25519 AAAAC3Nz...
    issuers          the same, for keys that may vouch for members without naming them
    domains          one domain in each line: a public certificate for it, or for a
                     subdomain, names its owner
    ca/NAME.pem      a company's own certificate authority: all that it certifies have
                     the one name NAME

    Take keys and authorities from their owners, over a channel that nobody else can change. A file that is missing
    means nobody. A damaged file stops every session, so that nobody is taken for a stranger by mistake.

    A name says who holds a key, or who controls a domain. It does not say that they are honest.
    """
    folder = files.private_directory(trust_folder())
    trusted = load_trust(folder)
    for signer in (*trusted.people, *trusted.issuers):
        check_key(signer)
    click.echo(folder)
    lines = list(_lines(trusted))
    for line in lines:
        click.echo(line)
    if not lines:
        click.echo("you trust nobody to prove who parties are; onionmpc trust --help explains the files", err=True)
    for note in (*_unread(folder), *_useless(trusted, datetime.now(UTC))):
        click.echo(f"onionmpc: note: {note}", err=True)


def _lines(trusted: Trust) -> Iterator[str]:
    for file, signers in ((PEOPLE_NAME, trusted.people), (ISSUERS_NAME, trusted.issuers)):
        for signer in signers:
            dates = "".join(
                f", {words} {moment:%Y-%m-%d %H:%M} UTC"
                for words, moment in (("from", signer.valid_after), ("until", signer.valid_before))
                if moment is not None
            )
            yield f"{file:{FILE_WIDTH}} {signer.principal}  {signer.key_type}  {fingerprint(signer.key)}{dates}"
    for domain in sorted(trusted.domains):
        yield f"{DOMAINS_NAME:{FILE_WIDTH}} {domain}"
    for name, roots in trusted.companies.items():
        for root in roots:
            subject = printable(root.subject.rfc4514_string(), 80)
            yield f"{COMPANIES_NAME:{FILE_WIDTH}} {name}  {subject}, until {root.not_valid_after_utc:%Y-%m-%d}"


def _unread(folder: Path) -> Iterator[str]:
    known = {PEOPLE_NAME, ISSUERS_NAME, DOMAINS_NAME, COMPANIES_NAME}
    for path in sorted(folder.iterdir()):
        if path.name not in known and not path.name.startswith("."):
            yield f"{printable(str(path))} is not read: the files are {', '.join(sorted(known))}"


def _useless(trusted: Trust, now: datetime) -> Iterator[str]:
    yield from _useless_keys((*trusted.people, *trusted.issuers), now)
    for name, roots in trusted.companies.items():
        if all(root.not_valid_after_utc < now for root in roots):
            yield f"the certificate authority {name} has expired"


def _useless_keys(signers: Sequence[Signer], now: datetime) -> Iterator[str]:
    for signer in signers:
        if not signer.may_sign(NAMESPACE):
            yield f"a key of {signer.principal} counts for nothing: its namespaces leave out {NAMESPACE}"
        elif signer.valid_before is not None and signer.valid_before < now:
            yield f"a key of {signer.principal} has expired"
