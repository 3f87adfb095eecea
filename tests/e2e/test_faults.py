"""Plans of faults, and what the parties' output shows of them. Needs no network."""

from __future__ import annotations

import itertools
import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.e2e.faults import Fault, Kind, plan_faults
from tests.e2e.soak import as_json, table
from tests.e2e.survival import AFTERMATH_S, Felt, Outage, Report, differing_links, feel, outages


@given(st.integers(0, 2**32 - 1))
def test_a_seed_gives_a_plan_with_every_kind_before_any_comes_again(seed: int) -> None:
    plan = plan_faults(seed, 600, 5)
    assert plan == plan_faults(seed, 600, 5)
    count = len(Kind)
    for start in range(0, len(plan) - count, count):
        assert {planned.kind for planned in plan[start : start + count]} == set(Kind)
    gaps_s = [later.at_s - planned.at_s for planned, later in itertools.pairwise(plan)]
    assert all(2.5 <= gap_s <= 7.5 for gap_s in gaps_s)
    assert plan[-1].at_s < 600
    assert all(planned.kind.value[1] <= planned.hold_s <= planned.kind.value[2] for planned in plan)


def test_a_plan_of_chosen_kinds_has_no_other() -> None:
    assert {planned.kind for planned in plan_faults(1, 100, 2, [Kind.CIRCUIT, Kind.GUARD])} == {
        Kind.CIRCUIT,
        Kind.GUARD,
    }


def told(*events: dict[str, Any]) -> Any:
    """Return a party with this number and this output."""
    return SimpleNamespace(number=1, events=list(events))


def test_an_outage_lasts_from_the_loss_to_the_first_byte_after() -> None:
    party = told(
        {"event": "link_up", "party": 0, "heard_s": 1.0},
        {"event": "link_broken", "party": 0, "reason": "the stream ended", "heard_s": 10.0},
        {"event": "peer_quiet", "party": 2, "quiet_s": 20.0, "heard_s": 31.0},
        {"event": "link_broken", "party": 2, "reason": "nothing came", "heard_s": 32.0},
        {"event": "link_resumed", "party": 0, "away_s": 2.5, "heard_s": 12.5},
    )
    assert outages(party) == [Outage(1, 0, 10.0, 12.5), Outage(1, 2, 11.0, None)]


def test_a_link_that_was_back_before_it_was_missed_counts_too() -> None:
    assert outages(told({"event": "link_resumed", "party": 0, "away_s": 1.0, "heard_s": 5.0})) == [
        Outage(1, 0, 4.0, 5.0)
    ]


CUT, SLEEP = Fault(Kind.CIRCUIT, "host", 100.0, 100.0), Fault(Kind.ASLEEP, "joiner 1", 104.0, 110.0)


def test_an_outage_is_ascribed_to_the_newest_fault_that_had_begun() -> None:
    lost = [
        Outage(0, 1, 100.1, 103.0),
        Outage(1, 0, 100.2, 103.5),
        Outage(0, 1, 103.8, 110.5),
        Outage(2, 1, 119.0, 120.0),
    ]
    felt, unprovoked = feel([CUT, SLEEP], lost, ended_well=True)
    assert felt == [
        Felt("circuit", "host", 0.0, 0.0, 2, False, 3.5, survived=True),
        Felt("asleep", "joiner 1", 4.0, 6.0, 2, False, 16.0, survived=True),
    ]
    assert unprovoked == 0


def test_a_fault_that_finds_links_broken_already_is_hidden_by_the_other() -> None:
    felt, _ = feel([CUT, SLEEP], [Outage(0, 1, 100.1, 107.0)], ended_well=True)
    assert [(one.links, one.hidden, one.recovery_s) for one in felt] == [(1, False, 7.0), (0, True, None)]


def test_a_link_that_idled_was_last_heard_of_before_the_fault() -> None:
    (felt,), unprovoked = feel([CUT], [Outage(0, 1, 92.0, 101.0)], ended_well=True)
    assert (felt.links, felt.recovery_s, unprovoked) == (1, 1.0, 0)


def test_an_outage_long_after_all_faults_is_ascribed_to_none() -> None:
    (felt,), unprovoked = feel([CUT], [Outage(0, 1, 101.0 + AFTERMATH_S, 130.0)], ended_well=True)
    assert (felt.links, felt.recovery_s, felt.survived, unprovoked) == (0, None, True, 1)


@pytest.mark.parametrize("ended_well", [True, False])
def test_a_link_that_never_came_back_matters_unless_all_ended_well(ended_well: bool) -> None:
    (felt,), _ = feel([CUT], [Outage(0, 1, 100.0, 101.0), Outage(1, 0, 100.0, None)], ended_well=ended_well)
    assert (felt.links, felt.recovery_s, felt.survived) == (2, None, ended_well)


def test_bytes_that_one_wrote_and_the_other_did_not_read_are_reported() -> None:
    def way(count: int) -> dict[str, Any]:
        return {"bytes": count, "sha256": f"{count:064x}"}

    whole = {0: {"1": {"written": way(10), "read": way(20)}}, 1: {"0": {"written": way(20), "read": way(10)}}}
    assert differing_links(whole) == []
    whole[1]["0"]["read"] = way(9)
    (difference,) = differing_links(whole)
    assert difference.startswith("party 1 read {'bytes': 9,")
    assert "party 0 wrote {'bytes': 10," in difference


def test_a_report_is_a_table_and_data() -> None:
    report = Report(7, 3, seconds=90.0, rounds=900, output_ok=True, digests_ok=True)
    report.felt = [
        Felt("guard", "relay05 of host", 0.0, 6.0, 2, False, 3.0, survived=True),
        Felt("guard", "relay01 of host", 9.0, 6.0, 0, True, None, survived=True),
        Felt("guard", "relay02 of host", 19.0, 6.0, 2, False, 5.0, survived=True),
        Felt("circuit", "host", 30.0, 0.0, 1, False, None, survived=False),
    ]
    report.problems = ["circuit was not survived"]
    lines = list(table(report))
    assert "| guard | 3 | 3 | 2 | 1 | 4.0 | 5.0 |" in lines
    assert "| circuit | 1 | 0 | 1 | 0 |  |  |" in lines
    assert lines[-1] == "* circuit was not survived"
    data = json.loads(as_json(report))
    assert (data["ok"], data["rounds"], len(data["felt"])) == (False, 900, 4)
    assert "NOT SURVIVED" in report.describe()
