"""Explains mistakes in the command line: a missing -- before the program's words, or MPyC's own options.

Messages quote only options, since other words may be private.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import click

from onionmpc.text import printable

WITH_PROGRAM = ("host", "join", "demo", "estimate")
# MPyC's options, by the option that replaces them here.
OF_MPYC = {
    "-M": "for the number of parties, use --parties or -m",
    "-T": "for the threshold, use --threshold or -t",
    **dict.fromkeys(
        ("-L", "-K", "--bit-length", "--sec-param", "--no-prss", "--mix32-64bit"),
        "pass MPyC's options that change the wire as in --mpyc=-L64",
    ),
    **dict.fromkeys(
        ("-P", "-I", "-C", "-B", "--index", "--config", "--base-port", "--ssl"),
        "leave it out: onionmpc sets up MPyC's connections itself",
    ),
}
# How similar an unknown option must be to one of ours to count as a typo (difflib's ratio). Less similar options most
# likely belong to the program.
CLOSE = 0.8


def describe_mistake(error: click.ClickException, private: Sequence[str]) -> tuple[str, str]:
    """Return a message and a hint for a mistake that click found.

    Args:
        private: the words after --.
    """
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is None:
        return error.format_message(), ""
    see_help = f"{context.command_path} --help"
    if context.info_name not in WITH_PROGRAM:
        return error.format_message(), see_help
    match error:
        case click.NoSuchOption(option_name=name) if name in OF_MPYC:
            return error.message, OF_MPYC[name]
        case click.NoSuchOption(option_name=name) if not _near(name, error.possibilities or ()):
            return error.message, _follows(context, f"{printable(name, 40)} ...")
        case click.MissingParameter(param=click.Option(opts=names)) if set(names) & set(private):
            return error.format_message(), f"put {names[0]} before the lone --: what follows goes to the program"
        case click.UsageError(message=message) if message.startswith("Got unexpected extra argument"):
            return error.format_message(), _follows(context, "...")
    return error.format_message(), see_help


def _follows(context: click.Context, words: str) -> str:
    return f"put the program's own arguments after a lone --, as in: {context.command_path} PROGRAM ... -- {words}"


def _near(name: str, known: Sequence[str]) -> bool:
    return bool(difflib.get_close_matches(name, known, n=1, cutoff=CLOSE))
