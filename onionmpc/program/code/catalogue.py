"""Finds a program and lists the files that it consists of.

Knows the shipped examples, the name of a file for all parties, and the program digest. Does not run or import a
program. Rules: docs/PROTOCOL.md section 4.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import hashlib
import importlib.util
import json
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from onionmpc.errors import UsageError
from onionmpc.program.block import NO_METADATA, ScriptMetadata
from onionmpc.program.block_parser import parse_metadata
from onionmpc.program.code.attached import BOUNDS_HINT, NOTHING, Attachments
from onionmpc.program.code.installed import distributions_of
from onionmpc.program.code.likeness import only_difference
from onionmpc.program.code.missing import check_installed
from onionmpc.program.code.sources import Source, parse, read, read_sources, source_of
from onionmpc.resources import shipped
from onionmpc.text import printable

DIGEST_LABEL = b"onionmpc/program/1"
# An Offer has at most 1 MiB. Each path in it comes with a digest: 64 hexadecimal digits, and JSON's punctuation.
MAX_PATHS_BYTES = 2**19
DIGEST_BYTES = 70
MAX_CODE_BYTES = 2**26  # the supervisor keeps it in memory and sends it to the program process in one line
MAX_EXPLAINED_BYTES = 2**24  # to explain a difference, up to 14 variants of a file are made and hashed (likeness.py)
_HELPERS = frozenset({"private_input", "digits_data"})  # imported by the examples, not programs


@dataclass(frozen=True, slots=True)
class Program:
    """An MPyC program: its name for all parties, its script, and the folder of the modules beside it.

    Attributes:
        sources: its Python files, by path.
        metadata: what its script says about itself.
    """

    name: str
    path: Path
    folder: Path
    sources: Mapping[Path, Source] = field(default_factory=dict, repr=False, hash=False)
    metadata: ScriptMetadata = NO_METADATA

    @property
    def shipped(self) -> bool:
        """Whether it comes with onionmpc."""
        return self.folder == shipped("examples")


@dataclass(frozen=True, slots=True, order=True)
class ProgramFile:
    """One file of a program: its name for all parties, a POSIX path, and its SHA-256, 32 bytes."""

    path: str
    sha256: bytes


def catalogue() -> list[tuple[str, str]]:
    """Return the name and the title of each shipped program, by name."""
    return [(path.stem, title_of(_read_program(path.stem, path))) for path in _shipped_programs()]


def title_of(program: Program) -> str:
    """Return the title that the program's block gives it. Without a block, it is the first line of its docstring."""
    if program.metadata.about is not None:
        return program.metadata.about.title
    script = parse(program.path, program.sources[program.path].content)
    return (ast.get_docstring(script) or "").partition("\n")[0]


def find_shipped(name: str) -> Program | None:
    """Return the shipped program with exactly this name, or None."""
    for path in _shipped_programs():
        if path.stem == name:
            return _read_program(name, path)
    return None


def find_program(name_or_path: str) -> Program:
    """Return the shipped program with this name ("-" and "_" are the same), or else the script at this path.

    Raises:
        UsageError: there is no such program, or one of its files cannot be read, is not Python, or imports a package
            that is not installed, or the block of its script breaks a rule.
    """
    program = locate_program(name_or_path)
    if not program.shipped:
        check_installed(program.sources, program.folder)
    return program


def locate_program(name_or_path: str) -> Program:
    """Return the same program as `find_program`, even if a package that it imports is not installed.

    Raises:
        UsageError: as in `find_program`.
    """
    name = name_or_path.replace("-", "_")
    if program := find_shipped(name):
        return program
    try:
        path = Path(name_or_path).resolve()  # like Python, which looks for modules beside the target of a link
        if path.is_dir():
            raise UsageError(f"{name_or_path} is a directory, expected a Python script")
        if not path.is_file():
            raise UsageError(f"there is no program {name_or_path}", hint=_suggestion(name_or_path))
        if path.suffix.lower() == ".ipynb":
            raise UsageError(
                f"{name_or_path} is a notebook, expected a Python script",
                hint=f"jupyter nbconvert --to script {shlex.quote(name_or_path)}",
            )
    except (OSError, ValueError, RuntimeError) as error:  # for example no permission, a null byte, links in a circle
        raise UsageError(f"cannot read {name_or_path}: {error}") from error
    return _read_program(path.stem, path)


