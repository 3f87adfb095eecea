"""What a policy allows: each key alone, and that whatever no key names must have its default."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onionmpc.levels import Level
from onionmpc.names.standing import Standing
from onionmpc.program.code.catalogue import catalogue, digest, find_program
from onionmpc.session.agreed_options import AGREED_OPTIONS, AgreedOption, OptionKind
from onionmpc.session.agreement import Agreement, PartyTerms, SharedTerms
from onionmpc.session.policy import parse_policy
from onionmpc.session.policy_decision import (
    COMPARED_TERMS,
    HARMLESS_TERMS,
    JUDGED_TERMS,
    OPTION_CHECKS,
    Facts,
    Failure,
    NoRuleAllows,
    RuleAllows,
    decide,
    failures_of,
    must_be_equal,
    terms_beyond,
)
from tests.support.agreements import AGREEMENT, COMMON, OTHERS, change
from tests.support.policies import DIGEST, FITTING, OTHER_DIGEST, RULE, digest_of, policy_of, rule_of
from tests.support.policy_facts import NOW, facts, run, seat

KNOWN, VOUCHED, INTRODUCED, STRANGER = Standing
SHARED_FIELDS = {field.name for field in msgspec.structs.fields(SharedTerms)}
PARTY_FIELDS = {field.name for field in msgspec.structs.fields(PartyTerms)}
DAY = timedelta(days=1)
# Another value for each field of PartyTerms.
OTHER_OWN: dict[str, Any] = {
    "circuit_length": Level.SHORT,
    "min_circuit_length": Level.LONG,
    "max_circuits": 1,
    "distributions": {"numpy": "2.0"},
    "evidence": "00" * 32,
}


def failing(lines: str, **changes: Any) -> list[str]:
    """The keys that fail in a rule with these lines."""
    return [failure.key for failure in failures_of(rule_of(lines), facts(**changes))]


def common(**changes: Any) -> Agreement:
    return msgspec.structs.replace(AGREEMENT, common=change(COMMON, **changes))


def own(**changes: Any) -> Agreement:
    terms = (AGREEMENT.own[0], msgspec.structs.replace(AGREEMENT.own[1], **changes), AGREEMENT.own[2])
    return msgspec.structs.replace(AGREEMENT, own=terms)


# -- what no key names must have its default


def test_every_term_of_the_agreement_is_an_option_or_has_its_place() -> None:
    options = {option.term for option in AGREED_OPTIONS}
    assert options | COMPARED_TERMS | JUDGED_TERMS == SHARED_FIELDS
    assert not options & (COMPARED_TERMS | JUDGED_TERMS)
    assert HARMLESS_TERMS | {"circuit_length"} == PARTY_FIELDS
    assert set(OTHER_OWN) == PARTY_FIELDS


@pytest.mark.parametrize("option", AGREED_OPTIONS, ids=lambda option: option.term)
def test_an_option_that_the_rule_does_not_name_must_have_its_default(option: AgreedOption) -> None:
    default = common(**{each.term: each.default(3) for each in AGREED_OPTIONS})
    rule = policy_of("").rules[0]
    assert not list(failures_of(rule, facts(agreement=default)))
    other = msgspec.structs.replace(default, common=change(default.common, **{option.term: OTHERS[option.term]}))
    (failure,) = failures_of(rule, facts(agreement=other))
    assert str(failure).isprintable()


@pytest.mark.parametrize("option", AGREED_OPTIONS, ids=lambda option: option.term)
def test_an_option_that_has_no_key_yet_is_refused_unless_it_has_its_default(option: AgreedOption) -> None:
    without_key = dataclasses.replace(option, wish="new")
    usual = change(COMMON, **{option.term: option.default(3)})
    assert not list(must_be_equal(without_key, rule_of(), usual))
    (failure,) = must_be_equal(without_key, rule_of(), change(COMMON, **{option.term: OTHERS[option.term]}))
    assert failure.key == option.name
    assert "no key allows another value" in failure.words


def test_every_option_has_a_check_or_a_key_of_its_name() -> None:
    for option in AGREED_OPTIONS:
        assert (option.term in OPTION_CHECKS) != (option.wish in ("padding", "circuits"))


def test_a_term_that_has_no_place_yet_is_refused_unless_it_has_its_default() -> None:
    known = frozenset(SHARED_FIELDS)
    assert not list(terms_beyond(known, COMMON))
    assert not list(terms_beyond(known - {"uninvited"}, COMMON))
    (failure,) = terms_beyond(known - {"uninvited"}, change(COMMON, uninvited=("c.onion",)))
    assert failure.key == "uninvited"
    (failure,) = terms_beyond(known - {"python"}, COMMON)  # it has no default at all
    assert failure.key == "python"


@pytest.mark.parametrize("name", sorted(PARTY_FIELDS))
def test_what_another_party_states_of_itself_is_judged_or_harmless(name: str) -> None:
    keys = failing("", agreement=own(**{name: OTHER_OWN[name]}))
    assert keys == ([] if name in HARMLESS_TERMS else ["min_circuit_length"])


def test_a_new_statement_of_a_party_is_refused_unless_it_has_its_default() -> None:
    known = HARMLESS_TERMS - {"max_circuits"}
    assert not list(terms_beyond(known | {"circuit_length"}, PartyTerms()))
    (failure,) = terms_beyond(known | {"circuit_length"}, msgspec.structs.replace(PartyTerms(), max_circuits=1))
    assert failure.key == "max_circuits"


# -- each key


def test_a_rule_allows_the_programs_that_it_names() -> None:
    assert failing("") == []
    other = common(files={"vote.py": "0c" * 32})
    (failure,) = failures_of(rule_of(), facts(agreement=other))
    assert failure.key == "program"
    assert digest_of(other.common) in failure.words  # to be copied into the policy


def test_the_digest_is_the_one_that_programs_show_prints_and_no_two_programs_share_it() -> None:
    shipped = [find_program(name) for name, _ in catalogue()]
    assert len({digest(program) for program in shipped}) == len(shipped)


@pytest.mark.parametrize(
    ("needed", "reviewers", "allowed"),
    [
        ("", {"a": "anna", "b": "ben"}, True),
        ("", {"a": "anna"}, False),
        ("", {"a": "anna", "b": "anna"}, False),
        ("reviews_needed = 1", {"b": "ben"}, True),
        ("reviews_needed = 1", {"b": "carol"}, False),
        ("reviews_needed = 1", {"c": "anna"}, False),  # a review that the rule does not list
        ("reviews_needed = 1", {}, False),
    ],
)
def test_reviewers_count_once_each(needed: str, reviewers: dict[str, str], *, allowed: bool) -> None:
    keys = failing(f'reviewed_by = ["anna", "ben"]\nreviews = ["a", "b"]\n{needed}', reviewers=reviewers)
    assert keys == ([] if allowed else ["reviewed_by"])


@pytest.mark.parametrize(
    ("patterns", "arguments", "allowed"),
    [
        ([], (), True),
        ([], ("tea",), False),
        (["--quarter=20??Q?"], ("--quarter=2026Q3",), True),
        (["--quarter=20??Q?"], ("--quarter=2026Q33",), False),
        (["--quarter=20??Q?"], ("--QUARTER=2026Q3",), False),
        (["--quarter=20??Q?"], (), False),
        (["--quarter=20??Q?"], ("--quarter=2026Q3", "--quarter=2026Q4"), False),
        (["--quarter=20[0-9][0-9]Q[1-4]"], ("--quarter=20x6Q3",), False),
        (["*"], ("a\nb",), True),
        (["*", "b"], ("a", "b"), True),
        (["b", "*"], ("a", "b"), False),
    ],
)
def test_a_pattern_is_for_one_public_argument(
    patterns: list[str], arguments: tuple[str, ...], *, allowed: bool
) -> None:
    policy = policy_of(f"public = {patterns}")
    decision = decide(policy, facts(agreement=common(public_arguments=arguments)))
    assert isinstance(decision, RuleAllows) is allowed


@pytest.mark.parametrize(
    ("lines", "changes", "keys"),
    [
        ("mpyc = ['-L64']", {"mpyc_options": ("-L64",)}, []),
        ("mpyc = ['-L64']", {}, ["mpyc"]),
        ("mpyc = []", {"mpyc_options": ("--no-prss",)}, ["mpyc"]),
        ("allow_type = ['a.B', 'a.C']", {"allowed_types": ("a.B",)}, []),
        ("allow_type = ['a.C']", {"allowed_types": ("a.B", "a.C")}, ["allow_type"]),
        ("padding = 20", {"padding_rate": 20}, []),
        ("padding = 20", {}, ["padding"]),
        ("circuits = 1", {"circuits": 1}, []),
        ("circuits = 1", {}, ["circuits"]),
        ("receipt = 'any'", {"receipt": True}, []),
        ("receipt = 'any'", {}, []),
        ("receipt = 'always'", {"receipt": True}, []),
        ("receipt = 'always'", {}, ["receipt"]),
        ("min_threshold = 0", {"threshold": 0}, []),
        ("min_threshold = 1", {"threshold": 0}, ["min_threshold"]),
        ("seats = [3, 3]", {}, []),
        ("seats = [4, 7]", {}, ["seats"]),
        ("seats = [2, 2]", {}, ["seats"]),
    ],
)
def test_a_key_allows_what_it_says_and_no_more(lines: str, changes: dict[str, Any], keys: list[str]) -> None:
    assert failing(lines, agreement=common(**changes)) == keys


def test_the_default_threshold_is_the_largest_and_a_party_may_go_below_it_only_by_a_key() -> None:
    five = {"addresses": tuple(f"{c}.onion" for c in "abcde")}
    others = tuple(seat(number, onion=onion) for number, onion in enumerate(five["addresses"]) if number)
    for lines, threshold, keys in (
        ("", 2, []),
        ("", 1, ["min_threshold"]),
        ("min_threshold = 1", 1, []),
    ):
        agreement = common(threshold=threshold, **five)
        assert failing(lines, agreement=agreement, seats=others) == keys


def test_two_parties_need_a_key() -> None:
    two = common(addresses=("a.onion", "b.onion"), threshold=0)
    assert failing("", agreement=two, seats=(seat(1),)) == ["seats"]
    assert failing("seats = [2, 3]", agreement=two, seats=(seat(1),)) == []


def test_no_party_may_have_a_lower_level_than_the_rule_says() -> None:
    assert failing("min_circuit_length = 'short'", agreement=own(circuit_length=Level.SHORT)) == []
    assert failing("", agreement=own(circuit_length=Level.SHORT)) == ["min_circuit_length"]
    assert failing("min_circuit_length = 'long'") == ["min_circuit_length"]


@pytest.mark.parametrize(
    ("parties", "seats", "keys"),
    [
        ("", [seat(1, "bank"), seat(2, "acme")], []),
        ("", [seat(1), seat(2)], []),  # known since this user gave the addresses
        ("names = ['bank', 'acme']", [seat(1, "bank"), seat(2, "ACME", "x")], []),
        ("names = ['bank']", [seat(1, "bank"), seat(2, "acme")], ["parties.names"]),
        ("names = ['bank']", [seat(1, "bank"), seat(2)], ["parties.names"]),
        ("names = ['bank', 'c.onion']", [seat(1, "bank"), seat(2)], []),
        ("names = ['bank']", [seat(1, "bank"), seat(2, standing=INTRODUCED)], ["parties.max_introduced"]),
        ("names = ['bank'], max_introduced = 1", [seat(1, "bank"), seat(2, standing=INTRODUCED)], []),
        (
            "max_introduced = 1",
            [seat(1, standing=INTRODUCED), seat(2, standing=INTRODUCED)],
            ["parties.max_introduced"],
        ),
        ("", [seat(1, "bank"), seat(2, standing=VOUCHED)], ["parties.max_vouched"]),
        ("max_vouched = 1", [seat(1, "bank"), seat(2, standing=VOUCHED)], []),
        ("max_vouched = 2", [seat(1, "bank"), seat(2, standing=STRANGER)], ["parties.max_strangers"]),
        ("max_strangers = 1", [seat(1, "bank"), seat(2, standing=STRANGER)], []),
        ("max_strangers = 2, min_known = 1", [seat(1, "bank"), seat(2, standing=STRANGER)], []),
        ("max_strangers = 2, min_known = 2", [seat(1, "bank"), seat(2, standing=STRANGER)], ["parties.min_known"]),
        ("min_known = 2", [seat(1, "bank"), seat(2, "bank")], ["parties.min_known"]),
        ("min_known = 2", [seat(1, "bank"), seat(2, "acme", "Bank")], ["parties.min_known"]),
        ("min_known = 2", [seat(1, "bank"), seat(2, "acme")], []),
    ],
)
def test_who_may_take_part(parties: str, seats: list[Any], keys: list[str]) -> None:
    assert failing(f"parties = {{{parties}}}", seats=tuple(seats)) == keys


def test_seats_that_share_a_name_by_way_of_a_third_are_one_persons() -> None:
    seats = (seat(1, "a"), seat(2, "b"), seat(3, "a", "b", onion="d.onion"))
    assert failing("parties = {min_known = 2}", seats=seats) == ["parties.min_known"]


# -- inputs, and how often


def test_runs_count_within_the_window_and_the_next_one_is_named() -> None:
    rule = rule_of("max_runs = '2/30d'")
    at = [NOW - 40 * DAY, NOW - 29 * DAY, NOW - DAY]
    runs = tuple(run(when, rule, number) for number, when in enumerate(at))
    assert not list(failures_of(rule, facts(runs=runs[:2])))
    (failure,) = failures_of(rule, facts(runs=runs))
    assert str(failure) == (
        "max_runs: 2 runs count, the last at 2026-11-30 06:00 UTC, and 2/30d allows the next at 2026-12-02 06:00 UTC"
    )
    assert not list(failures_of(rule, facts(runs=runs, now=NOW + DAY)))


def test_what_counts_against_a_rule() -> None:
    rule = rule_of("inputs = {salary = '@q.csv'}\nmax_runs = '1/30d'")
    other_rule = rule_of("inputs = {wage = '@q.csv'}\nmax_runs = '9/1d'")
    places = {"q.csv": "/data/q.csv"}
    for changes, counts in (
        ({"rule": rule.digest}, True),
        ({"rule": rule.digest, "program": "00" * 32}, True),  # the same rule, which names several programs
        ({"rule": other_rule.digest, "files": ("/data/q.csv",)}, True),  # another policy over the same input
        ({"rule": other_rule.digest, "files": ("/data/other.csv", "/data/q.csv")}, True),
        ({"rule": other_rule.digest, "files": ("/data/other.csv",)}, False),
        ({"rule": other_rule.digest, "program": "00" * 32, "files": ("/data/q.csv",)}, False),
    ):
        keys = [failure.key for failure in failures_of(rule, facts(runs=(run(NOW, rule, **changes),), places=places))]
        assert keys == (["max_runs"] if counts else []), changes


def test_a_rule_without_inputs_counts_by_itself() -> None:
    rule, other = rule_of("max_runs = '1/30d'"), rule_of("max_runs = '1/29d'")
    assert [failure.key for failure in failures_of(rule, facts(runs=(run(NOW, rule),)))] == ["max_runs"]
    assert not list(failures_of(rule, facts(runs=(run(NOW, other),))))


def test_a_run_over_what_a_private_argument_names_needs_a_limit_and_counts() -> None:
    private = {"has_private": True, "private_files": ("/data/q.csv",)}
    assert failing("", **private) == ["max_runs"]
    rule, other = rule_of("max_runs = '1/30d'"), rule_of("max_runs = '2/30d'")
    assert not list(failures_of(rule, facts(**private)))
    before = run(NOW, other, files=("/data/q.csv",))
    assert [failure.key for failure in failures_of(rule, facts(**private, runs=(before,)))] == ["max_runs"]


def test_private_arguments_do_not_take_the_place_of_the_inputs_of_a_rule() -> None:
    places = {"q": "/q"}
    assert failing("stdin = '@q'\nmax_runs = '1/1d'", has_private=True, places=places) == ["stdin"]
    assert failing("inputs = {a = '@q'}\nmax_runs = '1/1d'", has_private=True, places=places) == ["inputs"]


def test_the_first_counted_run_sets_the_parties_forever() -> None:
    rule = rule_of("max_runs = '1/1d'")
    long_ago = run(NOW - 400 * DAY, rule, roster=("bank", "c.onion"))
    assert not list(failures_of(rule, facts(runs=(long_ago,))))
    recent = run(NOW - 2 * DAY, rule, 1, roster=("bank", "carol"))
    assert not list(failures_of(rule, facts(runs=(long_ago, recent))))
    (failure,) = failures_of(rule, facts(runs=(long_ago,), seats=(seat(1, "bank"), seat(2, "acme"))))
    assert str(failure) == (
        "same_roster: the parties differ from the first run at 2025-10-27 06:00 UTC: without c.onion, with acme"
    )
    assert failing("max_runs = '1/1d'", runs=(long_ago,), seats=(seat(1, "bank"),)) == ["same_roster"]


def test_a_contact_that_has_a_new_address_is_the_same_party() -> None:
    rule = rule_of("max_runs = '1/1d'")
    before = run(NOW - 2 * DAY, rule, roster=("bank", "c.onion"))
    assert not list(failures_of(rule, facts(runs=(before,), seats=(seat(1, "Bank", onion="x.onion"), seat(2)))))


def test_parties_may_change_if_the_rule_says_so() -> None:
    rule = rule_of("max_runs = '1/1d'\nsame_roster = false")
    before = run(NOW - 2 * DAY, rule, roster=("someone",))
    assert not list(failures_of(rule, facts(runs=(before,))))


# -- which rule


def test_the_first_rule_that_allows_it_decides() -> None:
    text = f"{RULE}{FITTING}seats = [9, 9]\n[[allow]]\nprogram = ['{DIGEST}']\n{FITTING}" * 1
    policy = parse_policy(f"{text}[[allow]]\nprogram = ['{DIGEST}']\n{FITTING}padding = 0\n".encode(), "my.toml")
    decision = decide(policy, facts())
    assert isinstance(decision, RuleAllows)
    assert decision.number == 2


def test_a_rule_that_is_used_up_leaves_the_next_one() -> None:
    policy = parse_policy(
        f"{RULE}{FITTING}max_runs = '1/30d'\n[[allow]]\nprogram = ['{DIGEST}']\n{FITTING}max_runs = '1/31d'\n".encode(),
        "my.toml",
    )
    decision = decide(policy, facts(runs=(run(NOW, policy.rules[0]),)))
    assert isinstance(decision, RuleAllows)
    assert decision.number == 2


def test_the_nearest_rule_is_one_for_this_program_with_the_fewest_failures() -> None:
    other = f"[[allow]]\nprogram = ['{OTHER_DIGEST}']\n{FITTING}"
    worse = f"[[allow]]\nprogram = ['{DIGEST}']\nseats = [9, 9]\npadding = 1\n{FITTING}"
    near = f"[[allow]]\nprogram = ['{DIGEST}']\nseats = [9, 9]\n{FITTING}"
    decision = decide(parse_policy(f"version = 1\n{other}{worse}{near}".encode(), "my.toml"), facts())
    assert isinstance(decision, NoRuleAllows)
    assert decision.number == 3
    assert decision.failures == (Failure("seats", "3 parties, expected 9 to 9"),)


# -- properties

SOME_FACTS = st.builds(
    lambda shared, terms, standings, names: facts(
        agreement=msgspec.structs.replace(
            AGREEMENT,
            common=change(COMMON, **shared),
            own=(PartyTerms(), msgspec.structs.replace(PartyTerms(), **terms), PartyTerms()),
        ),
        seats=(
            seat(1, *([names[0]] if standings[0] is KNOWN else []), standing=standings[0]),
            seat(2, *([names[1]] if standings[1] is KNOWN else []), standing=standings[1]),
        ),
    ),
    st.fixed_dictionaries(
        {},
        optional={
            term: st.just(value) for term, value in OTHERS.items() if term not in ("addresses", "program", "files")
        },
    ),
    st.fixed_dictionaries({}, optional={name: st.just(value) for name, value in OTHER_OWN.items()}),
    st.tuples(st.sampled_from(list(Standing)), st.sampled_from(list(Standing))),
    st.tuples(st.sampled_from(["bank", "acme"]), st.sampled_from(["bank", "acme"])),
)
WIDER = [
    ("", "seats = [2, 256]"),
    ("", "receipt = 'any'"),
    ("", "min_circuit_length = 'short'"),
    ("", "min_threshold = 0"),
    ("", "allow_type = ['a.B']"),
    ("parties = {}", "parties = {max_strangers = 2, max_introduced = 2, max_vouched = 2}"),
    ("parties = {names = ['bank'], min_known = 1}", "parties = {names = ['bank', 'acme']}"),
    ("max_runs = '1/30d'", "max_runs = '2/30d'"),
]


@given(SOME_FACTS, st.sampled_from(WIDER))
def test_a_wider_rule_allows_all_that_a_narrower_one_does(asked: Facts, lines: tuple[str, str]) -> None:
    narrow, wide = (decide(policy_of(FITTING + line), asked) for line in lines)
    assert isinstance(wide, RuleAllows) or isinstance(narrow, NoRuleAllows)


@given(SOME_FACTS)
def test_what_is_allowed_by_no_key_has_every_default(asked: Facts) -> None:
    decision = decide(policy_of(""), asked)
    if isinstance(decision, NoRuleAllows):
        assert decision.failures
        assert all(str(failure).isprintable() for failure in decision.failures)
        return
    for option in AGREED_OPTIONS:
        assert getattr(asked.common, option.term) == option.default(3)
    assert all(each.standing is KNOWN for each in asked.seats)
    assert all(terms.circuit_length >= Level.STANDARD for terms in asked.agreement.own)


@given(SOME_FACTS)
def test_an_allowed_run_that_is_counted_is_refused_until_its_window_is_over(asked: Facts) -> None:
    policy = policy_of(f"{FITTING}max_runs = '1/30d'")
    if not isinstance(decide(policy, asked), RuleAllows):
        return
    counted = dataclasses.replace(asked, runs=(run(NOW, policy.rules[0], roster=asked.roster),))
    again = decide(policy, dataclasses.replace(counted, now=NOW + timedelta(days=29, hours=23)))
    assert isinstance(again, NoRuleAllows)
    assert [failure.key for failure in again.failures] == ["max_runs"]
    assert isinstance(decide(policy, dataclasses.replace(counted, now=NOW + timedelta(days=30))), RuleAllows)


def test_each_kind_of_option_is_covered_by_another_value() -> None:
    assert all(OTHERS[option.term] != option.default(3) for option in AGREED_OPTIONS)
    assert {option.kind for option in AGREED_OPTIONS} == set(OptionKind)
