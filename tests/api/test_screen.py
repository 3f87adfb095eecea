"""The agreement in words, as `str(proposal)` returns it and the command line shows it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from onionmpc.api.questions import AGREE_TO_ANYTHING, Proposal
from onionmpc.api.screen import how_long, named_lines
from onionmpc.errors import AgreementError
from onionmpc.identity import Onion
from onionmpc.levels import Level
from onionmpc.names.standing import Seat, Standing
from onionmpc.program.rehearsal import Hops
from onionmpc.program.spec import NO_WALLS, Walls
from onionmpc.session.agreement import Agreement, PartyTerms
from onionmpc.session.differences import Exposure
from onionmpc.session.estimates import Case
from onionmpc.session.reports import SHOWN_DETAIL_CHARACTERS
from onionmpc.session.roster_words import roster_lines
from tests.support.proposals import PADDED, lines_of, proposal

ONIONS = tuple(Onion(f"{letter * 56}.onion") for letter in "abcd")
A, B, C, D = ONIONS


def test_the_agreement_shows_levels_floors_and_whose_ip_address_is_shown() -> None:
    own = (PartyTerms(Level.LONG, Level.SHORT), PartyTerms(Level.SHORT), PartyTerms())
    lines = [line.strip() for line in lines_of(replace(PADDED, own=own), 2)]
    addresses = PADDED.common.addresses
    assert f"0  {addresses[0]}  level long, minimum short" in lines
    assert f"1  {addresses[1]}  level short, its IP address is SHOWN to all others" in lines
    assert f"2  {addresses[2]}  level standard (you)" in lines


def seat(number: int, standing: Standing, *words: str, names: tuple[str, ...] = ()) -> Seat:
    return Seat(number, Onion(PADDED.common.addresses[number]), standing, names, words)


def test_each_other_party_is_shown_with_what_it_is_how_it_is_known_and_this_users_names_for_it() -> None:
    seats = (
        seat(0, Standing.KNOWN, "SSH key in your list", "its statement expired", names=("acme", "anna\n")),
        seat(1, Standing.STRANGER, "it came without an invite"),
    )
    shown = lines_of(PADDED, 2, seats=seats)
    first, second, _ = PADDED.common.addresses
    at = shown.index(f"               0  {first}  acme, anna\\n  level standard, known: SSH key in your list")
    assert shown[at + 1 : at + 4] == [
        "                  its statement expired",
        f"               1  {second}  level standard, stranger: it came without an invite",
        f"               2  {PADDED.common.addresses[2]}  level standard (you)",
    ]


def test_three_friends_with_invites_see_as_many_lines_as_before_and_better_words() -> None:
    friends = (
        seat(0, Standing.INTRODUCED, "its invite"),
        seat(1, Standing.INTRODUCED, "only your host vouches for it"),
    )
    shown, plain = lines_of(PADDED, 2, seats=friends, by_invite=True), lines_of(PADDED, 2, by_invite=True)
    assert len(shown) == len(plain)
    assert shown[-4:] == [
        "Any 2 of these 3 addresses together can read your input.",
        "2 of 3 seats are not known to you; T is 1: if both are one person, that person can read your input.",
        "The program decides what is revealed: read it first.",
        "The host told you who the others are. Compare the roster by telephone.",
    ]
    assert plain[-3] == "One person can hold several addresses."


def test_without_a_threshold_no_sentence_distinguishes_strangers() -> None:
    open_to_all = replace(PADDED, common=replace(PADDED.common, threshold=0))
    shown = lines_of(open_to_all, 2, seats=(seat(0, Standing.STRANGER, "it came"), seat(1, Standing.KNOWN, "you")))
    assert "This hides NOTHING: each of these parties alone can read your input." in shown
    assert not any("T is" in line for line in shown)


def test_a_party_that_becomes_known_is_marked_in_a_further_agreement() -> None:
    stranger, known = seat(1, Standing.STRANGER, "it came"), seat(1, Standing.KNOWN, "your contact", names=("acme",))
    before = proposal(PADDED, seats=(stranger,))
    marks = marked(proposal(PADDED, computation=2, previous=before, seats=(known,)))
    assert "*              1  b.onion  acme  level standard, known: your contact" in marks
    assert len(marked(proposal(PADDED, computation=2, previous=before, seats=(stranger,)))) == 1


def test_parties_that_an_exposure_or_a_change_names_have_this_users_names() -> None:
    exposes = (Exposure((1,), (B, D), same_program=True, same_input=False),)
    before = proposal(agreement(A, B, C))
    now = proposal(agreement(A, C, D), computation=2, previous=before, exposes=exposes, names={B: "bank", D: "dora"})
    lines = str(now).splitlines()
    assert f"*              -  {B}  bank  took part in computation 1, not in this one" in lines
    assert f"*   {B}  bank, which took part in computation 1, not in this one" in lines
    assert f"*   {D}  dora (party 2), which takes part only now" in lines


def test_an_unusual_public_argument_is_shown_with_the_agreement() -> None:
    lines = lines_of(PADDED, 0, unusual=("bins is 2 times more than usual", "smallest is less than usual"))
    at = lines.index("  unusual      bins is 2 times more than usual")
    assert lines[at + 1] == "               smallest is less than usual"


def test_the_agreement_shows_what_the_author_claims_as_a_claim_of_the_author() -> None:
    lines = lines_of(PADDED, 0, title="Secret ballot", reveals="how many votes each got\x1b[2J\n")
    assert "               Secret ballot" in lines
    assert r"               its author says that it reveals how many votes each got\x1b[2J\n" in lines
    assert not any("author" in line for line in lines_of(PADDED, 0))
    longest = lines_of(PADDED, 0, title="\u202e" * 80, reveals="\u202e" * 300)
    assert all(line.isprintable() and len(line) < 400 for line in longest)


def test_the_agreement_shows_where_parties_have_different_versions_of_a_distribution() -> None:
    # Issue 12.
    owns = tuple(PartyTerms(distributions={"numpy": version, "mpyc": "0.11"}) for version in ("2.1", "2.2", "2.1"))
    lines = lines_of(replace(PADDED, own=owns), 0)
    assert "  libraries    numpy differs, by party: 2.1 at 0, 2; 2.2 at 1" in lines
    assert not any("mpyc differs" in line for line in lines)
    owns = (PartyTerms(distributions={"numpy": "2.1"}), PartyTerms(distributions={}), PartyTerms())
    lines = lines_of(replace(PADDED, own=owns), 0)
    assert "  libraries    numpy differs, by party: 2.1 at 0; none at 1, 2" in lines
    assert not any("libraries" in line for line in lines_of(PADDED, 0))


def test_a_long_list_of_distributions_does_not_push_the_rest_off_the_screen() -> None:
    owns = tuple(
        PartyTerms(distributions={f"{number}-{place}".rjust(60, "x"): "1" * 40 for place in range(32)})
        for number in range(3)
    )
    usual = lines_of(PADDED, 0)
    lines = lines_of(replace(PADDED, own=owns), 0)
    assert len(lines) == len(usual) + 9
    assert any(line.strip() == "and 88 more" for line in lines)
    assert all(line.isprintable() and len(line) < 400 for line in lines)


def test_the_agreement_names_each_class_that_parties_may_send() -> None:
    common = replace(PADDED.common, allowed_types=("__main__.Ballot", "urns.Urn\x1b"))
    lines = lines_of(replace(PADDED, common=common), 0)
    assert "  may be sent  __main__.Ballot, urns.Urn\\x1b" in lines
    assert any("any party can create instances with contents of its choice" in line for line in lines)
    assert not any("may be sent" in line for line in lines_of(PADDED, 0))


def test_the_agreement_states_how_many_circuits_race_and_who_allows_fewer() -> None:
    def lines(padding_rate: int, circuits: int, *limits: int) -> str:
        common = replace(PADDED.common, padding_rate=padding_rate, circuits=circuits)
        owns = tuple(PartyTerms(max_circuits=limit) for limit in limits)
        return "\n".join(lines_of(replace(PADDED, common=common, own=owns), 0))

    several = lines(0, 3, 3, 8, 1)
    assert "  circuits     3 race for each link, if both its parties allow that many" in several
    assert several.count("circuits per link:") == 1
    assert f"2  {PADDED.common.addresses[2]}  level standard, circuits per link: 1 at most" in several
    assert "raced" not in lines(0, 1, 3, 3, 3)
    assert "a link" not in lines(10, 3, 1, 1, 1).replace("on each link", "")


def test_the_agreement_says_that_a_receipt_ends_deniability() -> None:
    with_receipt = replace(PADDED, common=replace(PADDED.common, receipt=True))
    lines = lines_of(with_receipt, 0)
    assert "  receipt      when all are done, each party signs these terms and a salted digest of its output" in lines
    (warning,) = [line for line in lines if "PERMANENTLY" in line]
    assert "you cannot deny it" in warning
    assert not [line for line in lines_of(PADDED, 0) if "receipt" in line.lower()]


ONLY_ITS_OWN = "it writes only its own, and what you name (mounts)"


@pytest.mark.parametrize(
    ("walls", "said"),
    [
        (Walls(network=True, sockets=True, secrets=True, files=True, frozen=True), []),
        (Walls(sockets=True, secrets=True, files=True), []),
        (Walls(network=True, secrets=True, files=True, frozen=True), ["sockets: OPEN"]),
        (
            Walls(secrets=True, files=True),
            [
                "network: OPEN",
                "sockets: OPEN",
                "files: its own, and what you name (Landlock); modes, times and owners of all: OPEN",
            ],
        ),
        (Walls(sockets=True), ["files: OPEN, all that you can read and write"]),
        (
            Walls(network=True, sockets=True, secrets=True),
            ["files: OPEN, all that you can read and write, except onionmpc's keys (mounts)"],
        ),
        (
            Walls(network=True, sockets=True, secrets=True, frozen=True),
            [f"files: OPEN, all that you can read, except onionmpc's keys (mounts); {ONLY_ITS_OWN}"],
        ),
        (NO_WALLS, ["network: OPEN", "sockets: OPEN", "files: OPEN, all that you can read and write"]),
    ],
)
def test_the_agreement_says_what_is_open_to_the_program(walls: Walls, said: list[str]) -> None:
    lines = [line.strip() for line in lines_of(PADDED, 0, walls=walls)]
    assert [line.removeprefix("your walls").strip() for line in lines if "OPEN" in line] == said
    assert "Python: a guard against mistakes" in lines
    assert not [line for line in lines if line.startswith("processes:")]


@pytest.fixture
def remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Agreement:
    """An agreement on a program that has 57 hops in a dry run."""
    monkeypatch.setenv("ONIONMPC_STATE", str(tmp_path / "state"))
    agreement = replace(PADDED, common=replace(PADDED.common, padding_rate=0))
    Case.of(agreement.common).remember(Hops(57, 0.5))
    return agreement


def test_the_estimate_uses_the_slowest_link(remembered: Agreement) -> None:
    assert how_long(remembered, 0.4) == "about 12 s: 57 hops in a dry run, round trip 400 ms (measured)"
    assert "  takes        about 12 s: 57 hops" in str(proposal(remembered, takes=how_long(remembered, 0.4)))


def test_before_links_are_measured_the_longest_level_is_assumed(remembered: Agreement) -> None:
    own = (PartyTerms(), PartyTerms(Level.LONG), PartyTerms())
    usual = f"{Level.LONG.usual_round_trip_s * 1000:.0f} ms (assumed)"
    assert f"57 hops in a dry run, round trip {usual}" in how_long(replace(remembered, own=own), None)


@pytest.mark.usefixtures("remembered")
def test_padding_adds_the_wait_for_a_record_to_each_hop() -> None:
    Case.of(PADDED.common).remember(Hops(100, 0.0))
    assert how_long(PADDED, 0.4).startswith("about 30 s: 100 hops")


def test_without_a_dry_run_no_estimate_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONIONMPC_STATE", str(tmp_path / "state"))
    assert how_long(PADDED, None) == ""
    assert "  takes  " not in str(proposal(PADDED))


def agreement(*onions: Onion, **changes: Any) -> Agreement:
    """An agreement of these parties."""
    common = replace(PADDED.common, addresses=onions, **changes)
    own = (PartyTerms(),) * len(onions)
    return Agreement(common, own, tuple(f"{place:032x}" for place in range(len(onions))))


def marked(proposal: Proposal) -> list[str]:
    return [line for line in str(proposal).splitlines() if line.startswith("*")]


def test_a_further_agreement_marks_what_has_changed_and_says_what_the_mark_means() -> None:
    before = proposal(agreement(*ONIONS, public_arguments=("tea",)), 3, private_arguments=2)
    now = proposal(agreement(A, C, D, threshold=0), 2, computation=2, previous=before)
    first, legend, *_ = str(now).splitlines()
    assert (first, legend) == ("The agreement:", "* marks each line that differs from computation 1")
    assert marked(now) == [
        legend,
        "* parties      3, in this order:",
        f"*              1  {C}  level standard, was party 2",
        f"*              2  {D}  level standard, was party 3 (you)",
        f"*              -  {B}  took part in computation 1, not in this one",
        *[line for line in marked(now) if "padding" in line],
        *(f"*{words[1:]}" for words in named_lines("roster", roster_lines(now.fingerprint))),
        "* arguments    no longer: tea",
        "* yours alone  no longer: 2 arguments, not sent to anyone",
        "* This hides NOTHING: each of these parties alone can read your input.",
    ]
    unmarked = [line for line in str(now).splitlines() if line not in marked(now)]
    assert f"               0  {A}  level standard" in unmarked


def test_the_same_agreement_again_has_no_mark_and_a_new_party_is_called_new() -> None:
    before = proposal(agreement(A, B, C))
    assert len(marked(proposal(agreement(A, B, C), computation=2, previous=before))) == 1
    lines = marked(proposal(agreement(*ONIONS), computation=2, previous=before))
    assert f"*              3  {D}  level standard, new" in lines


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"public_arguments": ("x" * 300,)}, {"public_arguments": ("x" * 299 + "y",)}),
        ({"public_arguments": ("tea coffee",)}, {"public_arguments": ("tea", "coffee")}),
        ({"program": "x" * 300}, {"program": "x" * 299 + "y"}),
    ],
)
def test_a_change_that_the_line_does_not_show_is_marked(one: dict[str, Any], other: dict[str, Any]) -> None:
    before = proposal(agreement(A, B, C, **one))
    _legend, line = marked(proposal(agreement(A, B, C, **other), computation=2, previous=before))
    assert f" {line[1:]}" in str(before).splitlines()


def test_the_screen_of_a_first_computation_has_nothing_of_further_ones() -> None:
    first = str(proposal(agreement(*ONIONS)))
    assert "*" not in first
    assert "computation" not in first
    assert proposal(agreement(*ONIONS)).as_previous() == proposal(agreement(*ONIONS))


def test_whom_two_results_expose_is_among_the_warnings() -> None:
    exposes = (Exposure((1, 2), (B, D), same_program=True, same_input=False),)
    text = str(proposal(agreement(A, C, D), exposes=exposes))
    assert text.partition("\n\n")[2].endswith(
        f"""\
