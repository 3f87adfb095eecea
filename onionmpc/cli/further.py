"""What a party computes in a session: its first computation, and those that --then names or a person chooses.

Checks each of them. onionmpc.cli.turns runs them.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from onionmpc.api.inputs import check_given
from onionmpc.api.options import Prepared, ProgramOptions, prepare_next
from onionmpc.api.policy import Policy
from onionmpc.errors import UsageError
from onionmpc.text import printable


@dataclass(frozen=True, slots=True)
class Wanted:
    """One computation, as this party wants it.

    Attributes:
        program: a script, or the name of an included program. None for the session's first program or, at a joiner
            that named none, for the host's.
        public: arguments that are the same at all parties.
        private: arguments for this party's program alone.
    """

    program: str | None = None
    public: tuple[str, ...] = ()
    private: tuple[str, ...] = field(default=(), repr=False)

    @property
    def text(self) -> str:
        """The words of --then for it."""
        return shlex.join([self.program or "", *self.public, *(["--", *self.private] if self.private else [])])

    @property
    def options(self) -> ProgramOptions:
        """The options of this computation, for `Table.compute`."""
        return {"public": self.public} if self.public else {}

    def prepared(self, first: Prepared, number: int) -> Prepared:
        """Check this computation, and return its options.

        Args:
            first: the options of the session's first computation.
            number: which computation of the session this is, from 2.

        Raises:
            UsageError: the program or a file does not exist, or an argument is not valid.
        """
        prepared = prepare_next(first, number, self.program, **self.options)
        prepared.with_private(self.private, reads_input=False)
        return prepared

    def takes(self, prepared: Prepared, inputs: Mapping[str, bytes]) -> dict[str, bytes]:
        """Return those of the inputs that its program declares. Private arguments take the place of all inputs."""
        if self.private:
            return {}
        program = prepared.plan.program
        if program is None:
            return dict(inputs)
        about = program.metadata.about
        declared = set() if about is None else {one.name for one in about.input}
        return {name: content for name, content in inputs.items() if name in declared}


@dataclass(frozen=True, slots=True)
class Agenda:
    """What this party wants to compute in one session, checked.

    Attributes:
        first: the options of the first computation.
        private: the private arguments of the first computation.
        then: the computations after it.
        inputs: the content of each private input, by name. Each goes to all programs that declare it.
        policy: consents and gives the inputs, instead of a person.
    """

    first: Prepared
    private: tuple[str, ...] = field(default=(), repr=False)
    then: tuple[Wanted, ...] = ()
    inputs: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    policy: Policy | None = None

    @property
    def choices(self) -> list[Wanted]:
        """All computations, the first one included."""
        return [Wanted(private=self.private), *self.then]

    def prepared(self, parties: int | None = None) -> Iterator[tuple[Wanted, Prepared]]:
        """Check each computation, and yield it with its options.

        Args:
            parties: the number of parties, this one included; None if it is not known.

        Raises:
            UsageError: one is not valid. The message says which.
        """
        yield self.choices[0], self.first
        for place, choice in enumerate(self.then, 1):
            try:
                prepared = choice.prepared(self.first, place + 1)
                if parties is not None:
                    prepared.check_parties(parties)
            except UsageError as error:
                raise blamed(error, place, choice) from error
            yield choice, prepared

    def check_inputs(self, *, asks: bool, confirms: bool) -> None:
        """Check what can be checked of the inputs before anyone is met.

        Args:
            asks, confirms: whether somebody can be asked for a missing input, or about an unusual one.

        Raises:
            UsageError: an input is missing or not valid, or no program takes it; or the first program is not known
                yet, so which one takes an input is not either.
        """
        computations = list(self.prepared())
        if self.inputs and self.then and any(prepared.plan.program is None for _, prepared in computations):
            raise UsageError(
                "--input with --then needs the first PROGRAM", hint="name it after the invite or the host's address"
            )
        taken: set[str] = set()
        for place, (choice, prepared) in enumerate(computations):
            if (program := prepared.plan.program) is None:
                continue
            mine = choice.takes(prepared, self.inputs) if self.then else self.inputs
            taken |= mine.keys()
            replaced = bool(choice.private)
            try:
                check_given(program.metadata.about, mine, replaced=replaced, asks=asks, confirms=confirms)
            except UsageError as error:
                raise (blamed(error, place, choice) if place else error) from error
        for name in self.inputs:
            if self.then and name not in taken:
                raise no_taker(name)


def no_taker(name: str) -> UsageError:
    """Return the error for an input that no program of a session takes."""
    return UsageError(
        f"no program of this session takes an input {name}",
        hint="onionmpc programs show PROGRAM lists what it asks for; private arguments take the place of all inputs",
    )


def parse_wanted(text: str) -> Wanted:
    """Parse PROGRAM ARGS, with private arguments after a lone --, as a shell splits words.

    Raises:
        UsageError: a quote is not closed. The message does not repeat the words, since some may be private.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"the words cannot be split: {str(error).lower()}") from error
    cut = words.index("--") if "--" in words else len(words)
    return Wanted(words[0] if cut else None, tuple(words[1:cut]), tuple(words[cut + 1 :]))


def parse_then(texts: Sequence[str], *, joins_host: bool) -> tuple[Wanted, ...]:
    """Parse each --then.

    Raises:
        UsageError: one is not valid. The message says which.
    """
    choices = []
    for place, text in enumerate(texts, 1):
        try:
            choices.append(parse_wanted(text))
        except UsageError as error:
            raise blamed(error, place) from error
        if choices[-1].program is None and not joins_host:
            nobody = UsageError("no program was named", hint='as in --then "sort" (see: onionmpc programs)')
            raise blamed(nobody, place)
    return tuple(choices)


def blamed(error: UsageError, place: int, choice: Wanted | None = None) -> UsageError:
    """Return the same error, with a message that says which --then it concerns, from 1."""
    name = "" if choice is None or choice.program is None else f" ({printable(choice.program, 60)})"
    return type(error)(f"--then {place}{name}: {error.message}", hint=error.hint)
