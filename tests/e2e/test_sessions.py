"""Sessions that go well, from the commands that people type: the ways to a roster, programs and their input."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import pytest

from onionmpc.errors import AuthenticationFailed
from onionmpc.files import private_directory
from onionmpc.session.ask_host import ask_host
from onionmpc.session.discovery import seat_key
from onionmpc.session.invite import Invite, parse_invite
from onionmpc.testnet.place import join_testnet
from onionmpc.tor.network import tor_network
from onionmpc.tor.options import TorOptions
from onionmpc.wire.handshake import NO_PSK
from tests.e2e.kit import INVITE, Party, Stage, after, command_line, forged, keep_identity, new_identity, same_sentence
from tests.support.session import Person

pytestmark = pytest.mark.tor

# No stranger comes near it: a refusal is believed after half a minute.
WAIT_S = 100.0
AVERAGE = "average salary of 3 parties: 4200\n"
ADD = """
    from mpyc.runtime import mpc
    number = int(input("your number: "))
    async def main():
        async with mpc:
            assert await mpc.transfer(mpc.pid) == list(range(len(mpc.parties)))
        async with mpc:  # over the same links, in a second epoch
            secint = mpc.SecInt(32)
            print("sum:", await mpc.output(mpc.sum(mpc.input(secint(number)))))
    mpc.run(main())
"""


def profiles(party: Party) -> set[str]:
    """Return the profiles that this party's tors use now."""
    return {command_line(child).split(" -f ")[1].split()[0] for child in party.children("tor")}


# --- A host and invites ------------------------------------------------------------------------------------------


async def knock(stage: Stage, invite: Invite) -> list[str]:
    """Dial a host from this process, as someone who has the key to its descriptor of an invite that nobody used yet,
    and not what opens the door; return how each of two tries is answered."""
    assert stage.testnet is not None
    identity, person = new_identity(), Person()
    with join_testnet(stage.testnet) as place:
        options = TorOptions(extra_torrc=place.torrc, profiles=private_directory(stage.folder / "knocking"))
        async with tor_network(identity, options, lambda progress: None) as network:
            network.unlock(invite.host, seat_key(invite.psk()))
            tries = (
                ask_host(network, identity, invite.host, psk, bytes(16), person, WAIT_S) for psk in (NO_PSK, bytes(32))
            )
            endings = await asyncio.gather(*tries, return_exceptions=True)
    assert [type(ending) for ending in endings] == [AuthenticationFailed] * 2
    return [str(ending) for ending in endings]


async def invited(stage: Stage) -> dict[str, Any]:
    """Two parties join by invite and name no program, while strangers dial the host or cannot find it."""
    host = await stage.host("average-salary", private=["--demo"])
    first, second = await stage.invites(host, 2)
    early = await stage.start("early", "join", first, private=["--demo"])
    await host.hears("joiner_arrived", taken=2)
    address = host.heard("address_known")[0]["onion"]
    secret = host.heard("invite_ready")[1]["invite"]
    used, *lost = await asyncio.gather(
        stage.start("used invite", "join", first),
        stage.start("forged invite", "join", stage.write_invite(forged(secret)), "--wait", "20s"),
        stage.start("no invite", "join", address, "--wait", "20s"),
        stage.start("at a joiner", "join", early.heard("address_known")[0]["onion"], "--wait", "20s"),
    )
    answers, _ = await asyncio.gather(knock(stage, parse_invite(secret)), stage.ended([used, *lost]))
    late = await stage.start("late", "join", second, private=["--demo"])
    await asyncio.gather(*(party.hears("roster_known") for party in (host, early, late)))
    tors = [profiles(party) for party in (host, early, late)]
    await stage.ended()
    return {"parties": [host, early, late], "used": used, "answers": answers, "lost": lost, "profiles": tors}


@after(invited)
def test_every_party_gets_the_result_and_nothing_else_on_stdout(outcome: dict[str, Any]) -> None:
    for party in outcome["parties"]:
        assert party.code == 0, party.last_words
        assert party.output == AVERAGE
        assert party.words == []


@after(invited)
def test_strangers_at_the_door_are_turned_away_with_a_hint(outcome: dict[str, Any]) -> None:
    stranger = outcome["used"]
    assert stranger.code == 6, stranger.last_words
    assert stranger.failure.startswith("the host does not let us in: ")
    # Issue 12: what it infers, within a minute; and the host hears of it, once.
    assert stranger.failure.endswith("; the invite is probably used, or its session is over")
    assert stranger.hint == "an invite works once, for one party: ask the host for another"
    refusals = [event["at_s"] for event in stranger.heard("dial_retry")]
    assert stranger.heard("failed")[0]["at_s"] - refusals[0] < 60
    assert [event["seat"] for event in outcome["parties"][0].heard("spent_invite")] == [1]
    assert stranger.output == ""
    assert {answer.split(":")[0] for answer in outcome["answers"]} == {"the host does not let us in"}


