"""Asks a person what to compute next: the same again, another program, or nothing more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import click

from onionmpc.api.options import prepare, program_names
from onionmpc.cli.flags import in_flags
from onionmpc.cli.further import Wanted, parse_wanted
from onionmpc.cli.prompt import ask_line, discard_typed
from onionmpc.errors import UsageError


async def ask_next(
    program: str, again: Wanted, present: Callable[[], Sequence[int]], check: Callable[[Wanted], object]
) -> Wanted | None:
    """Ask until the answer is valid; return None to leave.

    Args:
        program: the name of the program that ran last.
        again: the same computation again.
        present: returns the numbers of the other parties that are still here.
        check: checks a choice.

    Raises:
        SessionOver: the other parties have left.
    """
    discard_typed()
    while True:
        click.echo(f"\nYou can compute more over the same links. Still here: {_others(present())}.", err=True)
        line = await ask_line(f"Next: {program} again (a), another program (p), or leave (Enter)? ")
        match line.strip().lower():
            case "" | "l" | "leave":
                return None
            case "a" | "again" if _is_valid(again, check):
                return again
            case "p" | "program" if (choice := await _ask_program(check)) is not None:
                return choice


async def _ask_program(check: Callable[[Wanted], object]) -> Wanted | None:
    """Ask for another program until it is valid; return None to go back."""
    while True:
        line = await ask_line("program, a script or an included one (? lists those, Enter goes back): ")
        name = line.strip()
        if not name:
            return None
        if name == "?":
            for included, title in program_names().items():
                click.echo(f"  {included}: {title}", err=True)
            continue
        try:
            prepare(_expanded(name), joins_host=True)  # before its arguments: there may be no such program
            words = await ask_line("its public arguments (Enter for none; private ones follow a lone --): ")
            choice = replace(parse_wanted(f"program {words}"), program=_expanded(name))
        except UsageError as error:
            _show(error)
            continue
        if _is_valid(choice, check):
            return choice


def _expanded(name: str) -> str:
    # Not for every name: a path would lose its "./", which tells a script from an included program.
    return str(Path(name).expanduser()) if name.startswith("~") else name


def _is_valid(choice: Wanted, check: Callable[[Wanted], object]) -> bool:
    try:
        check(choice)
    except UsageError as error:
        _show(error)
        return False
    return True


def _show(error: UsageError) -> None:
    click.echo(in_flags(error.message), err=True)
    if error.hint:
        click.echo(f"  {in_flags(error.hint)}", err=True)


def _others(numbers: Sequence[int]) -> str:
    *most, last = [f"party {number}" for number in numbers] or ["nobody else"]
    return f"{', '.join(most)} and {last}" if most else last
