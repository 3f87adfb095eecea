"""All parties report programs that wait for each other, and never programs that only look like it."""

from __future__ import annotations

import asyncio
import os
import re
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from onionmpc.api.screen import stuck_lines
from onionmpc.errors import LinkExpired, PeerLeft, ProgramError, RemoteProtocolError
from onionmpc.mesh.runner import LinkRunner
from onionmpc.program.code.catalogue import find_program
from onionmpc.program.process.stuck import USUAL_CAUSES
from onionmpc.program.spec import NO_BYTES, Place, Wait
from onionmpc.session.agreement import PartyTerms
from onionmpc.session.computation import SessionResult
from onionmpc.session.ending import Ending as EndingOfSession
from onionmpc.session.events import Agreed, LinkResumed, ProgramsMove, ProgramsStuck
from onionmpc.session.local import Plan
from onionmpc.session.marks import Marks
from onionmpc.session.messages import AnyMessage, Commit, Moving, Report, Verdict, Waiting, encode_message
from onionmpc.session.own_party import OwnParty
from onionmpc.session.peers import Peers
from onionmpc.session.watch import ProgramWatch
from tests.support.session import Ending, Hostile, Room, listed_plan, room, run, same_sentence

# Short for a test; a program says that it waits after a sixth of it.
STUCK_AFTER_S = 1.2
# So much later that on a busy machine, too, all parties have told their persons before the first one gives up.
PATIENCE_S = 3.0

# Line 1 is the first; `answer` stands at the end, so that the lines of a test are those that it shows.
HEAD = "from mpyc.runtime import mpc\nsecint = mpc.SecInt(32)\n"
TAIL = "\nmpc.run(main())\n"


def plan_of(folder: Path, body: str, *, name: str = "script.py", **changes: object) -> Plan:
    (folder / name).write_text(HEAD + textwrap.dedent(body).strip() + TAIL)
    values = {"stuck_after_s": STUCK_AFTER_S, "patience_s": PATIENCE_S} | changes
    return listed_plan(find_program(str(folder / name)), **values)


async def endings(plan: Plan, parties: int = 3) -> tuple[Room, list[Ending]]:
    async with room(parties, plan) as place:
        place.start_listed()
        return place, await place.endings()


def lines_of(place: Room, number: int) -> list[str]:
    (told,) = place.persons[number].heard(ProgramsStuck)
    return [line.strip() for line in stuck_lines(told)]


# -- stuck

# Line 5 is that of `rows = ...`.
UNEQUAL_ROWS = """
    async def main():
        async with mpc:
            rows = [secint(1)] * (4 if mpc.pid == 1 else 3)
            columns = mpc.input(rows)
            total = mpc.sum([mpc.sum(column) for column in columns])
            print(await mpc.output(total))
"""
UNEQUAL_ROUNDS = """
    async def main():
        async with mpc:
            total = secint(0)
            for _ in range(4 if mpc.pid == 1 else 3):
                total += mpc.sum(mpc.input(secint(1)))
            print(await mpc.output(total))
"""
ANOTHER_BRANCH = """
    async def main():
        async with mpc:
            total = mpc.sum(mpc.input(secint(1)))
            if mpc.pid == 2:
                total = total * total
            print(await mpc.output(total))
"""
FAILED_TASK = """
    import asyncio

    async def part(x):
        if mpc.pid == 1:
            raise ValueError("of party 1")
        return await mpc.output(x)

    async def main():
        async with mpc:
            task = asyncio.create_task(part(mpc.sum(mpc.input(secint(1)))))
            await mpc.transfer("all are here")
            if mpc.pid != 1:
                await task
"""
FAILED_COROUTINE = """
    @mpc.coroutine
    async def part(x) -> None:
        x = await mpc.output(x)
        if mpc.pid == 1:
            raise ValueError("of party 1")
        await mpc.transfer(1)

    async def main():
        async with mpc:
            part(mpc.sum(mpc.input(secint(1))))
"""
FAILED_CALLBACK = """
    import asyncio

    def note(future):
        if mpc.pid == 1:
            raise ValueError("of party 1")
        noted.set_result(1)

    async def main():
        global noted
        async with mpc:
            noted = asyncio.get_running_loop().create_future()
            mpc.output(mpc.sum(mpc.input(secint(1)))).add_done_callback(note)
            await noted
"""
NEVER_STARTED_BY_ONE = """
    import asyncio

    async def main():
        if mpc.pid == 1:
            await asyncio.get_running_loop().create_future()
        async with mpc:
            pass
"""


