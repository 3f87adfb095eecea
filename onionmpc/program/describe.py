"""Says in words what the fields of a program's block take.

The words come from the block's author, who may be a stranger: they are escaped here.
"""

from __future__ import annotations

from collections.abc import Iterator

from onionmpc.program.block import (
    AnyField,
    ChoiceField,
    DecimalField,
    FileField,
    Give,
    IntegerField,
    OutputView,
    TableField,
    TextField,
    YesNoField,
)
from onionmpc.text import printable

# What a program reveals is its author's claim: the same words on each screen.
AUTHOR_SAYS = "its author says that it reveals"
MAX_SHOWN_CHOICES = 20


def describe_field(field: AnyField) -> str:
    """Say what a field takes, as in "a whole number from 0 to 100 EUR; optional"."""
    words = "; ".join(_parts(field))
    return f"{words}; optional" if field.optional else words


def _parts(field: AnyField) -> Iterator[str]:
    match field:
        case IntegerField() | DecimalField():
            kind = "whole number" if isinstance(field, IntegerField) else "number"
            unit = f" {printable(field.unit)}" if field.unit else ""
            yield f"{_several(field, kind)}{_range(field.min, field.max)}{unit}"
            if isinstance(field, DecimalField) and field.places:
                yield f"at most {field.places} digits after the point"
            if usual := _range(field.warn_min, field.warn_max):
                yield f"usually{usual}"
        case TextField():
            yield f"{_several(field, 'text')} of at most {field.max_length} characters"
        case ChoiceField(choices=None):
            yield f"one of: {field.choices_from}"
        case ChoiceField(choices=choices):
            assert choices is not None  # noqa: S101 (the case above)
            more = ", …" if len(choices) > MAX_SHOWN_CHOICES else ""
            yield "one of: " + ", ".join(map(printable, choices[:MAX_SHOWN_CHOICES])) + more
        case YesNoField():
            yield "yes or no"
        case FileField():
            yield f"a file of at most {field.max_bytes} bytes"
        case TableField():
            yield f"a table of {field.min_rows} to {field.max_rows} rows"
            if field.columns:
                yield "columns " + ", ".join(map(printable, field.columns))
            kind = {"integer": "whole numbers", "decimal": "numbers", "text": "texts"}[field.cells]
            yield f"its cells are {kind}{_range(field.min, field.max)}"


def _several(field: IntegerField | DecimalField | TextField, kind: str) -> str:
    return f"{field.min_count} to {field.max_count} values, each a {kind}" if field.many else f"a {kind}"


def _range(lowest: object, highest: object) -> str:
    if lowest is None and highest is None:
        return ""
    if highest is None:
        return f" from {lowest}"
    return f" up to {highest}" if lowest is None else f" from {lowest} to {highest}"


def describe_delivery(field: AnyField) -> str:
    """Say how the program gets a private input."""
    return "in a private file" if field.give is Give.FILE else "at standard input"


def describe_output(output: OutputView) -> str:
    """Say what the program prints."""
    words = {"value": "one line", "pairs": "lines like name: value", "table": "a table"}[output.type]
    label = f"{printable(output.label, 300)}: " if output.label else ""
    unit = f", in {printable(output.unit)}" if output.unit else ""
    chart = f", which can be drawn as {'bars' if output.chart == 'bars' else 'a line'}" if output.chart else ""
    return f"{label}{words}{unit}{chart}"
