"""A public name means one thing in the whole package."""

from __future__ import annotations

import ast
import collections
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
