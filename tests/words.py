"""`make messages`: lists every sentence that a user of onionmpc can see, with its place, to be read aloud.

Knows where such sentences are written: errors and their hints anywhere, all words of the command line and of the other
modules that write for a screen, the commands' docstrings, and the help of their options.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from onionmpc import errors

PACKAGE = Path(errors.__file__).parent
ERRORS = {name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, Exception)}
# Where every text may come onto a screen.
SHOWN = (
    "cli/",
    "program/process/failures.py",
    "program/process/stuck.py",
    "program/spec.py",
    "session/agreed_options.py",
    "session/reports.py",
)
# What such constants hold, by the end of their name, and such functions, by a word in theirs, is put into an error or a
# hint elsewhere.
CONSTANTS = ("HINT", "HINTS", "REPLIES", "NOT_EXPECTED", "PROBABLY_USED", "GONE")
FUNCTIONS = ("hint", "suggestion")
# A sentence has two words at least; what has fewer is a name or a format.
SENTENCE = re.compile(r"\w\S* +\S*\w")


@dataclass(frozen=True, slots=True)
class Sentence:
    """One text that a user can see.

    Attributes:
        kind: "error", "hint", "help" or "text".
        words: as in the source; what is filled in is shown as {expression}.
        place: the file, below the package's folder, and the line.
    """

    kind: str
    words: str
    place: str


def sentences(package: Path = PACKAGE) -> Iterator[Sentence]:
    """Yield every sentence, file by file, in the order of the source."""
    for path in sorted(package.rglob("*.py")):
        name = str(path.relative_to(package))
        nodes = list(ast.walk(ast.parse(path.read_text())))
        ways = [_of_call, _of_hint, *([_of_command, _of_statement] if name.startswith(SHOWN) else [])]
        kinds: dict[ast.expr, str] = {}
        for way in ways:  # the first that knows a text says what it is
            for node in nodes:
                for kind, text in way(node):
                    kinds.setdefault(text, kind)
        for text in sorted(kinds, key=lambda text: (text.lineno, text.col_offset)):
            if SENTENCE.search(words := _words(text)):
                yield Sentence(kinds[text], words, f"{name}:{text.lineno}")


def _of_call(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(node, ast.Call):
        if getattr(node.func, "id", getattr(node.func, "attr", "")) in ERRORS and node.args:
            yield from (("error", text) for text in _texts(node.args[0]))
        for keyword in node.keywords:
            if keyword.arg in ("hint", "help"):
                yield from ((keyword.arg, text) for text in _texts(keyword.value))


def _of_command(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(node, ast.FunctionDef) and any("command" in ast.unparse(each) for each in node.decorator_list):
        first = node.body[0]
        if isinstance(first, ast.Expr):
            yield "help", first.value


def _of_hint(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    match node:
        case ast.Assign(targets=[ast.Name(id=name)], value=value) if name.endswith(CONSTANTS):
            yield from (("hint", text) for text in _texts(value))
        case ast.FunctionDef(name=name) if any(word in name for word in FUNCTIONS):
            returns = [each.value for each in ast.walk(node) if isinstance(each, ast.Return) and each.value is not None]
            yield from (("hint", text) for value in returns for text in _texts(value))


def _of_statement(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    if isinstance(node, ast.stmt) and not isinstance(node, ast.FunctionDef | ast.ClassDef) and not is_docstring:
        yield from (("text", text) for child in _own_expressions(node) for text in _texts(child))


def _own_expressions(statement: ast.stmt) -> Iterator[ast.expr]:
    """Yield the expressions of a statement, without those of the statements inside it."""
    for child in ast.iter_child_nodes(statement):
        if isinstance(child, ast.expr):
            yield child


def _texts(expression: ast.expr) -> Iterator[ast.expr]:
    """Yield the outermost texts of an expression."""
    if isinstance(expression, ast.JoinedStr) or (
        isinstance(expression, ast.Constant) and isinstance(expression.value, str)
    ):
        yield expression
        return
    for child in ast.iter_child_nodes(expression):
        if isinstance(child, ast.expr):
            yield from _texts(child)
        elif isinstance(child, ast.keyword):
            yield from _texts(child.value)


def _words(text: ast.expr) -> str:
    if isinstance(text, ast.Constant):
        return " ".join(str(text.value).split())
    assert isinstance(text, ast.JoinedStr)
    return " ".join("".join(map(_part, text.values)).split())


def _part(part: ast.expr) -> str:
    return "{" + ast.unparse(part.value) + "}" if isinstance(part, ast.FormattedValue) else str(ast.literal_eval(part))


if __name__ == "__main__":
    for sentence in sentences():
        print(f"{sentence.place:<32} {sentence.kind:<6} {sentence.words}")  # noqa: T201
