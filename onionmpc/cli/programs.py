"""`onionmpc programs`: lists the programs that come with onionmpc, and explains one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import click
import msgspec

from onionmpc.program.block import AnyField, ProgramBlock
from onionmpc.program.code.catalogue import Program, catalogue, digest_of_files, locate_program, program_files, title_of
from onionmpc.program.describe import AUTHOR_SAYS, describe_delivery, describe_field, describe_output
from onionmpc.text import printable


@click.group(invoke_without_command=True)
@click.pass_context
def programs(context: click.Context) -> None:
    """List the programs that come with onionmpc.

    Give a name in place of a script's path. They are plain MPyC scripts: read them, copy them, change them.
    """
    if context.invoked_subcommand is not None:
        return
    entries = catalogue()
    width = max(len(name) for name, _ in entries)
    for name, title in entries:
        click.echo(f"{name:{width}}  {title}")


@programs.command()
@click.argument("program", metavar="NAME|FILE")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def show(program: str, as_json: bool) -> None:
    """Explain a program: what its author says that it reveals, and what it asks for.

    This is the block of script metadata in the script. onionmpc cannot check what the author says: read the program.
    Nothing of the program runs.
    """
    found = locate_program(program)
    click.echo(json.dumps(_data(found), indent=2) if as_json else "\n".join(_lines(found)))


def _lines(program: Program) -> Iterator[str]:
    about = program.metadata.about
    yield f"{printable(program.name)}: {printable(title_of(program))}"
    if about is None:
        yield _line("", "It has no block that says what it reveals or asks for: read the program.")
    else:
        yield from _claims(about)
    if program.metadata.dependencies:
        yield _line("needs", ", ".join(printable(each) for each in program.metadata.dependencies))
    files = program_files(program)
    for place, file in enumerate(files):
        yield _line("" if place else "files", printable(file.path))
    yield _line("SHA-256", digest_of_files(files).hex())


def _claims(about: ProgramBlock) -> Iterator[str]:
    yield f"  {AUTHOR_SAYS} {printable(about.reveals, 300)}"
    yield _line("parties", f"at least {about.min_parties}")
    if about.threshold is not None:
        yield _line("threshold", f"{about.threshold}, unless the host chooses another")
    if about.packages is not None:
        yield _line("packages", "all parties must have the same versions of what it imports")
    yield from _fields("The host chooses these, and all parties see them:", about.public, private=False)
    yield from _fields("Each party gives these, and keeps them to itself:", about.input, private=True)
    if about.output is not None:
        yield _line("prints", describe_output(about.output))


def _fields(heading: str, fields: Sequence[AnyField], *, private: bool) -> Iterator[str]:
    if not fields:
        return
    yield f"  {heading}"
    for field in fields:
        yield f"    {field.name}: {printable(field.label, 300)}"
        if field.help:
            yield f"      {printable(field.help, 300)}"
        if field.demo:
            yield f"      to try it out: {printable(field.demo)}"
        how = f"; given to the program {describe_delivery(field)}" if private else ""
        yield f"      {describe_field(field)}{how}"


def _data(program: Program) -> dict[str, Any]:
    files = program_files(program)
    return {
        "name": program.name,
        "title": title_of(program),
        "block": msgspec.to_builtins(program.metadata.about),
        "dependencies": program.metadata.dependencies,
        "files": {file.path: file.sha256.hex() for file in files},
        "sha256": digest_of_files(files).hex(),
    }


def _line(name: str, value: str) -> str:
    return f"  {name:<13}{value}"
