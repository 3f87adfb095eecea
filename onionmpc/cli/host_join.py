"""`onionmpc host` and `onionmpc join`: their arguments and options. onionmpc.cli.party runs them.

Imports little, so that --help answers at once.
"""

from __future__ import annotations

from typing import Any

import click
import cloup

from onionmpc.cli.completion import contact_names
from onionmpc.cli.options import HELP_LAYOUT, OPTIONS, SESSION, PartyOptions, grouped, option
from onionmpc.program.walls.probe import probing


@cloup.command(formatter_settings=HELP_LAYOUT)
@click.argument("program", required=False)
@grouped(
    option(SESSION, "--parties", "-m", type=int, required=True, help="Number of parties, including you."),
    option(
        SESSION,
        "--expect",
        multiple=True,
        metavar="ONION|CONTACT|@FILE",
        shell_complete=contact_names,
        help="An address or contact that needs no invite. @FILE has one per line. Repeatable.",
    ),
    option(
        SESSION,
        "--open",
        "is_open",
        is_flag=True,
        help="Let anyone who knows your address join without an invite.",
        details="Those parties are strangers, unless they are contacts or show evidence: see "
        "--strangers-may-read-everything.",
    ),
    *OPTIONS.values(),
)
@click.pass_obj
def host(
    private: tuple[str, ...],
    /,
    program: str | None,
    parties: int,
    expect: tuple[str, ...],
    is_open: bool,
    **shared: Any,  # noqa: ANN401 (click passes options by name)
) -> None:
    """Gather parties and compute PROGRAM with them.

    PROGRAM is a script, or the name of one that comes with onionmpc (see: onionmpc programs). Send one invite to each
    of the others, over a channel that only they can read. An invite works once, and the first to use it takes the seat.
    Arguments after a lone -- are private: they go to your program, and to nobody else.

    After a result, the same parties can compute again over the links that they have. At a terminal, you are asked
    what comes next. --then says so beforehand.

    \b
    onionmpc host average-salary --parties 3
    onionmpc host average-salary --parties 3 --then sort --then "vote tea,coffee"
    onionmpc host vote --parties 5 --public tea,coffee
    onionmpc host my.py --parties 3 --expect @colleagues.txt --identity work
    onionmpc host my.py --parties 3 --expect acme --expect bank --identity work
    """
    with probing() as walls:
        from onionmpc.cli import party  # the import takes as long as the probe, and runs beside it

        party.run_host(PartyOptions(**shared), program, parties, expect, private, walls, is_open=is_open)


@cloup.command(formatter_settings=HELP_LAYOUT)
@click.argument(
    "targets", nargs=-1, required=True, metavar="ONION|CONTACT|INVITE|FILE... [PROGRAM]", shell_complete=contact_names
)
@grouped(*OPTIONS.values())
@click.pass_obj
def join(private: tuple[str, ...], /, targets: tuple[str, ...], **shared: Any) -> None:  # noqa: ANN401
    """Join a host, or a list of parties, and compute with them.

    With one invite or one address, that host says who takes part and which program runs. You can leave out PROGRAM if
    it comes with onionmpc. With the addresses of all other parties, in any order, you need no host, but you must give
    PROGRAM.

    Other users of this machine can see an invite on the command line: prefer a file, or - for standard input. If a file
    has the name of an argument, it is read, like @FILE, unless it is a program. Text around an invite, such as quotes
    or a whole mail, is ignored.

    After a result, a joiner waits for what the host proposes next, and consents to it like to the first. Ctrl-C leaves,
    and the others keep what they have. With a script, say beforehand what comes next: --then "their_next.py".

    The name of a contact is its address (see: onionmpc contact --help), even if a file has that name too: write ./NAME
    for the file.

    \b
    onionmpc join invite.txt
    onionmpc join invite.txt their_script.py
    onionmpc join @all_the_others.txt my.py --identity work
    onionmpc join acme bank my.py --identity work
    """
    with probing() as walls:
        from onionmpc.cli import party

        party.run_join(PartyOptions(**shared), targets, private, walls)