# Issue 12.
@pytest.mark.parametrize(
    ("body", "waits"),
    [
        (
            UNEQUAL_ROWS,
            {
                0: "party 0 is shutting down and waits for parties 1 and 2 at script.py line 4",
                1: "party 1 waits for a value that no message can bring at script.py line 8",
                2: "party 2 waits for party 1 at script.py line 8",
            },
        ),
        (
            UNEQUAL_ROUNDS,
            {
                0: "party 0 is shutting down and waits for party 1 at script.py line 4",
                1: "party 1 waits for party 2 at script.py line 8",
                2: "party 2 is shutting down and waits for party 1 at script.py line 4",
            },
        ),
        (
            ANOTHER_BRANCH,
            {
                0: "party 0 waits for party 2 at script.py line 8",
                1: "party 1 is shutting down and waits for parties 0 and 2 at script.py line 4",
                2: "party 2 waits for parties 0 and 1 at script.py line 8",
            },
        ),
        (
            NEVER_STARTED_BY_ONE,
            {
                # The lowest party dials all others, and is through with the start when the links are.
                0: "party 0 is shutting down and waits for parties 1 and 2 at script.py line 8",
                1: "party 1 waits for a value that no message can bring at script.py line 7",
                2: "party 2 waits for party 1 at script.py line 8",
            },
        ),
    ],
    ids=["rows", "rounds", "branch", "start"],
)
def test_programs_that_wait_for_each_other_are_reported_with_their_lines(
    tmp_path: Path, body: str, waits: dict[int, str]
) -> None:
    async def main() -> None:
        place, ended = await endings(plan_of(tmp_path, body))
        sentence = same_sentence(ended)
        assert {type(ending) for ending in ended} == {ProgramError}
        assert {ending.exit_code for ending in ended if isinstance(ending, ProgramError)} == {1}
        assert {ending.hint for ending in ended if isinstance(ending, ProgramError)} == {USUAL_CAUSES}
        assert sentence.startswith("the programs wait for each other, and party ")
        assert f": {'; '.join(waits.values())}; " in sentence
        for number in place.numbers:
            first, *each, cause, patience = lines_of(place, number)
            assert first == "the programs are waiting for each other, and no data is on its way between them:"
            assert each == list(waits.values())
            assert cause == USUAL_CAUSES
            assert re.fullmatch(
                r"if none of them continues, this party ends the session in [01]\.\d s \(--patience\)", patience
            )

    run(main())


# Issue 12.
@pytest.mark.parametrize(
    "body", [FAILED_TASK, FAILED_COROUTINE, FAILED_CALLBACK], ids=["task", "coroutine", "callback"]
)
def test_an_error_in_an_unawaited_coroutine_is_shown_and_named_by_all(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], body: str
) -> None:
    async def main() -> None:
        place, ended = await endings(plan_of(tmp_path, body))
        sentence = same_sentence(ended)
        assert "party 1 (whose program reported an error) " in sentence
        assert [lines_of(place, number)[-2] for number in place.numbers] == [
            "likely cause: an error in party 1's program",
            "likely cause: an error in party 1's program (see above)",
            "likely cause: an error in party 1's program",
        ]

    run(main())
    assert capfd.readouterr().err.count("ValueError: of party 1") == 1


# Issue 12.
def test_a_line_at_module_level_is_reported_too(tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / "flat.py").write_text(
            HEAD + "mpc.run(mpc.start())\nx = mpc.input(secint(1), senders=0)\nif mpc.pid:\n"
            "    mpc.run(mpc.output(x))\n    mpc.run(mpc.output(x))\nmpc.run(mpc.shutdown())\n"
        )
        program = find_program(str(tmp_path / "flat.py"))
        plan = listed_plan(program, stuck_after_s=STUCK_AFTER_S, patience_s=PATIENCE_S)
        _, ended = await endings(plan)
        assert "party 1 waits for party 0 at flat.py line 7; party 2 is shutting down" in same_sentence(ended)

    run(main())


