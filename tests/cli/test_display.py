"""What a person sees of a session, and what a machine reads."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import json
import re
import typing
from pathlib import Path

import pytest
from msgspec.structs import replace

from onionmpc.api.outcome import result_of
from onionmpc.api.questions import Joiner
from onionmpc.cli.display import JsonDisplay, TextDisplay
from onionmpc.cli.output import StatusLine
from onionmpc.cli.summary import summary_data
from onionmpc.errors import AgreementError, UsageError
from onionmpc.identity import Identity, Onion
from onionmpc.levels import Level
from onionmpc.names.address_book import Contact, Meetings
from onionmpc.names.standing import Seat, Standing
from onionmpc.program.spec import Place, Wait, Walls
from onionmpc.session.agreement import PartyTerms
from onionmpc.session.computation import SessionResult
from onionmpc.session.differences import Exposure
from onionmpc.session.events import (
    Agreed,
    DialRetry,
    Event,
    JoinerArrived,
    JoinerLeft,
    LinkBroken,
    LinkMeasured,
    LinkResumed,
    PeerDone,
    PeerQuiet,
    ProgramEnded,
    ProgramsMove,
    ProgramsStuck,
    Published,
    ReceiptWritten,
    RosterKnown,
    Rounding,
    SeatsRefused,
    Signing,
)
from onionmpc.session.ledger import LinkSummary
from tests.support.proposals import PADDED, lines_of, proposal

EVENTS_PAGE = Path(__file__).parents[2] / "docs" / "reference" / "events.md"


def shown(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return the lines on stderr, without their times."""
    return [line.split("s  ", 1)[1] for line in capsys.readouterr().err.splitlines()]


def test_a_peer_that_is_away_is_noted_less_and_less_often(capsys: pytest.CaptureFixture[str]) -> None:
    display = TextDisplay(yes=True)
    for quiet_s in range(15, 200, 15):
        display.tell(PeerQuiet(2, quiet_s))
    display.tell(LinkResumed(2, 200))
    display.tell(PeerQuiet(2, 42.2))
    assert shown(capsys) == [
        "party 2 has been silent for 15 s",
        "party 2 has been silent for 30 s",
        "party 2 has been silent for 60 s",
        "party 2 has been silent for 2 min",
        "party 2 is back after 3 min 20 s",
        "party 2 has been silent for 42 s",
    ]


def test_with_padding_the_agreement_states_the_cost_and_a_gap_is_called_visible(
    capsys: pytest.CaptureFixture[str],
) -> None:
    display = TextDisplay(yes=True)
    display.tell(LinkResumed(1, 12.0))
    assert asyncio.run(display.consents(proposal(PADDED)))
    display.tell(LinkResumed(1, 12.0))
    display.tell(Rounding(42.0))
    lines = capsys.readouterr().err.splitlines()
    said = [line.split("s  ", 1)[1] for line in (lines[0], lines[-2])]
    assert "links stay busy for 42 s more" in lines[-1]
    assert said == [
        "party 1 is back after 12 s",
        "party 1 is back after 12 s; an observer of your network saw that gap",
    ]
    assert (
        "  padding      10 records of 498 bytes a second on each link, both ways; 10.3 kB/s out and as much in" in lines
    )
    unpadded = replace(PADDED, common=replace(PADDED.common, padding_rate=0))
    assert not [line for line in lines_of(unpadded) if "padding" in line]


def test_a_written_receipt_is_shown_with_its_signers(capsys: pytest.CaptureFixture[str]) -> None:
    display = TextDisplay(yes=True)
    display.tell(Signing())
    display.tell(ReceiptWritten("mine.json", (0, 1, 2), 3))
    display.tell(ReceiptWritten("mine.json", (0, 2), 3))
    assert shown(capsys) == [
        "waiting for the other parties to sign the receipt",
        "mine.json: signed by all 3 parties (see: onionmpc verify --help)",
        "mine.json: signed by 2 of 3 parties ONLY (see: onionmpc verify --help)",
    ]


def test_a_broken_link_is_shown_with_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    TextDisplay(yes=True).tell(LinkBroken(1, "the stream broke\x1b[2J"))
    assert shown(capsys) == ["link to party 1 broke: the stream broke\\x1b[2J; dialling again"]


