"""What each party is to this user, by every way into a session, and which sessions the strangers rule refuses."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from onionmpc.errors import AgreementError
from onionmpc.identity import Onion
from onionmpc.names.findings import Finding, Grade
from onionmpc.names.standing import Acquaintance, Seat, Standing, StrangersRule, seats_of, sentences

ONIONS = tuple(Onion(f"{letter * 56}.onion") for letter in "abcde")
A, B, C, D, E = ONIONS
KNOWN, VOUCHED, INTRODUCED, STRANGER = Standing

SSH = Finding(Grade.NAMES, "anna", "SSH key in your list", None)
CERTIFICATE = Finding(Grade.NAMES, "acme.example", "certificate of Acme CA", None)
MEMBER = Finding(Grade.VOUCHES, "guild", "guild says that it is a member", None)
EXPIRED = Finding(Grade.NOTHING, "", "a statement that expired on 3 Jan 2027", None)
FOR_NOTHING = f"its evidence counts for nothing: {EXPIRED.words}"


@dataclass(frozen=True)
class Way:
    """A way into a session, and what the other parties are there.

    Attributes:
        known: of the first party, which looks at the others.
        others: standing, names and first words of each other party, of which a session has as many as it needs.
        refused_with: the numbers of parties at which the rule refuses, with the largest honest threshold.
    """

    known: Acquaintance
    others: tuple[tuple[Standing, tuple[str, ...], str], ...]
    uninvited: frozenset[Onion] = frozenset()
    findings: dict[int, tuple[Finding, ...]] = field(default_factory=dict)
    refused_with: tuple[int, ...] = ()


TYPED = (KNOWN, (), "you gave its address")
BY_HOST = (INTRODUCED, (), "only your host vouches for it")
UNINVITED = (STRANGER, (), "it came without an invite")
OTHERS = frozenset({B, C, D, E})
WAYS = {
    "host by invite": Way(Acquaintance(), ((INTRODUCED, (), "your invite brought it"),) * 4),
    "host with --expect": Way(Acquaintance(typed=OTHERS), (TYPED,) * 4),
    "host --open": Way(Acquaintance(), (UNINVITED,) * 4, uninvited=OTHERS, refused_with=(3, 5)),
    "host --open that expects two": Way(
        Acquaintance(typed=frozenset({B, C})), (TYPED, TYPED, UNINVITED, UNINVITED), uninvited=frozenset({D, E})
    ),
    "joiner by invite": Way(Acquaintance(host=B), ((INTRODUCED, (), "its invite brought you"), *(BY_HOST,) * 3)),
    "joiner by address": Way(Acquaintance(typed=frozenset({B}), host=B), (TYPED, *(BY_HOST,) * 3)),
    "joiner by address at an open host": Way(
        Acquaintance(typed=frozenset({B}), host=B),
        (TYPED, *(UNINVITED,) * 3),
        uninvited=frozenset({A, C, D, E}),
        refused_with=(5,),
    ),
    "full list": Way(Acquaintance(typed=OTHERS), (TYPED,) * 4),
    "contact at an open host": Way(
        Acquaintance(contacts={B: "ben", C: "cleo"}),
        ((KNOWN, ("ben",), "your contact"), (KNOWN, ("cleo",), "your contact"), UNINVITED, UNINVITED),
        uninvited=OTHERS,
    ),
    "SSH name at an open host": Way(
        Acquaintance(),
        ((KNOWN, ("anna",), "SSH key in your list"), *(UNINVITED,) * 3),
        uninvited=OTHERS,
        findings={1: (SSH,)},
        refused_with=(5,),
    ),
    "certificate name": Way(
        Acquaintance(host=B),
        (
            (INTRODUCED, (), "its invite brought you"),
            (KNOWN, ("acme.example",), "certificate of Acme CA"),
            BY_HOST,
            BY_HOST,
        ),
        findings={2: (CERTIFICATE,)},
    ),
    "vouched at an open host": Way(
        Acquaintance(),
        ((VOUCHED, (), "guild says that it is a member"),) * 4,
        uninvited=OTHERS,
        findings=dict.fromkeys(range(1, 5), (MEMBER,)),
    ),
}


def seats(way: Way, parties: int) -> tuple[Seat, ...]:
    return seats_of(ONIONS[:parties], 0, way.known, way.uninvited, way.findings)


def is_refused(found: tuple[Seat, ...], threshold: int, rule: StrangersRule) -> bool:
    try:
        rule.check(found, threshold)
    except AgreementError:
        return True
    return False


@pytest.mark.parametrize("parties", [2, 3, 5])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_each_way_in_shows_what_the_others_are_and_is_refused_if_strangers_exceed_the_threshold(
    way: Way, parties: int
) -> None:
    found, threshold = seats(way, parties), (parties - 1) // 2
    assert [(seat.standing, seat.names, seat.words[0]) for seat in found] == list(way.others[: parties - 1])
    assert [(seat.number, seat.onion) for seat in found] == list(enumerate(ONIONS[1:parties], start=1))
    rule = StrangersRule(allow_no_privacy=parties == 2)
    assert is_refused(found, threshold, rule) == (parties in way.refused_with)
    assert not is_refused(found, threshold, replace(rule, strangers_may_read_everything=True))


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_max_unknown_counts_strangers_and_introduced_seats_and_nothing_lifts_it(way: Way) -> None:
    found = seats(way, 5)
    unknown = sum(standing in (STRANGER, INTRODUCED) for standing, _, _ in way.others)
    lifted = StrangersRule(strangers_may_read_everything=True, allow_no_privacy=True)
    assert not is_refused(found, 2, replace(lifted, max_unknown=unknown))
    if unknown:
        assert is_refused(found, 2, replace(lifted, max_unknown=unknown - 1))


def test_max_unknown_refuses_with_two_parties_too() -> None:
    found = seats(WAYS["host by invite"], 2)
    with pytest.raises(AgreementError, match="1 of 2 seats is not known to it, and it accepts 0"):
        StrangersRule(max_unknown=0, allow_no_privacy=True).check(found, 0)


def test_with_two_parties_a_stranger_needs_no_more_than_that_no_privacy_is_allowed() -> None:
    found = seats(WAYS["host --open"], 2)
    StrangersRule(allow_no_privacy=True).check(found, 0)
    with pytest.raises(AgreementError, match="1 of 2 seats is a stranger to it, and the threshold is 0"):
        StrangersRule().check(found, 0)


def test_a_stranger_is_refused_if_a_threshold_of_zero_lets_each_of_several_parties_read() -> None:
    found = seats(WAYS["contact at an open host"], 5)[1:3]
    with pytest.raises(AgreementError, match="1 of 3 seats is a stranger to it, and the threshold is 0"):
        StrangersRule(allow_no_privacy=True).check(found, 0)


def test_several_seats_of_one_name_are_one_person() -> None:
    both = {1: (CERTIFICATE,), 3: (CERTIFICATE, SSH)}
    found = seats_of(ONIONS, 0, Acquaintance(), (), both)
    StrangersRule().check(found, 2)
    with pytest.raises(AgreementError) as refused:
        StrangersRule().check(found, 1)
    assert refused.value.message == (
        "2 of 5 seats are held under one name that it knows, and the threshold is 1: one person could read every input"
    )
    # All parties learn the message. The name is this user's alone.
    assert refused.value.hint.startswith("acme.example holds parties 1 and 3; ")
    StrangersRule(strangers_may_read_everything=True).check(found, 1)


def test_a_name_of_a_contact_and_of_evidence_is_one_person_in_either_case() -> None:
    anna = replace(SSH, name="Anna")
    found = seats_of(ONIONS[:3], 0, Acquaintance(contacts={B: "anna"}), (), {2: (anna,)})
    with pytest.raises(AgreementError, match="2 of 3 seats are held under one name"):
        StrangersRule().check(found, 1)


def test_names_that_one_seat_has_twice_are_one_name() -> None:
    (seat,) = seats_of(ONIONS[:2], 0, Acquaintance(contacts={B: "anna"}), (), {1: (SSH, SSH)})
    assert seat.names == ("anna",)
    assert seat.words == ("your contact", SSH.words, SSH.words)
    (seat,) = seats_of(ONIONS[:2], 0, Acquaintance(), (), {1: (SSH, replace(SSH, name="Anna"))})
    assert list(sentences([seat], 1)) == []


def test_one_seat_of_a_name_is_not_several_even_with_a_threshold_of_zero() -> None:
    found = seats_of(ONIONS[:3], 0, Acquaintance(contacts={B: "ben", C: "cleo"}), (), {})
    StrangersRule(allow_no_privacy=True).check(found, 0)


def test_the_threshold_falls_when_the_roster_shrinks_and_the_rule_with_it() -> None:
    found = seats(WAYS["host --open that expects two"], 5)
    StrangersRule().check(found, 2)
    fewer = tuple(seat for seat in found if seat.onion != B)
    with pytest.raises(AgreementError, match="2 of 4 seats are strangers to it, and the threshold is 1"):
        StrangersRule().check(fewer, 1)


def test_own_seat_never_counts() -> None:
    for own in range(3):
        found = seats_of(ONIONS[:3], own, Acquaintance(), ONIONS[own], {own: (SSH,)})
        assert [seat.number for seat in found] == [number for number in range(3) if number != own]
        assert {seat.standing for seat in found} == {INTRODUCED}


def test_evidence_that_counts_for_nothing_changes_no_standing_and_says_why_last() -> None:
    found = seats_of(ONIONS[:3], 0, Acquaintance(host=B), {C}, {1: (EXPIRED,), 2: (EXPIRED, MEMBER)})
    assert found[0].standing is INTRODUCED
    assert found[0].words == ("its invite brought you", FOR_NOTHING)
    assert found[1].standing is VOUCHED
    assert found[1].words == (MEMBER.words, FOR_NOTHING)


def test_an_invite_makes_nobody_known_and_neither_does_an_open_host() -> None:
    for uninvited in ((), ONIONS):
        assert {seat.standing for seat in seats_of(ONIONS, 0, Acquaintance(), uninvited, {})} <= {INTRODUCED, STRANGER}


CANNOT = "cannot read your input alone"
CAN = "one person, that person can read your input"


@pytest.mark.parametrize(
    ("standings", "threshold", "who", "can"),
    [
        ([KNOWN, STRANGER], 1, "1 of 3 seats is a stranger to you", f"it {CANNOT}"),
        ([INTRODUCED, KNOWN], 1, "1 of 3 seats is not known to you", f"it {CANNOT}"),
        ([INTRODUCED] * 2, 1, "2 of 3 seats are not known to you", f"if both are {CAN}"),
        (
            [STRANGER, STRANGER, KNOWN, KNOWN],
            2,
            "2 of 5 seats are strangers to you",
            f"even if both are one person, they {CANNOT}",
        ),
        ([STRANGER, INTRODUCED, VOUCHED, KNOWN], 2, "3 of 5 seats are not known to you", f"if all 3 are {CAN}"),
        ([STRANGER] * 4, 2, "4 of 5 seats are strangers to you", f"if 3 of them are {CAN}"),
        ([VOUCHED] * 3, 3, "3 of 4 seats are not known to you", f"even if all 3 are one person, they {CANNOT}"),
    ],
)
def test_one_sentence_says_what_those_who_are_not_known_could_do(
    standings: list[Standing], threshold: int, who: str, can: str
) -> None:
    found = [Seat(number, onion, each) for number, (onion, each) in enumerate(zip(ONIONS, standings, strict=False))]
    assert list(sentences(found, threshold)) == [f"{who}; T is {threshold}: {can}."]


def test_nothing_is_said_if_all_are_known() -> None:
    assert list(sentences(seats(WAYS["full list"], 5), 2)) == []


def test_a_name_with_several_seats_is_named() -> None:
    found = seats_of(ONIONS, 0, Acquaintance(typed=OTHERS), (), {1: (CERTIFICATE,), 4: (CERTIFICATE,)})
    assert list(sentences(found, 2)) == ["acme.example holds 2 of 5 seats, and counts as one person."]
    assert list(sentences(found, 1)) == ["acme.example holds 2 of 5 seats, and can read your input alone."]
