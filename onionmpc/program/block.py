"""What a program says about itself: the types of `[tool.onionmpc]` in its block of script metadata (PEP 723).

Knows every key with its type. Does not know how the block is read (program/block_parser.py), or which keys go together
(program/block_rules.py). The block lies inside the file that all parties agree on, so all parties read the same one.
What it says is its author's claim: nothing here makes it true. The keys: docs/reference/blocks.md.
"""

from __future__ import annotations

from decimal import Decimal
from enum import Enum
from typing import Annotated, Literal

import msgspec

MAX_FIELDS = 32  # of each kind: a form that people fill in
MAX_CHOICES = 200
MAX_VALUES = 10_000
MAX_ROWS = 1_000_000
MAX_INPUT_BYTES = 2**26  # kept in memory until the program takes it

Title = Annotated[str, msgspec.Meta(min_length=1, max_length=80)]
Words = Annotated[str, msgspec.Meta(min_length=1, max_length=300)]
Unit = Annotated[str, msgspec.Meta(min_length=1, max_length=20)]
FieldName = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_-]{0,39}\Z")]
OptionName = Annotated[str, msgspec.Meta(pattern=r"^--[a-z][a-z0-9-]{0,39}\Z")]
DemoText = Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]
ChoiceText = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
BoundNumber = int | Decimal
Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_VALUES)]


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
        demo: a value with which to try the program out.
        give: how a private input is handed over; None for a public argument, which is always an argument.
    """

    name: FieldName
    label: Words
    help: Words | None = None
    option: OptionName | None = None
    optional: bool = False
    demo: DemoText | None = None
    give: Give | None = None


class ManyField(Field, frozen=True, kw_only=True):
    """A field that may take many values.

    Attributes:
        many: whether it takes several values, separated by commas.
        min_count, max_count: how many.
    """

    many: bool = False
    min_count: Count = 1
    max_count: Count = MAX_VALUES


class IntegerField(ManyField, frozen=True, kw_only=True, tag="integer"):
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


class DecimalField(ManyField, frozen=True, kw_only=True, tag="decimal"):
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


class TextField(ManyField, frozen=True, kw_only=True, tag="text"):
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
FIELD_TYPES: dict[str, type[Field]] = {
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
