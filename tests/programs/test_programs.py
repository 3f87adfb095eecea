"""The scripts of this folder use all of MPyC. With onionmpc, each party prints what it prints with plain MPyC.

A party that starts a program costs about a second, so one session runs many scripts (scripts/together.py).
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import BinaryIO

import pytest

from onionmpc.program.process.streams import unattended
from tests.support.programs import (
    BOTH,
    NEITHER,
    ONLY_GMPY,
    ONLY_UVLOOP,
    Environments,
    Packages,
    printed_by_mpyc,
    printed_by_onionmpc,
)
from tests.support.rehearsal import write_spec

SCRIPTS = Path(__file__).parent / "scripts"
TOGETHER = SCRIPTS / "together.py"
NAMES = sorted(path.stem for path in SCRIPTS.glob("*.py") if path != TOGETHER)
# These compute for long. They run in `make weekly`.
LONG = {"class_groups", "floats", "polynomials", "statistics_of_data"}
MIXED = (BOTH, NEITHER, ONLY_GMPY)
OPTIONS = ("--mix32-64bit", "--no-prss", "-K20", "-L16")
# The other scripts are written for three parties.
FOR_MORE_PARTIES = ["folds", "groups", "kinds", "random_numbers", "secure_lists", "thresholds"]


def test_scripts_print_what_they_print_with_plain_mpyc_whatever_packages_the_parties_have(tmp_path: Path) -> None:
    names = [name for name in NAMES if name not in LONG]
    expected = printed_by_mpyc(tmp_path, TOGETHER, names)
    assert [line for line in expected[0].splitlines() if line.startswith("-- ")] == [f"-- {name}" for name in names]
    assert printed_by_onionmpc(tmp_path, TOGETHER, names, MIXED) == expected


def test_scripts_print_the_same_with_other_options_of_mpyc(tmp_path: Path) -> None:
    names = ["secure_integers", "thresholds"]
    expected = printed_by_mpyc(tmp_path, TOGETHER, names, options=OPTIONS)
    assert "default 16 1048576" in expected[0]
    assert "none 0 6 1" in expected[0]  # a threshold that a script changes
    printed = printed_by_onionmpc(tmp_path, TOGETHER, names, (NEITHER, ONLY_UVLOOP, BOTH), mpyc_options=OPTIONS)
    assert printed == expected


@pytest.mark.weekly
@pytest.mark.parametrize("parties", [(NEITHER,) * 3, (BOTH,) * 3, (ONLY_UVLOOP, BOTH, NEITHER)])
@pytest.mark.parametrize("options", [(), OPTIONS], ids=["", "options"])
def test_all_scripts_print_the_same(tmp_path: Path, parties: tuple[Packages, ...], options: tuple[str, ...]) -> None:
    expected = printed_by_mpyc(tmp_path, TOGETHER, NAMES, options=options)
    assert printed_by_onionmpc(tmp_path, TOGETHER, NAMES, parties, mpyc_options=options) == expected


@pytest.mark.weekly
@pytest.mark.parametrize("name", NAMES)
def test_each_script_prints_the_same_by_itself(tmp_path: Path, name: str) -> None:
    script = SCRIPTS / f"{name}.py"
    assert printed_by_onionmpc(tmp_path, script, parties=MIXED) == printed_by_mpyc(tmp_path, script)


@pytest.mark.weekly
@pytest.mark.parametrize("threshold", [1, 2])
def test_scripts_print_the_same_with_more_parties_and_other_thresholds(tmp_path: Path, threshold: int) -> None:
    expected = printed_by_mpyc(tmp_path, TOGETHER, FOR_MORE_PARTIES, 5, [f"-T{threshold}"])
    parties = (*MIXED, ONLY_UVLOOP, NEITHER)
    assert printed_by_onionmpc(tmp_path, TOGETHER, FOR_MORE_PARTIES, parties, threshold=threshold) == expected


SAYS_WHAT_IT_USES = """
    import sys
    from mpyc import gmpy
    from mpyc.runtime import mpc
    print(type(mpc._loop).__module__.partition(".")[0], gmpy.powmod.__module__.partition(".")[0], file=sys.stderr)
    print(gmpy.powmod(3, 10**30, 2**61 - 1), mpc.run(mpc.output(mpc.SecInt()(7))), file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("packages", "used"),
    [
        (NEITHER, "asyncio mpyc"),
        (BOTH, "uvloop gmpy2"),
        (ONLY_GMPY, "asyncio gmpy2"),
        (ONLY_UVLOOP, "uvloop mpyc"),
    ],
    ids=["neither", "both", "gmpy2", "uvloop"],
)
def test_a_program_behind_walls_uses_the_packages_that_its_party_leaves_on(
    tmp_path: Path, packages: Packages, used: str
) -> None:
    async def main(log: BinaryIO) -> None:
        spec = write_spec(tmp_path, SAYS_WHAT_IT_USES, parties=1)
        async with Environments([packages]).start_program(spec, [], streams=unattended(log)) as program:
            assert (await program.wait()).status == 0

    with tempfile.TemporaryFile() as log:
        asyncio.run(main(log))
        log.seek(0)
        first, second = log.read().decode().splitlines()
    assert first == used
    assert second == f"{pow(3, 10**30, 2**61 - 1)} 7"
