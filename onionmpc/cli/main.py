"""The `onionmpc` command: its subcommands, and the message and exit code for each error.

Exit codes: docs/PROTOCOL.md section 5.
"""

from __future__ import annotations

import importlib
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn, cast

import click

from onionmpc import __version__
from onionmpc.cli.mistakes import describe_mistake
from onionmpc.cli.streams import prepare_streams
from onionmpc.errors import LocalProtocolError
from onionmpc.machine import explained
from onionmpc.program.walls.build import keep_memory_private

INTERRUPTED = 128 + signal.SIGINT

# The module of each command, and its line in --help, which is the first sentence of the command's own help.
COMMANDS = {
    "contact": (
        "onionmpc.cli.contacts:contact_commands",
        "Keep the addresses of people you know, under your own names.",
    ),
    "demo": ("onionmpc.cli.demo:demo", "Rehearse PROGRAM on this machine, over a private Tor network."),
    "doctor": ("onionmpc.cli.doctor:doctor", "Check whether a party can run on this machine."),
    "estimate": ("onionmpc.cli.estimate:estimate", "Say how long PROGRAM will take."),
    "host": ("onionmpc.cli.host_join:host", "Gather parties and compute PROGRAM with them."),
    "id": ("onionmpc.cli.identities:identities", "Keep identities that outlive a session."),
    "join": ("onionmpc.cli.host_join:join", "Join a host, or a list of parties, and compute with them."),
    "levels": ("onionmpc.cli.levels:levels", "Explain the circuit lengths: short, standard, long."),
    "policy": ("onionmpc.cli.policies:policy_commands", "Consent by rules instead of a person."),
    "programs": ("onionmpc.cli.programs:programs", "List the programs that come with onionmpc."),
    "testnet": ("onionmpc.cli.testnet:testnet", "Run a private Tor network on this machine, to test with."),
    "trust": ("onionmpc.cli.trust:trust", "Show whom you trust to prove who parties are."),
    "verify": ("onionmpc.cli.verify:verify", "Say who signed a receipt, and whose outputs are the same."),
}


# The groups of the first screen.
SECTIONS = {
    "Sessions": ("demo", "host", "join", "verify"),
    "Tools": ("contact", "doctor", "estimate", "id", "levels", "policy", "programs", "testnet", "trust"),
}


class LazyGroup(click.Group):
    """Imports a command when it is called. Importing all of them takes three times as long as Python's own start."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's words)
        """Return the names of all commands."""
        return sorted({*COMMANDS, *self.commands})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of that name, or None."""
        if cmd_name in COMMANDS and cmd_name not in self.commands:
            module, _, attribute = COMMANDS[cmd_name][0].partition(":")
            self.add_command(cast(click.Command, getattr(importlib.import_module(module), attribute)), cmd_name)
        return super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write what each command does, in groups, without importing any."""
        for title, names in SECTIONS.items():
            # Not formatter.section, whose blank lines would make the first screen too long for a terminal.
            formatter.write_heading(title)
            with formatter.indentation():
                formatter.write_dl([(name, COMMANDS[name][1]) for name in names])

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands, and both options in one line, so that the first screen fits a terminal of 24 lines."""
        self.format_commands(ctx, formatter)
        formatter.write("onionmpc COMMAND --help (-h) explains a command; --version shows the version.\n")


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="onionmpc")
def cli() -> None:
    """Compute together with people whom you need not trust or know, over Tor.

    \b
    Try it on this machine:          onionmpc demo
    Start a session of three:        onionmpc host average-salary --parties 3
    Join with the invite you got:    onionmpc join invite.txt
    """


def print_error(message: str, hint: str = "") -> None:
    """Print what went wrong and, if there is one, how to fix it."""
    click.secho("onionmpc: error: ", fg="red", nl=False, err=True)
    click.echo(message, err=True)
    if hint:
        click.secho("onionmpc: hint: ", fg="yellow", nl=False, err=True)
        click.echo(hint, err=True)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    prepare_streams()
    sys.exit(run(sys.argv[1:] if arguments is None else list(arguments)))


def run(arguments: list[str]) -> int:
    """Run the command line; return the exit code."""
    # Memory holds keys and inputs, and a core dump would write them to the disk. tor and the program process inherit
    # this protection.
    keep_memory_private()
    private: tuple[str, ...] = ()
    if "--" in arguments:
        # Cut before click parses: words after -- belong to the program, and no option of ours may swallow one.
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
        print_error(*describe_mistake(error, private))
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # nobody reads our output any more, as after `| head`: nobody would read an error either
        return 1
    except Exception as error:  # noqa: BLE001 (the outermost handler)
        if known := explained(error):
            message, hint = known.message, known.hint
            if known is error:
                # Not at the top, since --help needs no session. Not for what the machine refuses: there may be no
                # memory for it, and it names no option.
                from onionmpc.cli.flags import in_flags

                message, hint = in_flags(message), in_flags(hint)
            print_error(message, hint)
            return known.exit_code
        # A bug of ours, with its own exit code.
        traceback.print_exc()
        print_error("this is a bug in onionmpc", hint="report the lines above, and what you did")
        return LocalProtocolError.exit_code
    return result if isinstance(result, int) else 0
