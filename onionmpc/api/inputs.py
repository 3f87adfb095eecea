"""Collects the private inputs that a program's block declares, after consent, and hands them to the program.

Values come from the caller, by name, or from a person, one question at a time. Rules: docs/reference/blocks.md.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from onionmpc.errors import UsageError
from onionmpc.program.block import AnyField, ChoiceField, FileField, ProgramBlock, TableField
from onionmpc.program.describe import describe_field
from onionmpc.program.inputs import CheckedInput, Delivery, arrange, check_input, choices_of
from onionmpc.text import printable

FILE_MODE_PRIVATE = 0o600


@dataclass(frozen=True, slots=True)
class InputQuestion:
    """A private input that the program's block declares, to ask a person for.

    Attributes:
        name: its name.
        label: what to ask for. The program's author wrote this; it is safe to print, like the other texts.
        expected: what it must be, in words.
        help: a further sentence, or an empty text.
        warning: what to ask about an unusual value, or an empty text.
        optional: whether it may be left out.
        is_file: whether its content is a file.
    """

    name: str
    label: str
    expected: str
    help: str
    warning: str
    optional: bool
    is_file: bool
    _field: AnyField = field(repr=False)
    _choices: tuple[str, ...] = field(repr=False)

    def is_unusual(self, value: str | bytes) -> bool:
        """Check a value. Return whether it is beyond a soft bound, so that the person should confirm it.

        Raises:
            UsageError: it is not valid. The message does not repeat it.
        """
        return self.checked(value).unusual != ""

    def checked(self, value: str | bytes) -> CheckedInput:
        """Check a value, and return what the program gets."""
        return check_input(self._field, _content(self.name, value), self._choices)


AskInput = Callable[[InputQuestion], Awaitable[str | bytes | None]]


def _question(one: AnyField, choices: tuple[str, ...]) -> InputQuestion:
    expected = f"one of: {', '.join(map(printable, choices))}" if choices else describe_field(one)
    return InputQuestion(
        one.name,
        printable(one.label, 300),
        expected,
        printable(one.help or "", 300),
        printable(getattr(one, "warning", None) or "", 300),
        one.optional,
        isinstance(one, FileField | TableField),
        one,
        choices,
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


def check_given(about: ProgramBlock | None, given: Mapping[str, bytes]) -> None:
    """Check what can be checked of given inputs before the public arguments are agreed.

    Raises:
        UsageError: the program does not declare one, with the nearest name as a hint; or one is not valid.
    """
    known = {} if about is None else {one.name: one for one in about.input}
    for name, content in given.items():
        if name in known:
            one = known[name]
            if not isinstance(one, ChoiceField) or one.choices is not None:
                check_input(one, content, getattr(one, "choices", None) or ())
        else:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it declares {', '.join(known) or 'none'}"
            raise UsageError(f"the program declares no input {printable(name, 60)}", hint=hint)


async def collect(
    about: ProgramBlock, public: Sequence[str], given: Mapping[str, bytes], ask: AskInput | None
) -> dict[str, CheckedInput]:
    """Check the given inputs, and ask for the others.

    Args:
        public: the agreed public arguments.
        given: the content of each given input, by name.

    Raises:
        UsageError: a value is not valid, or one is missing and nobody can be asked.
    """
    check_given(about, given)
    inputs = {}
    for one in about.input:
        question = _question(one, choices_of(one, about, public))
        if one.name in given:
            inputs[one.name] = question.checked(given[one.name])
        elif ask is not None:
            answer = await ask(question)
            if answer is not None:
                inputs[one.name] = question.checked(answer)
        if one.name not in inputs and not one.optional:
            raise UsageError(
                f"the program needs an input {one.name} ({question.label})",
                hint=f"--input {one.name}=@FILE reads it from a file",
            )
    return inputs


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
