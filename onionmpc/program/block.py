"""What a program says about itself: `[tool.onionmpc]` in its block of script metadata (PEP 723).

Knows every key, its type and its bounds, and says which line breaks a rule. Does not run or read files: the text of the
script comes in. The block lies inside the file that all parties agree on, so all parties read the same one. What it
says is its author's claim: nothing here makes it true. The keys: docs/reference/blocks.md.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Sequence
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal

import msgspec

from onionmpc.errors import UsageError
from onionmpc.program.metadata import CommentBlock, find_script_block
from onionmpc.text import printable

TABLE = ("tool", "onionmpc")
MAX_FIELDS = 32  # of each kind: a form that people fill in
MAX_CHOICES = 200
MAX_VALUES = 10_000
MAX_ROWS = 1_000_000
MAX_EXPONENT = 100  # of a decimal bound
MAX_INPUT_BYTES = 2**26  # kept in memory until the program takes it

Title = Annotated[str, msgspec.Meta(min_length=1, max_length=80)]
Words = Annotated[str, msgspec.Meta(min_length=1, max_length=300)]
Unit = Annotated[str, msgspec.Meta(min_length=1, max_length=20)]
FieldName = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_-]{0,39}\Z")]
OptionName = Annotated[str, msgspec.Meta(pattern=r"^--[a-z][a-z0-9-]{0,39}\Z")]
ChoiceText = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
BoundNumber = int | Decimal
Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_VALUES)]
_PATH = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")


class Give(Enum):
    """How a program gets a private input. Never as an argument with the value itself: other users can see arguments."""

    STDIN = "stdin"
    FILE = "file"


class Field(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab", tag_field="type"):
    """A public argument or a private input.

    Attributes:
        name: what `--input` and the API call it.
        label: what the user is asked for.
        help: a further sentence for the user.
        option: the option that hands it over, such as "--columns"; None hands it over by its place alone.
        optional: whether it may be left out.
        give: how a private input is handed over; None for a public argument, which is always an argument.
    """

    name: FieldName
    label: Words
    help: Words | None = None
    option: OptionName | None = None
    optional: bool = False
    give: Give | None = None


class _ManyField(Field, frozen=True, kw_only=True):
    """A field that may take many values.

    Attributes:
        many: whether it takes several values, separated by commas.
        min_count, max_count: how many.
    """

    many: bool = False
    min_count: Count = 1
    max_count: Count = MAX_VALUES


class IntegerField(_ManyField, frozen=True, kw_only=True, tag="integer"):
    """A whole number.

    Attributes:
        min, max: the bounds of each value.
        warn_min, warn_max: the user is asked again about a value beyond these.
        warning: what the user is asked then, such as "monthly, not yearly?".
    """

    unit: Unit | None = None
    min: int | None = None
    max: int | None = None
    warn_min: int | None = None
    warn_max: int | None = None
    warning: Words | None = None


class DecimalField(_ManyField, frozen=True, kw_only=True, tag="decimal"):
    """A number with a decimal point; see `IntegerField`.

    Attributes:
        places: the largest number of digits after the point.
    """

    unit: Unit | None = None
    min: BoundNumber | None = None
    max: BoundNumber | None = None
    warn_min: BoundNumber | None = None
    warn_max: BoundNumber | None = None
    warning: Words | None = None
    places: Annotated[int, msgspec.Meta(ge=1, le=30)] | None = None


class TextField(_ManyField, frozen=True, kw_only=True, tag="text"):
    """One line of text.

    Attributes:
        max_length: characters, of each value.
    """

    max_length: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 200


class ChoiceField(Field, frozen=True, kw_only=True, tag="choice"):
    """One of several texts.

    Attributes:
        choices: these texts.
        choices_from: the name of the public argument whose values these are.
    """

    choices: Annotated[tuple[ChoiceText, ...], msgspec.Meta(min_length=2, max_length=MAX_CHOICES)] | None = None
    choices_from: FieldName | None = None


class YesNoField(Field, frozen=True, kw_only=True, tag="yes/no"):
    """Yes or no. The program gets the word."""


class FileField(Field, frozen=True, kw_only=True, tag="file"):
    """The content of a file, any bytes."""

    max_bytes: Annotated[int, msgspec.Meta(ge=1, le=MAX_INPUT_BYTES)] = 2**20


class TableField(Field, frozen=True, kw_only=True, tag="table"):
    """Rows of cells: a line for each row, commas between cells (CSV, UTF-8), and no line of headings.

    Attributes:
        columns: the name of each column. Without them, all rows must have equally many cells.
        cells: what a cell is.
        min, max: the bounds of each cell, if it is a number.
    """

    columns: Annotated[tuple[Title, ...], msgspec.Meta(min_length=1, max_length=100)] | None = None
    cells: Literal["integer", "decimal", "text"] = "text"
    min: BoundNumber | None = None
    max: BoundNumber | None = None
    min_rows: Annotated[int, msgspec.Meta(ge=0, le=MAX_ROWS)] = 1
    max_rows: Annotated[int, msgspec.Meta(ge=0, le=MAX_ROWS)] = MAX_ROWS
    max_bytes: Annotated[int, msgspec.Meta(ge=1, le=MAX_INPUT_BYTES)] = 2**20


AnyField = IntegerField | DecimalField | TextField | ChoiceField | YesNoField | FileField | TableField
Fields = Annotated[tuple[AnyField, ...], msgspec.Meta(max_length=MAX_FIELDS)]
_FIELD_TYPES: dict[str, type[Field]] = {
    "integer": IntegerField,
    "decimal": DecimalField,
    "text": TextField,
    "choice": ChoiceField,
    "yes/no": YesNoField,
    "file": FileField,
    "table": TableField,
}


class OutputView(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """What the program prints.

    Attributes:
        type: "value" is a line, "pairs" are lines like "tea: 3", and "table" is lines of cells with commas between
            them, headings first.
        chart: how pairs or a table can be drawn.
    """

    type: Literal["value", "pairs", "table"]
    label: Words | None = None
    unit: Unit | None = None
    chart: Literal["bars", "line"] | None = None


class ProgramBlock(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """The table `[tool.onionmpc]`: the claims of the program's author.

    Attributes:
        version: of this format.
        reveals: what is revealed to whom, to complete "its author says that it reveals ...".
        min_parties: the program needs at least this many.
        threshold: the default threshold; None leaves it to onionmpc.
        packages: "equal" if the parties must have the same versions of what the program imports.
        public: arguments that the host chooses and all parties see.
        input: what each party keeps to itself.
    """

    version: Literal[1]
    title: Title
    reveals: Words
    min_parties: Annotated[int, msgspec.Meta(ge=2, le=256)] = 2
    threshold: Annotated[int, msgspec.Meta(ge=1, le=127)] | None = None
    packages: Literal["equal"] | None = None
    public: Fields = ()
    input: Fields = ()
    output: OutputView | None = None


class ScriptMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """What a script says about itself.

    Attributes:
        dependencies: what it needs to import, as PEP 723 has it.
        about: what it says to onionmpc, None if it says nothing.
    """

    dependencies: tuple[str, ...] = ()
    about: ProgramBlock | None = None


NO_METADATA = ScriptMetadata()
# What each key of [tool.onionmpc] takes, for messages. "1 to 80 characters" and the like repeat the types above.
_EXPECTED = {
    "version": "1",
    "title": "a text of 1 to 80 characters",
    "reveals": "a text of 1 to 300 characters",
    "min-parties": "a whole number from 2 to 256",
    "threshold": "a whole number from 1 to 127",
    "packages": '"equal"',
    "public": f"at most {MAX_FIELDS} tables, written [[tool.onionmpc.public]]",
    "input": f"at most {MAX_FIELDS} tables, written [[tool.onionmpc.input]]",
    "output": "a table, written [tool.onionmpc.output]",
    "name": "up to 40 lower-case letters, digits, - and _, first a letter",
    "label": "a text of 1 to 300 characters",
    "help": "a text of 1 to 300 characters",
    "type": ", ".join(_FIELD_TYPES),
    "option": "a long option in lower case, such as --rows",
    "optional": "true or false",
    "give": '"stdin" or "file"',
    "many": "true or false",
    "min-count": f"a whole number from 0 to {MAX_VALUES}",
    "max-count": f"a whole number from 0 to {MAX_VALUES}",
    "unit": "a text of 1 to 20 characters",
    "min": "a number of the field's type",
    "max": "a number of the field's type",
    "warn-min": "a number of the field's type",
    "warn-max": "a number of the field's type",
    "warning": "a text of 1 to 300 characters",
    "places": "a whole number from 1 to 30",
    "max-length": "a whole number from 1 to 10000",
    "choices": f"2 to {MAX_CHOICES} texts of 1 to 100 characters",
    "choices-from": "the name of a public argument",
    "max-bytes": f"a whole number from 1 to {MAX_INPUT_BYTES}",
    "columns": "1 to 100 texts of 1 to 80 characters",
    "cells": '"integer", "decimal" or "text"',
    "min-rows": f"a whole number from 0 to {MAX_ROWS}",
    "max-rows": f"a whole number from 0 to {MAX_ROWS}",
    "chart": '"bars" or "line"',
}
_OUTPUT_TYPES = '"value", "pairs" or "table"'


class _Mistake(Exception):
    """A rule is broken at a path of the document. The caller knows the line."""

    def __init__(self, path: Sequence[str | int], words: str, hint: str = "") -> None:
        super().__init__(words)
        self.path = tuple(path)
        self.words = words
        self.hint = hint


def parse_metadata(text: str, file: str) -> ScriptMetadata:
    """Read what a script says about itself.

    Args:
        text: the script.
        file: what to call it in messages.

    Raises:
        UsageError: it has several blocks, or its block breaks a rule; the message names the line and the key.
    """
    found = find_script_block(text, file)
    if found is None:
        return NO_METADATA
    document = _read_toml(found, file)
    try:
        return ScriptMetadata(dependencies=_dependencies(document), about=_about(document))
    except _Mistake as mistake:
        line = found.first_line + _line_of(found.lines, mistake.path)
        raise UsageError(f"{file}, line {line}: {mistake.words}", hint=mistake.hint) from None


def _read_toml(found: CommentBlock, file: str) -> dict[str, Any]:
    try:
        return _loads(found.lines)
    except ValueError as error:
        words = printable(str(error))
        place = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)\Z", words)
        if place is not None:
            words = words[: place.start()]
        line = found.first_line + (
            int(place[1]) - 1 if place and place[1] else 0 if place is None else len(found.lines)
        )
        raise UsageError(f"{file}, line {line}: the block is not TOML: {words[:1].lower()}{words[1:]}") from error


def _loads(lines: Sequence[str]) -> dict[str, Any]:
    """Parse TOML.

    Raises:
        ValueError: it is not TOML.
    """
    try:
        return tomllib.loads("\n".join(lines), parse_float=Decimal)  # float would round the bounds
    except RecursionError:
        raise ValueError("its values are nested too deeply") from None


def _dependencies(document: dict[str, Any]) -> tuple[str, ...]:
    found = document.get("dependencies", [])
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise _Mistake(["dependencies"], "dependencies: expected a list of texts")
    return tuple(found)


def _about(document: dict[str, Any]) -> ProgramBlock | None:
    tool = document.get("tool", {})
    table = tool.get("onionmpc") if isinstance(tool, dict) else None
    if table is None:
        return None
    if not isinstance(table, dict):
        raise _Mistake(TABLE, "onionmpc: expected a table, written [tool.onionmpc]")
    _check_version(table)
    _check_keys(table)
    try:
        block = msgspec.convert(table, ProgramBlock)
    except msgspec.ValidationError as error:
        raise _mistake_of(str(error)) from None
    _check_meaning(block)
    return block


def _check_version(table: dict[str, Any]) -> None:
    version = table.get("version")
    # First, since another version may have other keys. True == 1, and a bool is not a version.
    if version != 1 or isinstance(version, bool):
        words = "version is missing, expected version = 1" if version is None else "version: expected 1"
        path = TABLE if version is None else (*TABLE, "version")
        raise _Mistake(path, words, "a newer release of onionmpc may know a later version")


def _check_keys(table: dict[str, Any]) -> None:
    """Refuse unknown keys, as msgspec does, but with the nearest one as a hint."""
    _check_keys_of(ProgramBlock, table, TABLE, "")
    for kind in ("public", "input"):
        fields = table.get(kind)
        for place, field in enumerate(fields if isinstance(fields, list) else ()):
            if isinstance(field, dict) and isinstance(field.get("type"), str) and field["type"] in _FIELD_TYPES:
                of = f" of an input of type {field['type']}" if kind == "input" else f" of type {field['type']}"
                _check_keys_of(_FIELD_TYPES[field["type"]], field, (*TABLE, kind, place), of)
                for key in ("min", "max", "warn-min", "warn-max"):
                    if isinstance(field.get(key), str):  # msgspec takes a text for a decimal
                        raise _Mistake((*TABLE, kind, place, key), f"{key}: expected {_EXPECTED[key]}, not a text")
    if isinstance(table.get("output"), dict):
        _check_keys_of(OutputView, table["output"], (*TABLE, "output"), " of output")


def _check_keys_of(struct: type[msgspec.Struct], table: dict[str, Any], path: Sequence[str | int], of: str) -> None:
    known = list(struct.__struct_encode_fields__)
    if issubclass(struct, Field):
        known.append("type")
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(sorted(known))}"
            raise _Mistake((*path, key), f"there is no key {printable(key, 60)}{of}", hint)


def _mistake_of(message: str) -> _Mistake:
    """Say what msgspec found in the words of this format."""
    _, _, place = message.rpartition(" - at `$")
    path: list[str | int] = [name or int(index) for name, index in _PATH.findall(place.removesuffix("`"))]
    if missing := re.match(r"Object missing required field `([^`]+)`", message):
        where = f" of {path[0]} {int(path[1]) + 1}" if len(path) == 2 else " of output" if path else ""
        return _Mistake(
            (*TABLE, *path), f"the key {missing[1]}{where} is missing, expected {_expected(path, missing[1])}"
        )
    key = next((str(part) for part in reversed(path) if isinstance(part, str)), "onionmpc")
    return _Mistake((*TABLE, *path), f"{key}: expected {_expected(path, key)}")


def _expected(path: Sequence[str | int], key: str) -> str:
    return _OUTPUT_TYPES if key == "type" and path[:1] == ["output"] else _EXPECTED[key]


# -- rules between keys


def _check_meaning(block: ProgramBlock) -> None:
    names: set[str] = set()
    for kind, fields in (("public", block.public), ("input", block.input)):
        for place, field in enumerate(fields):
            path = (*TABLE, kind, place)
            if field.name in names:
                raise _Mistake((*path, "name"), f"name: two fields are called {field.name}")
            names.add(field.name)
            _check_bounds(field, path)
            _check_choices(field, block.public, path)
    options = [field.option for field in (*block.public, *block.input) if field.option]
    if len(set(options)) < len(options):
        double = next(option for option in options if options.count(option) > 1)
        raise _Mistake(TABLE, f"option: two fields have {double}")
    _check_public(block.public)
    _check_stdin(block.input)
    if block.threshold is not None and 2 * block.threshold >= block.min_parties:
        raise _Mistake(
            (*TABLE, "threshold"),
            f"threshold: {block.threshold} needs at least {2 * block.threshold + 1} parties",
            f"add min-parties = {2 * block.threshold + 1}",
        )
    if block.output is not None and block.output.chart and block.output.type == "value":
        raise _Mistake((*TABLE, "output", "chart"), "chart: a value cannot be drawn, only pairs and a table can")


def _check_bounds(field: AnyField, path: Sequence[str | int]) -> None:
    for key in ("min", "max", "warn_min", "warn_max"):
        bound = getattr(field, key, None)
        if isinstance(bound, Decimal) and not (bound.is_finite() and abs(bound.adjusted()) <= MAX_EXPONENT):
            key = key.replace("_", "-")
            raise _Mistake((*path, key), f"{key}: expected a number that can be written out")
    for low, high in (("min", "max"), ("warn_min", "warn_max"), ("min_count", "max_count"), ("min_rows", "max_rows")):
        lowest, highest = getattr(field, low, None), getattr(field, high, None)
        if lowest is not None and highest is not None and lowest > highest:
            low, high = low.replace("_", "-"), high.replace("_", "-")
            raise _Mistake((*path, low), f"{low}: {lowest} is above {high}, {highest}")
    if isinstance(field, IntegerField | DecimalField) and field.warning and field.warn_min is field.warn_max is None:
        raise _Mistake((*path, "warning"), "warning: needs warn-min or warn-max")
    if isinstance(field, _ManyField) and not field.many and (field.min_count, field.max_count) != (1, MAX_VALUES):
        key = "min-count" if field.min_count != 1 else "max-count"
        raise _Mistake((*path, key), f"{key}: needs many = true")
    if isinstance(field, TableField):
        bounds = [bound for bound in (field.min, field.max) if bound is not None]
        if bounds and (field.cells == "text" or (field.cells == "integer" and any(b != int(b) for b in bounds))):
            key = "min" if field.min is not None else "max"
            raise _Mistake((*path, key), f"{key}: needs cells that are numbers of the same type")


def _check_choices(field: AnyField, public: Iterable[AnyField], path: Sequence[str | int]) -> None:
    if not isinstance(field, ChoiceField):
        return
    if (field.choices is None) is (field.choices_from is None):
        raise _Mistake(path, f"the choice {field.name} needs either choices or choices-from")
    if field.choices is not None:
        if len(set(field.choices)) < len(field.choices):
            raise _Mistake((*path, "choices"), "choices: two of them are equal")
        if not all(choice.isprintable() and choice == choice.strip() for choice in field.choices):
            raise _Mistake((*path, "choices"), "choices: expected visible characters without spaces around them")
        return
    source = next((other for other in public if other.name == field.choices_from), None)
    if not isinstance(source, TextField) or not source.many or source.optional:
        raise _Mistake(
            (*path, "choices-from"),
            f"choices-from: {field.choices_from} is not a required public argument of type text with many = true",
        )


def _check_public(public: Sequence[AnyField]) -> None:
    left_out = ""
    for place, field in enumerate(public):
        path = (*TABLE, "public", place)
        if isinstance(field, FileField | TableField):
            raise _Mistake((*path, "type"), "type: a public argument is neither a file nor a table", "see --with")
        if field.give is not None:
            raise _Mistake((*path, "give"), "give: a public argument is always an argument of the program")
        if field.option is None:
            if left_out:
                raise _Mistake(
                    path, f"{field.name} follows the optional {left_out}: nothing could tell one from the other"
                )
            left_out = field.name if field.optional else ""


def _check_stdin(inputs: Sequence[AnyField]) -> None:
    """Check that a program can tell its inputs at standard input apart: each is a line, and only the last is more."""
    given = [(place, field) for place, field in enumerate(inputs) if field.give is not Give.FILE]
    for place, field in given[:-1]:
        if isinstance(field, FileField | TableField):
            raise _Mistake(
                (*TABLE, "input", place),
                f"{field.name} has several lines, and another input follows it at standard input",
                'move it to the end, or add give = "file"',
            )
    for place, field in given:
        if field.optional and len(given) > 1:
            raise _Mistake(
                (*TABLE, "input", place),
                f"{field.name} is optional, so no other input can come by standard input",
                'add give = "file" to one of them',
            )


# -- lines


def _line_of(lines: Sequence[str], path: Sequence[str | int]) -> int:
    """Return the index of the line that brings in what is at a path of the document.

    tomllib keeps no positions. But each statement ends with a line up to which the document can be parsed, so the first
    such beginning that contains the path ends with its statement.
    """
    start = 0
    for end in range(1, len(lines) + 1):
        try:
            document = _loads(lines[:end])
        except ValueError:
            continue  # within a statement of several lines
        if _contains(document, path):
            return start
        start = end
    return 0


def _contains(document: Any, path: Sequence[str | int]) -> bool:  # noqa: ANN401 (TOML)
    for part in path:
        if isinstance(part, int):
            if not isinstance(document, list) or part >= len(document):
                return False
        elif not isinstance(document, dict) or part not in document:
            return False
        document = document[part]
    return True