@after(invited)
def test_an_address_alone_finds_neither_the_host_nor_a_joiner(outcome: dict[str, Any]) -> None:
    hints = []
    for stranger in outcome["lost"]:
        assert stranger.code == 4, stranger.last_words
        assert stranger.failure.startswith(
            "the host did not start the session within 20 s: its descriptor is sealed for the parties that it expects"
        )
        hints.append(stranger.hint)
        assert len(stranger.heard("dial_retry")) > 1
        assert stranger.output == ""
    assert hints[0] == "the invite is probably used, or its session is over; ask the host for another"
    assert set(hints[1:]) == {
        "ask the host for an invite, or to put this party's address on its --expect list (see --identity)"
    }


@after(invited)
def test_strangers_disturb_nobody(outcome: dict[str, Any]) -> None:
    host = outcome["parties"][0]
    assert len(host.heard("joiner_arrived")) == 2
    assert host.heard("joiner_left") == []
    assert host.heard("published")[0]["to_all"] is False


@after(invited)
def test_parties_of_one_state_directory_never_share_a_tor_profile(outcome: dict[str, Any]) -> None:
    assert [len(used) for used in outcome["profiles"]] == [1, 1, 1]
    assert len(set.union(*outcome["profiles"])) == 3


@after(invited)
def test_events_report_the_whole_session_in_order(outcome: dict[str, Any]) -> None:
    order = [
        "address_known",
        "tor_progress",
        "roster_known",
        "link_up",
        "agreement",
        "agreed",
        "program_ended",
        "ended",
    ]
    sessions = set()
    for party in outcome["parties"]:
        first = {event["event"]: place for place, event in reversed(list(enumerate(party.events)))}
        assert [first[name] for name in order] == sorted(first[name] for name in order)
        # Publication goes on beside all that.
        assert first["tor_progress"] < first.get("published", first["ended"])
        times = [event["at_s"] for event in party.events]
        assert times == sorted(times)
        sessions.add(party.heard("ended")[0]["session"])
        assert len(party.heard("peer_done")) == len(party.heard("link_up")) == 2
    assert len(sessions) == 1
    assert sorted(party.number for party in outcome["parties"]) == [0, 1, 2]


@after(invited)
def test_each_party_knows_the_relays_of_its_own_side(outcome: dict[str, Any]) -> None:
    for party in outcome["parties"]:
        links = party.heard("ended")[0]["links"]
        # The lower number dials (PROTOCOL 3): three relays to the rendezvous point, and four from the service to it.
        assert {int(peer): link["own_relays"] for peer, link in links.items()} == {
            peer: 3 if party.number < peer else 4 for peer in range(3) if peer != party.number
        }
        assert all(link["round_trip_s"] > 0 for link in links.values())


# --- Expected addresses, open seats, full lists ------------------------------------------------------------------


async def five(stage: Stage) -> list[Party]:
    """A host, two parties that it expects by address, and two with invites."""
    onions = [keep_identity(stage, state) for state in ("anna", "ben")]
    (stage.folder / "expected.txt").write_text(f"# ours\n{onions[0]}  # Anna\n\n{onions[1].upper()}\n")
    host = await stage.host(
        "vote", "--expect", "@expected.txt", "--public", "tea,coffee", parties=5, private=["--demo"]
    )
    invites = await stage.invites(host, 2)
    address = host.heard("address_known")[0]["onion"]
    me = ("--identity", "me")
    await asyncio.gather(
        *(stage.start(state, "join", address, *me, private=["--demo"], state=state) for state in ("anna", "ben")),
        *(stage.start(invite, "join", invite, private=["--demo"]) for invite in invites),
    )
    await stage.ended()
    return stage.parties


@after(five)
def test_five_parties_some_expected_and_some_invited(outcome: list[Party]) -> None:
    assert [party.code for party in outcome] == [0] * 5, [party.last_words for party in outcome if party.code]
    assert len({party.output for party in outcome}) == 1
    assert outcome[0].output.count("tea") == 1
    assert len(outcome[0].heard("invite_ready")) == 2