# Issue 12.
def test_stuck_programs_are_found_on_padded_links_too(tmp_path: Path) -> None:
    async def main() -> None:
        place, ended = await endings(plan_of(tmp_path, UNEQUAL_ROWS, padding=50, padding_bucket_s=0.1))
        assert same_sentence(ended).startswith("the programs wait for each other")
        assert len(lines_of(place, 2)) == 6

    run(main())


# -- not stuck

WAITS = """
    import asyncio, subprocess, sys, threading, time
    from concurrent.futures import ThreadPoolExecutor

    async def main():
        async with mpc:
            await mpc.transfer("all are here")
            if mpc.pid == 1:
                {wait}
            await mpc.output(mpc.sum(mpc.input(secint(1))))
"""
PAUSE_S = 3 * STUCK_AFTER_S
LONG_WAITS = {
    "a timer": f"await asyncio.sleep({PAUSE_S})",
    "a timeout": f"await asyncio.wait([asyncio.get_running_loop().create_future()], timeout={PAUSE_S})",
    "a sleep": f"time.sleep({PAUSE_S})",
    "a thread": f"await asyncio.get_running_loop().run_in_executor(None, time.sleep, {PAUSE_S})",
    "a thread of its own": f"""
                done = asyncio.Event()
                loop = asyncio.get_running_loop()
                threading.Thread(target=lambda: (time.sleep({PAUSE_S}), loop.call_soon_threadsafe(done.set))).start()
                await done.wait()""",
    "a thread that threading does not know": f"""
                import _thread
                done = asyncio.Event()
                loop = asyncio.get_running_loop()
                _thread.start_new_thread(lambda: (time.sleep({PAUSE_S}), loop.call_soon_threadsafe(done.set)), ())
                await done.wait()""",
    "a long computation": f"""
                end = time.monotonic() + {PAUSE_S}
                while time.monotonic() < end:
                    pass""",
    "a spinning coroutine": f"""
                end = time.monotonic() + {PAUSE_S}
                while time.monotonic() < end:
                    await asyncio.sleep(0)""",
    "an alarm": f"""
                import signal
                rang = asyncio.Event()
                asyncio.get_running_loop().add_signal_handler(signal.SIGALRM, rang.set)
                signal.setitimer(signal.ITIMER_REAL, {PAUSE_S})
                await rang.wait()""",
    "a child process": f"""
                pause = "import time; time.sleep({PAUSE_S})"
                process = await asyncio.create_subprocess_exec(sys.executable, "-c", pause)
                await process.wait()""",
    "a child process that is waited for": f"""
                subprocess.run([sys.executable, "-c", "import time; time.sleep({PAUSE_S})"])""",
}


# Issue 12.
@pytest.mark.parametrize("what", LONG_WAITS)
def test_a_program_that_can_continue_by_itself_is_never_stuck(tmp_path: Path, what: str) -> None:
    async def main() -> None:
        body = WAITS.format(wait=LONG_WAITS[what].strip())
        plan = plan_of(tmp_path, body, patience_s=60.0, allow_subprocess="process" in what)
        place, ended = await endings(plan)
        assert [type(ending) for ending in ended] == [SessionResult] * 3, ended
        assert [person.heard(ProgramsStuck) for person in place.persons] == [[], [], []]

    run(main())


OWN_TRANSPORT = """
    import time
    import mpyc.asyncoro

    class Mine:
        def __init__(self, transport):
            self.write, self.writelines, self.close = transport.write, transport.writelines, transport.close

    class Exchanger(mpyc.asyncoro.MessageExchanger):
        def connection_made(self, transport):
            {made}

    mpyc.asyncoro.MessageExchanger = Exchanger

    async def main():
        async with mpc:
            await mpc.transfer("all are here")
            if mpc.pid == 1:
                time.sleep({pause})
            await mpc.output(mpc.sum(mpc.input(secint(1))))
"""


