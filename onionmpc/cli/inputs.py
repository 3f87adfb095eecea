"""Reads the private inputs that --input names. Their values never are words of the command line."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from onionmpc.cli.prompt import take_terminal
from onionmpc.errors import UsageError
from onionmpc.text import printable


def read_inputs(words: Sequence[str]) -> dict[str, bytes]:
    """Read NAME=@FILE and NAME=- and return the contents by name.

    Raises:
        UsageError: a word has another form, or something cannot be read. The message does not repeat a value.
    """
    inputs: dict[str, bytes] = {}
    stdin_taken = False
    for word in words:
        name, separator, source = word.partition("=")
        if not separator or not name:
            raise UsageError(
                "--input: expected NAME=@FILE or NAME=-",
                hint="put the program's own --input after a lone --, as in: PROGRAM ... -- --input ...",
            )
        name = printable(name, 60)
        if source != "-" and not source.startswith("@"):
            raise UsageError(
                f"--input {name}: the value itself is on the command line, which other users of this machine can see",
                hint=f"--input {name}=@FILE reads it from a file, --input {name}=- from standard input",
            )
        if name in inputs:
            raise UsageError(f"--input {name} was given twice")
        if source == "-":
            if stdin_taken:
                raise UsageError("standard input can hold only one input", hint="read the others from files")
            stdin_taken = True
            inputs[name] = _read_stdin(name)
        else:
            inputs[name] = _read_file(name, Path(source[1:]))
    if stdin_taken:
        take_terminal()
    return inputs


def _read_stdin(name: str) -> bytes:
    try:
        return sys.stdin.buffer.read()
    except OSError as error:
        raise UsageError(f"--input {name}: cannot read standard input: {error.strerror}") from error


def _read_file(name: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"--input {name}: cannot read {printable(str(path))}: {error.strerror}") from error
    except ValueError as error:  # a zero byte
        raise UsageError(f"--input {name}: a file cannot have this name") from error
