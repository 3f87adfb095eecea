"""Sessions that fail: every party ends in time, with the right exit code and a sentence that says why."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable
from typing import Any

import pytest

from onionmpc.wire.limits import DEFAULT_LINK_LIMITS as LIMITS
from tests.e2e.kit import Party, Stage, after, keep_identity, new_identity, same_sentence

pytestmark = pytest.mark.tor

# From a failure to the end of all others, who all answer (PROTOCOL 3 has 20 s for it if one does not).
ENDING_S = 15.0
PATIENCE_S = 15.0
PROBE_S = 10.0
FOR_EVER = """
    from mpyc.runtime import mpc
    async def main():
        async with mpc:
            secint = mpc.SecInt(32)
            print("running", flush=True)
            while True:
                await mpc.output(mpc.sum(mpc.input(secint(1))))
    mpc.run(main())
"""
FOR_ONE = """
    import sys
    from mpyc.runtime import mpc
    async def main():
        async with mpc:
            if sys.argv[1:] == ["stumble"]:
                raise RuntimeError("stumbled")
            print(await mpc.output(mpc.input(mpc.SecInt(32)(1))[0]))
            while True:
                await mpc.output(mpc.input(mpc.SecInt(32)(1))[0])
    mpc.run(main())
"""
STATES = ("anna", "ben", "cleo")


async def running(stage: Stage, **how: Any) -> list[Party]:
    """Return three parties whose programs run."""
    parties = await stage.gathered(stage.script("for_ever.py", FOR_EVER), **how)
    await asyncio.gather(*(party.prints("running") for party in parties))
    return parties


def seconds(since: float, parties: list[Party]) -> float:
    """Return how long after `since` the last of them had ended."""
    return max(party.ended_at_s for party in parties) - since


def now_s() -> float:
    return asyncio.get_running_loop().time()


# --- Not there ---------------------------------------------------------------------------------------------------


async def offline(stage: Stage) -> Party:
    """A joiner dials a host that was never published."""
    joiner = await stage.start("joiner", "join", new_identity().onion, "--wait", "20s")
    await joiner.ends()
    return joiner


@after(offline)
def test_a_host_that_is_offline_is_waited_for_and_then_reported(outcome: Party) -> None:
    assert outcome.code == 4, outcome.last_words
    assert outcome.failure.startswith("the host did not start the session within 20 s")
    assert any("tor found no descriptor of it" in event["reason"] for event in outcome.heard("dial_retry"))


async def never_full(stage: Stage) -> Party:
    """Nobody uses the invites."""
    host = await stage.host("average-salary", "--wait", "5s", private=["--demo"])
    await host.ends()
    return host


@after(never_full)
def test_a_host_that_nobody_joins_gives_up(outcome: Party) -> None:
    assert (outcome.code, outcome.failure) == (4, "not all seats were taken within 5.0 s"), outcome.last_words
    assert outcome.hint == "use --wait to give the others more time"


# --- Who lists whom ----------------------------------------------------------------------------------------------


async def other_lists(stage: Stage) -> list[Party]:
    """Cleo lists someone else instead of Ben."""
    onions = {state: keep_identity(stage, state) for state in STATES}
    lists = {state: [onions[other] for other in STATES if other != state] for state in STATES}
    lists["cleo"] = [onions["anna"], new_identity().onion]
    me = ("--identity", "me", "--wait", "100s")
    for state in STATES:
        await stage.start(state, "join", *lists[state], "average-salary", *me, private=["--demo"], state=state)
    await stage.ended()
    return stage.parties


@after(other_lists)
def test_a_party_with_another_list_stops_all_before_anything_runs(outcome: list[Party]) -> None:
    for party in outcome:
        assert party.code in (5, 6), party.last_words
        assert "parties differs: " in party.failure or "does not accept" in party.failure
        assert party.hint
        assert party.output == ""


async def one_identity_twice(stage: Stage) -> list[Party]:
    """The same kept identity in two sessions at once."""
    keep_identity(stage)
    me = ("--identity", "me", "--wait", "10s")
    first = await stage.host("average-salary", *me, private=["--demo"])
    await first.hears("address_known")
    await stage.host("average-salary", *me, private=["--demo"])
    await stage.ended()
    return stage.parties


@after(one_identity_twice)
def test_an_identity_takes_part_once_at_a_time(outcome: list[Party]) -> None:
    first, second = outcome
    assert (second.code, second.failure) == (2, "another session uses the identity me now")
    assert second.hint == "end that session, or use another identity"
    assert first.code == 4


# --- Not the same wishes -----------------------------------------------------------------------------------------


async def differing(stage: Stage, *options: str, program: str = "vote") -> list[Party]:
    """A host with two joiners, the second of which wants something else."""
    host = await stage.host("vote", "--public=tea,coffee", "--wait", "100s", private=["--demo"])
    first, second = await stage.invites(host, 2)
    await stage.start("joiner 1", "join", first, private=["--demo"])
    await stage.start("joiner 2", "join", second, program, *options, private=["--demo"])
    await stage.ended()
    return stage.parties


async def other_arguments(stage: Stage) -> list[Party]:
    """The candidates differ."""
    return await differing(stage, "--public=tea,cocoa")


async def other_threshold(stage: Stage) -> list[Party]:
    """One asks for a threshold of 0."""
    return await differing(stage, "--threshold=0", "--allow-no-privacy")


async def other_program(stage: Stage) -> list[Party]:
    """One party has a different script of the same name."""
    (stage.folder / "mine").mkdir()
    return await differing(stage, program=stage.script("mine/vote.py", "print('mine')\n"))


@after(other_arguments)
def test_different_public_arguments_are_refused(outcome: list[Party]) -> None:
    told = disagreement(outcome)
    assert "public arguments differs: " in told
    assert "tea,coffee" in told
    assert "tea,cocoa" in told


@after(other_threshold)
def test_a_different_threshold_is_refused(outcome: list[Party]) -> None:
    assert "threshold differs: 0 at party" in disagreement(outcome)


@after(other_program)
def test_a_different_program_of_the_same_name_is_refused(outcome: list[Party]) -> None:
    assert "program file private_input.py differs: missing at party " in disagreement(outcome)


def disagreement(parties: list[Party]) -> str:
    """Return the error of all parties about a disagreement."""
    assert [party.code for party in parties] == [5, 5, 5], [party.last_words for party in parties]
    assert {party.output for party in parties} == {""}
    assert all(party.hint for party in parties)
    # Who differs has known it first, and may say it of itself.
    return max((party.failure for party in parties), key=len)


# --- Lost and failed while the program runs ----------------------------------------------------------------------


async def killed(stage: Stage) -> dict[str, Any]:
    """A party is killed."""
    parties = await running(stage, each=("--patience", f"{PATIENCE_S:.0f}s"))
    parties[1].kill()
    since = now_s()
    await stage.ended()
    return {"lost": parties[1], "others": [parties[0], parties[2]], "after_s": seconds(since, parties)}


@after(killed)
def test_a_killed_party_is_lost_and_all_others_report_it_in_time(outcome: dict[str, Any]) -> None:
    lost, others = outcome["lost"], outcome["others"]
    assert [party.code for party in others] == [4, 4], [party.last_words for party in others]
    assert same_sentence(others).startswith(f"party {lost.number} is lost: no other party reaches it")
    assert "while the program ran: nothing arrived for 15 s" in others[0].failure
    assert others[0].failure.endswith("; some output may have been revealed before")
    # Counted from when it was heard last, at most a heartbeat before.
    assert PATIENCE_S - LIMITS.ping_after_s < outcome["after_s"] < PATIENCE_S + PROBE_S + ENDING_S
    # Not whether they saw its streams end: a relay that lost a client sends one DESTROY over each connection, and keeps
    # the others until another cell goes there (tor's circuitmux_append_destroy_cell), which takes a while where nobody
    # else uses the network.


async def tor_killed(stage: Stage) -> dict[str, Any]:
    """A party's own tor is killed; later a party leaves."""
    parties = await running(stage)
    (tor,) = parties[1].children("tor")
    os.kill(tor, signal.SIGKILL)
    # The others may not notice: the new stream can be there before the old one is seen to bring nothing.
    await asyncio.gather(*(parties[1].hears("link_resumed", party=other.number) for other in (parties[0], parties[2])))
    running_still = [party.code is None for party in parties]
    parties[0].interrupt()
    await stage.ended()
    return {"running": running_still, "left": parties[0], "others": parties[1:]}