With the result of computations 1 and 2, this one may EXPOSE what these addresses gave:
  {B}, which took part in computations 1 and 2, not in this one
  {D} (party 2), which takes part only now
  The program is the same: the difference of two sums or averages is what they gave."""
    )
    exposes = (Exposure((1, 2, 3, 5, 7), (B,), same_program=False, same_input=True),)
    text = str(proposal(agreement(A, C, D), exposes=exposes))
    assert "With the result of computations 1, 2, 3 and 2 more, this one may EXPOSE what this address gave:" in text
    assert "  You give the same input as then: a result that differs may show what they gave." in text
    assert "The program is the same" not in text


def test_many_exposures_do_not_push_the_rest_off_the_screen() -> None:
    many = tuple(Onion(f"{number:056}.onion") for number in range(100))
    exposes = tuple(Exposure((number,), many, same_program=True, same_input=True) for number in range(1, 100))
    lines = str(proposal(agreement(A, C, D), exposes=exposes)).splitlines()
    assert len(lines) < 200
    assert lines.count("  and 75 more") == 5
    assert lines[-1] == "With the result of computations 6, 7, 8 and 91 more, it may EXPOSE others as well."


@pytest.mark.parametrize("same_program", [True, False])
def test_what_exposes_somebody_is_not_agreed_to_unseen(*, same_program: bool) -> None:
    exposes = (
        Exposure((1,), (B,), same_program=False, same_input=True),
        Exposure((3, 4), (B, D), same_program=same_program, same_input=True),
    )
    unseen = proposal(agreement(A, C, D), exposes=exposes)
    assert unseen.exposed == {B, D}
    with pytest.raises(AgreementError, match="allow_difference=True") as raised:
        asyncio.run(AGREE_TO_ANYTHING(unseen))
    # All parties learn this: if there are several, it names one that they can see too.
    words = f"computation 3, this one may expose what {B} and 1 more gave" if same_program else "computation 1, this"
    assert words in raised.value.message
    assert len(raised.value.message) <= SHOWN_DETAIL_CHARACTERS
    assert asyncio.run(AGREE_TO_ANYTHING(proposal(agreement(A, C, D), exposes=exposes, allow_difference=True)))
