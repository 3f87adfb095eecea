"""Checks private inputs against the fields of a program's block, and arranges them for the program.

Knows types, bounds and the forms in which a program gets its inputs. Does not know where a value comes from. No message
repeats a value: it is private, and a message may reach the other parties.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from onionmpc.errors import UsageError
from onionmpc.program.block import (
    AnyField,
    ChoiceField,
    DecimalField,
    FileField,
    Give,
    IntegerField,
    ProgramBlock,
    TableField,
    TextField,
    YesNoField,
)
from onionmpc.program.describe import describe_field
from onionmpc.text import printable

_NUMBERS = {"integer": re.compile(r"[+-]?[0-9]{1,400}"), "decimal": re.compile(r"[+-]?[0-9]{1,400}(\.[0-9]{1,400})?")}
_SEPARATORS = re.compile(r"[,\s]+")
MOST_TIMES = 1_000_000
_YES_NO = {"y": "yes", "yes": "yes", "n": "no", "no": "no"}


@dataclass(frozen=True, slots=True)
class CheckedInput:
    """A private input that is within its bounds.

    Attributes:
        content: what the program gets.
        unusual: how far it is beyond a soft bound, as in "50 times more than usual"; empty if it is not. This tells
            much of the value, so it is for the eyes of this party's user only.
    """

    content: bytes = field(repr=False)
    unusual: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class InputFile:
    """A private input that the program gets as a file, by the name of its field, and the option before its path."""

    name: str
    option: str | None
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Delivery:
    """All private inputs as the program gets them.

    Attributes:
        stdin: its standard input.
        options: the options of inputs at standard input.
        files: inputs in files.
    """

    stdin: bytes = field(repr=False)
    options: tuple[str, ...]
    files: tuple[InputFile, ...]


def choices_of(one: AnyField, about: ProgramBlock, public: Sequence[str]) -> tuple[str, ...]:
    """Return what a choice can be; none for other fields.

    Args:
        public: the agreed public arguments.
    """
    if not isinstance(one, ChoiceField):
        return ()
    if one.choices is not None:
        return one.choices
    given = _public_values(about, public).get(one.choices_from or "", "")
    return tuple(word.strip() for word in given.split(","))


def check_public(about: ProgramBlock, public: Sequence[str]) -> None:
    """Check the public arguments. Words that the block does not declare are left to the program.

    Raises:
        UsageError: one is missing or not valid.
    """
    values = _public_values(about, public)
    for one in about.public:
        if one.name in values:
            _check_public_value(one, values[one.name])
        elif not one.optional:
            option = f"{one.option}=" if one.option else ""
            raise UsageError(
                f"the program needs a public argument {one.name} ({printable(one.label, 300)})",
                hint=f'pass public=["{option}..."], {describe_field(one)}',
            )


def demo_public(about: ProgramBlock) -> tuple[str, ...]:
    """Return the public arguments with which to try the program out."""
    return public_arguments(about, {one.name: one.demo for one in about.public if one.demo is not None})


def public_arguments(about: ProgramBlock, values: Mapping[str, str]) -> tuple[str, ...]:
    """Return the public arguments for values by the names of their fields."""
    given = [(one.option, values[one.name]) for one in about.public if one.name in values]
    return tuple(f"{option}={value}" if option else value for option, value in given)


def demo_inputs(about: ProgramBlock) -> dict[str, bytes]:
    """Return the private inputs with which to try the program out, by name."""
    return {one.name: one.demo.encode() for one in about.input if one.demo is not None}


def unusual_public(about: ProgramBlock, public: Sequence[str]) -> Iterator[str]:
    """Yield a sentence for each checked public argument beyond a soft bound. All parties see its value anyway."""
    values = _public_values(about, public)
    for one in about.public:
        if one.name in values and (far := _check_public_value(one, values[one.name]).unusual):
            yield f"{one.name} is {far}{warning_of(one)}"


def _check_public_value(one: AnyField, value: str) -> CheckedInput:
    try:
        return fit(one, value.encode("utf-8", "surrogateescape"), getattr(one, "choices", None) or ())
    except Unfit as unfit:
        raise UsageError(f'{one.name}: "{printable(value, 60)}", {unfit.words}') from None


def warning_of(one: AnyField) -> str:
    """Return what the block says about an unusual value, after a colon, or an empty text."""
    warning = getattr(one, "warning", None)
    return f": {printable(warning, 300)}" if warning else ""


def _public_values(about: ProgramBlock, public: Sequence[str]) -> dict[str, str]:
    """Return the value of each public argument by name, from the one word "--option=value" or from two."""
    options = {one.option: one.name for one in about.public if one.option}
    places = [one.name for one in about.public if not one.option]
    values: dict[str, str] = {}
    words = iter(public)
    for word in words:
        option, has_value, value = word.partition("=")
        if option in options:
            values[options[option]] = value if has_value else next(words, "")
        elif places:
            values[places.pop(0)] = word
    return values


def check_input(one: AnyField, content: bytes, choices: Sequence[str] = ()) -> CheckedInput:
    """Check a private input.

    Args:
        choices: as `choices_of` returns them.

    Raises:
        UsageError: it is not of the field's type, or beyond a bound. The message says what was expected.
    """
    try:
        return fit(one, content, choices)
    except Unfit as unfit:
        raise UsageError(f"{one.name}: {unfit.words}") from None


class Unfit(Exception):
    """A value does not fit its field. The words say what was expected, and do not repeat the value."""

    def __init__(self, words: str) -> None:
        super().__init__(words)
        self.words = words


def fit(one: AnyField, content: bytes, choices: Sequence[str] = ()) -> CheckedInput:
    """Return a value as the program gets it; see `check_input`.

    Raises:
        Unfit: it is not of the field's type, or beyond a bound.
    """
    match one:
        case IntegerField() | DecimalField():
            return _checked_numbers(one, _text(one, content))
        case TextField():
            return _checked_text(one, _text(one, content))
        case ChoiceField():
            return _checked_choice(_text(one, content), choices)
        case YesNoField():
            answer = _YES_NO.get(_text(one, content).lower(), "")
            _check(one, bool(answer))
            return CheckedInput(answer.encode())
        case FileField():
            _check(one, len(content) <= one.max_bytes)
            return CheckedInput(content)
        case TableField():
            _check(one, len(content) <= one.max_bytes)
            _check_table(one, _text(one, content))
            return CheckedInput(content if content.endswith(b"\n") else content + b"\n")


def _check(one: AnyField, fits: bool) -> None:
    if not fits:
        raise Unfit(f"expected {describe_field(one)}")


def _text(one: AnyField, content: bytes) -> str:
    try:
        return content.decode("utf-8").removeprefix("\ufeff").strip()
    except UnicodeDecodeError:
        raise Unfit(f"expected {describe_field(one)}, in UTF-8") from None


def _checked_numbers(one: IntegerField | DecimalField, text: str) -> CheckedInput:
    words = [word for word in _SEPARATORS.split(text) if word]
    kind = "integer" if isinstance(one, IntegerField) else "decimal"
    _check(one, all(_fits(word, kind, one.min, one.max) for word in words))
    _check_count(one, words)
    if isinstance(one, DecimalField) and one.places is not None:
        _check(one, all(len(word.partition(".")[2]) <= one.places for word in words))
    far = next(filter(None, (_how_far(Decimal(word), one.warn_min, one.warn_max) for word in words)), "")
    return CheckedInput(",".join(words).encode(), unusual=far)


def _checked_text(one: TextField, text: str) -> CheckedInput:
    words = [word.strip() for word in (text.split(",") if one.many else [text])]
    _check(one, all(0 < len(word) <= one.max_length and word.isprintable() for word in words))
    _check_count(one, words)
    return CheckedInput(",".join(words).encode())


def _checked_choice(chosen: str, choices: Sequence[str]) -> CheckedInput:
    if chosen not in choices:
        raise Unfit(f"expected one of: {', '.join(printable(each) for each in choices)}")
    return CheckedInput(chosen.encode())


def _check_count(one: IntegerField | DecimalField | TextField, words: Sequence[str]) -> None:
    _check(one, one.min_count <= len(words) <= one.max_count if one.many else len(words) == 1)


def _fits(word: str, kind: str, lowest: int | Decimal | None, highest: int | Decimal | None) -> bool:
    if not _NUMBERS[kind].fullmatch(word):
        return False
    value = Decimal(word)  # exact, for any number of digits
    return (lowest is None or lowest <= value) and (highest is None or value <= highest)


def _check_table(one: TableField, text: str) -> None:
    try:
        rows = [row for row in csv.reader(io.StringIO(text), strict=True) if row]
    except csv.Error:
        rows = []
    _check(one, one.min_rows <= len(rows) <= one.max_rows)
    width = len(one.columns) if one.columns is not None else len(rows[0]) if rows else 0
    for number, row in enumerate(rows, start=1):
        if len(row) != width:
            raise Unfit(f"row {number} has {len(row)} cells, expected {width}")
        if one.cells != "text" and not all(_fits(cell.strip(), one.cells, one.min, one.max) for cell in row):
            raise Unfit(f"row {number}: expected {describe_field(one)}")


def _how_far(value: Decimal, lowest: int | Decimal | None, highest: int | Decimal | None) -> str:
    """Say how far a value is beyond a soft bound, as in "50 times more than usual"; return "" if it is not."""
    if highest is not None and value > highest:
        return f"{_factor(value, Decimal(highest), less=False)}more than usual"
    if lowest is not None and value < lowest:
        return f"{_factor(Decimal(lowest), value, less=True)}less than usual"
    return ""


def _factor(larger: Decimal, smaller: Decimal, *, less: bool) -> str:
    if smaller <= 0:
        return ""  # no number of times leads from one to the other
    ratio = larger / smaller
    if ratio < 2:
        percent = math.ceil((1 - 1 / ratio if less else ratio - 1) * 100)
        return f"{percent} % "
    if ratio > MOST_TIMES:
        return f"over {MOST_TIMES:,} times "
    rounded = Decimal(f"{ratio:.2g}")
    return f"{'' if rounded == ratio else 'about '}{rounded:,f} times "


def arrange(about: ProgramBlock, inputs: Mapping[str, CheckedInput]) -> Delivery:
    """Arrange inputs, by the name of their field, in the order of the block."""
    given = [(one, inputs[one.name]) for one in about.input if one.name in inputs]
    at_stdin = [(one, checked.content) for one, checked in given if one.give is not Give.FILE]
    return Delivery(
        b"".join(_as_lines(one, content) for one, content in at_stdin),
        tuple(word for one, _ in at_stdin if one.option for word in (one.option, "-")),
        tuple(InputFile(one.name, one.option, checked.content) for one, checked in given if one.give is Give.FILE),
    )


def _as_lines(one: AnyField, content: bytes) -> bytes:
    return content if isinstance(one, FileField | TableField) else content + b"\n"


def missing(about: ProgramBlock, names: Mapping[str, object]) -> Iterator[AnyField]:
    """Yield each required field that has no value."""
    return (one for one in about.input if not one.optional and one.name not in names)
