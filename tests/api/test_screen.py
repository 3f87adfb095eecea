"""The agreement in words, as `str(proposal)` returns it and the command line shows it."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from onionmpc.api.screen import how_long
from onionmpc.levels import Level
from onionmpc.program.rehearsal import Hops
from onionmpc.program.spec import NO_WALLS, Walls
from onionmpc.session.agreement import Agreement, PartyTerms
from onionmpc.session.estimates import Case
from tests.support.proposals import PADDED, lines_of, proposal


def test_the_agreement_shows_levels_floors_and_whose_ip_address_is_shown() -> None:
    own = (PartyTerms(Level.LONG, Level.SHORT), PartyTerms(Level.SHORT), PartyTerms())
    lines = [line.strip() for line in lines_of(replace(PADDED, own=own), 2)]
    addresses = PADDED.common.addresses
    assert f"0  {addresses[0]}  level long, minimum short" in lines
    assert f"1  {addresses[1]}  level short, its IP address is SHOWN to all others" in lines
    assert f"2  {addresses[2]}  level standard (you)" in lines


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
