"""The `onionmpc` command: its subcommands, and how every error becomes a sentence and an exit code.

Exit codes: docs/PROTOCOL.md section 5.
"""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

import click

from onionmpc import __version__
from onionmpc.cli.demo import demo
from onionmpc.cli.doctor import doctor
from onionmpc.cli.estimate import estimate
from onionmpc.cli.identities import identities
from onionmpc.cli.levels import levels
from onionmpc.cli.output import print_error
from onionmpc.cli.party import host, join
from onionmpc.cli.programs import programs
from onionmpc.cli.testnet import testnet
from onionmpc.cli.verify import verify
from onionmpc.errors import LocalProtocolError, OnionMPCError
from onionmpc.program.walls import keep_memory_private

INTERRUPTED = 128 + signal.SIGINT


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="onionmpc")
def cli() -> None:
    """Compute together with people whom you need not trust or know, over Tor.

    Each party runs its own copy of one MPyC program and keeps its input to itself. Parties reach each other as onion
    services: nobody learns an IP address, and no router needs to be told anything.

    \b
    Try it on this machine alone:   onionmpc demo
    Gather two others:              onionmpc host average-salary --parties 3
    Join with what they sent you:   onionmpc join @invite.txt
    See how long it will take:      onionmpc estimate sort --parties 3
    See whether tor is usable:      onionmpc doctor

    What follows a lone -- goes to the program, and to nobody else.
    """


for command in (demo, host, join, estimate, verify, levels, programs, identities, doctor, testnet):
    cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    sys.exit(run(sys.argv[1:] if arguments is None else list(arguments)))


def run(arguments: list[str]) -> int:
    """Run the command line; return the exit code."""
    # Keys and inputs come into it, and what a crash leaves on the disk would hold them: of tor and the program as well,
    # which inherit this.
    keep_memory_private()
    private: tuple[str, ...] = ()
    if "--" in arguments:
        # Before click sees them: these belong to the program, and no option of ours may swallow one.
        cut = arguments.index("--")
        arguments, private = arguments[:cut], tuple(arguments[cut + 1 :])
    try:
        result = cli.main(arguments, prog_name="onionmpc", standalone_mode=False, obj=private)
    except click.exceptions.Abort:
        return INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return error.exit_code
    except click.ClickException as error:
        hint = ""
        if isinstance(error, click.UsageError) and error.ctx is not None:
            hint = f"{error.ctx.command_path} --help"
        print_error(error.format_message(), hint)
        return 2
    except OnionMPCError as error:
        print_error(error.message, error.hint)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return 1
    except Exception:  # noqa: BLE001 (the last door: what comes here is a bug, and has an exit code of its own)
        traceback.print_exc()
        print_error("this is a bug of onionmpc", hint="report the lines above, and what you did")
        return LocalProtocolError.exit_code
    return result if isinstance(result, int) else 0
