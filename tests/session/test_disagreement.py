"""Parties that do not agree: no program starts, and all parties learn why."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from onionmpc.errors import AgreementError
from onionmpc.levels import Level
from onionmpc.mesh.network import OwnPath
from onionmpc.program.code.attached import attach
from onionmpc.program.code.catalogue import find_program
from onionmpc.session import session
from onionmpc.session.agreement import SharedTerms
from onionmpc.session.computation import SessionResult
from onionmpc.session.events import Agreed
from onionmpc.session.local import Plan
from tests.support.blocks import script_of
from tests.support.direct import DirectNetwork
from tests.support.session import HASTY, give_answer_files, listed_plan, room, run, same_sentence, write_script
from tests.support.stages import QUICK, RENDEZVOUS, ROUNDS


def change(**changes: Any) -> Callable[[SharedTerms], SharedTerms]:
    return lambda common: msgspec.structs.replace(common, **changes)


@pytest.mark.usefixtures("no_program")
@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("protocol", 1, ("protocol version differs", "5 at", "1 at")),
        ("threshold", 0, ("threshold differs", "1 at", "0 at")),
        ("program", "other", ("program differs", "script at", "other at")),
        ("files", {"script.py": "ab" * 32}, ("program file script.py differs", "SHA-256 abababababababab… at")),
        ("files", {}, ("program file script.py differs", "missing at")),
        ("public_arguments", ("1", "2"), ("public arguments differs", "() at", "(1, 2) at")),
        ("mpyc_version", "0.10", ("MPyC version differs", "0.11 at", "0.10 at")),
        ("mpyc_options", ("-L64",), ("MPyC options differs", "() at", "(-L64) at")),
        ("python", "PyPy 32-bit", ("Python differs", "CPython 64-bit at", "PyPy 32-bit at")),
        ("numpy", None, ("numpy's major version differs", "2 at", "none at")),
        ("allowed_types", ("a.B",), ("allowed types differs", "() at", "(a.B) at")),
        ("padding_rate", 5, ("padding rate differs", "0 at", "5 at")),
        ("circuits", 2, ("circuits per link differs", "3 at", "2 at")),
        ("receipt", True, ("receipt differs", "not wanted at", " wanted at party 1")),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_difference_is_named_with_both_values_at_every_party(
    tmp_path: Path, field: str, value: object, said: tuple[str, ...]
) -> None:
    number = len(field) % 3  # each party is the one that differs in some of them
    plan = listed_plan(write_script(tmp_path / "script.py", QUICK))

    async def main() -> None:
        async with room(3, plan) as place:
            place.start_listed(doctors={number: change(**{field: value})})
            endings = await place.endings()
            assert {type(ending) for ending in endings} == {AgreementError}
            sentence = same_sentence(endings)
            assert f"party {number}" in sentence
            for part in said:
                assert part in sentence

    run(main())


@pytest.mark.usefixtures("no_program")
def test_a_program_that_needs_equal_packages_does_not_start_with_different_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = iter(["2.1", "2.1", "2.2"])
    monkeypatch.setattr(session, "distributions", lambda *_: {"numpy": next(versions)})
    block = script_of('[tool.onionmpc]\nversion = 1\ntitle = "T"\nreveals = "R"\npackages = "equal"')
    plan = listed_plan(write_script(tmp_path / "script.py", block))

    async def main() -> None:
        async with room(3, plan) as place:
            place.start_listed()
            endings = await place.endings()
            assert {type(ending) for ending in endings} == {AgreementError}
            assert re.search(r"numpy differs: 2\.[12] at party \d, 2\.[12] at party \d", same_sentence(endings))

    run(main())


OWN_FILES: dict[str, Callable[[Path, Plan], Plan]] = {
    "script": lambda folder, plan: replace(plan, program=write_script(folder / "script.py", "import helper, os")),
    "helper": lambda folder, plan: replace(plan, program=find_program(str(folder / "script.py"))),
    "with": lambda folder, plan: replace(plan, attached=attach([folder / "data.csv"])),
    "public": lambda _folder, plan: replace(plan, public=("3",)),
    "name": lambda _folder, plan: replace(plan, program=find_program("vote")),
    "catalogue": lambda _folder, plan: replace(plan, program=None),
    "threshold": lambda _folder, plan: replace(plan, threshold=0, allow_no_privacy=True),
    "padding": lambda _folder, plan: replace(plan, padding=5),
    "circuits": lambda _folder, plan: replace(plan, circuits=5),
    "receipt": lambda folder, plan: replace(plan, receipt=folder / "receipt"),
}


@pytest.mark.usefixtures("no_program")
@pytest.mark.parametrize(
    ("own", "said"),
    [
        ("script", "program file script.py differs: SHA-256 "),
        ("helper", "program file helper.py differs: SHA-256 "),
        ("with", "program file with/data.csv differs: SHA-256 "),
        ("public", "public arguments differs: (3) at party {joiner}, (2) at party {host}"),
        ("name", "program differs: vote at party {joiner}, script at party {host}"),
        ("catalogue", "the program script does not come with this onionmpc"),
        ("threshold", "threshold differs: 0 at party {joiner}, 1 at party {host}"),
        ("padding", "padding rate differs: 5 at party {joiner}, 0 at party {host}"),
        ("circuits", "circuits per link differs: 5 at party {joiner}, 3 at party {host}"),
        ("receipt", "receipt differs: wanted at party {joiner}, not wanted at party {host}"),
    ],
)
@pytest.mark.parametrize(("host", "joiner"), [(0, 2), (1, 0)])
def test_a_joiner_that_disagrees_with_the_host_notifies_all_parties(
    tmp_path: Path, host: int, joiner: int, own: str, said: str
) -> None:
    for folder, helper in (tmp_path, "1"), (tmp_path / "other", "2"):
        folder.mkdir(exist_ok=True)
        (folder / "helper.py").write_text(f"number = {helper}")
        (folder / "data.csv").write_text(helper)
        program = write_script(folder / "script.py", "import helper")
    plan = listed_plan(program, public=("2",), attached=attach([tmp_path / "other" / "data.csv"]))
    if own == "script":
        (tmp_path / "helper.py").write_text("number = 2")

    async def main() -> None:
        async with room(3, plan) as place:
            place.plans[joiner] = OWN_FILES[own](tmp_path, plan)
            place.start_hosted(host)
            endings = await place.endings()
            assert {type(ending) for ending in endings} == {AgreementError}
            for number, ending in enumerate(endings):
                assert isinstance(ending, AgreementError)
                assert said.format(host=host, joiner=joiner) in ending.message
                if number != joiner:
                    assert ending.message.startswith(f"party {joiner} did not agree: ")

    run(main())


@pytest.mark.usefixtures("no_program")
@pytest.mark.parametrize(
    ("public", "said"),
    [
        ((), "the program needs a public argument candidates (The candidates)"),
        (("tea",), 'candidates: "tea", expected 2 to 100 values, each a text of at most 200 characters'),
    ],
)
@pytest.mark.parametrize("names_it", [True, False])
def test_a_joiner_checks_the_hosts_public_arguments_against_the_block(
    public: tuple[str, ...], said: str, names_it: bool
) -> None:
    vote = find_program("vote")
    joins = listed_plan(vote if names_it else None, public=None, mpyc_options=None)

    async def main() -> None:
        async with room(3, listed_plan(vote, public=public), dict.fromkeys((1, 2), joins)) as place:
            place.start_hosted(0)
            endings = await place.endings()
            assert {type(ending) for ending in endings} == {AgreementError}
            assert all(f"the public arguments do not fit the program: {said}" in str(ending) for ending in endings)
            assert re.match(r"party [12] did not agree: ", str(endings[0]))

    run(main())


def test_a_joiner_without_a_program_runs_the_one_of_that_name_here(capfd: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        plan = listed_plan(find_program("vote"), public=("tea,coffee",), private=("--demo",))
        joins = listed_plan(None, public=None, mpyc_options=None, private=("--demo",))
        async with room(3, plan, dict.fromkeys((0, 2), joins)) as place:
            place.start_hosted(1)
            for ending in await place.endings():
                assert isinstance(ending, SessionResult)

    run(main())
    assert capfd.readouterr().out.count("tea") == 3


@pytest.mark.usefixtures("no_program")
@pytest.mark.parametrize(
    ("level", "floor", "told"),
    [
        (Level.SHORT, Level.STANDARD, "party 2 uses circuit length short, but party 0 accepts no less than "),
        (
            Level.STANDARD,
            Level.LONG,
            "party 2 uses circuit length standard, but party 0 accepts no less than ",
        ),
    ],
)
def test_a_session_below_a_floor_does_not_start_and_names_both_parties(
    tmp_path: Path, level: Level, floor: Level, told: str
) -> None:
    plan = listed_plan(
        write_script(tmp_path / "never.py", "answer('started')"), min_circuit_length=Level.SHORT, timings=HASTY
    )
    strict = replace(plan, min_circuit_length=floor, private=(str(tmp_path / "answer"),))

    async def main() -> None:
        async with room(3, plan, {0: strict}) as place:
            for number in (0, 1):
                place.set_level(number, Level.LONG)
            place.set_level(2, level)
            place.start_listed()
            assert same_sentence(await place.endings()).endswith(f" do not agree: {told}{floor.value}")
            assert not any(person.heard(Agreed) for person in place.persons)

    run(main())
    assert not (tmp_path / "answer").exists()


@pytest.mark.usefixtures("with_paths")
def test_levels_are_agreed_and_a_peers_relay_count_is_shown_as_a_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def accepted_path(_network: DirectNetwork, rendezvous: str) -> OwnPath:
        assert rendezvous == RENDEZVOUS
        return OwnPath(1, rendezvous)

    monkeypatch.setattr(DirectNetwork, "accepted_path", accepted_path)
    plan = listed_plan(
        write_script(tmp_path / "rounds.py", ROUNDS), min_circuit_length=Level.SHORT, allow_no_privacy=True
    )
    plans = give_answer_files(plan, tmp_path, 2)

    async def main() -> None:
        async with room(2, plan, plans) as place:
            place.set_level(0, Level.SHORT)
            place.start_listed()
            first, second = await place.endings()
            assert isinstance(first, SessionResult)
            assert isinstance(second, SessionResult)
            assert [own.circuit_length for own in first.own] == [Level.SHORT, Level.STANDARD]
            assert first.own == second.own
            # Party 0 shows its address: it was dialled, though it is the lower one.
            assert (first.links[1].own_relays, first.links[1].claimed_relays) == (1, 3)
            assert (second.links[0].own_relays, second.links[0].claimed_relays) == (3, 1)

    run(main())


def test_lists_with_different_addresses_do_not_agree(tmp_path: Path) -> None:
    plan = listed_plan(write_script(tmp_path / "script.py", QUICK))

    async def main() -> None:
        async with room(4, plan) as place:
            for number, others in {0: (1, 2), 1: (0, 2), 2: (0, 3)}.items():
                party = place.party(number)
                common = party.full_list([place.onions[other] for other in others])
                place.join_listed(number, party, common)
            for ending in await place.endings():
                assert isinstance(ending, AgreementError)
                assert "parties differs" in ending.message

    run(main())


@pytest.mark.usefixtures("no_program")
@pytest.mark.parametrize("number", [0, 2])
def test_a_party_that_declines_ends_the_session_for_all(tmp_path: Path, number: int) -> None:
    plan = listed_plan(write_script(tmp_path / "script.py", QUICK))

    async def no(_agreement: object) -> bool:
        return False

    async def main() -> None:
        async with room(3, plan) as place:
            place.persons[number].consent = no
            place.start_listed()
            endings = await place.endings()
            assert {type(ending) for ending in endings} == {AgreementError}
            assert same_sentence(endings) == f"party {number} did not agree: its user declined"

    run(main())


@pytest.mark.usefixtures("no_program")
def test_a_party_that_does_not_answer_in_time_is_named(tmp_path: Path) -> None:
    plan = listed_plan(write_script(tmp_path / "script.py", QUICK), timings=HASTY)

    async def never(_agreement: object) -> bool:
        return await asyncio.get_running_loop().create_future()

    async def main() -> None:
        async with room(3, plan, {n: replace(plan, wait_s=0.5 + n) for n in range(3)}) as place:
            place.persons[2].consent = never
            place.start_listed()
            endings = await place.endings()
            assert {type(ending) for ending in endings} == {AgreementError}
            assert same_sentence(endings) == "party 0 and party 2 do not agree: it did not answer within 0.5 s"

    run(main())