def test_a_link_is_shown_once_and_the_peers_side_is_called_a_claim(capsys: pytest.CaptureFixture[str]) -> None:
    display = TextDisplay(yes=True)
    for event in (
        LinkMeasured(1, None, None, 0.3, 1),
        LinkMeasured(1, 4, None, 0.3, 1),
        LinkMeasured(1, 4, 5, 0.3, 1),
        # A tor that does not show its circuits.
        LinkMeasured(2, None, 3, 0.2, 1),
        LinkMeasured(1, 4, 5, 0.1, 3),
    ):
        display.tell(event)
    words = "link to party 1: own side: 4 relays, party 1 claims 5 on its side, round trip"
    assert shown(capsys) == [f"{words} 300 ms", f"{words} 100 ms, the fastest of 3"]


def test_the_summary_has_levels_and_links_as_words_and_as_data(capsys: pytest.CaptureFixture[str]) -> None:
    own = (PartyTerms(Level.LONG), PartyTerms(Level.SHORT, Level.LONG), PartyTerms())
    links = {1: LinkSummary(4, 1, 0.25, 2, 2, 3.5), 2: LinkSummary(None, None, None, 1, 0, 0.0)}
    result = result_of(SessionResult(bytes(32), 0, own, links, connect_s=1, agree_s=2, run_s=3))
    TextDisplay(yes=True).ended(result, 1)
    assert shown(capsys) == [
        "done: connected in 1.0 s, agreed in 2.0 s, computed in 3.0 s",
        "  link to party 1: own side: 4 relays, party 1 claims 1 on its side, round trip 250 ms, the fastest of 2",
        "  link to party 2: own side not measured",
    ]
    data = summary_data(result, 1)
    assert data["parties"][1] == {"circuit_length": "short", "min_circuit_length": "long", "max_circuits": 3}
    assert data["links"]["1"] == {
        "own_relays": 4,
        "claimed_relays": 1,
        "round_trip_s": 0.25,
        "raced": 2,
        "gaps": 2,
        "gap_s": 3.5,
    }
    assert data["signed"] is None
    assert json.loads(json.dumps(data)) == data


def test_the_program_has_the_terminal_while_it_runs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StatusLine, "is_terminal", True)
    display = TextDisplay(yes=True)
    display.tell(Agreed(bytes(32)))
    display.tell(DialRetry(1, "no answer", 2.0))
    assert display._status._status is None
    assert shown(capsys)[-1] == "connecting to party 1: no answer; trying again in 2.0 s"
    display.tell(ProgramEnded(1.0))
    assert display._status._status is not None
    display.close()


def test_a_party_that_is_not_expected_sees_once_why_and_what_helps(capsys: pytest.CaptureFixture[str]) -> None:
    display = TextDisplay(yes=True)
    for party in (None, None, 2, None):
        display.tell(DialRetry(party, "it is sealed", 2.0, "ask the host for another"))
    display.tell(DialRetry(1, "no answer", 2.0))
    told = [line for line in shown(capsys) if "cannot be reached" in line]
    assert told == [
        f"{who} cannot be reached: it is sealed; trying again. If this continues: ask the host for another"
        for who in ("the host", "party 2")
    ]


def test_the_screen_says_who_can_find_the_service(capsys: pytest.CaptureFixture[str]) -> None:
    for to_all in (False, True):
        TextDisplay(yes=True).tell(Published(to_all))
    assert [line for line in shown(capsys) if "published" in line] == [
        "the onion service is published; only the parties it expects can find it",
        "the onion service is published; anyone who knows its address can find it",
    ]


# Issue 12.
WAIT = Wait((0, 2), (Place("vote.py", 7),), ending=False, failed=False, sent=("1", "0", "1"), received=("1", "0", "1"))


def test_stuck_programs_are_shown_with_places_cause_and_time(
    capsys: pytest.CaptureFixture[str],
) -> None:
    display = TextDisplay(yes=True)
    display.tell(ProgramsStuck(1, (WAIT, replace(WAIT, failed=True)), 570.0))
    display.tell(ProgramsMove())
    assert shown(capsys) == [
        "the programs are waiting for each other, and no data is on its way between them:",
        "  party 0 waits for parties 0 and 2 at vote.py line 7",
        "  party 1 (whose program reported an error) waits for parties 0 and 2 at vote.py line 7",
        "  likely cause: an error in party 1's program (see above)",
        "  if none of them continues, this party ends the session in 9 min 30 s (--patience)",
        "the programs continue",
    ]