@after(tor_killed)
def test_a_party_that_loses_its_tor_starts_another_and_the_session_continues(outcome: dict[str, Any]) -> None:
    assert outcome["running"] == [True, True, True]
    assert outcome["left"].code == 130, outcome["left"].last_words
    for party in outcome["others"]:
        assert party.code == 4, party.last_words
        assert f"party {outcome['left'].number} left while the program ran" in party.failure


async def killed_and_back(stage: Stage) -> dict[str, Any]:
    """A party with a kept identity is killed and starts again, while the others still wait for it."""
    onions = {state: keep_identity(stage, state) for state in STATES}
    script = stage.script("for_ever.py", FOR_EVER)

    def join(state: str) -> Awaitable[Party]:
        others = [onions[other] for other in STATES if other != state]
        return stage.start(state, "join", *others, script, "--identity", "me", state=state)

    anna, ben, cleo = [await join(state) for state in STATES]
    await asyncio.gather(*(party.prints("running") for party in (anna, ben, cleo)))
    ben.kill()
    await ben.ends()
    again = await join("ben")
    await asyncio.gather(anna.ends(), cleo.ends())
    again.interrupt()
    await again.ends()
    return {"others": [anna, cleo], "again": again, "number": ben.number}


@after(killed_and_back)
def test_a_killed_party_that_starts_again_does_not_continue_the_old_session(outcome: dict[str, Any]) -> None:
    others, again = outcome["others"], outcome["again"]
    assert [party.code for party in others] == [4, 4], [party.last_words for party in others]
    told = same_sentence(others)
    assert told.startswith(f"party {outcome['number']} is lost: no other party reaches it")
    assert "it has ended or restarted, and does not know this session" in told
    # It took its locks without a word, and came to no agreement with those of the old session.
    assert again.code == 130, again.last_words
    assert again.heard("published")
    assert not again.heard("agreed")