async def open_table(stage: Stage) -> dict[str, Any]:
    """An open host that lets strangers be: the parties compute on numpy arrays, and all sign the output."""
    options = [f"--public={option}" for option in ("--rows", "500", "--columns", "5")]
    strangers = ("--open", "--strangers-may-read-everything")
    host = await stage.host("regression", *strangers, *options, "--receipt", "0.json")
    address = (await host.hears("address_known"))["onion"]
    joins = ("join", address, "regression", "--receipt")
    await asyncio.gather(*(stage.start(f"joiner {number}", *joins, f"{number}.json") for number in (1, 2)))
    await stage.ended()
    parties = list(stage.parties)
    (stage.folder / "output").write_text(host.output)
    verifier = await stage.run("verify", "verify", "0.json", "1.json", "2.json", "--output", "output")
    await verifier.ends()
    return {"parties": parties, "verifier": verifier}


@after(open_table)
def test_an_open_host_needs_no_invites_and_large_arrays_arrive(outcome: dict[str, Any]) -> None:
    parties = outcome["parties"]
    assert [party.code for party in parties] == [0, 0, 0], [party.last_words for party in parties if party.code]
    assert parties[0].heard("invite_ready") == []
    assert parties[0].heard("published")[0]["to_all"] is True
    assert len({party.output for party in parties}) == 1
    assert "x5" in parties[0].output


@after(open_table)
def test_a_receipt_has_all_signatures_and_the_output_that_the_parties_saw(outcome: dict[str, Any]) -> None:
    for party in outcome["parties"]:
        (written,) = party.heard("receipt_written")
        assert (written["signed"], written["parties"]) == ([0, 1, 2], 3)
    verifier = outcome["verifier"]
    assert verifier.code == 0, verifier.last_words
    assert "parties 0, 1 and 2 had the SAME output." in verifier.output
    assert "output is the output of parties 0, 1 and 2." in verifier.output
    assert outcome["parties"][0].heard("ended")[0]["session"] in verifier.output


async def full_list(stage: Stage) -> list[Party]:
    """Without a host: each party lists the others, each in a different order."""
    states = ("anna", "ben", "cleo")
    onions = {state: keep_identity(stage, state) for state in states}
    for turn, state in enumerate(states):
        others = [onions[other] for other in (*states[turn:], *states[:turn]) if other != state]
        await stage.start(state, "join", *others, "secret-santa", "--identity", "me", state=state)
    await stage.ended()
    return stage.parties


@after(full_list)
def test_a_full_list_in_any_order_needs_no_host(outcome: list[Party]) -> None:
    assert [party.code for party in outcome] == [0, 0, 0], [party.last_words for party in outcome if party.code]
    assert all(party.output.count("\n") == 1 for party in outcome)
    assert len({party.heard("roster_known")[0]["addresses"][0] for party in outcome}) == 1
    assert len({party.output for party in outcome}) == 3


# --- Several computations ----------------------------------------------------------------------------------------


async def then_sort(stage: Stage) -> list[Party]:
    """A host computes twice with the same joiners."""
    then = ("--then", "sort -- --demo")
    host = await stage.host("average-salary", *then, private=["--demo"])
    for invite in await stage.invites(host, 2):
        await stage.start(invite, "join", invite, *then, private=["--demo"])
    await stage.ended()
    return stage.parties


# Issue 14.
@after(then_sort)
def test_a_second_computation_uses_the_links_of_the_first(outcome: list[Party]) -> None:
    assert [party.code for party in outcome] == [0, 0, 0], [party.last_words for party in outcome if party.code]
    ids = set()
    for party in outcome:
        first, second = (event["session"] for event in party.heard("agreed"))
        assert first != second
        ids.add((first, second))
        names = [event["event"] for event in party.events]
        assert names[: names.index("agreed")].count("link_up") == 2
        assert "link_up" not in names[names.index("agreed") :]
        assert party.output.startswith(AVERAGE)
        assert party.output == outcome[0].output
    assert len(ids) == 1


async def tors_killed_between(stage: Stage) -> list[Party]:
    """The tors of the host and of a joiner are killed while the host's user is asked what comes next."""
    host = await stage.host("average-salary", terminal=True, private=["--demo"])
    joiners = [await stage.start(invite, "join", invite, private=["--demo"]) for invite in await stage.invites(host, 2)]
    for times in (1, 2):
        await host.sees("Let this party take part? [Y/n]", times)
        host.types("\n")
    for times, answer in ((1, "a\n"), (2, "\n")):
        await host.sees("Compute on these terms? [y/N]", times)
        host.types("y\n")
        await host.sees("or leave (Enter)? ", times)
        if times == 1:
            for party in (host, joiners[0]):
                (tor,) = party.children("tor")
                os.kill(tor, signal.SIGKILL)
        host.types(answer)
    await stage.ended()
    return [host, *joiners]


