"""`onionmpc id statement`: writes a statement for an SSH key to sign. onionmpc.names.statement knows the format."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import cloup

from onionmpc import files
from onionmpc.cli.lists import expand
from onionmpc.cli.options import HELP_LAYOUT, OUTPUT, SESSION, grouped, option, shared_options
from onionmpc.errors import UsageError
from onionmpc.identity import Onion, looks_like_onion, parse_onion
from onionmpc.names.contacts import load_book
from onionmpc.names.evidence_files import sign_command
from onionmpc.names.statement import (
    MAX_DAYS,
    PROGRAM_BYTES,
    Statement,
    StatementPurpose,
    format_statement,
    roster_in_statement,
)
from onionmpc.program.code.attached import attach
from onionmpc.program.code.catalogue import digest, locate_program
from onionmpc.session import keystore
from onionmpc.text import printable

DIGEST = re.compile(rf"sha256:([0-9a-f]{{{2 * PROGRAM_BYTES}}})")
DEFAULT_DAYS = 7
CLOCKS = timedelta(hours=1)  # a verifier's clock may be behind, and the exact minute is nobody's business


@cloup.command(formatter_settings=HELP_LAYOUT)
@grouped(
    option(SESSION, "--identity", metavar="NAME", help="The statement is about your kept identity NAME."),
    option(SESSION, "--address", metavar="ADDRESS|CONTACT", help="The statement is about this address."),
    option(
        SESSION,
        "--purpose",
        type=click.Choice([purpose.value for purpose in StatementPurpose]),
        default=StatementPurpose.PARTY.value,
        show_default=True,
        help="What it says: this is my address; this address is a member; I reviewed PROGRAM.",
    ),
    option(SESSION, "--program", metavar="PROGRAM|sha256:DIGEST", help="For this program only. Default: for any."),
    *shared_options("with_files"),
    option(SESSION, "--audience", metavar="WORDS", help="For the parties with these ten words only. Default: for any."),
    option(
        SESSION,
        "--days",
        type=click.IntRange(1, MAX_DAYS),
        default=DEFAULT_DAYS,
        show_default=True,
        help=f"How long it counts: at most {MAX_DAYS} days.",
    ),
    option(OUTPUT, "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write it to FILE."),
)
def statement(
    identity: str | None,
    address: str | None,
    purpose: str,
    program: str | None,
    with_files: tuple[Path, ...],
    audience: str | None,
    days: int,
    output: Path | None,
) -> None:
    """Write a statement about an address, for your SSH key to sign.

    A signed statement is evidence of who you are. The others know you by the name that they gave to your SSH key in
    their own file allowed_signers (see: onionmpc trust). Sign it with ssh-keygen, an agent or a hardware key, and show
    it with --evidence:

    \b
    onionmpc id new acme
    onionmpc id statement --identity acme --program average-salary --output acme.statement
    ssh-keygen -Y sign -n statement@onionmpc -f ~/.ssh/id_ed25519 acme.statement
    onionmpc join invite.txt --identity acme --evidence acme.statement

    Anyone who gets a signed statement can show to others that you own the address. It cannot be taken back. So use a
    fresh identity, name the program, and let the statement count for a short time.

    --purpose issuer is for a club or an association: your key says that an ADDRESS belongs to a member, without a name.
    The parties that list your key in their file issuers know the member as "vouched". --purpose program is a review,
    for the policies of others: your key says that you reviewed PROGRAM.

    --audience takes the ten words that all parties of a session see. A statement with an audience proves nothing to
    anyone else.
    """
    onion = _onion(identity, address, StatementPurpose(purpose))
    now = datetime.now(UTC)
    start = now.replace(minute=0, second=0, microsecond=0) - CLOCKS
    text = format_statement(
        Statement(
            onion=onion,
            purpose=StatementPurpose(purpose),
            program=_program(program, with_files),
            roster=None if audience is None else roster_in_statement(" ".join(audience.split())),
            start=start,
            until=start + timedelta(days=days),
        )
    )
    if output is None:
        click.echo(text, nl=False)
    else:
        files.write_named(output, text.encode())
    name = "FILE" if output is None else printable(str(output))
    click.echo(f"onionmpc: note: sign it with: {sign_command(name)}", err=True)


def _onion(identity: str | None, address: str | None, purpose: StatementPurpose) -> Onion | None:
    if purpose is StatementPurpose.PROGRAM:
        if identity is not None or address is not None:
            raise UsageError(
                "a review is about a program, and not about an address", hint="leave out --identity and --address"
            )
        return None
    if (identity is None) == (address is None):
        raise UsageError("a statement is about one address", hint="use either --identity NAME or --address ADDRESS")
    if identity is not None:
        return keystore.describe_identity(identity).onion
    words = expand([address or ""], load_book())
    if len(words) != 1 or not looks_like_onion(words[0]):
        raise UsageError(f"{printable(address or '', 60)} is not one address", hint="an address ends in .onion")
    return parse_onion(words[0])


def _program(program: str | None, with_files: tuple[Path, ...]) -> bytes | None:
    if program is None:
        if with_files:
            raise UsageError("--with belongs to a program", hint="add --program PROGRAM")
        return None
    if found := DIGEST.fullmatch(program):
        if with_files:
            raise UsageError("a digest counts the files of --with already", hint="leave out --with")
        return bytes.fromhex(found[1])
    return digest(locate_program(program), attach(with_files))