async def stumbling(stage: Stage) -> dict[str, Any]:
    """The script raises at one party."""
    script = stage.script("for_one.py", FOR_ONE)
    host = await stage.host(script)
    first, second = await stage.invites(host, 2)
    stumbling = await stage.start("stumbling", "join", first, script, private=["stumble"])
    await stage.start("other", "join", second, script)
    await stage.ended()
    return {"failed": stumbling, "all": stage.parties}


@after(stumbling)
def test_a_script_that_raises_ends_the_session_for_all_and_its_traceback_is_shown_where_it_ran(
    outcome: dict[str, Any],
) -> None:
    failed, parties = outcome["failed"], outcome["all"]
    assert [party.code for party in parties] == [1, 1, 1], [party.last_words for party in parties]
    told = same_sentence(parties)
    assert told.startswith(f"the program failed at party {failed.number} while the program ran")
    assert "it exited with status 1" in told
    assert failed.words[0] == "Traceback (most recent call last):"
    assert failed.words[-1] == "RuntimeError: stumbled"
    assert failed.screen.count("Traceback") == 1
    assert not any("stumbled" in party.screen for party in parties if party is not failed)


async def script_killed(stage: Stage) -> dict[str, Any]:
    """The program process of one party is killed."""
    parties = await running(stage)
    (program,) = parties[2].children("onionmpc.program.process.child")
    os.kill(program, signal.SIGKILL)
    since = now_s()
    await stage.ended()
    return {"failed": parties[2], "all": parties, "after_s": seconds(since, parties)}


@after(script_killed)
def test_a_killed_script_ends_the_session_for_all(outcome: dict[str, Any]) -> None:
    failed, parties = outcome["failed"], outcome["all"]
    assert [party.code for party in parties] == [1, 1, 1], [party.last_words for party in parties]
    told = same_sentence(parties)
    assert told.startswith(f"the program failed at party {failed.number} while the program ran")
    assert "it was killed by signal 9 (Killed)" in told
    assert outcome["after_s"] < ENDING_S


# --- Ctrl-C ------------------------------------------------------------------------------------------------------


