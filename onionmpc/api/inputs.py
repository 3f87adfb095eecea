"""Collects the private inputs that a program's block declares, after consent, and hands them to the program.

Values come from the caller, by name, or from a person, one question at a time. A value beyond a soft bound needs a yes.
Rules: docs/reference/blocks.md.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from onionmpc.api.arguments import answered
from onionmpc.errors import UsageError
from onionmpc.machine import READ_BYTES
from onionmpc.program.block import AnyField, ChoiceField, FileField, ProgramBlock, TableField
from onionmpc.program.describe import describe_field
from onionmpc.program.inputs import CheckedInput, Delivery, arrange, check_input, choices_of, missing, warning_of
from onionmpc.program.walls.reachable import paths_in
from onionmpc.text import printable

FILE_MODE_PRIVATE = 0o600
# A private argument that names an input and is none: -, -x or --name. A negative number is an input.
OPTION_NAME = re.compile(r"-[A-Za-z]?|--[^=]*")


@dataclass(frozen=True, slots=True)
class InputQuestion:
    """A private input that the program's block declares, to ask a person for.

    Attributes:
        name: its name.
        label: what to ask for. The program's author wrote this; it is safe to print, like the other texts.
        expected: what it must be, in words.
        help: a further sentence, or an empty text.
        optional: whether it may be left out.
        is_file: whether its content is a file.
        choices: what it can be; empty if that is no choice.
    """

    name: str
    label: str
    expected: str
    help: str
    optional: bool
    is_file: bool
    choices: tuple[str, ...]
    _field: AnyField = field(repr=False)

    def check(self, value: str | bytes) -> None:
        """Check a value. `Confirm` is called for an unusual one, once you have returned it.

        Raises:
            UsageError: it is not valid. The message does not repeat it.
        """
        self.checked(value)

    def checked(self, value: str | bytes) -> CheckedInput:
        """Check a value, and return what the program gets."""
        return check_input(self._field, _content(self.name, value), self.choices)

    def unusual(self, value: str | bytes) -> UnusualInput | None:
        """Check a value, and return what to confirm about it; None if it is as usual.

        Raises:
            UsageError: it is not valid.
        """
        return self.to_confirm(self.checked(value))

    def to_confirm(self, checked: CheckedInput) -> UnusualInput | None:
        """Return what to confirm about a checked value."""
        if not checked.unusual:
            return None
        subject = "one value" if getattr(self._field, "many", False) else "this"
        sentence = f"{subject} is {checked.unusual}{warning_of(self._field)}"
        end = "" if sentence.endswith((".", "?", "!")) else "."
        return UnusualInput(self.name, self.label, sentence + end)


@dataclass(frozen=True, slots=True)
class UnusualInput:
    """A valid private input beyond what the program's author calls usual, for a person to confirm.

    Attributes:
        name: the input's name.
        label: what was asked for, as in `InputQuestion`.
        sentence: how far the value is beyond the usual, and what the author asks about that, as in "this is 50 times
            more than usual: monthly, not yearly?". This tells much of the value, so show it only to your own user.
    """

    name: str
    label: str
    sentence: str = field(repr=False)


AskInput = Callable[[InputQuestion], Awaitable[str | bytes | None]]
Confirm = Callable[[UnusualInput], Awaitable[bool]]


async def ALLOW_UNUSUAL(_unusual: UnusualInput) -> bool:  # noqa: N802 (reads as the constant that it is)
    """Use every valid input, however unusual it is."""
    return True


def question_about(one: AnyField, choices: tuple[str, ...]) -> InputQuestion:
    """Return what to ask a person for."""
    expected = f"one of: {', '.join(map(printable, choices))}" if choices else describe_field(one)
    return InputQuestion(
        one.name,
        printable(one.label, 300),
        expected,
        printable(one.help or "", 300),
        one.optional,
        isinstance(one, FileField | TableField),
        choices,
        one,
    )


def contents_of(inputs: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the content of each input, by name.

    Raises:
        UsageError: a value has a type that no input has, or is a file that cannot be read.
    """
    if not isinstance(inputs, Mapping):
        raise UsageError(f"inputs: {type(inputs).__name__}, expected a dict of values by their names")
    return {name: _content(name, value) for name, value in inputs.items()}


def _content(name: str, value: Any) -> bytes:  # noqa: ANN401 (its type is what is in question)
    match value:
        case bytes():
            return value
        case str():
            return value.encode()
        case bool():
            return b"yes" if value else b"no"
        case int() | float() | Decimal():
            return str(value).encode()
        case Path():
            try:
                return value.read_bytes()
            except OSError as error:
                raise UsageError(f"{name}: cannot read {printable(str(value))}: {error.strerror}") from error
        case list() | tuple():
            return b",".join(_content(name, each) for each in value)
    raise UsageError(f"{name}: {type(value).__name__}, expected a text, bytes, a number, True or False, or a Path")


