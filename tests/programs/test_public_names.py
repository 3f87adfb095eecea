"""The scripts use each public name of MPyC's runtime, types and extension modules, or a table says why not."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.support.with_mpyc import run_with_mpyc

SCRIPTS = Path(__file__).parent / "scripts"

_SHARE = "MPyC calls it to set a share that it has promised"
UNUSED = {
    "runtime.Runtime.prfs": "keys of pseudorandom sharing, for MPyC's own protocols",
    "runtime.Runtime.set_protocol": "a connection calls it when it is up",
    "runtime.Runtime.unset_protocol": "a connection calls it when it has ended",
    "secgroups.SecureClassGroupForm.set_share": _SHARE,
    "secgroups.SecureEllipticCurvePoint.set_share": _SHARE,
    "secgroups.SecureHCDivisorCL.set_share": _SHARE,
    "secgroups.SecureHyperellipticCurveDivisor.set_share": _SHARE,
    "secgroups.SecureQuadraticResidue.set_share": _SHARE,
    "secgroups.SecureSchnorrGroupElement.set_share": _SHARE,
    "secgroups.SecureSymmetricGroupElement.set_share": _SHARE,
    "secpols.secpoly.set_share": _SHARE,
    "sectypes.SecureFloat.set_share": _SHARE,
}

WALK = """
import mpyc.runtime
from mpyc import mpctools, random, secgroups, seclists, secpols, sectypes, statistics

runtime = mpyc.runtime.Runtime
found = {f"runtime.Runtime.{name}": {f"mpc.{name}"} for name in dir(runtime) if not name.startswith("_")}
for module in (mpctools, random, secgroups, seclists, secpols, sectypes, statistics):
    short = module.__name__.removeprefix("mpyc.")
    for name, value in vars(module).items():
        if name.startswith("_") or not name.isidentifier() or getattr(value, "__module__", None) != module.__name__:
            continue
        full = f"{short}.{name}"
        found[full] = {full, f"mpc.{full}"} | ({f"mpc.{name}"} if getattr(runtime, name, None) is value else set())
        if isinstance(value, type):
            # Which class an attribute belongs to, only a run would tell.
            found |= {f"{full}.{one}": {f".{one}"} for one in vars(value) if not one.startswith("_")}

assert len(found) > 300, len(found)
unused = {name for name, uses in found.items() if uses.isdisjoint(USED)}
assert unused == UNUSED, {"unused": sorted(unused - UNUSED), "stale": sorted(UNUSED - unused)}
"""


def names_in_scripts() -> set[str]:
    """Return each dotted name in a script, each attribute as `.name`, and each name imported from MPyC."""
    used = set()
    for path in SCRIPTS.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute):
                used |= {ast.unparse(node), f".{node.attr}"}
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mpyc."):
                used |= {f"{node.module}.{alias.name}".removeprefix("mpyc.") for alias in node.names}
    return used


def test_each_public_name_of_mpyc_is_used_or_the_table_says_why_not() -> None:
    run_with_mpyc(f"USED = {names_in_scripts()!r}\nUNUSED = {set(UNUSED)!r}\n{WALK}")