async def leaving_the_table(stage: Stage) -> dict[str, Any]:
    """A joiner leaves before all are there; another takes its seat; then the host leaves."""
    host = await stage.host("average-salary", private=["--demo"])
    first, _ = await stage.invites(host, 2)
    leaving = await stage.start("leaving", "join", first, private=["--demo"])
    await leaving.hears("seats_taken")
    leaving.interrupt()
    await host.hears("joiner_left")
    staying = await stage.start("staying", "join", first, private=["--demo"])
    await staying.hears("seats_taken")
    host.interrupt()
    since = now_s()
    await stage.ended()
    return {"host": host, "leaving": leaving, "staying": staying, "after_s": seconds(since, [host, staying])}


@after(leaving_the_table)
def test_ctrl_c_before_all_are_there(outcome: dict[str, Any]) -> None:
    host, leaving, staying = outcome["host"], outcome["leaving"], outcome["staying"]
    assert leaving.code == 130, leaving.last_words
    assert host.heard("joiner_left")[0]["seat"] == 1
    assert [event["seat"] for event in host.heard("joiner_arrived")] == [1, 1]
    assert host.code == 130, host.last_words
    assert (staying.code, staying.failure) == (4, "the host stopped waiting for parties"), staying.last_words
    assert outcome["after_s"] < ENDING_S


async def leaving_on_the_way(stage: Stage) -> dict[str, Any]:
    """One of two leaves while they still wait for the third."""
    onions = {state: keep_identity(stage, state) for state in STATES}
    for state in ("anna", "ben"):
        others = [onions[other] for other in STATES if other != state]
        await stage.start(state, "join", *others, "average-salary", "--identity", "me", private=["--demo"], state=state)
    leaving, staying = stage.parties
    await asyncio.gather(leaving.hears("link_measured"), staying.hears("link_measured"))
    leaving.interrupt()
    since = now_s()
    await stage.ended()
    return {"leaving": leaving, "staying": [staying], "after_s": seconds(since, stage.parties)}


async def leaving_the_question(stage: Stage) -> dict[str, Any]:
    """A person answers the agreement with Ctrl-C."""
    host = await stage.host("average-salary", private=["--demo"])
    first, second = await stage.invites(host, 2)
    leaving = await stage.start("leaving", "join", first, private=["--demo"], terminal=True)
    other = await stage.start("other", "join", second, private=["--demo"])
    await leaving.sees("Compute on these terms?")
    await asyncio.gather(host.hears("agreement"), other.hears("agreement"))
    leaving.types("\x03")
    since = now_s()
    await stage.ended()
    return {"leaving": leaving, "staying": [host, other], "after_s": seconds(since, stage.parties)}


async def leaving_the_program(stage: Stage) -> dict[str, Any]:
    """A person types Ctrl-C while the program runs, which reaches both processes."""
    script = stage.script("for_ever.py", FOR_EVER)
    host = await stage.host(script)
    first, second = await stage.invites(host, 2)
    leaving = await stage.start("leaving", "join", first, script, terminal=True)
    other = await stage.start("other", "join", second, script)
    await leaving.sees("Compute on these terms?")
    leaving.types("y\n")
    await asyncio.gather(*(party.prints("running") for party in (host, leaving, other)))
    leaving.types("\x03")
    since = now_s()
    await stage.ended()
    return {"leaving": leaving, "staying": [host, other], "after_s": seconds(since, stage.parties)}


@pytest.mark.parametrize(
    ("outcome", "during"),
    [
        (leaving_on_the_way, "while the parties connected"),
        (leaving_the_question, "while the parties agreed"),
        (leaving_the_program, "while the program ran"),
    ],
    indirect=["outcome"],
    ids=["connecting", "agreeing", "running"],
)
def test_ctrl_c_is_reported_to_the_others_as_leaving(outcome: dict[str, Any], during: str) -> None:
    leaving, staying = outcome["leaving"], outcome["staying"]
    assert leaving.code == 130, leaving.last_words
    assert "Traceback" not in leaving.screen
    for party in staying:
        assert party.code == 4, party.last_words
        # The one who leaves knows first how far it was; another may be a step behind.
        assert "left while" in party.failure
        assert during in party.failure
    assert outcome["after_s"] < ENDING_S
