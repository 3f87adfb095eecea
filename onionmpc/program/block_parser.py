"""Reads the block of a script: TOML into the types of program/block.py, or the line that breaks a rule.

Does not run or read files: the text of the script comes in.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from onionmpc.errors import UsageError
from onionmpc.program.block import (
    FIELD_TYPES,
    MAX_CHOICES,
    MAX_FIELDS,
    MAX_INPUT_BYTES,
    MAX_ROWS,
    MAX_VALUES,
    NO_METADATA,
    Field,
    OutputView,
    ProgramBlock,
    ScriptMetadata,
)
from onionmpc.program.block_rules import TABLE, check_meaning
from onionmpc.program.metadata import CommentBlock, find_script_block
from onionmpc.text import printable
from onionmpc.toml_lines import Mistake, NotTOML, line_of, read_toml

_PATH = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")
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
    "type": ", ".join(FIELD_TYPES),
    "option": "a long option in lower case, such as --rows",
    "optional": "true or false",
    "demo": "a text of 1 to 1000 characters",
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
    except Mistake as mistake:
        line = found.first_line + line_of(found.lines, mistake.path)
        raise UsageError(f"{file}, line {line}: {mistake.words}", hint=mistake.hint) from None


def _read_toml(found: CommentBlock, file: str) -> dict[str, Any]:
    try:
        return read_toml(found.lines)
    except NotTOML as error:
        line = found.first_line + error.line
        raise UsageError(f"{file}, line {line}: the block is not TOML: {error.words}") from error


def _dependencies(document: dict[str, Any]) -> tuple[str, ...]:
    found = document.get("dependencies", [])
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise Mistake(["dependencies"], "dependencies: expected a list of texts")
    return tuple(found)


def _about(document: dict[str, Any]) -> ProgramBlock | None:
    tool = document.get("tool", {})
    table = tool.get("onionmpc") if isinstance(tool, dict) else None
    if table is None:
        return None
    if not isinstance(table, dict):
        raise Mistake(TABLE, "onionmpc: expected a table, written [tool.onionmpc]")
    _check_version(table)
    _check_keys(table)
    try:
        block = msgspec.convert(table, ProgramBlock)
    except msgspec.ValidationError as error:
        raise _mistake_of(str(error)) from None
    check_meaning(block)
    return block


def _check_version(table: dict[str, Any]) -> None:
    version = table.get("version")
    # First, since another version may have other keys. True == 1, and a bool is not a version.
    if version != 1 or isinstance(version, bool):
        words = "version is missing, expected version = 1" if version is None else "version: expected 1"
        path = TABLE if version is None else (*TABLE, "version")
        raise Mistake(path, words, "a newer release of onionmpc may know a later version")


def _check_keys(table: dict[str, Any]) -> None:
    """Refuse unknown keys, as msgspec does, but with the nearest one as a hint."""
    _check_keys_of(ProgramBlock, table, TABLE, "")
    for kind in ("public", "input"):
        fields = table.get(kind)
        for place, field in enumerate(fields if isinstance(fields, list) else ()):
            if isinstance(field, dict) and isinstance(field.get("type"), str) and field["type"] in FIELD_TYPES:
                of = f" of an input of type {field['type']}" if kind == "input" else f" of type {field['type']}"
                _check_keys_of(FIELD_TYPES[field["type"]], field, (*TABLE, kind, place), of)
                for key in ("min", "max", "warn-min", "warn-max"):
                    if isinstance(field.get(key), str):  # msgspec takes a text for a decimal
                        raise Mistake((*TABLE, kind, place, key), f"{key}: expected {_EXPECTED[key]}, not a text")
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
            raise Mistake((*path, key), f"there is no key {printable(key, 60)}{of}", hint)


def _mistake_of(message: str) -> Mistake:
    """Say what msgspec found in the words of this format."""
    _, _, place = message.rpartition(" - at `$")
    path: list[str | int] = [name or int(index) for name, index in _PATH.findall(place.removesuffix("`"))]
    if missing := re.match(r"Object missing required field `([^`]+)`", message):
        where = f" of {path[0]} {int(path[1]) + 1}" if len(path) == 2 else " of output" if path else ""
        return Mistake(
            (*TABLE, *path), f"the key {missing[1]}{where} is missing, expected {_expected(path, missing[1])}"
        )
    key = next((str(part) for part in reversed(path) if isinstance(part, str)), "onionmpc")
    return Mistake((*TABLE, *path), f"{key}: expected {_expected(path, key)}")


def _expected(path: Sequence[str | int], key: str) -> str:
    return _OUTPUT_TYPES if key == "type" and path[:1] == ["output"] else _EXPECTED[key]