def check_given(
    about: ProgramBlock | None, given: Mapping[str, bytes], *, replaced: bool, asks: bool, confirms: bool
) -> None:
    """Check what can be checked of given inputs before anyone is met, and before the public arguments are agreed.

    Args:
        given: the content of each given input, by name.
        replaced: whether the program gets something else in place of its declared inputs.
        asks, confirms: whether somebody can be asked for a missing input, or about an unusual one.

    Raises:
        UsageError: the program does not declare one, with the nearest name as a hint; or one is not valid; or one is
            missing or unusual, and nobody can be asked.
    """
    known = {} if about is None else {one.name: one for one in about.input}
    for name, content in given.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it declares {', '.join(known) or 'none'}"
            raise UsageError(f"the program declares no input {printable(name, 60)}", hint=hint)
        one = known[name]
        if not isinstance(one, ChoiceField) or one.choices is not None:
            checked = check_input(one, content, getattr(one, "choices", None) or ())
            if checked.unusual and not confirms:
                raise _unconfirmed(one)
    if about is not None and not replaced and not asks:
        for one in missing(about, given):
            raise _needed(one)


@dataclass(frozen=True, slots=True)
class OwnInputs:
    """What the caller of `compute` gives to the program, or how to ask for it.

    Attributes:
        text: what the program reads from standard input in place of its declared inputs; None for those.
        contents: the content of each given input, by name.
        replaced: whether the program gets a text, or private arguments, in place of its declared inputs.
        ask: asks for what is missing.
        confirm: asks about what is unusual.
    """

    text: bytes | None = field(repr=False)
    contents: Mapping[str, bytes] = field(repr=False)
    replaced: bool
    ask: AskInput | None
    confirm: Confirm | None

    def check(self, about: ProgramBlock | None) -> None:
        """See `check_given`."""
        asks, confirms = self.ask is not None, self.confirm is not None
        check_given(about, self.contents, replaced=self.replaced, asks=asks, confirms=confirms)

    def pieces(self, arguments: Sequence[str]) -> Iterator[Iterable[bytes]]:
        """Yield each input that is known before consent, in pieces.

        Args:
            arguments: the private arguments. One that names a file stands for its content.
        """
        yield [self.text or b""]
        for content in self.contents.values():
            yield [content]
        for word in arguments:
            if not OPTION_NAME.fullmatch(word):
                yield _pieces(word.partition("=")[2] if word.startswith("--") else word)

    def questions(self, about: ProgramBlock | None, public: Sequence[str]) -> tuple[InputQuestion, ...]:
        """Return what a person will be asked for.

        Args:
            public: the public arguments.
        """
        wanted = () if about is None or self.replaced else about.input
        return tuple(
            question_about(one, choices_of(one, about, public))
            for one in wanted
            if about and one.name not in self.contents
        )

    async def collect(self, about: ProgramBlock, public: Sequence[str]) -> dict[str, CheckedInput]:
        """Check the given inputs, and ask for the others.

        Args:
            public: the agreed public arguments.

        Raises:
            UsageError: a value is not valid or not confirmed, or one is missing and nobody can be asked.
        """
        inputs = {}
        for one in about.input:
            checked = await self._checked(one, question_about(one, choices_of(one, about, public)))
            if checked is not None:
                inputs[one.name] = checked
            elif not one.optional:
                raise _needed(one)
        return inputs

    async def _checked(self, one: AnyField, question: InputQuestion) -> CheckedInput | None:
        if one.name in self.contents:
            checked = question.checked(self.contents[one.name])
            if not await self._confirmed(question.to_confirm(checked), one):
                raise _unconfirmed(one)
            return checked
        while self.ask is not None and (answer := await self.ask(question)) is not None:
            checked = question.checked(answer)
            if await self._confirmed(question.to_confirm(checked), one):
                return checked
        return None

    async def _confirmed(self, unusual: UnusualInput | None, one: AnyField) -> bool:
        if unusual is None:
            return True
        if self.confirm is None:
            raise _unconfirmed(one)
        return await answered("confirm", self.confirm(unusual))


def files_named(arguments: Sequence[str]) -> Iterator[str]:
    """Yield each existing file or folder that an argument names, as the program's walls see it."""
    return (text for word in arguments for text in paths_in(word) if os.path.exists(text))  # noqa: PTH110 (any text)


def _pieces(value: str) -> Iterator[bytes]:
    # Not a pipe: what is read here would be missing in the program.
    if not os.path.isfile(value):  # noqa: PTH113 (Path.is_file raises for a value that is too long for a path)
        yield os.fsencode(value)
        return
    # The program cannot read a file either that this party may not.
    with contextlib.suppress(OSError), Path(value).open("rb") as file:
        yield from iter(lambda: file.read(READ_BYTES), b"")


def _needed(one: AnyField) -> UsageError:
    return UsageError(
        f"the program needs an input {one.name} ({printable(one.label, 300)})",
        hint=f'pass inputs={{"{one.name}": ...}}; it is {describe_field(one)}',
    )


def _unconfirmed(one: AnyField) -> UsageError:
    return UsageError(
        f"{one.name}: an unusual value, expected {describe_field(one)}{warning_of(one)}",
        hint="if it is right, pass confirm=onionmpc.ALLOW_UNUSUAL",
    )


def deliver(about: ProgramBlock, inputs: Mapping[str, CheckedInput], folder: Path) -> tuple[Delivery, tuple[str, ...]]:
    """Write inputs that the program reads from files into a private folder.

    Returns:
        The inputs as arranged, and the arguments that the program gets for them.
    """
    delivery = arrange(about, inputs)
    arguments = list(delivery.options)
    for file in delivery.files:
        path = folder / file.name
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE_PRIVATE)
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(file.content)
        arguments += [file.option, str(path)] if file.option else [str(path)]
    return delivery, tuple(arguments)
