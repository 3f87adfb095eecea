"""Whole sessions on local sockets: what runs at each party is what all of them agreed on."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from onionmpc.errors import AgreementError, ProgramError
from onionmpc.program.code.attached import attach
from onionmpc.session.agreement import Agreement
from onionmpc.session.computation import SessionResult
from onionmpc.session.local import Plan
from tests.support.session import answers, listed_plan, room, run, same_sentence, write_script

PLUGGED = """
import importlib
from mpyc.runtime import mpc
word = importlib.import_module("plug").word
mpc.run(mpc.start())
mpc.run(mpc.shutdown())
answer(word)
"""
TELLS = """
from mpyc.runtime import mpc
import helper
mpc.run(mpc.start())
mpc.run(mpc.shutdown())
answer(helper.word, Path(__file__).with_name("data.csv").read_text())
"""


def own_folders(tmp_path: Path, script: str, files: Callable[[int], dict[str, bytes]]) -> dict[int, Plan]:
    """Return a plan for each of three parties. Each has its program, with these files, in a separate folder."""
    plans = {}
    for number in range(3):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name, content in files(number).items():
            (folder / name).write_bytes(content)
        plans[number] = listed_plan(
            write_script(folder / "script.py", script), private=(str(tmp_path / f"answer{number}"),)
        )
    return plans


async def endings(plans: dict[int, Plan], consent: Callable[[int], None] = lambda _: None) -> list[object]:
    """Run a session in which each party's user does something before saying yes."""
    async with room(len(plans), plans[0], plans) as place:
        for number, person in enumerate(place.persons):

            async def consents(_agreement: Agreement, number: int = number) -> bool:
                consent(number)
                return True

            person.consent = consents
        place.start_listed()
        return list(await place.endings())


def test_parties_with_different_modules_that_the_scan_cannot_see_do_not_compute(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # Issue 12: three parties agreed on "1 file" and ran three different plug.py.
    plans = own_folders(tmp_path, PLUGGED, lambda number: {"plug.py": b"word = %d" % number})

    async def main() -> None:
        assert {type(ending) for ending in await endings(plans)} == {ProgramError}
        # The first that fails ends the programs of the others.
        assert "plug.py is not among the files that the parties agreed on" in capfd.readouterr().err
        named = {n: replace(plan, attached=attach([tmp_path / str(n) / "plug.py"])) for n, plan in plans.items()}
        told = await endings(named)
        assert {type(ending) for ending in told} == {AgreementError}
        assert "program file with/plug.py differs: SHA-256 " in same_sentence(told)  # type: ignore[arg-type]

    run(main())


def test_a_module_that_all_parties_attach_runs(tmp_path: Path) -> None:
    plans = own_folders(tmp_path, PLUGGED, lambda _: {"plug.py": b"word = 1"})
    plans = {n: replace(plan, attached=attach([tmp_path / str(n) / "plug.py"])) for n, plan in plans.items()}

    async def main() -> None:
        assert {type(ending) for ending in await endings(plans)} == {SessionResult}

    run(main())
    assert answers(tmp_path, 3) == [(1,)] * 3


def test_a_script_saved_while_its_user_reads_the_agreement_changes_nothing(tmp_path: Path) -> None:
    # Issue 12.
    plans = own_folders(tmp_path, TELLS, lambda _: {"helper.py": b"word = 'old'", "data.csv": b"1"})

    def save(number: int) -> None:
        for name in ("script.py", "helper.py"):
            (tmp_path / str(number) / name).write_text("word = 'new'; raise SystemExit(3)")

    async def main() -> None:
        assert {type(ending) for ending in await endings(plans, save)} == {SessionResult}

    run(main())
    assert answers(tmp_path, 3) == [("old", "1")] * 3


@pytest.mark.parametrize("change", ["changed", "gone", "more"])
def test_attached_data_that_changes_after_the_comparison_ends_the_session_and_is_named(
    tmp_path: Path, change: str
) -> None:
    # Issue 12.
    plans = own_folders(tmp_path, TELLS, lambda _: {"helper.py": b"word = 1", "data.csv": b"1"})
    for number in plans:
        folder = tmp_path / str(number) / "more"
        folder.mkdir()
        (folder / "inner.csv").write_text("1")
        plans[number] = replace(plans[number], attached=attach([tmp_path / str(number) / "data.csv", folder]))

    def alter(number: int) -> None:
        if number == 1:
            inner = tmp_path / "1" / "more" / "inner.csv"
            ways: dict[str, Callable[[], object]] = {
                "changed": lambda: inner.write_text("2"),
                "gone": inner.unlink,
                "more": (inner.parent / "a").touch,
            }
            ways[change]()

    async def main() -> None:
        told = await endings(plans, alter)
        assert {type(ending) for ending in told} == {AgreementError}
        name = "with/more/a" if change == "more" else "with/more/inner.csv"
        sentence = same_sentence(told)  # type: ignore[arg-type]
        assert f"{name} changed after the parties had agreed on it" in sentence
        assert "party 1" in sentence
        assert str(tmp_path) not in sentence
        assert not (tmp_path / "answer1").exists()

    run(main())


@pytest.mark.parametrize("hosted", [False, True])
@pytest.mark.parametrize("other", [0, 1])
def test_a_difference_in_line_endings_is_named_as_such(tmp_path: Path, other: int, *, hosted: bool) -> None:
    # Issue 12.
    plans = own_folders(tmp_path, TELLS, lambda n: {"helper.py": b"word = 1\r\n" if n == other else b"word = 1\n"})

    async def main() -> None:
        async with room(3, plans[0], plans) as place:
            place.start_hosted() if hosted else place.start_listed()
            told = await place.endings()
            assert {type(ending) for ending in told} == {AgreementError}
            for ending in told:
                assert isinstance(ending, AgreementError)
                assert "program file helper.py differs in line endings only (LF or CRLF): SHA-256 " in ending.message

    run(main())


def test_a_difference_in_a_file_name_is_named_as_such(tmp_path: Path) -> None:
    # Issue 12.
    plans = own_folders(tmp_path, TELLS, lambda _: {"helper.py": b"word = 1"})
    script = (tmp_path / "2" / "script.py").rename(tmp_path / "2" / "script (1).py")
    plans[2] = replace(plans[2], program=write_script(script, TELLS))

    async def main() -> None:
        told = await endings(plans)
        assert {type(ending) for ending in told} == {AgreementError}
        sentence = same_sentence(told)  # type: ignore[arg-type]
        assert "a file of the program has two names: " in sentence
        assert "script (1).py at party 2" in sentence
        assert "script.py at party " in sentence

    run(main())


def test_each_party_states_its_versions_of_what_its_program_imports(tmp_path: Path) -> None:
    plan = listed_plan(
        write_script(tmp_path / "script.py", "import numpy\n" + PLUGGED.replace("plug", "numpy.version"))
    )
    seen: list[Agreement] = []

    async def main() -> None:
        async with room(2, replace(plan, allow_no_privacy=True)) as place:

            async def refuse(agreement: Agreement) -> bool:
                seen.append(agreement)
                return False

            for person in place.persons:
                person.consent = refuse
            place.start_listed()
            await place.endings()

    run(main())
    versions = {name: importlib.metadata.version(name) for name in ("mpyc", "numpy")}
    for agreement in seen:
        for own in agreement.own:
            assert own.distributions == versions
