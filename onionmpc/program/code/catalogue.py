"""Finds a program and says what exactly it consists of.

Knows the shipped examples, what all parties call a file, and the program digest. Does not run or import a program.
Rules: docs/PROTOCOL.md section 4.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import hashlib
import json
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from onionmpc.errors import UsageError
from onionmpc.program.code.attached import BOUNDS_HINT, NOTHING, Attachments
from onionmpc.program.code.installed import distributions_of
from onionmpc.program.code.likeness import only_difference
from onionmpc.program.code.missing import check_installed
from onionmpc.program.code.sources import classes, imported_names, parse, read, read_sources
from onionmpc.resources import shipped
from onionmpc.text import printable

DIGEST_LABEL = b"onionmpc/program/1"
# An Offer has at most 1 MiB. With each path go a digest in hex and what JSON puts around both.
MAX_PATHS_BYTES = 2**19
DIGEST_BYTES = 70
MAX_CODE_BYTES = 2**26
MAX_EXPLAINED_BYTES = 2**24
_HELPERS = frozenset({"private_input"})  # imported by the examples, not a program


@dataclass(frozen=True, slots=True)
class Program:
    """An MPyC program: what the parties call it, its script, and the folder of the modules beside it.

    Attributes:
        sources: its Python files as they were read when it was found. They are what is compared, and what runs.
    """

    name: str
    path: Path
    folder: Path
    sources: Mapping[Path, bytes] = field(default_factory=dict, repr=False, hash=False)

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
            return _read_program(name, path)
    return None


def find_program(name_or_path: str) -> Program:
    """Return the shipped program of that name ("-" and "_" are the same), or else the script at that path.

    Raises:
        UsageError: there is no such program; or a file of it cannot be read, is not Python, or imports a package that
            is not installed.
    """
    name = name_or_path.replace("-", "_")
    if program := find_shipped(name):
        return program
    try:
        path = Path(name_or_path).resolve()  # like Python, look for modules beside what a symbolic link leads to
        if path.is_dir():
            raise UsageError(f"{name_or_path} is a directory, expected a Python script")
        if not path.is_file():
            raise UsageError(f"there is no program {name_or_path}", hint=_suggestion(name_or_path))
        if path.suffix.lower() == ".ipynb":
            raise UsageError(
                f"{name_or_path} is a notebook, expected a Python script",
                hint=f"jupyter nbconvert --to script {shlex.quote(name_or_path)}",
            )
    except (OSError, ValueError, RuntimeError) as error:  # no permission, a null byte, links in a circle
        raise UsageError(f"cannot read {name_or_path}: {error}") from error
    program = _read_program(path.stem, path)
    check_installed(program.sources.items(), program.folder)
    return program


def _read_program(name: str, path: Path) -> Program:
    return Program(name, path, path.parent, read_sources(path, path.parent))


def digest(program: Program, attached: Attachments = NOTHING) -> bytes:
    """Return what people compare: SHA-256 over each file's path and content, 32 bytes."""
    return digest_of_files(program_files(program, attached))


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


def program_files(program: Program, attached: Attachments = NOTHING) -> list[ProgramFile]:
    """Return every file that belongs to the program, in order of its path, so that a difference can be named.

    The script goes by its file name, a module by its path below the script's folder, what `--with` names by "with/" and
    its name ("with" cannot name a module). Where they lie on this machine differs between parties, and is nobody's
    business.

    Raises:
        UsageError: they are more than parties can compare.
    """
    files = [ProgramFile(path, hashlib.sha256(content).digest()) for path, content in _named_sources(program)]
    files += [ProgramFile(file.name, file.sha256) for file in attached.files]
    _check_bounds(files, code_of(program, attached))
    return sorted(files)


def code_of(program: Program, attached: Attachments = NOTHING) -> dict[str, bytes]:
    """Return what the program process may run from memory, by where it lies on this machine."""
    code = {str(file.path): file.source for file in attached.files if file.source is not None}
    return code | {str(path): content for path, content in program.sources.items()}


def program_classes(program: Program) -> list[str]:
    """Return the full names of what could be a class of the program; see `classes`."""
    return classes(program.sources, program.path, program.folder)


def distributions(program: Program, attached: Attachments = NOTHING) -> dict[str, str]:
    """Return the version of each installed distribution that the Python files import by statement, by its name."""
    attached_sources = {file.path: file.source for file in attached.files if file.source is not None}
    own = {path.partition("/")[0].removesuffix(".py") for path, _ in _named_sources(program)}
    try:
        return distributions_of(imported_names({**program.sources, **attached_sources}) - own)
    except UsageError:  # a file after --with may not parse with this Python; its import will fail then
        return distributions_of(imported_names(program.sources) - own)


def explain_difference(program: Program, attached: Attachments, name: str, other_sha256: str) -> str:
    """Return in what alone another party's file of that name differs from ours, or the empty string.

    Args:
        other_sha256: of the other party's, in hex.
    """
    contents = dict(_named_sources(program))
    for file in attached.files:
        with contextlib.suppress(UsageError, OSError):  # gone meanwhile
            if file.name == name and (file.source is not None or file.path.stat().st_size <= MAX_EXPLAINED_BYTES):
                contents[name] = read(file.path) if file.source is None else file.source
    return only_difference(contents[name], other_sha256) if name in contents else ""


def _named_sources(program: Program) -> Iterator[tuple[str, bytes]]:
    for path, content in program.sources.items():
        yield path.relative_to(program.folder).as_posix(), content


def _check_bounds(files: Sequence[ProgramFile], code: Mapping[str, bytes]) -> None:
    for file in files:
        try:
            file.path.encode()
        except UnicodeEncodeError:
            raise UsageError(f"the file name {printable(file.path)} is not UTF-8", hint="rename the file") from None
    if sum(len(json.dumps(file.path)) + DIGEST_BYTES for file in files) > MAX_PATHS_BYTES:
        raise UsageError(f"{len(files)} files have paths that are too long for an offer", hint=BOUNDS_HINT)
    if sum(map(len, code.values())) > MAX_CODE_BYTES:
        raise UsageError(
            f"the program has more than {MAX_CODE_BYTES // 2**20} MiB of Python",
            hint="keep data in files that are not Python, and name them with --with",
        )


def _shipped_programs() -> list[Path]:
    return sorted(path for path in shipped("examples").glob("*.py") if path.stem not in _HELPERS)


def _first_line(path: Path) -> str:
    return (ast.get_docstring(parse(path, read(path))) or "").partition("\n")[0]


def _suggestion(name_or_path: str) -> str:
    first, *others = name_or_path.split(maxsplit=1) or [""]
    if others and Path(first).is_file():
        return f"what is for the program follows a lone --: {first} ... -- {others[0]}"
    names = [path.stem for path in _shipped_programs()]
    near = difflib.get_close_matches(name_or_path.replace("-", "_"), names, n=3)
    return f"did you mean {' or '.join(near)}?" if near else "give the path of a script, or one of " + ", ".join(names)