# Issue 12: where a script has put its own transport before MPyC's, asking what it waits for ended it.
@pytest.mark.parametrize(
    "made",
    [
        "super().connection_made(Mine(transport))",
        "super().connection_made(transport); self.transport = Mine(self.transport)",
    ],
    ids=["below ours", "above ours"],
)
def test_a_script_may_use_its_own_transport(tmp_path: Path, made: str) -> None:
    async def main() -> None:
        body = OWN_TRANSPORT.format(made=made, pause=PAUSE_S)
        place, ended = await endings(plan_of(tmp_path, body, patience_s=60.0))
        assert [type(ending) for ending in ended] == [SessionResult] * 3, ended
        assert [person.heard(ProgramsStuck) for person in place.persons] == [[], [], []]

    run(main())


ASKED = {
    "input": "assert input() == 'at last'",
    "a reader": """
                asked = asyncio.Event()
                asyncio.get_running_loop().add_reader(0, asked.set)
                await asked.wait()
                asyncio.get_running_loop().remove_reader(0)""",
}


# Issue 12.
@pytest.mark.parametrize("how", ASKED)
def test_a_program_that_asks_its_user_is_never_stuck(tmp_path: Path, how: str) -> None:
    async def main() -> None:
        answer = asyncio.get_running_loop().call_later(PAUSE_S, os.write, person, b"at last\n")
        plan = plan_of(tmp_path, WAITS.format(wait=ASKED[how].strip()), patience_s=60.0)
        place, ended = await endings(plan)
        answer.cancel()
        assert [type(ending) for ending in ended] == [SessionResult] * 3, ended
        assert [person.heard(ProgramsStuck) for person in place.persons] == [[], [], []]

    terminal, person = os.pipe()
    stdin = os.dup(0)
    os.dup2(terminal, 0)
    try:
        run(main())
    finally:
        os.dup2(stdin, 0)
        for end in (terminal, person, stdin):
            os.close(end)


# Issue 12. Two parties, so that there is no third who sees both.
ONE_AWAITS_NOTHING = """
    import asyncio

    async def main():
        async with mpc:
            if mpc.pid:
                await asyncio.get_running_loop().create_future()
"""


def test_while_a_link_is_away_patience_with_the_peer_counts(tmp_path: Path) -> None:
    async def main() -> None:
        patience_s = 2 * STUCK_AFTER_S
        plan = plan_of(tmp_path, ONE_AWAITS_NOTHING, patience_s=patience_s, allow_no_privacy=True)
        async with room(2, plan) as place:
            place.start_listed()
            for person in place.persons:
                await person.hears(ProgramsStuck)
            await place.part(0, 1)
            ended = await place.endings()
            assert {type(ending) for ending in ended} == {LinkExpired}

    run(main())


def test_programs_stay_stuck_when_a_link_comes_back(tmp_path: Path) -> None:
    async def main() -> None:
        plan = plan_of(tmp_path, ONE_AWAITS_NOTHING, allow_no_privacy=True)
        async with room(2, plan) as place:
            place.start_listed()
            await place.persons[1].hears(Agreed)
            await place.networks[0].cut_all()
            await place.persons[0].hears(LinkResumed)
            ended = await place.endings()
            assert same_sentence(ended).startswith("the programs wait for each other")

    run(main())


# Issue 12.
def test_a_program_that_ended_is_reported_and_not_those_that_wait_for_it(tmp_path: Path) -> None:
    async def main() -> None:
        body = """
        import asyncio, os

        async def main():
            async with mpc:
                if mpc.pid == 1:
                    await asyncio.sleep(1)
                    os._exit(3)
                await mpc.transfer("all but one")
        """
        _, ended = await endings(plan_of(tmp_path, body))
        assert "the program failed at party 1 while the program ran: it exited with status 3" in same_sentence(ended)

    run(main())


def test_a_party_that_leaves_stuck_programs_is_reported_as_left(tmp_path: Path) -> None:
    async def main() -> None:
        async with room(3, plan_of(tmp_path, UNEQUAL_ROWS, patience_s=60.0)) as place:
            place.start_listed()
            for person in place.persons:
                await person.hears(ProgramsStuck)
            place.tasks.pop(2).cancel()
            ended = await place.endings()
            assert {type(ending) for ending in ended} == {PeerLeft}

    run(main())


# -- what parties may say

