"""A party that consents by a policy once a month, as docs/howto/monthly.md has it, and is killed in the middle."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from onionmpc.identity import Onion
from onionmpc.names.contacts import add_contact
from onionmpc.program.code.catalogue import digest, find_program
from onionmpc.session import keystore
from onionmpc.session.policy_runs import Run, RunCount
from tests.e2e.kit import Party, Stage, after

pytestmark = pytest.mark.tor

# Says that it has its input, and never ends.
HOLDS = """
    import sys, time
    print("given", sys.stdin.read(), flush=True)
    time.sleep(3600)
"""


@dataclass(frozen=True)
class Month:
    """What was seen of two sessions that followed each other.

    Attributes:
        anna: the party with the policy, in each.
        ben: another party, in each.
        runs: what anna's count had after each.
    """

    anna: list[Party]
    ben: list[Party]
    runs: list[tuple[Run, ...]]


async def killed_once(stage: Stage) -> Month:
    """Kill anna by SIGKILL after its program has started, and have all three compute again."""
    script = stage.script("holds.py", HOLDS)
    write_policy(stage.folder, script)
    month = Month([], [], [])
    for is_first in (True, False):
        # New addresses of the same contacts: what tor still has of a party that was killed takes 30 s to expire.
        identity = "first" if is_first else "second"
        onions = {name: new_address(stage.folder / name, identity) for name in ("anna", "ben", "cleo")}
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ONIONMPC_STATE", str(stage.folder / "anna"))
            add_contact("ben", onions["ben"], replacing=True)
            add_contact("cleo", onions["cleo"], replacing=True)
        parties = {name: await joins(stage, name, onions, script, identity) for name in onions}
        if is_first:
            await parties["anna"].prints("given 6000\n")
            parties["anna"].kill()
            for name in ("ben", "cleo"):
                parties[name].interrupt()
        await stage.ended(parties.values())
        month.anna.append(parties["anna"])
        month.ben.append(parties["ben"])
        month.runs.append(RunCount(stage.folder / "anna").load())
    return month


def new_address(state: Path, identity: str) -> Onion:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ONIONMPC_STATE", str(state))
        return keystore.create(identity, None).onion


async def joins(stage: Stage, name: str, onions: dict[str, Onion], script: str, identity: str) -> Party:
    others = ["ben", "cleo"] if name == "anna" else [onion for other, onion in onions.items() if other != name]
    consent = ["--policy", "monthly.toml"] if name == "anna" else []
    return await stage.start(name, "join", *others, script, "--identity", identity, *consent, state=name)


def write_policy(folder: Path, script: str) -> None:
    (folder / "salary.txt").write_text("6000")
    program = digest(find_program(str(folder / script))).hex()
    lines = (
        "version = 1",
        "[[allow]]",
        f'program = ["sha256:{program}"]',
        'parties = {names = ["ben", "cleo"], min_known = 2}',
        "seats = [3, 3]",
        'stdin = "@salary.txt"',
        'max_runs = "1/30d"',
    )
    (folder / "monthly.toml").write_text("\n".join(lines))


@after(killed_once)
def test_a_rule_consents_and_is_named_in_the_log(outcome: Month) -> None:
    (agreement,) = outcome.anna[0].heard("agreement")
    assert agreement["allowed_by"]["rule"] == 1
    assert {seat["standing"] for seat in agreement["seats"]} == {"known"}
    assert outcome.anna[0].output == "given 6000\n"


@after(killed_once)
def test_a_run_counts_no_matter_how_its_party_died_and_max_runs_refuses_the_second(outcome: Month) -> None:
    first, second = outcome.anna
    assert first.code == -9
    assert [len(runs) for runs in outcome.runs] == [1, 1]
    (run,) = outcome.runs[0]
    assert run.roster == ("ben", "cleo")
    assert second.code == 5
    assert "rule 1 of 1 comes nearest, but max_runs: 1 run counts" in second.failure
    assert second.output == ""


@after(killed_once)
def test_the_others_learn_only_that_a_policy_refuses(outcome: Month) -> None:
    ben = outcome.ben[1]
    assert ben.code == 5
    assert ben.failure.endswith("its policy does not allow this")
    assert "max_runs" not in json.dumps(ben.events)
