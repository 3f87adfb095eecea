"""The rules between the keys of a program's block. Each broken rule is a `Mistake` at a path of the document.

Knows what fits together. Does not know lines or files: program/block_parser.py finds the line of a path.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal

from onionmpc.program.block import (
    MAX_VALUES,
    AnyField,
    ChoiceField,
    DecimalField,
    FileField,
    Give,
    IntegerField,
    ManyField,
    ProgramBlock,
    TableField,
    TextField,
    YesNoField,
)
from onionmpc.program.inputs import Unfit, choices_of, demo_public, fit
from onionmpc.toml_lines import KeyPath, Mistake

TABLE = ("tool", "onionmpc")
MAX_EXPONENT = 100  # of a decimal bound


def check_meaning(block: ProgramBlock) -> None:
    """Check what the types cannot say.

    Raises:
        Mistake: a rule is broken.
    """
    _check_names(block)
    for kind, fields in (("public", block.public), ("input", block.input)):
        for place, field in enumerate(fields):
            _check_field(field, block.public, (*TABLE, kind, place))
    _check_public(block.public)
    _check_stdin(block.input)
    _check_demos(block)
    if block.threshold is not None and 2 * block.threshold >= block.min_parties:
        raise Mistake(
            (*TABLE, "threshold"),
            f"threshold: {block.threshold} needs at least {2 * block.threshold + 1} parties",
            f"add min-parties = {2 * block.threshold + 1}",
        )
    if block.output is not None and block.output.chart and block.output.type == "value":
        raise Mistake((*TABLE, "output", "chart"), "chart: a value cannot be drawn, only pairs and a table can")


def _check_names(block: ProgramBlock) -> None:
    names: set[str] = set()
    options: set[str] = set()
    for kind, fields in (("public", block.public), ("input", block.input)):
        for place, field in enumerate(fields):
            if field.name in names:
                raise Mistake((*TABLE, kind, place, "name"), f"name: two fields are called {field.name}")
            if field.option in options:
                raise Mistake(TABLE, f"option: two fields have {field.option}")
            names.add(field.name)
            options |= {field.option} if field.option else set()


def _check_demos(block: ProgramBlock) -> None:
    for kind, fields in (("public", block.public), ("input", block.input)):
        for place, field in enumerate(fields):
            if field.demo is None:
                continue
            path = (*TABLE, kind, place, "demo")
            choices = choices_of(field, block, demo_public(block))
            if choices == ("",):
                raise Mistake(path, f"demo: needs a demo of {getattr(field, 'choices_from', '')}")
            try:
                unusual = fit(field, field.demo.encode("utf-8", "surrogatepass"), choices).unusual
            except Unfit as unfit:
                raise Mistake(path, f"demo: {unfit.words}") from None
            if unusual:
                raise Mistake(path, f"demo: {unusual}")


def _check_field(field: AnyField, public: Iterable[AnyField], path: KeyPath) -> None:
    match field:
        case IntegerField():
            _check_number(field, path)
        case DecimalField():
            _check_written_out(field, ("min", "max", "warn_min", "warn_max"), path)
            _check_number(field, path)
        case TextField():
            _check_count(field, path)
        case ChoiceField():
            _check_choices(field, public, path)
        case TableField():
            _check_written_out(field, ("min", "max"), path)
            _check_order(field, "min", "max", path)
            _check_order(field, "min_rows", "max_rows", path)
            _check_cells(field, path)
        case YesNoField() | FileField():
            pass


def _check_number(field: IntegerField | DecimalField, path: KeyPath) -> None:
    _check_order(field, "min", "max", path)
    _check_order(field, "warn_min", "warn_max", path)
    if field.warning and field.warn_min is field.warn_max is None:
        raise Mistake((*path, "warning"), "warning: needs warn-min or warn-max")
    _check_count(field, path)


def _check_count(field: ManyField, path: KeyPath) -> None:
    _check_order(field, "min_count", "max_count", path)
    if not field.many and (field.min_count, field.max_count) != (1, MAX_VALUES):
        key = "min-count" if field.min_count != 1 else "max-count"
        raise Mistake((*path, key), f"{key}: needs many = true")


def _check_written_out(field: AnyField, keys: Sequence[str], path: KeyPath) -> None:
    for key in keys:
        bound = getattr(field, key)
        if isinstance(bound, Decimal) and not (bound.is_finite() and abs(bound.adjusted()) <= MAX_EXPONENT):
            shown = key.replace("_", "-")
            raise Mistake((*path, shown), f"{shown}: expected a number that can be written out")


def _check_order(field: AnyField | ManyField, low: str, high: str, path: KeyPath) -> None:
    lowest, highest = getattr(field, low), getattr(field, high)
    if lowest is not None and highest is not None and lowest > highest:
        low, high = low.replace("_", "-"), high.replace("_", "-")
        raise Mistake((*path, low), f"{low}: {lowest} is above {high}, {highest}")


def _check_cells(field: TableField, path: KeyPath) -> None:
    bounds = [bound for bound in (field.min, field.max) if bound is not None]
    if bounds and (field.cells == "text" or (field.cells == "integer" and any(b != int(b) for b in bounds))):
        key = "min" if field.min is not None else "max"
        raise Mistake((*path, key), f"{key}: needs cells that are numbers of the same type")


def _check_choices(field: ChoiceField, public: Iterable[AnyField], path: KeyPath) -> None:
    if (field.choices is None) is (field.choices_from is None):
        raise Mistake(path, f"the choice {field.name} needs either choices or choices-from")
    if field.choices is not None:
        if len(set(field.choices)) < len(field.choices):
            raise Mistake((*path, "choices"), "choices: two of them are equal")
        if not all(choice.isprintable() and choice == choice.strip() for choice in field.choices):
            raise Mistake((*path, "choices"), "choices: expected visible characters without spaces around them")
        return
    source = next((other for other in public if other.name == field.choices_from), None)
    if not isinstance(source, TextField) or not source.many or source.optional:
        raise Mistake(
            (*path, "choices-from"),
            f"choices-from: {field.choices_from} is not a required public argument of type text with many = true",
        )


def _check_public(public: Sequence[AnyField]) -> None:
    left_out = ""
    for place, field in enumerate(public):
        path = (*TABLE, "public", place)
        if isinstance(field, FileField | TableField):
            raise Mistake((*path, "type"), "type: a public argument is neither a file nor a table", "see --with")
        if field.give is not None:
            raise Mistake((*path, "give"), "give: a public argument is always an argument of the program")
        if field.option is None:
            if left_out:
                raise Mistake(
                    path, f"{field.name} follows the optional {left_out}: nothing could tell one from the other"
                )
            left_out = field.name if field.optional else ""


def _check_stdin(inputs: Sequence[AnyField]) -> None:
    """Check that a program can tell its inputs at standard input apart: each is a line, and only the last is more."""
    given = [(place, field) for place, field in enumerate(inputs) if field.give is not Give.FILE]
    for place, field in given[:-1]:
        if isinstance(field, FileField | TableField):
            raise Mistake(
                (*TABLE, "input", place),
                f"{field.name} has several lines, and another input follows it at standard input",
                'move it to the end, or add give = "file"',
            )
    for place, field in given:
        if field.optional and len(given) > 1:
            raise Mistake(
                (*TABLE, "input", place),
                f"{field.name} is optional, so no other input can come by standard input",
                'add give = "file" to one of them',
            )
