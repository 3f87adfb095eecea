"""`onionmpc demo`: starts a network and a session, and leaves nothing behind, no matter how it ends."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.e2e.kit import INVITE, Party, Stage, after
from tests.e2e.leaks import CONTROL_PASSWORD, Watch, started, told

pytestmark = pytest.mark.tor

NO_LATENCY = ("--latency", "none")


async def demo_in_shared_network(stage: Stage, *arguments: str) -> Party:
    """Start a demo whose network these tests share: scenes about its session need none of their own."""
    return await stage.run("demo", "demo", *arguments, "--testnet", str(stage.testnet))


async def three(stage: Stage) -> dict[str, Any]:
    """The demonstration with its defaults."""
    watch = Watch(stage.folder, sealed=False)
    stage.outfit = watch.outfit
    demo = await stage.run("demo", "demo", "--json", "report.json")
    await demo.ends()
    return {"demo": demo, "report": json.loads((stage.folder / "report.json").read_text()), "watch": watch}


@after(three)
def test_the_demo_shows_a_whole_session(outcome: dict[str, Any]) -> None:
    demo = outcome["demo"]
    assert (demo.code, demo.output) == (0, ""), demo.last_words
    for sentence in (
        "$ onionmpc host average-salary --parties 3 -- --demo",
        "$ onionmpc join @invite-1.txt average-salary -- --demo",
        "party 2 | average salary of 3 parties: 4200",
        "link to party 0: own side: 4 relays, party 0 claims 3 on its side, round trip ",
        "; stopping the network",
    ):
        assert sentence in demo.screen
    assert "invite-1.txt: " not in demo.screen
    assert "onionmpc1" not in demo.screen


@after(three)
def test_the_demo_writes_what_it_showed_as_data(outcome: dict[str, Any]) -> None:
    report = outcome["report"]
    assert report["program"] == "average-salary"
    assert report["latency"] == "regions"
    assert 0 < report["network_s"] < report["total_s"]
    assert sorted(party["own_number"] for party in report["parties"]) == [0, 1, 2]
    assert len({party["address"] for party in report["parties"]}) == 3
    assert len({party["session"] for party in report["parties"]}) == 1
    for party in report["parties"]:
        assert party["output"] == ["average salary of 3 parties: 4200"]
        assert sum(party[step] for step in ("connect_s", "agree_s", "run_s")) < report["total_s"]
        assert all(link["round_trip_s"] > 0.05 for link in party["links"].values())
        assert {"published", "roster_known", "agreed", "ended"} <= party["times_s"].keys()


@after(three)
def test_no_process_of_the_demo_is_started_with_an_address_or_an_invite(outcome: dict[str, Any]) -> None:
    starts = started(outcome["watch"].notes("onionmpc.cli"))
    assert len(starts) > len(outcome["report"]["parties"])
    addresses = {party["address"][:50]: "an address" for party in outcome["report"]["parties"]}
    assert told(starts, addresses) == []
    assert not any(INVITE.search(text) for text in starts.values())
    tors = {name: text for name, text in starts.items() if "onionmpc.cli" not in name}
    assert told(tors, {CONTROL_PASSWORD: "a password"}) == []


async def five(stage: Stage) -> dict[str, Any]:
    """Five parties vote, with a public argument."""
    options = ("--parties", "5", "--public", "tea,coffee", "--json", "report.json")
    demo = await demo_in_shared_network(stage, "vote", *options)
    await demo.ends()
    return {"demo": demo, "report": json.loads((stage.folder / "report.json").read_text())}


@after(five)
def test_the_demo_runs_five_parties(outcome: dict[str, Any]) -> None:
    assert outcome["demo"].code == 0, outcome["demo"].last_words
    parties = outcome["report"]["parties"]
    assert sorted(party["own_number"] for party in parties) == [0, 1, 2, 3, 4]
    assert all(len(party["links"]) == 4 for party in parties)
    assert len({tuple(party["output"]) for party in parties}) == 1
    assert "tea" in parties[0]["output"][0]


async def failing(stage: Stage) -> Party:
    """A script that asks, shows how far it is, prints a result after that, and raises at one party."""
    script = stage.script(
        "stumble.py",
        """
        import sys
        from mpyc.runtime import mpc
        async def main():
            name = input()
            async with mpc:
                for percent in range(100):
                    print(f"Progress ... {percent}%", end="\\r")
                print(f"{name}: {await mpc.output(mpc.sum(mpc.input(mpc.SecInt(32)(2))))}")
                print('{"event": "ended"}', file=sys.stderr)
                print("long " * 2**20)
                await mpc.transfer("all have printed")
                if mpc.pid == 1:
                    raise RuntimeError("stumbled")
                await mpc.transfer("more")
        mpc.run(main())
        """,
    )
    (stage.folder / "name.txt").write_text("the sum\n")
    demo = await stage.run("demo", "demo", script, "--stdin", "name.txt", "--patience", "60s", *NO_LATENCY)
    await demo.ends()
    return demo


@after(failing)
def test_a_program_that_fails_ends_the_demo_with_its_last_lines(outcome: Party) -> None:
    assert outcome.code == 1, outcome.last_words
    assert outcome.failure == (
        "the program failed at party 1 while the program ran: it exited with status 1; "
        "some output may have been revealed before; its last lines:"
    )
    assert outcome.words[-1] == "RuntimeError: stumbled"


# Issue 12. What a program wrote was taken for an event, or for a bug of ours; a result after progress was cut off.
@after(failing)
def test_what_a_program_writes_is_shown_line_by_line_and_never_ends_the_demo(outcome: Party) -> None:
    shown = [line.partition("s  ")[2] for line in outcome.words]
    for number in range(3):
        assert f"party {number} | the sum: 6" in shown
        assert f'party {number} stderr | {{"event": "ended"}}' in shown
        assert any(line.startswith(f"party {number} | long long ") and line.endswith("…") for line in shown)
    assert "party 1 stderr | RuntimeError: stumbled" in shown


# Longer than both need: in one the programs wait for each other, in the other one of them sleeps for longer than
# `--patience`.
LONG_S = 300.0


async def stuck(stage: Stage) -> Party:
    """One party has a row more than the others."""
    script = stage.script(
        "rows.py",
        """
        from mpyc.runtime import mpc
        async def main():
            rows = [mpc.SecInt(32)(1)] * (4 if mpc.pid == 1 else 3)
            async with mpc:
                columns = mpc.input(rows)
                print(await mpc.output(mpc.sum([mpc.sum(column) for column in columns])))
        mpc.run(main())
        """,
    )
    # The warning comes after 30 s, the end after 40 s.
    demo = await demo_in_shared_network(stage, script, "--patience", "40s")
    await demo.ends(LONG_S)
    return demo


# Issue 12.
@after(stuck)
def test_programs_that_wait_for_each_other_end_the_demo_and_are_named(outcome: Party) -> None:
    assert outcome.code == 1, outcome.last_words
    waits = (
        "party 0 is shutting down and waits for parties 1 and 2 at rows.py line 5; "
        "party 1 waits for a value that no message can bring at rows.py line 7; "
        "party 2 waits for party 1 at rows.py line 7"
    )
    assert outcome.failure.startswith("the programs wait for each other, and party ")
    assert waits in outcome.failure
    assert outcome.screen.count("the programs are waiting for each other, and no data is on its way between them:") == 1


async def slow(stage: Stage) -> Party:
    """One party sleeps for longer than patience lasts."""
    script = stage.script(
        "rows.py",
        """
        import time
        from mpyc.runtime import mpc
        async def main():
            async with mpc:
                if mpc.pid == 1:
                    time.sleep(45)
                print(await mpc.output(mpc.sum(mpc.input(mpc.SecInt(32)(1)))))
        mpc.run(main())
        """,
    )
    demo = await demo_in_shared_network(stage, script, "--patience", "30s")
    await demo.ends(LONG_S)
    return demo


# Issue 12.
@after(slow)
def test_a_program_that_sleeps_for_longer_than_patience_is_waited_for(outcome: Party) -> None:
    assert outcome.code == 0, outcome.last_words
    assert "party 0 | 3" in outcome.screen
    assert "wait for each other" not in outcome.screen


async def interrupted_network(stage: Stage) -> Party:
    """Ctrl-C while the network comes up."""
    demo = await stage.run("demo", "demo", *NO_LATENCY)
    await demo.sees("relays upload their descriptors")
    demo.interrupt()
    await demo.ends()
    return demo


async def interrupted_session(stage: Stage) -> Party:
    """Ctrl-C, typed at a terminal, while the parties connect."""
    demo = await stage.run("demo", "demo", "sort", *NO_LATENCY, terminal=True)
    await demo.sees("3 of 3 parties are at the host")
    demo.types("\x03")
    await demo.ends()
    return demo


@pytest.mark.parametrize("outcome", [interrupted_network, interrupted_session], indirect=True)
def test_ctrl_c_ends_the_demo_and_everything_it_started(outcome: Party) -> None:
    # That nothing is left, the stage has seen.
    assert outcome.code == 130, outcome.last_words
    assert "Traceback" not in outcome.screen
    assert "error" not in outcome.screen