WAITS_FOR_OTHERS = """
    import os

    async def main():
        async with mpc:
            await mpc.transfer("more")
"""


async def with_liar(place: Room, lie: Callable[[dict[int, Wait]], Wait], later: bytes = b"") -> list[Ending]:
    """Let party 2 agree and run no program. It tells both others the same lie when they wait, and more later."""
    place.start_listed([0, 1])
    liar = Hostile(place, 2, place.party(0).full_list(place.others(0)))
    heard: dict[int, Wait] = {}

    def answer(party: int, runner: LinkRunner, message: AnyMessage) -> None:
        if isinstance(message, Commit):
            runner.send_control(encode_message(message))
        if isinstance(message, Report):
            runner.send_control(encode_message(Verdict(tuple(place.onions[:2]))))
        if isinstance(message, Waiting):
            heard[party] = message.wait
            for other in liar.runners.values() if len(heard) == 2 else ():
                other.send_control(encode_message(Waiting(lie(heard))))
                asyncio.get_running_loop().call_later(2 * STUCK_AFTER_S, other.send_control, later)

    liar.on_up = lambda _party, runner: runner.send_control(liar.offer())
    liar.on_message = answer
    async with liar.there():
        return await place.endings()


def echo(heard: dict[int, Wait]) -> Wait:
    """Report a wait of a program that does not exist, with counts that fit the others' reports."""
    received = (heard[0].sent[2], heard[1].sent[2], NO_BYTES)
    sent = (heard[0].received[2], heard[1].received[2], NO_BYTES)
    return Wait((0, 1), (Place("script.py", 1),), ending=False, failed=False, sent=sent, received=received)


# Issue 12.
def test_a_party_that_lies_about_waiting_can_only_make_the_session_count_as_stuck(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with room(3, plan_of(tmp_path, WAITS_FOR_OTHERS)) as place:
            ended = await with_liar(place, echo)
            assert "party 2 waits for parties 0 and 1 at script.py line 1" in same_sentence(ended)

    run(main())


# Issue 12.
def test_programs_that_continue_are_reported(tmp_path: Path) -> None:
    async def main() -> None:
        async with room(3, plan_of(tmp_path, WAITS_FOR_OTHERS, patience_s=60.0)) as place:
            left = Report(place.onions[2], place.onions[2], "left", "run")
            await with_liar(place, echo, encode_message(Moving()) + encode_message(left))
            for person in place.persons[:2]:
                kinds = [type(event) for event in person.events if isinstance(event, ProgramsStuck | ProgramsMove)]
                assert kinds == [ProgramsStuck, ProgramsMove]

    run(main())


# Issue 12.
def test_an_impossible_wait_breaks_the_rules(tmp_path: Path) -> None:
    async def main() -> None:
        async with room(3, plan_of(tmp_path, WAITS_FOR_OTHERS)) as place:
            wrong = Wait((2,), (), ending=False, failed=False, sent=("0",) * 3, received=("0",) * 3)
            ended = await with_liar(place, lambda _: wrong)
            assert {type(ending) for ending in ended} == {RemoteProtocolError}
            assert "party 2 broke the rules" in same_sentence(ended)

    run(main())


# Issue 12.
def test_peers_learn_only_of_files_of_the_agreed_program(tmp_path: Path) -> None:
    async def main() -> None:
        async with room(3, plan_of(tmp_path, WAITS_FOR_OTHERS)) as place:
            told: list[Waiting] = []
            peers = Peers([1, 2])
            peers.broadcast = lambda message: told.append(message)  # type: ignore[assignment]
            person = place.persons[0]
            common = place.party(0).full_list(place.others(0))
            program = place.plan.program
            assert program is not None
            own = OwnParty(place.identities[0], bytes(16), common, PartyTerms(), program, place.plan)
            watch = ProgramWatch(own, peers, EndingOfSession(own, peers, person), person)
            places = (Place("script.py", 7), Place("notes/private.py", 1))
            wait = Wait((1,), places, ending=False, failed=False, sent=("0",) * 3, received=("0",) * 3)
            watch.note_own(Marks(place.identities[0], place.onions, bytes(32)), wait)
            assert told[0].wait.places == places[:1]

    run(main())
