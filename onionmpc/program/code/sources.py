"""The Python files of a program, read once: its script, and the modules beside it that it imports by statement.

Knows imports and classes by their syntax. Does not run or import anything: a program is text here. What is read is what
runs, whatever becomes of the files meanwhile. Rules: docs/PROTOCOL.md section 4.
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
        UsageError: one cannot be read or is not Python.
    """
    sources: dict[Path, bytes] = {}
    waiting = [script]
    while waiting:
        path = waiting.pop()
        if path not in sources:
            content = sources[path] = read(path)
            waiting += _imported(parse(path, content), path, folder)
    return sources


def classes(sources: Mapping[Path, bytes], script: Path, folder: Path) -> list[str]:
    """Return the full names of what could be a class of the program: what its files define at their outermost level.

    As Python calls them: "module.Class", the script being "__main__".
    """
    names = set()
    for path, content in sources.items():
        words = path.relative_to(folder).with_suffix("").parts
        module = "__main__" if path == script else ".".join(words[:-1] if words[-1] == "__init__" else words)
        for node in parse(path, content).body:
            if isinstance(node, ast.ClassDef):
                names.add(f"{module}.{node.name}")
            elif isinstance(node, ast.Assign):  # such as a namedtuple
                names |= {f"{module}.{target.id}" for target in node.targets if isinstance(target, ast.Name)}
    return sorted(names)


def imported_names(sources: Mapping[Path, bytes]) -> set[str]:
    """Return the first word of each module that the files import by statement, other than by a relative one."""
    nodes = (node for path, content in sources.items() for node in ast.walk(parse(path, content)))
    return {name for node in nodes for name in names_in(node)}


def names_in(node: ast.AST) -> Iterator[str]:
    """Yield the first word of each module that one statement imports, other than by a relative name."""
    if isinstance(node, ast.Import):
        yield from (alias.name.partition(".")[0] for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        yield node.module.partition(".")[0]


def parse(path: Path, content: bytes) -> ast.Module:
    """Parse a file, in the encoding that its coding line names.

    Raises:
        UsageError: it is not Python.
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
    except (ValueError, LookupError, RecursionError, MemoryError) as error:
        raise UsageError(f"{path.name} is not Python: {error}") from error


def _encoding(content: bytes) -> str:
    try:
        return tokenize.detect_encoding(io.BytesIO(content).readline)[0]
    except SyntaxError:
        content.decode("utf-8")  # says where it is not; a coding line that names nothing is left to be told
        raise


def read(path: Path) -> bytes:
    """Read a file.

    Raises:
        UsageError: it cannot be read.
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
                for alias in node.names:  # `from package import name`: the name may be a module
                    yield from _module_files(folder, start, [*words, alias.name])


def _module_files(folder: Path, start: Path, words: Iterable[str]) -> Iterator[Path]:
    """Each file that importing the module `words` below `start` runs: packages on the way, then itself."""
    place = start
    if place != folder and (place / "__init__.py").is_file():
        yield place / "__init__.py"
    for word in words:
        if word == "*":
            yield from sorted(place.glob("*.py"))  # __all__ may name any of them
            return
        place /= word
        package, module = place / "__init__.py", place.with_name(f"{word}.py")
        if package.is_file():  # wins over a module of the same name, which wins over a folder without __init__
            yield package
        elif module.is_file():
            yield module
            return
