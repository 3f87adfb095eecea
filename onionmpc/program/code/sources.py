"""Reads the Python files of a program once: its script, and the modules beside it that it imports by statement.

Knows imports and classes by their syntax. Does not run or import anything: a program is text here. These bytes are what
runs, even if the files change later. Rules: docs/PROTOCOL.md section 4.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from onionmpc.errors import UsageError


@dataclass(frozen=True, slots=True)
class Source:
    """One Python file, and what its syntax tells.

    Attributes:
        content: its bytes. They are read once: these are compared, and these run.
        imports: the top-level name of each module that an absolute import statement names, wherever it stands.
        required: those that a statement at the top level imports, in their order: the file cannot run without them.
        defined: the names at its top level that could be classes.
    """

    content: bytes = field(repr=False)
    imports: frozenset[str]
    required: tuple[str, ...]
    defined: tuple[str, ...]


def read_sources(script: Path, folder: Path) -> dict[Path, Source]:
    """Read the script and the modules of its folder that it imports, directly or through one another.

    Raises:
        UsageError: a file cannot be read or is not Python.
    """
    sources: dict[Path, Source] = {}
    unread = [script]
    while unread:
        path = unread.pop()
        if path not in sources:
            content = read(path)
            tree = parse(path, content)
            sources[path] = _describe(content, tree)
            unread += _imported(tree, path, folder)
    return sources


def source_of(path: Path, content: bytes) -> Source:
    """Return what the syntax of one file tells.

    Raises:
        UsageError: the file is not Python.
    """
    return _describe(content, parse(path, content))


def _describe(content: bytes, tree: ast.Module) -> Source:
    return Source(
        content,
        imports=frozenset(name for node in ast.walk(tree) for name in _names_in(node)),
        required=tuple(name for node in tree.body for name in _names_in(node)),
        defined=tuple(name for node in tree.body for name in _defined_by(node)),
    )


def _names_in(node: ast.AST) -> Iterator[str]:
    """Yield the top-level name of each module that one absolute import statement names."""
    if isinstance(node, ast.Import):
        yield from (alias.name.partition(".")[0] for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        yield node.module.partition(".")[0]


def _defined_by(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Assign):  # for example a namedtuple
        yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def parse(path: Path, content: bytes) -> ast.Module:
    """Parse a file in the encoding that its coding line names.

    Raises:
        UsageError: the file is not Python.
    """
    encoding = "utf-8"
    try:
        encoding = _encoding(content)
        return ast.parse(content.decode(encoding), filename=path.name)
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path.name} is not {encoding.upper()} (byte {error.start})",
            hint="save it as UTF-8, or name its encoding in its first line: # -*- coding: latin-1 -*-",
        ) from error
    except SyntaxError as error:
        where = f"line {error.lineno}: " if error.lineno else ""
        raise UsageError(f"{path.name} is not Python: {where}{error.msg}") from error
    # Null bytes; a coding line that names no text encoding, such as hex; nesting that the parser gives up on.
    except (ValueError, LookupError, RecursionError, MemoryError) as error:
        raise UsageError(f"{path.name} is not Python: {error}") from error


def _encoding(content: bytes) -> str:
    try:
        return tokenize.detect_encoding(io.BytesIO(content).readline)[0]
    except SyntaxError:
        # If the content is not UTF-8, this error has the position of the byte. Otherwise the coding line is wrong.
        content.decode("utf-8")
        raise


def read(path: Path) -> bytes:
    """Read a file.

    Raises:
        UsageError: the file cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error


def _imported(tree: ast.Module, path: Path, folder: Path) -> Iterator[Path]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _module_files(folder, folder, alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            start = path.parents[node.level - 1] if 0 < node.level <= len(path.parents) else folder
            if start.is_relative_to(folder):
                words = node.module.split(".") if node.module else []
                for alias in node.names:  # in `from package import name`, the name may be a module
                    yield from _module_files(folder, start, [*words, alias.name])


def _module_files(folder: Path, start: Path, words: Iterable[str]) -> Iterator[Path]:
    """Yield each file that an import of the module `words` below `start` runs: its packages, then the module itself."""
    place = start
    if place != folder and (place / "__init__.py").is_file():
        yield place / "__init__.py"
    for word in words:
        if word == "*":
            yield from sorted(place.glob("*.py"))  # __all__ may name any of them
            return
        place /= word
        package, module = place / "__init__.py", place.with_name(f"{word}.py")
        # As in Python, a package wins over a module of the same name, and that over a folder without __init__.py.
        if package.is_file():
            yield package
        elif module.is_file():
            yield module
            return