def _read_program(name: str, path: Path) -> Program:
    sources = read_sources(path, path.parent)
    metadata = parse_metadata(importlib.util.decode_source(sources[path].content), printable(path.name))
    return Program(name, path, path.parent, sources, metadata)


def digest(program: Program, attached: Attachments = NOTHING) -> bytes:
    """Return the program digest, which users compare: SHA-256 over each file's path and content, 32 bytes."""
    return digest_of_files(program_files(program, attached))


def digest_of_files(files: Iterable[ProgramFile]) -> bytes:
    """Return the SHA-256 over the label and, for each file by path, its path and its SHA-256.

    The length of each comes before it, 4 bytes big-endian: without it, two lists of files could hash the same bytes.
    """
    total = hashlib.sha256(_field(DIGEST_LABEL))
    for file in sorted(files):
        total.update(_field(file.path.encode(errors="surrogateescape")) + _field(file.sha256))
    return total.digest()


def _field(value: bytes) -> bytes:
    return len(value).to_bytes(4, "big") + value


def program_files(program: Program, attached: Attachments = NOTHING) -> list[ProgramFile]:
    """Return every file of the program, sorted by path, so that a difference can be reported by name.

    The script is called by its file name, a module by its path below the script's folder, and an attached file by
    "with/" and its name ("with" is a keyword, so no module has that name). The paths on this machine stay private: they
    differ between the parties anyway.

    Raises:
        UsageError: there are more files than parties can compare.
    """
    files = [ProgramFile(path, hashlib.sha256(content).digest()) for path, content in _named_sources(program)]
    files += [ProgramFile(file.name, file.sha256) for file in attached.files]
    _check_bounds(files, code_of(program, attached))
    return sorted(files)


def code_of(program: Program, attached: Attachments = NOTHING) -> dict[str, bytes]:
    """Return the code that the program process runs from memory, by its path on this machine."""
    code = {str(file.path): file.source for file in attached.files if file.source is not None}
    return code | {str(path): source.content for path, source in program.sources.items()}


def program_classes(program: Program) -> list[str]:
    """Return the full names of everything that could be a class: what the files define at their top level.

    Names are as in Python: "module.Class". The module of the script is "__main__".
    """
    names = set()
    for path, source in program.sources.items():
        words = path.relative_to(program.folder).with_suffix("").parts
        module = "__main__" if path == program.path else ".".join(words[:-1] if words[-1] == "__init__" else words)
        names |= {f"{module}.{name}" for name in source.defined}
    return sorted(names)


def distributions(program: Program, attached: Attachments = NOTHING) -> dict[str, str]:
    """Return the version of each distribution that the Python files import by statement, by the distribution's name."""
    imports = {name for source in program.sources.values() for name in source.imports}
    for file in attached.files:
        if file.source is not None:
            with contextlib.suppress(UsageError):  # this Python cannot parse it; its import, if any, reports that
                imports |= source_of(file.path, file.source).imports
    own = {path.partition("/")[0].removesuffix(".py") for path, _ in _named_sources(program)}
    return distributions_of(imports - own)


def explain_difference(program: Program, attached: Attachments, name: str, other_sha256: str) -> str:
    """Return the only way in which another party's file differs from ours, or the empty string.

    Args:
        name: the file's name for all parties.
        other_sha256: the digest of the other party's file, in hex.
    """
    contents = dict(_named_sources(program))
    for file in attached.files:
        with contextlib.suppress(UsageError, OSError):  # the file is gone: there is nothing to explain
            if file.name == name and (file.source is not None or file.path.stat().st_size <= MAX_EXPLAINED_BYTES):
                contents[name] = read(file.path) if file.source is None else file.source
    return only_difference(contents[name], other_sha256) if name in contents else ""


def _named_sources(program: Program) -> Iterator[tuple[str, bytes]]:
    for path, source in program.sources.items():
        yield path.relative_to(program.folder).as_posix(), source.content


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


def _suggestion(name_or_path: str) -> str:
    first, *others = name_or_path.split(maxsplit=1) or [""]
    if others and Path(first).is_file():
        return f"what is for the program follows a lone --: {first} ... -- {others[0]}"
    names = [path.stem for path in _shipped_programs()]
    near = difflib.get_close_matches(name_or_path.replace("-", "_"), names, n=3)
    return f"did you mean {' or '.join(near)}?" if near else "give the path of a script, or one of " + ", ".join(names)
