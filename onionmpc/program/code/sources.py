"""Reads the Python files of a program once: its script, and the modules beside it that it imports by statement.

Knows imports and classes by their syntax. Does not run or import anything: a program is text here. These bytes are what
runs, even if the files change later. Rules: docs/PROTOCOL.md section 4.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from onionmpc.errors import UsageError


def read_sources(script: Path, folder: Path) -> dict[Path, bytes]:
    """Read the script and the modules of its folder that it imports, directly or through one another.

    Raises:
        UsageError: a file cannot be read or is not Python.
    """
    sources: dict[Path, bytes] = {}
    unread = [script]
    while unread:
        path = unread.pop()
        if path not in sources:
            content = sources[path] = read(path)
            unread += _imported(parse(path, content), path, folder)
    return sources


def classes(sources: Mapping[Path, bytes], script: Path, folder: Path) -> list[str]:
    """Return the full names of everything that could be a class: what the files define at their top level.

    Names are as in Python: "module.Class". The module of the script is "__main__".
    """
    names = set()
    for path, content in sources.items():
        words = path.relative_to(folder).with_suffix("").parts
        module = "__main__" if path == script else ".".join(words[:-1] if words[-1] == "__init__" else words)
        for node in parse(path, content).body:
            if isinstance(node, ast.ClassDef):
                names.add(f"{module}.{node.name}")
            elif isinstance(node, ast.Assign):  # for example a namedtuple
                names |= {f"{module}.{target.id}" for target in node.targets if isinstance(target, ast.Name)}
    return sorted(names)


def imported_names(sources: Mapping[Path, bytes]) -> set[str]:
    """Return the top-level name of each module that the files import by an absolute import statement."""
    nodes = (node for path, content in sources.items() for node in ast.walk(parse(path, content)))
    return {name for node in nodes for name in names_in(node)}


def names_in(node: ast.AST) -> Iterator[str]:
    """Yield the top-level name of each module that one absolute import statement names."""
    if isinstance(node, ast.Import):
        yield from (alias.name.partition(".")[0] for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        yield node.module.partition(".")[0]


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
