"""A public name means one thing in the whole package, and tests do not change what constants mean."""

from __future__ import annotations

import ast
import collections
import re
from collections.abc import Iterator
from pathlib import Path

import onionmpc

PACKAGE = Path(onionmpc.__file__).parent
ALLOWED = {
    "HOUR_S",  # one number, in mesh and in tor, which do not import each other
    "Event",  # of a link in wire, and of a session
    "Step",  # of a Noise handshake in wire, and of a session
    "TAG_BYTES",  # of the same cipher, in two modules of wire
}


# Constants that tests replace: what this machine is like. Times and limits are passed in.
PATCHED = {"FILE_MODE", "KNOWN_PLACES", "ONE_ADDRESS"}


def public_names(path: Path) -> Iterator[str]:
    """Yield the classes, constants and type aliases that a module defines for others."""
    for statement in ast.parse(path.read_bytes()).body:
        match statement:
            case ast.ClassDef(name=name) | ast.AnnAssign(target=ast.Name(id=name)):
                names = [name]
            case ast.Assign(targets=targets):
                names = [target.id for target in targets if isinstance(target, ast.Name)]
            case _:
                continue
        yield from (name for name in names if not name.startswith("_"))


def test_each_class_and_constant_has_a_name_of_its_own() -> None:
    modules = collections.defaultdict(set)
    for path in PACKAGE.rglob("*.py"):
        for name in public_names(path):
            modules[name].add(str(path.relative_to(PACKAGE)))
    shared = {name: sorted(where) for name, where in modules.items() if len(where) > 1}
    assert {name: where for name, where in shared.items() if name not in ALLOWED} == {}
    assert ALLOWED - shared.keys() == set(), "these have names of their own by now"


def test_tests_replace_no_constant_but_those_that_say_what_a_machine_is_like() -> None:
    tests = [path.read_text() for path in Path(__file__).parent.rglob("*.py")]
    found = {name for text in tests for name in re.findall(r'setattr\([^()]*?[".]([A-Z][A-Z0-9_]+)"', text)}
    assert found == PATCHED
