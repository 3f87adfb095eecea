"""Several computations of one session, from the commands that people type, over local sockets instead of tor."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from onionmpc.files import socket_directory
from tests.e2e.kit import Outfit, Party, Stage, keep_identity
from tests.support.commands import fake_tor

ROOT = Path(__file__).parents[2]
QUESTION = "again (a), another program (p), or leave (Enter)? "
CONSENT = "Compute on these terms? [y/N]"
DEMO = ("--demo",)


@contextlib.asynccontextmanager
async def local_stage(folder: Path) -> AsyncIterator[Stage]:
    """A stage whose parties need no tor."""
    with socket_directory() as sockets:
        stage = Stage(None, folder)
        stage.command = ("-m", "tests.support.local_command", str(sockets))
        outfit = Outfit(environment={"ONIONMPC_TOR": fake_tor(folder / "tor"), "PYTHONPATH": str(ROOT)})
        stage.outfit = lambda _name: outfit
        try:
            yield stage
        finally:
            await stage.close()


async def consents(*people: Party, times: int) -> None:
    for person in people:
        await person.sees(CONSENT, times)
        person.types("y\n")


def sessions(party: Party) -> list[Any]:
    return [event["session"] for event in party.heard("agreed")]


def test_a_script_computes_what_then_names_over_the_links_that_it_has(tmp_path: Path) -> None:
    async def main() -> None:
        async with local_stage(tmp_path) as stage:
            host = await stage.host("average-salary", "--then", "sort -- --demo", "--json", "s.json", private=DEMO)
            first, second = await stage.invites(host, 2)
            script = await stage.start("script", "join", first, "--then", "sort -- --demo", private=DEMO)
            person = await stage.start(
                "person", "join", second, "--yes", "--then", "-- --demo", private=DEMO, terminal=True
            )
            assert await stage.ended([host, script, person]) == [0, 0, 0], person.last_words
        assert host.output.count("average salary") == 1
        assert host.output == script.output == person.output
        assert sessions(host) == sessions(script)
        assert len(set(sessions(host))) == 2
        for party in (host, script):
            names = [event["event"] for event in party.events]
            assert names[: names.index("agreed")].count("link_up") == names.count("link_up") == 2
            assert [event["computation"] for event in party.heard("ended")] == [1, 2]
            assert party.events[-1]["event"] == "left"
            assert party.events[-1]["party"] is None
        assert [event["party"] for event in script.heard("proposed")] == [host.number]
        assert host.number in [event["party"] for event in script.heard("left")]
        for name, ended in zip(("s.json", "s-2.json"), host.heard("ended"), strict=True):
            assert json.loads((tmp_path / name).read_text())["session"] == ended["session"]
        shown = person.screen
        assert f"party {host.number} proposes sort" in shown
        assert "computation 2 is done: agreed in" in shown
        assert "has left\r" not in shown.partition("computation 2 is done")[2]  # the next line says more
        assert "the host has left, so there is no further computation" in shown

    asyncio.run(main())


def test_a_person_at_the_host_chooses_what_comes_next_and_leaving_is_no_failure(tmp_path: Path) -> None:
    async def main() -> None:
        async with local_stage(tmp_path) as stage:
            host = await stage.host("sort", terminal=True, private=DEMO)
            invites = await stage.invites(host, 2)
            script = await stage.start("script", "join", invites[0], private=DEMO)
            person = await stage.start("person", "join", invites[1], terminal=True, private=DEMO)
            for times in (1, 2):
                await host.sees("Let this party take part? [Y/n]", times)
                host.types("y\n")
            await consents(host, person, times=1)
            await host.sees(QUESTION)
            host.types("what?\n")
            await host.sees(QUESTION, 2)
            host.types("a\n")
            await consents(host, person, times=2)
            await host.sees(QUESTION, 3)
            assert host.screen.count("Still here: party ") == 3
            host.types("p\n")
            await host.sees("Enter goes back): ")
            host.types("?\n")
            await host.sees("average_salary: Average salary")
            host.types("average-celery\n")
            await host.sees("did you mean average_salary")
            for times, program, arguments, sentence in (
                (1, "vote", "", "public argument"),
                (2, "sort", "'", "the words cannot be split: no closing quotation"),
                (3, "sort", "-T1", "-T1 is a connection option of MPyC"),
            ):
                await host.sees("(? lists those, Enter goes back): ", times + 2)
                host.types(f"{program}\n")
                await host.sees("private ones follow a lone --): ", times)
                host.types(f"{arguments}\n")
                await host.sees(sentence)
            await host.sees("(? lists those, Enter goes back): ", 6)
            host.types("\n")
            await host.sees(QUESTION, 4)
            # One joiner leaves by Ctrl-C. The other one and the host would have no privacy.
            await person.sees("computation 2 is done")
            person.types("\x03")
            assert await person.ends() == 0
            assert "left the session: the other parties were notified, and everything here has stopped" in person.screen
            await host.sees(" has left. Next? ")
            host.types("a\n")
            await host.sees("threshold 0 with 2 parties hides nothing")
            await host.sees(QUESTION, 5)
            host.types("\n")
            assert await stage.ended([host, script]) == [0, 0], host.last_words
            assert "left the session: the other parties were notified" in host.screen
            assert len(set(sessions(script))) == 2
            assert len(script.heard("link_up")) == 2
            assert len(script.heard("left")) == 3

    asyncio.run(main())


def test_in_a_full_list_a_proposal_withdraws_the_question(tmp_path: Path) -> None:
    async def main() -> None:
        async with local_stage(tmp_path) as stage:
            onions = {state: keep_identity(stage, state) for state in ("anna", "ben", "cleo")}

            async def join(state: str) -> Party:
                others = [onion for other, onion in onions.items() if other != state]
                words = ("join", *others, "sort", "--identity", "me")
                return await stage.start(state, *words, private=DEMO, state=state, terminal=True)

            anna, ben, cleo = people = [await join(state) for state in onions]
            await consents(*people, times=1)
            for person in people:
                await person.sees(QUESTION)
            cleo.types("p\n")
            await cleo.sees("Enter goes back): ")
            cleo.types("vote\n")
            await cleo.sees("private ones follow a lone --): ")
            cleo.types("tea,coffee -- --demo\n")
            for person in (anna, ben):
                await person.sees("proposes vote, so this question is withdrawn")
            await consents(*people, times=2)
            for person in (anna, ben):  # their private arguments were for the other program
                await person.sees("(not shown)")
                person.types("tea\n")
            for person in people:
                await person.sees(QUESTION, 2)
                assert person.output == cleo.output
            anna.types("\n")
            ben.types("\x03")
            await cleo.sees("the other parties have left, so there is no further computation")
            assert await stage.ended() == [0, 0, 0], ben.last_words

    asyncio.run(main())


def test_a_host_that_leaves_early_is_an_error_for_a_party_with_then_left(tmp_path: Path) -> None:
    async def main() -> None:
        async with local_stage(tmp_path) as stage:
            host = await stage.host("sort", "--then", "sort -- --demo", private=DEMO)
            first, second = await stage.invites(host, 2)
            then = ("--then", "-- --demo", "--then", "vote -- --demo")
            patient = await stage.start("patient", "join", first, *then, private=DEMO)
            other = await stage.start("other", "join", second, "--then", "-- --demo", private=DEMO)
            assert await stage.ended() == [0, 4, 0], patient.last_words
            assert patient.failure == "the host has left, so there is no further computation; not computed: vote"
            assert len(other.heard("ended")) == len(patient.heard("ended")) == 2

    asyncio.run(main())


def test_a_joiner_without_an_input_that_it_could_not_know_of_ends_the_session_and_all_learn_why(tmp_path: Path) -> None:
    async def main() -> None:
        async with local_stage(tmp_path) as stage:
            host = await stage.host("sort", "--then", "average-salary -- --demo", private=DEMO)
            first, second = await stage.invites(host, 2)
            lacking = await stage.start("lacking", "join", first, private=DEMO)
            other = await stage.start("other", "join", second, "--then", "-- --demo", private=DEMO)
            assert await stage.ended() == [5, 5, 5], lacking.last_words
            assert lacking.failure == "the program needs an input salary (Your salary)"
            for party in (host, other):
                assert party.failure == f"party {lacking.number} did not agree: its user gave no valid input"
                assert len(party.heard("ended")) == 1

    asyncio.run(main())


def test_a_joiner_refuses_another_program_than_its_then_names_and_all_learn_why(tmp_path: Path) -> None:
    async def main() -> None:
        async with local_stage(tmp_path) as stage:
            host = await stage.host("sort", "--then", "average-salary -- --demo", private=DEMO)
            first, second = await stage.invites(host, 2)
            strict = await stage.start("strict", "join", first, "--then", "vote -- --demo", private=DEMO)
            named = await stage.start("named", "join", second, "sort", private=DEMO)
            assert await stage.ended() == [5, 5, 5], host.last_words
            for party in (host, strict, named):
                assert "alone, and average_salary is proposed" in party.failure
                assert len(party.heard("ended")) == 1

    asyncio.run(main())
