"""Elements of MPyC's finite groups.

A group is named by the class of its elements and its parameters, which must be those of a group that this program has
made. MPyC's own checks leave gaps, which are closed here: it accepts points at infinity that lie on no curve and
divisors that are not reduced, and may reduce a form of any size.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from onionmpc.program.values.checks import NotMade, below, brief, exact, integer
from onionmpc.program.values.fields import made_by_mpyc, number_of

GroupName = tuple[str | int, ...]
_MAX_NAME = 8  # parameters of a group; none has more than four


def group_element(group: GroupName, value: int | tuple[int, ...]) -> object:
    """Build an element of a finite group."""
    found = find_group(group)
    if isinstance(value, tuple):
        for number in value:
            integer(number)
    else:
        integer(value)
    return _KINDS[_kind(found)].build(found, value)


def bytes_of_group_element(_group: object, value: int | tuple[int, ...]) -> int:
    """Return an upper bound of the memory that an element takes, with what the checks take."""
    numbers = value if isinstance(value, tuple) else (value,)
    return 4096 + sum(512 + 8 * integer(number).bit_length() for number in numbers)


def reduce_group_element(value: Any) -> tuple[Any, ...]:  # noqa: ANN401 (a type of MPyC's)
    """Take an element of a group apart.

    Raises:
        ValueError: it is no element of the group.
    """
    group: Any = type(value)
    numbers: Any = value.value
    if _kind(group) == "HyperellipticCurveDivisor":  # MPyC leaves lists of coefficients in some
        numbers = [type(group.f)(list(part) if isinstance(part, list) else part) for part in numbers]
    plain = tuple(map(number_of, numbers)) if isinstance(numbers, list | tuple) else number_of(numbers)
    name = name_of_group(group)
    group_element(name, plain)  # `encode` of some groups makes values that are no elements, and so may check=False
    return group_element, (name, plain)


@functools.lru_cache(maxsize=256)  # also so that a pickle has the name of a group once
def name_of_group(group: Any) -> GroupName:  # noqa: ANN401
    """Return the name of a group."""
    kind = _kind(group)
    return kind, *_KINDS[kind].parameters(group)


def find_group(group: GroupName) -> Any:  # noqa: ANN401
    """Return the group of this program that has this name."""
    if not 1 < len(exact(group, tuple)) < _MAX_NAME or not all(type(part) in (str, int) for part in group):
        raise TypeError("not the name of a group")
    return _find_group(group)


@functools.lru_cache(maxsize=256)  # of what was found: an error is not kept
def _find_group(group: GroupName) -> Any:  # noqa: ANN401
    for made in made_by_mpyc("fingroups", "FiniteGroupElement"):
        if name_of_group(made) == group:
            return made
    parameters = ", ".join(brief(part) if isinstance(part, int) else part for part in group[1:])
    raise NotMade(f"the group of {group[0]} ({parameters})")


def _kind(group: Any) -> str:  # noqa: ANN401
    """Return the name of MPyC's class for this kind of group: for curves, with the coordinates."""
    return str(group.__bases__[0].__name__)


def _permutation(group: Any, value: Any) -> object:  # noqa: ANN401
    return group(exact(value, tuple))


def _residue(group: Any, value: Any) -> object:  # noqa: ANN401
    return group(below(value, group.field.order))


def _point(group: Any, value: Any) -> object:  # noqa: ANN401
    if len(exact(value, tuple)) != len(group.identity.value or (value and (0, 0))):
        raise ValueError("a point with another number of coordinates")
    point = group(tuple(below(number, group.field.order) for number in value))
    # Of points at infinity, MPyC checks nothing. (0, 0, 0) would equal every point.
    at_infinity = _kind(group).startswith("Weierstrass") and value[2:] == (0,)
    if at_infinity and (value[1] == 0 or (value[0] != 0 and _kind(group) == "WeierstrassProjective")):
        raise ValueError("point not on curve")
    return point


def _divisor(group: Any, value: Any) -> object:  # noqa: ANN401
    poly = type(group.f)
    limit = poly.p ** (group.genus + 1)
    u, v = (poly(below(number, limit)) for number in exact(value, tuple))
    return group(_checked_divisor(group, u, v))


def _divisor_of_genus_2(group: Any, value: Any) -> object:  # noqa: ANN401
    """Build a divisor in six coordinates, which MPyC 0.11 fails to check: it looks at a value that is not set yet."""
    if len(exact(value, tuple)) != len(group.identity.value):
        raise ValueError("a divisor with another number of coordinates")
    u1, u0, _, _, *products = coordinates = [group.field(below(number, group.field.order)) for number in value]
    if products != [u1 * u1, u1 * u0]:
        raise ValueError("incorrect extended coordinates")
    divisor = group(coordinates, check=False)
    _checked_divisor(group, divisor.u, divisor.v)
    return divisor


def _checked_divisor(group: Any, u: Any, v: Any) -> tuple[Any, Any]:  # noqa: ANN401
    degree = u.degree()
    if degree > group.genus or u[degree] != 1 or v.degree() >= degree or (group.f - v**2) % u:
        raise ValueError("value not in Jacobian")
    return u, v


def _form(group: Any, value: Any) -> object:  # noqa: ANN401
    a, b, c = exact(value, tuple)
    if b * b - 4 * a * c != group.discriminant or not (-a < b <= a <= c and (a != c or b >= 0)):
        raise ValueError("not a reduced form of this discriminant")
    return group((a, b, c), check=False)


class _Kind:
    """A kind of group.

    Args:
        parameters: returns what tells a group from others of its kind.
        build: builds an element from its group and numbers.
    """

    def __init__(self, parameters: Callable[[Any], tuple[str | int, ...]], build: Callable[[Any, Any], object]) -> None:
        self.parameters = parameters
        self.build = build


def _of_symmetric_group(group: Any) -> tuple[str | int, ...]:  # noqa: ANN401
    return (int(group.degree),)


def _of_quadratic_residues(group: Any) -> tuple[str | int, ...]:  # noqa: ANN401
    return (int(group.field.modulus),)


def _of_schnorr_group(group: Any) -> tuple[str | int, ...]:  # noqa: ANN401
    return int(group.field.modulus), int(group.order), int(group.generator.value.value)


def _of_elliptic_curve(group: Any) -> tuple[str | int, ...]:  # noqa: ANN401
    return (group.curvename,)


def _of_hyperelliptic_curve(group: Any) -> tuple[str | int, ...]:  # noqa: ANN401
    return group.curvename, int(group.field.modulus), int(group.genus)


def _of_class_group(group: Any) -> tuple[str | int, ...]:  # noqa: ANN401
    return (int(group.discriminant),)


_CURVES = (
    *("EdwardsAffine", "EdwardsProjective", "EdwardsExtended"),
    *("WeierstrassAffine", "WeierstrassProjective", "WeierstrassJacobian"),
)
_KINDS = {
    "SymmetricGroupElement": _Kind(_of_symmetric_group, _permutation),
    "QuadraticResidue": _Kind(_of_quadratic_residues, _residue),
    "SchnorrGroupElement": _Kind(_of_schnorr_group, _residue),
    **dict.fromkeys(_CURVES, _Kind(_of_elliptic_curve, _point)),
    "HyperellipticCurveDivisor": _Kind(_of_hyperelliptic_curve, _divisor),
    "HCDivisorCL": _Kind(_of_hyperelliptic_curve, _divisor_of_genus_2),
    "ClassGroupForm": _Kind(_of_class_group, _form),
}
