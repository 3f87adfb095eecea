"""Whole sessions of three parties on local sockets, whose programs transfer values of MPyC, numpy and Python."""

from __future__ import annotations

from pathlib import Path

import pytest

from onionmpc.errors import ProgramError, RemoteProtocolError
from onionmpc.session.computation import SessionResult
from tests.support.session import answers, give_answer_files, listed_plan, room, run, write_script

SENDS_VALUES = """
import collections, datetime, decimal, fractions
import numpy as np
from mpyc import fingroups
from mpyc.runtime import mpc

prime, binary = mpc.SecFld(101).field, mpc.SecFld(256).field
curve, forms = fingroups.EllipticCurve("Ed25519", "extended"), fingroups.ClassGroup(l=64)

def values(n):
    return [
        prime(n), prime.array([[n, -n]]), binary(n), binary.array([n, 255]), (curve.generator ^ n + 1), forms.generator,
        type(binary.modulus)(n), 1j * n, range(n), fractions.Fraction(n, 7), decimal.Decimal(n) / 10,
        datetime.datetime(2026, 1, 1 + n, tzinfo=datetime.timezone.utc), collections.Counter("ab" * n),
        collections.defaultdict(list, {n: [n]}), collections.deque([n], 3), np.array(["tea", str(n)]),
        np.array([(n, "x")], dtype=[("a", "i4"), ("b", "U1")]),
    ]

async def main():
    async with mpc:
        told = await mpc.transfer(values(mpc.pid))
        opened = await mpc.output(mpc.input(mpc.SecFld(101)(mpc.pid)))
        again = await mpc.transfer(opened)  # as a program does that hands on what it has opened
    same = [
        [type(a) is type(b) and bool(np.all(a == b)) for a, b in zip(one, values(n), strict=True)]
        for n, one in enumerate(told)
    ]
    answer(same, [[int(number) for number in one] for one in again])
mpc.run(main())
"""


def test_values_of_all_kinds_arrive_unchanged(tmp_path: Path) -> None:
    plan = listed_plan(write_script(tmp_path / "values.py", SENDS_VALUES))
    plans = give_answer_files(plan, tmp_path, 3)

    async def main() -> None:
        async with room(3, plan, plans) as place:
            place.start_listed()
            assert {type(ending) for ending in await place.endings()} == {SessionResult}

    run(main())
    for same, again in answers(tmp_path, 3):
        assert same == [[True] * 17] * 3
        assert again == [[0, 1, 2]] * 3


ONE_MAKES_A_FIELD = """
from mpyc import finfields
from mpyc.runtime import mpc

async def main():
    async with mpc:
        await mpc.transfer(finfields.GF(1009)(5) if mpc.pid == 0 else None)
mpc.run(main())
"""
SENDS_SHARES = """
from mpyc.runtime import mpc

async def main():
    async with mpc:
        await mpc.transfer(mpc.SecInt(16)(5))
mpc.run(main())
"""


@pytest.mark.parametrize(
    ("script", "kinds", "says"),
    [
        (
            ONE_MAKES_A_FIELD,
            {RemoteProtocolError},
            "a message needs the field GF(1009), which this program has not made",
        ),
        (SENDS_SHARES, {ProgramError}, "open it with `await mpc.output(...)`"),
    ],
    ids=["a field that one party made", "shares"],
)
def test_what_cannot_be_received_is_named_with_the_way_out(
    tmp_path: Path, script: str, kinds: set[type], says: str, capfd: pytest.CaptureFixture[str]
) -> None:
    plan = listed_plan(write_script(tmp_path / "values.py", script))
    endings: list[object] = []

    async def main() -> None:
        async with room(3, plan) as place:
            place.start_listed()
            endings.extend(await place.endings())

    run(main())
    assert kinds <= {type(ending) for ending in endings}
    assert says in "".join(map(str, endings)) + capfd.readouterr().err