def test_of_very_many_stuck_programs_only_some_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    TextDisplay(yes=True).tell(ProgramsStuck(0, (WAIT,) * 256, 1.0))
    lines = shown(capsys)
    assert len(lines) < 30
    assert lines[-3] == "  and so do 231 more"


def test_json_describes_stuck_programs_as_data_and_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    JsonDisplay(yes=True).tell(ProgramsStuck(0, (WAIT,), 1.0))
    event = json.loads(capsys.readouterr().err)
    assert event["event"] == "programs_stuck"
    assert event["waits"] == [
        {
            "awaited": [0, 2],
            "places": [{"file": "vote.py", "line": 7}],
            "ending": False,
            "failed": False,
            "sent": ["1", "0", "1"],
            "received": ["1", "0", "1"],
        }
    ]
    assert event["lines"][1] == "  party 0 waits for parties 0 and 2 at vote.py line 7"


def test_json_has_the_same_summary(capsys: pytest.CaptureFixture[str]) -> None:
    display = JsonDisplay(yes=True)
    for event in (LinkBroken(1, "the stream ended"), PeerQuiet(1, 15.0), LinkResumed(1, 20.5)):
        display.tell(event)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [{key: line[key] for key in line if key != "at_s"} for line in lines] == [
        {"event": "link_broken", "party": 1, "reason": "the stream ended"},
        {"event": "peer_quiet", "party": 1, "quiet_s": 15.0},
        {"event": "link_resumed", "party": 1, "away_s": 20.5},
    ]


def test_the_agreement_and_its_json_say_that_a_party_lets_processes_start(capsys: pytest.CaptureFixture[str]) -> None:
    shown_to_all = proposal(PADDED, walls=Walls(sockets=True), allow_subprocess=True)
    assert asyncio.run(TextDisplay(yes=True).consents(shown_to_all))
    assert "processes: the program may start some, inside the same walls" in capsys.readouterr().err
    assert asyncio.run(JsonDisplay(yes=True).consents(shown_to_all))
    told = json.loads(capsys.readouterr().err)
    assert told["walls"] == dict.fromkeys(("network", "secrets", "files", "frozen"), False) | {"sockets": True}
    assert told["allow_subprocess"] is True


ACME, OTHER, THIRD = (Onion(f"{letter}.onion") for letter in "abc")
CONTACTS = {ACME: Contact("acme", ACME, Meetings(3, datetime.date(2026, 5, 3), "average_salary"))}


def test_a_contact_is_shown_by_name_beside_its_address(capsys: pytest.CaptureFixture[str]) -> None:
    display = TextDisplay(yes=True, contacts=CONTACTS)
    assert asyncio.run(display.admits(Joiner(ACME, 1)))
    display.tell(JoinerArrived(1, ACME, 2, 3))
    display.tell(JoinerLeft(1, ACME))
    assert asyncio.run(display.admits(Joiner(OTHER, 2)))
    assert shown(capsys) == [
        "acme (a.onion) wants seat 1",
        "acme: met 3 times, last in average_salary on 3 May 2026",
        "seat 1 is taken by acme (a.onion) (2 of 3 parties are here)",
        "waiting for the others: 2 of 3 are here",
        "acme (a.onion) gave up seat 1; its invite works again",
        "b.onion wants seat 2",
    ]
    seats = (Seat(0, ACME, Standing.KNOWN, ("acme",), ("your contact",)),)
    assert asyncio.run(display.consents(proposal(PADDED, 2, seats=seats)))
    screen = capsys.readouterr().err
    assert "0  a.onion  acme  level standard, known: your contact" in screen
    assert "1  b.onion  level standard" in screen


def test_in_json_a_party_has_the_name_of_the_contact(capsys: pytest.CaptureFixture[str]) -> None:
    display = JsonDisplay(yes=True, contacts=CONTACTS)
    display.tell(JoinerArrived(1, ACME, 2, 3))
    display.tell(JoinerLeft(2, OTHER))
    display.tell(RosterKnown((ACME, OTHER, THIRD), 1))
    assert asyncio.run(display.admits(Joiner(ACME, 1)))
    seats = (Seat(0, ACME, Standing.KNOWN, ("acme", "anna"), ("your contact", "SSH key in your list")),)
    assert asyncio.run(display.consents(proposal(PADDED, 2, seats=seats, names={ACME: "acme"})))
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [event.get("name", event.get("names")) for event in events] == [
        "acme",
        None,
        ["acme", None, None],
        "acme",
        ["acme", None, None],
    ]
    assert events[-1]["seats"] == [
        {
            "party": 0,
            "onion": ACME,
            "standing": "known",
            "names": ["acme", "anna"],
            "words": ["your contact", "SSH key in your list"],
        }
    ]


