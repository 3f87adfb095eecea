"""The table of docs/reference/values.md lists each public class of MPyC, and is right about it."""

from __future__ import annotations

from pathlib import Path

from tests.support.with_mpyc import run_with_mpyc

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "values.md"
# For each class, how a program comes by a value of it. Abstract classes have values of those below.
EXAMPLES = """
from mpyc import asyncoro, runtime, secgroups, seclists, secpols, sectypes, thresha

mpc = runtime.mpc
field, secint, secfxp = finfields.GF(101), mpc.SecInt(16), mpc.SecFxp(16)
secfld = mpc.SecFld(101)
binary, extension = finfields.GF(finfields.find_irreducible(2, 8)), finfields.GF(finfields.find_irreducible(3, 2))
curve, divisors = fingroups.EllipticCurve, fingroups.HyperellipticCurve

def secure(group):
    return secgroups.SecGrp(group)(group.generator if group.generator is not None else group.identity)

symmetric, residues, forms = fingroups.SymmetricGroup(3), fingroups.QuadraticResidues(p=23), fingroups.ClassGroup(l=16)
schnorr = fingroups.SchnorrGroup(p=23, q=11)
groups = [
    symmetric, residues, schnorr, forms, divisors(l=5), divisors("kummer1271"),
    *(curve("Ed25519", coordinates) for coordinates in ("affine", "projective", "extended")),
    *(curve("secp256k1", coordinates) for coordinates in ("affine", "projective", "jacobian")),
]
examples = [
    gfpx.GFpX(7)(9), gfpx.GFpX(2)(9), field(3), binary(3), extension(3), field.array([3]), binary.array([3]),
    extension.array([3]), *(group.identity for group in groups),
    secint(1), secfxp(1), secfld(1), mpc.SecFlt()(1.5), secint.array(numpy.array([1])),
    secfxp.array(numpy.array([1.0])),
    secfld.array(field.array([1])),
    *map(secure, (symmetric, residues, schnorr, forms, curve("Ed25519"), divisors(l=5), divisors("kummer1271"))),
    mpc.seclist([secint(1)]), seclists.secindex([secint(1)]),
    secpols.secpoly(gfpx.GFpX(101)(7)), mpc, mpc.parties[0],
    asyncoro.MessageExchanger(mpc), thresha.PRF(bytes(16), 101),
]
"""
WALK = """
import importlib, pkgutil, re, mpyc
found = {}
for module in pkgutil.iter_modules(mpyc.__path__):
    if module.name != "__main__":  # it starts an interpreter
        names = vars(importlib.import_module(f"mpyc.{module.name}"))
        for name, value in names.items():
            if isinstance(value, type) and value.__module__ == f"mpyc.{module.name}":
                if name.isidentifier() and not name.startswith("_") and name == value.__qualname__:
                    found[f"{value.__module__}.{name}"] = value
found["mpyc.gfpx.BinaryPolynomial"] = gfpx.BinaryPolynomial  # MPyC renames it
listed = {}
for line in open(PAGE, encoding="utf-8"):
    if line.startswith("| `mpyc."):
        classes, travels = line.strip(" |\\n").split(" | ")
        listed |= dict.fromkeys(re.findall("`([^`]+)`", classes), travels.startswith("yes"))
"""


def test_the_table_lists_each_public_class_of_mpyc() -> None:
    run_with_mpyc(
        f"PAGE = {str(PAGE)!r}\n{WALK}"
        """
assert len(found) > 50
assert set(listed) == set(found), set(listed) ^ set(found)
"""
    )


def test_each_class_travels_or_is_refused_as_the_table_says() -> None:
    run_with_mpyc(
        f"PAGE = {str(PAGE)!r}\n{WALK}{EXAMPLES}"
        """
tried = set()
for example in examples:
    names = {name for name, value in found.items() if isinstance(example, value)}
    tried |= names
    if not names:
        continue
    travels = {listed[name] for name in names}
    assert len(travels) == 1, names
    if travels == {True}:
        received = there_and_back(example)
        assert numpy.all(received == example), example
    else:
        try:
            restricted.dumps([example])
        except ProgramError as error:
            assert type(example).__name__[:40] in str(error), error
            assert "--allow-type" not in error.hint, (type(example), error.hint)
            assert any(word in error.hint for word in ("mpc.output", "every party", "pid", "a connection")), error.hint
        else:
            raise AssertionError(f"{names} was sent")
assert tried == set(found), set(found) - tried
"""
    )
