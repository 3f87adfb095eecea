"""Gets a party's private value from an argument, a file, or a prompt that does not echo.

Knows where a private value can come from, and how to refuse a bad one with a sentence. Does not know what is computed.
Every user of the machine can see an argument (`ps`), so use one only to try a program out.
"""

from __future__ import annotations

import argparse
import getpass
import sys
from collections.abc import Sequence
from pathlib import Path

from mpyc.runtime import mpc


def add_private_arguments(parser: argparse.ArgumentParser, name: str, nargs: str = "?") -> None:
    """Make `parser` take the private value `name` last, after the public arguments."""
    parser.add_argument(name, nargs=nargs, help=f"your {name}; other users of this machine can see it")
    parser.add_argument("--input", metavar="FILE", help=f"read your {name} from FILE, or from standard input (-)")
    parser.add_argument("--demo", action="store_true", help=f"make up a {name} for each party")


def private_text(arguments: argparse.Namespace, name: str, samples: Sequence[str]) -> str:
    """Return this party's private value as text. With --demo, the parties take the `samples` in turn."""
    given = getattr(arguments, name)
    if arguments.demo:
        return samples[mpc.pid % len(samples)]
    if given:
        return given if isinstance(given, str) else " ".join(given)
    if arguments.input:
        return _read(arguments.input, name)
    # `-M3` starts the other parties with our standard input and without output: they could not show a prompt.
    runs_them_all = (mpc.options.M or 1) > 1 and mpc.options.index is None
    has_terminal = sys.stdin.isatty() and (sys.stdout.isatty() or sys.stderr.isatty())
    if runs_them_all or not has_terminal:
        sys.exit(f"no {name} given: use --input FILE, or --demo to try this program out")
    try:
        return getpass.getpass(f"party {mpc.pid}, your {name} (not shown): ").strip()
    except EOFError:
        sys.exit(f"no {name} given")


def different_names(text: str, what: str, fewest: int, most: int) -> list[str]:
    """Return the names that `text` has between commas, or end with a sentence. They are public."""
    names = [name.strip() for name in text.split(",")]
    if not fewest <= len(set(names)) == len(names) <= most or "" in names:
        sys.exit(f"expected {fewest} to {most} different {what}, separated by commas")
    return names


def private_integer(arguments: argparse.Namespace, name: str, samples: Sequence[int], highest: int) -> int:
    """Return this party's private value, a whole number from 0 to `highest`."""
    return integers(private_text(arguments, name, [str(sample) for sample in samples]), name, 0, highest, count=1)[0]


def integers(text: str, name: str, lowest: int, highest: int, count: int | None = None) -> list[int]:
    """Return the whole numbers in `text`, or end with a sentence. It never repeats the text, which is private."""
    try:
        values = [int(word) for word in text.replace(",", " ").split()]
    except ValueError:
        values = []
    if not values or (count and len(values) != count):
        sys.exit(f"the {name} must be {'one whole number' if count == 1 else 'whole numbers'}")
    if not all(lowest <= value <= highest for value in values):
        sys.exit(f"the {name} must be from {lowest} to {highest}")
    return values


def _read(file: str, name: str) -> str:
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        sys.exit(f"cannot read your {name} from {file}: {getattr(error, 'strerror', None) or 'it is not text'}")
    return text.strip()