def test_who_is_refused_is_shown_with_the_reason_for_each_seat(capsys: pytest.CaptureFixture[str]) -> None:
    refused = SeatsRefused(
        (
            Seat(0, ACME, Standing.KNOWN, ("acme",), ("your contact",)),
            Seat(2, THIRD, Standing.STRANGER, (), ("it came without an invite", "its statement expired")),
        )
    )
    TextDisplay(yes=True).tell(refused)
    assert shown(capsys) == [
        "party 0 is a.onion (acme), known: your contact",
        "party 2 is c.onion, stranger: it came without an invite",
        "  its statement expired",
    ]
    JsonDisplay(yes=True).tell(refused)
    event = json.loads(capsys.readouterr().err)
    assert event["event"] == "seats_refused"
    assert [(seat["party"], seat["standing"], seat["names"]) for seat in event["seats"]] == [
        (0, "known", ["acme"]),
        (2, "stranger", []),
    ]


def test_the_roster_in_words_is_shown_within_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    known = RosterKnown((ACME, OTHER, THIRD), 1)
    TextDisplay(yes=True).tell(known)
    shown = capsys.readouterr().err
    assert f" roster: {known.fingerprint} " in f" {' '.join(shown.split())} "
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize("display", [TextDisplay, JsonDisplay])
def test_yes_refuses_what_exposes_somebody_unless_that_is_allowed(
    display: type[TextDisplay | JsonDisplay], capsys: pytest.CaptureFixture[str]
) -> None:
    exposes = (Exposure((1,), (Onion("d.onion"),), same_program=True, same_input=False),)
    with pytest.raises(AgreementError, match="allow_difference=True allows that"):
        asyncio.run(display(yes=True).consents(proposal(PADDED, exposes=exposes)))
    assert "d.onion" in capsys.readouterr().err  # it is shown before it is refused
    assert asyncio.run(display(yes=True).consents(proposal(PADDED, exposes=exposes, allow_difference=True)))


def events_of_the_page() -> dict[str, set[str]]:
    """The fields of each event that the reference lists, by its name."""
    rows = re.findall(r"^\| `(\w+)` \| .* \| (.*) ?\|$", EVENTS_PAGE.read_text(), re.MULTILINE)
    assert len(rows) == len(dict(rows))
    return {name: set(re.findall(r"`([a-z_]+)`", re.sub(r"\(.*?\)", "", fields))) for name, fields in rows}


def test_the_page_on_events_lists_all_that_json_has(capsys: pytest.CaptureFixture[str]) -> None:
    written = {
        re.sub(r"(?<!^)([A-Z])", r"_\1", kind.__name__).lower(): {field.name for field in dataclasses.fields(kind)}
        for kind in typing.get_args(Event)
    }
    written["programs_stuck"].add("lines")
    written["joiner_arrived"].add("name")
    written["joiner_left"].add("name")
    written["roster_known"].add("names")
    display = JsonDisplay(yes=True)
    result = result_of(SessionResult(bytes(32), 0, (), {}, connect_s=1, agree_s=2, run_s=3))
    asyncio.run(display.consents(proposal(PADDED)))
    asyncio.run(display.admits(Joiner(Identity(bytes(32)).onion, 1)))
    display.ended(result, 2)
    display.failed(UsageError("wrong"))
    display.left(by_user=True)
    said = {line.pop("event"): line for line in map(json.loads, capsys.readouterr().err.splitlines())}
    assert said["ended"]["computation"] == 2
    assert said["left"]["party"] is None
    assert written["left"] == {"party"}
    elsewhere = {
        "agreement": proposal(PADDED).options.keys(),
        "ended": summary_data(result, 2).keys() - {"computation"},
    }
    for name, values in said.items():
        written[name] = values.keys() - {"at_s"} - elsewhere.get(name, set())
    assert events_of_the_page() == written


def test_every_event_but_one_is_shown() -> None:
    # What others have done shows in the end; until then it changes nothing for the person.
    shown = set(vars(TextDisplay)["_show"].dispatcher.registry) - {object}
    assert set(typing.get_args(Event)) - shown == {PeerDone}
