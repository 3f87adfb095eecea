"""docs/reference/policy.md names every key of a policy with its default, and no other one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from onionmpc.levels import Level
from onionmpc.session.agreed_options import AGREED_OPTIONS, default_threshold
from onionmpc.session.policy import PartiesRule, Rule, parse_policy
from onionmpc.session.policy_decision import OPTION_CHECKS

PAGE = (Path(__file__).parents[2] / "docs/reference/policy.md").read_text()
ROW = re.compile(r"^\| `(\w+)` \| .*? \| (.*?) \| .* \|$", re.MULTILINE)
# Defaults that the page says in words.
IN_WORDS = {
    "program": "none",
    "reviewed_by": "none",
    "reviews_needed": "all of them",
    "mpyc": "the default for the number of parties",
    "min_threshold": "the largest below M/2",
    "stdin": "none",
    "max_runs": "any number",
    "names": "any",
}


def rows(heading: str) -> dict[str, str]:
    """The default of each key in the table below a heading."""
    return dict(ROW.findall(PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]))


@pytest.mark.parametrize(("heading", "table"), [("Keys of a rule", Rule()), ("Keys of `parties`", PartiesRule())])
def test_every_key_is_there_with_its_default(heading: str, table: Rule | PartiesRule) -> None:
    shown = rows(heading)
    assert list(shown) == list(table.__struct_fields__)
    for key, default in shown.items():
        value = getattr(table, key)
        if key in IN_WORDS:
            assert not value
            assert default == IN_WORDS[key]
        else:
            assert default == f"`{_toml(value)}`", key


def _toml(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case Level():
            return f'"{value.value}"'
        case str():
            return f'"{value}"'
        case tuple():
            return f"[{', '.join(map(_toml, value))}]"
        case dict() | PartiesRule():
            return "{}"
    return str(value)


def test_every_agreed_option_has_a_key_on_the_page() -> None:
    by_name = {option.term for option in AGREED_OPTIONS if option.wish in rows("Keys of a rule")}
    assert OPTION_CHECKS.keys() | by_name == {option.term for option in AGREED_OPTIONS}


def test_the_policy_of_the_page_is_one() -> None:
    text = PAGE.partition("```toml\n")[2].partition("```")[0]
    (rule,) = parse_policy(text.encode(), "page.toml").rules
    assert rule.parties.min_known == 2
    assert default_threshold(rule.seats[1]) == 1
