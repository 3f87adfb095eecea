"""Each agreed option appears in every place that it must be in. No option is named here by hand."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest

from onionmpc.cli.display import JsonDisplay
from onionmpc.cli.main import cli
from onionmpc.cli.options import OPTIONS, PartyOptions
from onionmpc.errors import AgreementError
from onionmpc.session.agreed_options import AGREED_OPTIONS, AgreedOption, Choice, OptionKind, Wishes, wishes_of
from onionmpc.session.agreement import SharedTerms
from onionmpc.session.comparison import TERM_NAMES, check_equal
from onionmpc.session.local import Plan
from tests.support.agreements import AGREEMENT, COMMON, OTHERS, change
from tests.support.proposals import lines_of, proposal

ROOT = Path(__file__).parents[2]
PROTOCOL = ROOT / "docs/PROTOCOL.md"
each_option = pytest.mark.parametrize("option", AGREED_OPTIONS, ids=lambda option: option.term)


def wish_for(option: AgreedOption) -> Any:
    return Path("receipt.json") if option.kind is OptionKind.FILE else OTHERS[option.term]


def test_the_table_and_the_wishes_have_the_same_fields() -> None:
    assert {option.wish for option in AGREED_OPTIONS} == {field.name for field in dataclasses.fields(Wishes)}


def test_every_term_has_a_name() -> None:
    assert set(TERM_NAMES) == {field.name for field in msgspec.structs.fields(SharedTerms)}


@each_option
def test_the_option_is_on_the_command_line(option: AgreedOption) -> None:
    for name in ("host", "join"):
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        (typed,) = [parameter for parameter in command.params if parameter.name == option.wish]
        assert isinstance(typed, click.Option)
        assert set(option.flags) == set(typed.opts)
        assert typed.help == option.help
    assert option.wish in OPTIONS


@each_option
def test_the_option_reaches_the_plan_and_the_offer(option: AgreedOption) -> None:
    wish, other = wish_for(option), OTHERS[option.term]
    assert option.wish in {field.name for field in dataclasses.fields(PartyOptions)}
    wishes = dataclasses.replace(Wishes(), **{option.wish: wish})
    plan = Plan(program=None, private=(), **wishes_of(wishes, joins_host=False))
    assert getattr(plan, option.wish) == wish
    assert plan.as_host(3)[option.term] == other
    assert Wishes().as_host(3)[option.term] == option.default(3)


@each_option
def test_a_joiner_that_leaves_an_option_open_takes_the_hosts_value_unless_each_party_must_choose(
    option: AgreedOption,
) -> None:
    theirs = change(COMMON, **{option.term: OTHERS[option.term]})
    open_wishes = Wishes(**wishes_of(Wishes(), joins_host=True))
    taken = open_wishes.as_joiner(theirs)[option.term]
    assert (taken == OTHERS[option.term]) == (option.choice is Choice.HOST)
    own = dataclasses.replace(open_wishes, **{option.wish: wish_for(option)})
    assert own.as_joiner(COMMON)[option.term] == OTHERS[option.term]


@each_option
def test_a_difference_is_named_by_the_name_of_the_option(option: AgreedOption) -> None:
    with pytest.raises(AgreementError, match=re.escape(f"{option.name} differs")):
        check_equal(COMMON, change(COMMON, **{option.term: OTHERS[option.term]}), here="party 0", there="party 2")


@each_option
def test_the_option_is_on_the_screen_and_in_json(option: AgreedOption, capsys: pytest.CaptureFixture[str]) -> None:
    changed = msgspec.structs.replace(AGREEMENT, common=change(COMMON, **{option.term: OTHERS[option.term]}))

    def words(agreement: Any) -> list[str]:
        lines = lines_of(agreement, 0)
        return [line for line in lines if not line.startswith("  session")]

    assert words(changed) != words(AGREEMENT)
    assert asyncio.run(JsonDisplay(yes=True).consents(proposal(changed)))
    shown = json.loads(capsys.readouterr().err)
    assert shown[option.term] == msgspec.json.decode(msgspec.json.encode(OTHERS[option.term]))


@each_option
def test_the_protocol_lists_the_option_among_the_common_fields(option: AgreedOption) -> None:
    (row,) = [line for line in PROTOCOL.read_text().splitlines() if line.startswith("| protocol, addresses")]
    assert option.name in row.split("|")[1]


def test_an_option_is_named_in_few_files() -> None:
    # Declared once, it needs no word in the layers between. Below tor/, the word means the circuits of tor.
    files = [path for path in (ROOT / "onionmpc").rglob("*.py") if re.search(r"\bcircuits\b", path.read_text())]
    ours = [path for path in files if ROOT / "onionmpc/tor" not in path.parents]
    assert len(ours) <= 5, ours
