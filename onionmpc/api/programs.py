"""The programs that come with onionmpc, for other programs that let a person choose one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from onionmpc.api.inputs import InputQuestion, question_about
from onionmpc.errors import UsageError
from onionmpc.program.code.catalogue import catalogue, find_program, title_of
from onionmpc.program.inputs import check_public, public_arguments
from onionmpc.text import printable


@dataclass(frozen=True, slots=True)
class ProgramInfo:
    """A program that comes with onionmpc.

    Attributes:
        name: what `Party.host` takes.
        title: what it is.
        reveals: what it reveals to whom, as its author claims.
        min_parties: how many parties it needs.
        public: what the host chooses, and all parties see.
    """

    name: str
    title: str
    reveals: str
    min_parties: int
    public: tuple[InputQuestion, ...]


def programs() -> tuple[ProgramInfo, ...]:
    """Return the programs that come with onionmpc, by name."""
    return tuple(_info(name) for name, _ in catalogue())


def arguments_for(program: str, values: Mapping[str, str]) -> tuple[str, ...]:
    """Return the public arguments of a program for values by their names, as `public` takes them.

    Raises:
        UsageError: one is missing, not valid, or not declared.
    """
    about = find_program(program).metadata.about
    names = () if about is None else tuple(one.name for one in about.public)
    for name in values:
        if name not in names:
            raise UsageError(f"the program has no public argument {printable(name, 60)}")
    if about is None:
        return ()
    public = public_arguments(about, values)
    check_public(about, public)
    return public


def _info(name: str) -> ProgramInfo:
    program = find_program(name)
    about = program.metadata.about
    title = printable(title_of(program))
    if about is None:
        return ProgramInfo(name, title, "", 2, ())
    questions = tuple(question_about(one, getattr(one, "choices", None) or ()) for one in about.public)
    return ProgramInfo(name, title, printable(about.reveals, 300), about.min_parties, questions)
