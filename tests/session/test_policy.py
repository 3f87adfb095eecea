"""Policies as files: what each key takes, how a mistake is named, and what a rule's digest depends on."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onionmpc.errors import UsageError
from onionmpc.levels import Level
from onionmpc.session.policy import (
    EXPECTED,
    MAX_POLICY_BYTES,
    MAX_RULES,
    PartiesRule,
    PolicyRules,
    Rule,
    parse_max_runs,
    parse_policy,
)
from tests.support.policies import DIGEST, EVERY_KEY, OTHER_DIGEST, RULE, policy_of, toml_of


def parse(text: str) -> PolicyRules:
    return parse_policy(text.encode(), "my.toml")


def refused(text: str) -> UsageError:
    with pytest.raises(UsageError) as raised:
        parse(text)
    assert (raised.value.message + raised.value.hint).isprintable()
    return raised.value


def test_every_key_is_read() -> None:
    first, second = parse(EVERY_KEY).rules
    assert first == Rule(
        program=(DIGEST,),
        public=("--quarter=20??Q?",),
        parties=PartiesRule(("acme.example", "bank"), 2, 1, 2, 3),
        seats=(3, 7),
        min_threshold=1,
        min_circuit_length=Level.LONG,
        mpyc=("-L64",),
        allow_type=("__main__.Ballot",),
        padding=20,
        circuits=1,
        receipt="any",
        inputs={"salary": "@/data/q.csv"},
        max_runs="1/30d",
        same_roster=False,
    )
    assert (first.files, second.files) == (("/data/q.csv",), ("q.csv",))
    assert (first.limit, second.limit) == ((1, timedelta(days=30)), (2, timedelta(hours=12)))
    assert second.needed == 1
    named = set(re.findall(r"(\w+) = ", EVERY_KEY))
    assert named - {"version", "salary"} == {*Rule.__struct_fields__, *PartiesRule.__struct_fields__}


def test_every_key_says_what_it_takes() -> None:
    assert set(EXPECTED) == {"version", "allow", *Rule.__struct_fields__, *PartiesRule.__struct_fields__}


def test_all_reviewers_are_needed_unless_the_rule_says_how_many() -> None:
    rule = policy_of('reviewed_by = ["anna", "ben"]\nreviews = ["a", "b"]').rules[0]
    assert rule.needed == 2


@pytest.mark.parametrize(
    ("lines", "line", "words"),
    [
        ("seats = 3", 4, "seats: expected the least and the largest number of parties"),
        ("\nseats = [9, 3]", 5, "seats: 9 is more than 3"),
        ("parties = {min_known = 300}", 4, "min_known: expected a whole number from 0 to 255"),
        ("seats = [3, 5]\nparties = {min_known = 5}", 5, "min_known: 5 others, but seats has 5 parties at most"),
        ("parties = {names = ['a b']}", 4, "names: expected names of contacts"),
        ("parties = {names = ['a', 'a']}", 4, "names: a is listed twice"),
        ("min_threshold = 2\nseats = [3, 3]", 4, "min_threshold: 2, but 3 parties have 1 at most"),
        ("min_circuit_length = 'medium'", 4, 'min_circuit_length: expected "short", "standard" or "long"'),
        ("receipt = true", 4, 'receipt: expected "never", "always" or "any"'),
        ("mpyc = ['--output-file']", 4, 'mpyc: "--output-file" is not one of MPyC\'s options that change the wire'),
        ("circuits = true", 4, "circuits: expected a whole number from 1 to 8"),
        ("padding = 1.0", 4, "padding: expected a whole number from 0 to 200"),
        ("public = '--x'", 4, "public: expected a list with a pattern"),
        ("inputs = {a = 'q.csv'}\nmax_runs = '1/1d'", 4, "inputs: expected a table of files by the names of inputs"),
        ("inputs = {a = '@q.csv'}", 4, "a rule with inputs needs max_runs"),
        ("stdin = '@q.csv'", 4, "a rule with stdin needs max_runs"),
        ("stdin = '@q'\nmax_runs = '1/1d'\ninputs = {a = '@q'}", 4, "inputs and stdin exclude each other"),
        ("max_runs = '1/30'", 4, "max_runs: expected how many runs in which time"),
        ("max_runs = '1/3661d'", 4, "max_runs: expected how many runs in which time"),
        ("same_roster = true", 4, "same_roster needs max_runs"),
        ("same_roster = 1\nmax_runs = '1/1d'", 4, "same_roster: expected true or false"),
        ("reviews = ['a']", 4, "reviews needs reviewed_by"),
        ("reviews_needed = 1", 4, "reviews_needed needs reviewed_by"),
        ("reviewed_by = ['anna']", 4, "both program and reviewed_by say which programs it allows"),
    ],
)
def test_a_mistake_is_named_with_its_file_line_rule_and_key(lines: str, line: int, words: str) -> None:
    assert refused(f"{RULE}{lines}\n").message.startswith(f"my.toml, line {line}: rule 1: {words}")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "my.toml, line 1: the key version is missing: expected version = 1"),
        ("version = 2\nnew = 3", "my.toml, line 1: version: expected version = 1"),
        ("version = true", "my.toml, line 1: version: expected version = 1"),
        ("version = 1", "my.toml, line 1: the key allow is missing, expected 1 to 50 rules, each written [[allow]]"),
        ("version = 1\nallow = 3", "my.toml, line 2: allow: expected 1 to 50 rules"),
        ("version = 1\n[[allow]]", "my.toml, line 2: rule 1: neither program nor reviewed_by says which programs"),
        (f"{RULE}[[allow]]\nseats = [3, 4]", "my.toml, line 4: rule 2: neither program nor reviewed_by says"),
        (f"{RULE}[[allow]]\nprogram = ['sha256:AB']", "my.toml, line 5: rule 2: program: expected program digests"),
        ("version = 1\nx = 1 1\n", "my.toml, line 2: the policy is not TOML: expected newline or end of document"),
        ("version = 1\n[[allow]]\nreviewed_by = ['a']", "my.toml, line 3: rule 1: reviewed_by needs reviews"),
        (
            "version = 1\n[[allow]]\nreviewed_by = ['a']\nreviews = ['b']\nreviews_needed = 2",
            "my.toml, line 5: rule 1: reviews_needed: 2, but reviewed_by has 1",
        ),
    ],
)
def test_a_mistake_above_the_rules_is_named_too(text: str, words: str) -> None:
    assert refused(text).message.startswith(words)


def test_an_unknown_key_is_refused_with_the_nearest_one() -> None:
    for lines, hint in (
        ("max_run = '1/30d'", "did you mean max_runs?"),
        ("parties = {min_know = 3}", "did you mean min_known?"),
    ):
        error = refused(RULE + lines)
        assert error.message.startswith("my.toml, line 4: rule 1: there is no key m")
        assert error.hint == hint


def test_a_policy_that_is_too_long_or_no_text_is_refused() -> None:
    assert "has more than" in refused("#" * (MAX_POLICY_BYTES + 1)).message
    assert "has more than" in refused("\n" * 1000).message
    assert (
        "allow: expected" in refused("version = 1\n" + f"[[allow]]\nprogram = ['{DIGEST}']\n" * (MAX_RULES + 1)).message
    )
    with pytest.raises(UsageError, match=r"my.toml, line 2: the policy is not UTF-8"):
        parse_policy(b"version = 1\n\xff", "my.toml")


def test_the_digest_of_a_rule_is_that_of_its_content() -> None:
    plain = policy_of("max_runs = '1/30d'").rules[0]
    spelt_out = policy_of("# weekly\nsame_roster = true\npadding = 0\nmax_runs = '1/30d'\nparties = {min_known = 0}")
    assert plain.digest == spelt_out.rules[0].digest
    assert plain.digest != policy_of("max_runs = '2/30d'").rules[0].digest
    # Fixed: another release must count the same rule on.
    assert plain.digest == "a61e479ce0d3b2dfbf2f59d9c6b8f3477956776f5ffccaac4345660f2621d059"


@given(st.integers(0, 1200), st.integers(0, 10**6), st.sampled_from("smhdwy"))
def test_a_limit_is_a_number_of_runs_and_a_time(runs: int, time: int, unit: str) -> None:
    text = f"{runs}/{time}{unit}"
    seconds = time * {"s": 1, "m": 60, "h": 3600, "d": 86400}.get(unit, 0)
    if 1 <= runs <= 999 and 0 < seconds <= 3660 * 86400 and time <= 999_999:
        assert parse_max_runs(text) == (runs, timedelta(seconds=seconds))
    else:
        with pytest.raises(ValueError, match="time"):
            parse_max_runs(text)


@given(
    st.fixed_dictionaries(
        {"program": st.just((DIGEST, OTHER_DIGEST))},
        optional={
            "public": st.lists(st.sampled_from(["tea", "--x=?", "*"]), max_size=3).map(tuple),
            "padding": st.integers(0, 200),
            "circuits": st.integers(1, 8),
            "receipt": st.sampled_from(["never", "always", "any"]),
            "seats": st.sampled_from([(2, 3), (5, 256)]),
            "min_circuit_length": st.sampled_from(list(Level)),
            "inputs": st.sampled_from([{"a": "@/q"}, {"b": "@q", "c": "@r"}]),
            "same_roster": st.booleans(),
        },
    )
)
def test_a_rule_that_is_written_down_reads_the_same(values: dict[str, object]) -> None:
    rule = Rule(**values, max_runs="3/7d")  # type: ignore[arg-type]
    assert parse(toml_of(rule)).rules == (rule,)
