"""What a program gets when nobody takes part for real: in `onionmpc demo`, and in the dry runs of `onionmpc estimate`.

All parties get the same. A program that comes with onionmpc makes up its inputs; another one has `demo` values in its
block (docs/reference/blocks.md).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from onionmpc.api.inputs import ALLOW_UNUSUAL, OwnInputs, check_given, deliver
from onionmpc.files import scratch_directory, write_private
from onionmpc.program.code.catalogue import Program, find_program
from onionmpc.program.inputs import check_public, demo_inputs, demo_public

# No input has a name with a space.
STDIN_NAME = "standard input"


@dataclass(frozen=True, slots=True)
class TryOut:
    """A program, and what each party's program gets.

    Attributes:
        public: its public arguments.
        private: its private arguments.
        inputs: the contents of its declared inputs, by name.
        notes: what the user should know about them.
    """

    program: Program
    public: tuple[str, ...]
    private: tuple[str, ...]
    inputs: Mapping[str, bytes]
    notes: tuple[str, ...]

    @asynccontextmanager
    async def delivered(self) -> AsyncIterator[tuple[tuple[str, ...], Path | None]]:
        """Yield the arguments for the declared inputs, and what the program reads from standard input, if anything.

        Raises:
            UsageError: an input is not valid.
        """
        about = self.program.metadata.about
        if about is None or not self.inputs:
            yield (), None
            return
        own = OwnInputs(None, self.inputs, replaced=False, ask=None, confirm=ALLOW_UNUSUAL)
        with scratch_directory() as folder:
            delivery, arguments = deliver(about, await own.collect(about, self.public), folder)
            write_private(folder / STDIN_NAME, delivery.stdin)
            yield arguments, folder / STDIN_NAME


def try_out(program: str, public: Sequence[str], private: Sequence[str], inputs: Mapping[str, bytes]) -> TryOut:
    """Complete what the user gave, for a program given by its name or its path.

    Args:
        public: the public arguments that the user gave; the values of the block take the place of none at all.
        private: the private arguments that the user gave.
        inputs: the contents of the declared inputs that the user gave, by name.

    Raises:
        UsageError: there is no such program, or what it needs is missing or not valid.
    """
    found = find_program(program)
    about = found.metadata.about
    notes = []
    if about is not None:
        if not public and (public := demo_public(about)):
            notes.append(f"public arguments to try it out: {' '.join(public)}")
        check_public(about, public)
    if private or about is None or (found.shipped and not inputs):
        check_given(about, inputs, replaced=True, asks=False, confirms=True)
        made_up = ("--demo",) if found.shipped and not private else tuple(private)
        return TryOut(found, tuple(public), made_up, {}, tuple(notes))
    examples = {name: value for name, value in demo_inputs(about).items() if name not in inputs}
    given = {**examples, **inputs}
    check_given(about, given, replaced=False, asks=False, confirms=True)
    if examples:
        notes.append(f"inputs to try it out, the same at all parties: {', '.join(examples)}")
    return TryOut(found, tuple(public), (), given, tuple(notes))