@after(tors_killed_between)
def test_links_survive_their_tors_between_two_computations(outcome: list[Party]) -> None:
    host, *joiners = outcome
    for party in outcome:
        assert party.code == 0, party.last_words
        assert party.output == 2 * AVERAGE
    assert "link to party" in host.screen
    for joiner in joiners:
        assert len(joiner.heard("link_up")) == 2
        assert joiner.heard("link_broken")
        assert len({event["session"] for event in joiner.heard("agreed")}) == 2


# --- Input, and people at terminals ------------------------------------------------------------------------------


async def people(stage: Stage) -> dict[str, Any]:
    """A person at the host and one who joins, asked and answering; a third party reads its input from a pipe."""
    add = stage.script("add.py", ADD)
    host = await stage.host(add, terminal=True)
    invites = await stage.invites(host, 2)
    joiner = await stage.start("joiner", "join", invites[0], add, terminal=True)
    piped = await stage.start("piped", "join", invites[1], add, stdin="30\n")
    for times, answer in ((1, "\n"), (2, "yes\n")):
        await host.sees("Let this party take part? [Y/n]", times)
        host.types(answer)
    for person in (host, joiner):
        await person.sees("Compute on these terms? [y/N]")
        person.types("maybe\n")
        await person.sees("Compute on these terms? [y/N]", 2)
        person.types("y\n")
    for person, number in ((host, 7), (joiner, 5)):
        await person.sees("all parties agreed; the program runs")
        await person.prints("your number: ")
        person.types(f"{number}\n")
    await host.sees("or leave (Enter)? ")
    host.types("\n")
    await stage.ended()
    return {"people": [host, joiner], "piped": piped}


@after(people)
def test_people_are_asked_at_their_terminal_and_the_program_reads_there(outcome: dict[str, Any]) -> None:
    for person in outcome["people"]:
        assert person.code == 0, person.last_words
        assert person.output == "your number: sum: 42\n"
        assert "done: connected in " in person.screen
    assert outcome["piped"].output == "your number: sum: 42\n"


@after(people)
def test_the_agreement_on_the_screen_says_who_can_read_inputs(outcome: dict[str, Any]) -> None:
    host, joiner = (person.screen for person in outcome["people"])
    for screen in (host, joiner):
        assert "add (1 file, SHA-256 " in screen
        assert "Any 2 of these 3 addresses together can read your input." in screen
        assert screen.count(" (you)") == 1
    assert "The host told you who the others are." in joiner
    assert "The host told you" not in host
    roster = [line.split("roster")[1].split()[:4] for line in host.splitlines() if line.startswith("  roster")]
    assert " ".join(roster[0]) in joiner


async def person_says_no(stage: Stage) -> dict[str, Any]:
    """The person at the host refuses a joiner, whose invite is spent, takes two others, and then says no to the
    agreement."""
    host = await stage.host("average-salary", terminal=True, private=["--demo"])
    invites = await stage.invites(host, 2)
    refused = await stage.start("refused", "join", invites[0])
    await host.sees("Let this party take part?")
    host.types("n\n")
    invites = await stage.invites(host, 3)
    spent = await stage.start("spent", "join", invites[0], "--wait", "30s")
    joiners = [await stage.start(invite, "join", invite, private=["--demo"]) for invite in invites[1:]]
    for times in (2, 3):
        await host.sees("Let this party take part?", times)
        host.types("y\n")
    await host.sees("Compute on these terms?")
    await spent.ends()
    host.types("no\n")
    await stage.ended()
    return {"host": host, "refused": refused, "spent": spent, "joiners": joiners}


@after(person_says_no)
def test_a_refused_joiner_is_notified_and_the_host_shows_another_invite(outcome: dict[str, Any]) -> None:
    assert outcome["refused"].code == 5, outcome["refused"].last_words
    assert outcome["refused"].failure == "the host refused this party: the host does not want this party"
    assert len(set(INVITE.findall(outcome["host"].screen))) == 3


@after(person_says_no)
def test_a_refused_joiner_cannot_find_the_host_any_more(outcome: dict[str, Any]) -> None:
    assert outcome["spent"].code == 4, outcome["spent"].last_words
    assert "its descriptor is sealed for the parties that it expects" in outcome["spent"].failure
    assert "the invite is probably used" in outcome["spent"].hint
    assert outcome["host"].screen.count("Let this party take part?") == 3


@after(person_says_no)
def test_declining_the_agreement_ends_the_session_for_all_with_one_sentence(outcome: dict[str, Any]) -> None:
    host, joiners = outcome["host"], outcome["joiners"]
    assert [party.code for party in (host, *joiners)] == [5, 5, 5], [party.last_words for party in joiners]
    assert same_sentence([host, *joiners]).endswith(" did not agree: its user declined")
    assert {joiner.output for joiner in joiners} == {""}
