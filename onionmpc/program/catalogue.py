"""Finds a program and says what exactly it consists of.

Knows the shipped examples, the imports of a script and the program digest. Does not run or import a program:
it is text here. Rules: docs/PROTOCOL.md section 4.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from onionmpc.errors import UsageError
from onionmpc.resources import shipped

DIGEST_LABEL = b"onionmpc/program/1"
_HELPERS = frozenset({"private_input"})  # imported by the examples, not a program


@dataclass(frozen=True, slots=True)
class Program:
    """An MPyC program: what the parties call it, its script, and the folder of the modules beside it."""

    name: str
    path: Path
    folder: Path

    @property
    def shipped(self) -> bool:
        """Whether it came with onionmpc."""
        return self.folder == shipped("examples")


@dataclass(frozen=True, slots=True, order=True)
class ProgramFile:
    """One file of a program: its POSIX path as all parties call it, and its SHA-256, 32 bytes."""

    path: str
    sha256: bytes


def catalogue() -> list[tuple[str, str]]:
    """Return the name and the first docstring line of each shipped program, by name."""
    return [(path.stem, _first_line(path)) for path in _shipped_programs()]


def find_shipped(name: str) -> Program | None:
    """Return the shipped program of exactly that name, None if there is none."""
    for path in _shipped_programs():
        if path.stem == name:
            return Program(name, path, path.parent)
    return None


def find_program(name_or_path: str) -> Program:
    """Return the shipped program of that name ("-" and "_" are the same), or else the script at that path.

    Raises:
        UsageError: there is no such program, or it cannot be read.
    """
    name = name_or_path.replace("-", "_")
    if program := find_shipped(name):
        return program
    try:
        path = Path(name_or_path).resolve()  # like Python, look for modules beside what a symbolic link leads to
        if path.is_dir():
            raise UsageError(f"{name_or_path} is a directory, expected a Python script")
        if not path.is_file():
            raise UsageError(f"there is no program {name_or_path}", hint=_suggestion(name))
    except (OSError, ValueError, RuntimeError) as error:  # no permission, a null byte, links in a circle
        raise UsageError(f"cannot read {name_or_path}: {error}") from error
    return Program(path.stem, path, path.parent)


def digest(program: Program, extra_files: Iterable[Path] = ()) -> bytes:
    """Return what the parties compare: SHA-256 over each file's path and content, 32 bytes.

    Args:
        program: the script; the modules that it imports from its own folder belong to it.
        extra_files: what else has to be the same everywhere, such as data (`--with FILE`).
    Raises:
        UsageError: a file cannot be read or is not Python.
    """
    return digest_of_files(program_files(program, extra_files))


def digest_of_files(files: Iterable[ProgramFile]) -> bytes:
    """Return the SHA-256 of the label, then for each file, in order of its path: the path and its SHA-256.

    Each of these is preceded by its length, 4 bytes big-endian, so that no two lists run together.
    """
    total = hashlib.sha256(_field(DIGEST_LABEL))
    for file in sorted(files):
        total.update(_field(file.path.encode(errors="surrogateescape")) + _field(file.sha256))
    return total.digest()


def _field(value: bytes) -> bytes:
    return len(value).to_bytes(4, "big") + value


def program_files(program: Program, extra_files: Iterable[Path] = ()) -> list[ProgramFile]:
    """Return every file that belongs to the program, in order of its path, so that a difference can be named.

    The script goes by its file name, a module by its path below the script's folder, a further file by
    "with/" and its file name ("with" cannot name a module). Where they lie on this machine differs between
    parties, and is nobody's business.
    """
    contents = {path.relative_to(program.folder).as_posix(): content for path, content in _sources(program)}
    for file in extra_files:
        name = f"with/{file.name}"
        if name in contents:
            raise UsageError(f"two files are called {file.name}", hint="rename one of them")
        contents[name] = _read(file)
    return [ProgramFile(path, hashlib.sha256(content).digest()) for path, content in sorted(contents.items())]


def program_classes(program: Program) -> list[str]:
    """Return the full names of what could be a class of the program: what its files define at their outermost level.

    As Python calls them: "module.Class", the script being "__main__".
    """
    names = set()
    for path, content in _sources(program):
        words = path.relative_to(program.folder).with_suffix("").parts
        module = "__main__" if path == program.path else ".".join(words[:-1] if words[-1] == "__init__" else words)
        for node in _parse(path, content).body:
            if isinstance(node, ast.ClassDef):
                names.add(f"{module}.{node.name}")
            elif isinstance(node, ast.Assign):  # such as a namedtuple
                names |= {f"{module}.{target.id}" for target in node.targets if isinstance(target, ast.Name)}
    return sorted(names)


def _sources(program: Program) -> Iterator[tuple[Path, bytes]]:
    """The script and the modules of its own folder that it imports, directly or through one another."""
    waiting, seen = [program.path], {program.path}
    while waiting:
        path = waiting.pop()
        content = _read(path)
        yield path, content
        for found in _imported(_parse(path, content), path, program.folder):
            if found not in seen:
                seen.add(found)
                waiting.append(found)


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


def _module_files(folder: Path, start: Path, words: list[str]) -> Iterator[Path]:
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


def _parse(path: Path, content: bytes) -> ast.Module:
    try:
        return ast.parse(content.decode("utf-8-sig"), filename=path.name)
    except UnicodeDecodeError as error:
        raise UsageError(f"{path.name} is not UTF-8 (byte {error.start})") from error
    except SyntaxError as error:
        raise UsageError(f"{path.name} is not Python: line {error.lineno}: {error.msg}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise UsageError(f"{path.name} is not Python: {error}") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error


def _shipped_programs() -> list[Path]:
    return sorted(path for path in shipped("examples").glob("*.py") if path.stem not in _HELPERS)


def _first_line(path: Path) -> str:
    return (ast.get_docstring(_parse(path, _read(path))) or "").partition("\n")[0]


def _suggestion(name: str) -> str:
    names = [path.stem for path in _shipped_programs()]
    near = difflib.get_close_matches(name, names, n=3)
    return f"did you mean {' or '.join(near)}?" if near else "give a script's path, or one of " + ", ".join(names)
