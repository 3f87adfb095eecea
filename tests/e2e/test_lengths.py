"""Circuit lengths, from the commands that people type: measured by each party, agreed by all, consented to where an
address is shown."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.e2e.kit import Party, Stage, after, same_sentence

pytestmark = pytest.mark.tor

ANY = ("--min-circuit-length", "short")
SHOWN = ("--circuit-length", "short", "--show-my-ip")


def summary(stage: Stage, name: str) -> dict[str, Any]:
    return json.loads((stage.folder / name).read_text())


# --- All three levels in one session -----------------------------------------------------------------------------


async def mixed(stage: Stage) -> dict[str, Any]:
    """A long host, a standard joiner and one that shows its address."""
    host = await stage.host("average-salary", "--circuit-length", "long", *ANY, "--json", "0.json", private=["--demo"])
    invites = await stage.invites(host, 2)
    standard, short = await asyncio.gather(
        stage.start("standard", "join", invites[0], *ANY, "--json", "1.json", private=["--demo"]),
        stage.start("short", "join", invites[1], *ANY, *SHOWN, "--json", "2.json", private=["--demo"]),
    )
    parties = [host, standard, short]
    await stage.ended()
    assert [party.code for party in parties] == [0, 0, 0], [party.last_words for party in parties]
    return {
        "parties": parties,
        "files": {party.number: summary(stage, f"{place}.json") for place, party in enumerate(parties)},
        "levels": {party.number: level for party, level in zip(parties, ("long", "standard", "short"), strict=True)},
    }


RELAYS = {"short": (3, 1), "standard": (3, 4), "long": (4, 5)}


def dials(one: str, other: str, *, lower: bool) -> bool:
    """Return whether the first of two parties dials: the lower one does, unless exactly one of them is short."""
    return other == "short" if (one == "short") != (other == "short") else lower


@after(mixed)
def test_each_party_measures_its_own_side_as_its_level_promises(outcome: dict[str, Any]) -> None:
    for number, told in outcome["files"].items():
        for peer, link in told["links"].items():
            level, other = outcome["levels"][number], outcome["levels"][int(peer)]
            is_dialler = dials(level, other, lower=number < int(peer))
            assert link["own_relays"] == RELAYS[level][0 if is_dialler else 1]
            assert 0 < link["round_trip_s"] < 10


@after(mixed)
def test_a_peer_claims_what_it_measured(outcome: dict[str, Any]) -> None:
    for number, told in outcome["files"].items():
        for peer, link in told["links"].items():
            assert link["claimed_relays"] == outcome["files"][int(peer)]["links"][str(number)]["own_relays"]


@after(mixed)
def test_the_summary_names_the_level_of_each_party(outcome: dict[str, Any]) -> None:
    for told in outcome["files"].values():
        levels = dict(enumerate(party["circuit_length"] for party in told["parties"]))
        assert levels == outcome["levels"]


# --- Below somebody's floor --------------------------------------------------------------------------------------


async def below(stage: Stage) -> list[Party]:
    """A party that shows its IP address, among others that do not accept that."""
    host = await stage.host("average-salary", private=["--demo"])
    invites = await stage.invites(host, 2)
    await asyncio.gather(
        stage.start("standard", "join", invites[0], private=["--demo"]),
        stage.start("short", "join", invites[1], *SHOWN, private=["--demo"]),
    )
    await stage.ended()
    return stage.parties


@after(below)
def test_a_session_below_a_floor_ends_everywhere_and_names_both_parties(outcome: list[Party]) -> None:
    assert [party.code for party in outcome] == [5, 5, 5], [party.last_words for party in outcome]
    short = outcome[2].number
    assert f"party {short} uses circuit length short, but party" in same_sentence(outcome)
    assert all(party.output == "" for party in outcome)


# --- Consent -----------------------------------------------------------------------------------------------------


async def hesitates(stage: Stage) -> Party:
    """A user reads what short means, and declines."""
    party = await stage.host("average-salary", "--circuit-length", "short", terminal=True)
    await party.sees('Type "show my ip" to continue')
    party.types("yes\n")
    await party.ends()
    return party


@after(hesitates)
def test_short_asks_for_a_phrase_and_a_plain_yes_is_not_enough(outcome: Party) -> None:
    assert outcome.code == 2
    assert "learns this machine's IP address" in " ".join(outcome.screen.split())
    assert outcome.failure == "you did not agree to circuit length short"
    assert "onionmpc1" not in outcome.screen


async def consents(stage: Stage) -> Party:
    """A user reads what short means, and types the phrase."""
    party = await stage.host("average-salary", "--circuit-length", "short", terminal=True)
    await party.sees('Type "show my ip" to continue')
    party.types("show my ip\n")
    await party.sees("the onion service is published")
    party.types("\x03")
    await party.ends()
    return party


@after(consents)
def test_short_continues_after_consent(outcome: Party) -> None:
    assert outcome.code == 130
    assert "left the session: the other parties were notified" in outcome.screen
