"""Consent by a policy, in sessions of the public API: what is allowed, what counts, and what the others learn."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import onionmpc
from onionmpc.api.party import Party
from onionmpc.errors import AgreementError, OnionMPCError, ProgramError, UsageError
from onionmpc.files import private_directory
from onionmpc.names.contacts import add_contact
from onionmpc.names.statement import Statement, StatementPurpose, format_statement
from onionmpc.program.code.catalogue import digest, find_program
from onionmpc.session.policy_runs import Run, own_count
from tests.support.api import local_parties
from tests.support.evidence import make_ssh_key
from tests.support.session import run

SUM = """
import sys
from mpyc.runtime import mpc

async def main():
    given = sys.stdin.read()
    secint = mpc.SecInt(32)
    await mpc.start()
    print("sum", await mpc.output(mpc.sum(mpc.input(secint(int(given or 0))))))
    await mpc.shutdown()

mpc.run(main())
"""
DECLARED = """
# /// script
# [tool.onionmpc]
# version = 1
# title = "Sum"
# reveals = "the sum"
# [[tool.onionmpc.input]]
# name = "wage"
# label = "Your wage"
# type = "integer"
# warn-max = 100
# ///
"""
FAILS = "raise SystemExit(3)\n"
REFUSED = "its policy does not allow this"


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state directory without contacts and counted runs. All parties of a test have it."""
    monkeypatch.setenv("ONIONMPC_STATE", str(tmp_path / "state"))


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "sum.py"
    path.write_text(SUM)
    return path


@pytest.fixture(name="policy")
def policy_maker(tmp_path: Path) -> Callable[..., onionmpc.Policy]:
    """Returns a function that writes a policy for a program, and loads it."""

    def make(program: str | Path, *lines: str, name: str = "policy.toml") -> onionmpc.Policy:
        sha256 = digest(find_program(str(program))).hex()
        text = "\n".join(["version = 1", "[[allow]]", f'program = ["sha256:{sha256}"]', *lines])
        (tmp_path / name).write_text(text)
        return onionmpc.load_policy(tmp_path / name)

    return make


@contextlib.asynccontextmanager
async def acquainted() -> AsyncIterator[list[Party]]:
    """Three parties that are contacts: anna, ben and cleo."""
    async with local_parties(3) as parties:
        for name, party in zip(("anna", "ben", "cleo"), parties, strict=True):
            with contextlib.suppress(UsageError):  # a second session of one test has new addresses
                add_contact(name, party.onion, replacing=True)
        yield parties


async def agree(_proposal: onionmpc.Proposal) -> bool:
    return True


Ending = onionmpc.Result | OnionMPCError


async def compute(table: onionmpc.Table, **options: Any) -> Ending:
    try:
        return await table.compute(**options)
    except OnionMPCError as error:
        return error


async def session(
    policy: onionmpc.Policy,
    program: Path | str,
    others: dict[str, Any],
    *,
    hosting: dict[str, Any] | None = None,
    times: int = 1,
    **options: Any,
) -> list[list[Ending]]:
    """Compute so often in one session, in which anna, the host, has the policy.

    Args:
        others: how ben and cleo compute.
        hosting: options of the session.
        options: how anna computes.
    Returns:
        For each computation, how it ended for anna, ben and cleo.
    """
    async with (
        acquainted() as (anna, ben, cleo),
        anna.host(program, parties=3, **(hosting or {})) as table,
        ben.join(str(table.invites[0]), program) as second,
        cleo.join(str(table.invites[1]), program) as third,
    ):
        endings = []
        for _ in range(times):
            ways = [(table, {"consent": policy, **options}), (second, others), (third, others)]
            endings.append(await asyncio.gather(*(compute(place, **({"consent": agree} | how)) for place, how in ways)))
        return endings


def counted() -> Sequence[Run]:
    return own_count().load()


def message(ending: Ending) -> str:
    assert isinstance(ending, OnionMPCError)
    return ending.message


def outputs(ending: Ending) -> str:
    assert isinstance(ending, onionmpc.Result), ending
    return ending.outputs


def test_a_rule_consents_gives_its_input_and_counts_the_run(
    script: Path, tmp_path: Path, policy: Callable[..., onionmpc.Policy]
) -> None:
    (tmp_path / "q.txt").write_text("40")
    (tmp_path / "link.txt").symlink_to("q.txt")
    monthly = policy(script, 'stdin = "@link.txt"', 'max_runs = "1/30d"')
    shown: list[onionmpc.Proposal] = []

    async def sees(proposal: onionmpc.Proposal) -> bool:
        assert len(counted()) == 1  # before the program starts, and before this party has consented
        shown.append(proposal)
        return True

    (first,) = run(session(replace(monthly, then=sees), script, {"input": "1"}))
    assert [outputs(ending) for ending in first] == ["sum 42\n"] * 3
    (proposal,) = shown
    assert proposal.allowed_by is not None
    assert proposal.allowed_by.rule == 1
    assert f"Rule 1 of {tmp_path}/policy.toml allows this." in proposal.text
    assert proposal.allowed_by.digest in proposal.text
    (entry,) = counted()
    assert entry.files == (str(tmp_path / "q.txt"),)
    assert entry.roster == ("ben", "cleo")
    assert entry.rule == proposal.allowed_by.digest

    (again,) = run(session(monthly, script, {"input": "1"}))
    assert message(again[0]).startswith(
        f"no rule of {tmp_path}/policy.toml allows this: rule 1 of 1 comes nearest, but max_runs: 1 run counts"
    )
    assert [error.exit_code for error in again if isinstance(error, OnionMPCError)] == [5, 5, 5]
    assert len(counted()) == 1


def test_the_others_learn_no_more_than_that_a_policy_refuses(
    script: Path, policy: Callable[..., onionmpc.Policy]
) -> None:
    (endings,) = run(session(policy(script, "seats = [5, 7]", "padding = 20"), script, {"input": "1"}))
    assert "seats: 3 parties, expected 5 to 7; " in message(endings[0]) or "; seats: 3 parties" in message(endings[0])
    for ending in endings[1:]:
        assert message(ending).endswith(REFUSED)
        assert "seats" not in message(ending)
        assert "policy.toml" not in message(ending)


def test_a_run_is_taken_back_if_another_party_declines(script: Path, policy: Callable[..., onionmpc.Policy]) -> None:
    async def main() -> None:
        consents = asyncio.Event()

        async def sees(_proposal: onionmpc.Proposal) -> bool:
            assert len(counted()) == 1
            consents.set()
            return True

        async def decline(_proposal: onionmpc.Proposal) -> bool:
            await consents.wait()
            return False

        monthly = replace(policy(script, 'max_runs = "1/30d"'), then=sees)
        (endings,) = await session(monthly, script, {"input": "1", "consent": decline})
        assert all(isinstance(ending, AgreementError) for ending in endings)

    run(main())
    assert counted() == ()


@pytest.mark.parametrize("lines", [('stdin = "@missing.txt"',), ('inputs = {wage = "@q.txt"}',)])
def test_a_run_is_taken_back_if_its_input_cannot_be_given(
    script: Path, tmp_path: Path, policy: Callable[..., onionmpc.Policy], lines: tuple[str, ...]
) -> None:
    (tmp_path / "q.txt").write_text("40")
    (endings,) = run(session(policy(script, *lines, 'max_runs = "1/30d"'), script, {"input": "1"}))
    assert "cannot read" in message(endings[0]) or "no input wage" in message(endings[0])
    assert message(endings[1]).endswith("its user gave no valid input")
    assert counted() == ()


def test_a_run_stays_counted_once_the_program_has_started_even_if_it_fails(
    tmp_path: Path, policy: Callable[..., onionmpc.Policy]
) -> None:
    fails = tmp_path / "fails.py"
    fails.write_text(FAILS)
    (endings,) = run(session(policy(fails, 'max_runs = "1/30d"'), fails, {}))
    assert all(isinstance(ending, ProgramError) for ending in endings)
    assert len(counted()) == 1


def test_a_count_that_cannot_be_read_refuses_with_the_same_words_to_the_others(
    script: Path, policy: Callable[..., onionmpc.Policy]
) -> None:
    monthly = policy(script, 'max_runs = "1/30d"')
    path = own_count().path
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_text("gibberish")
    path.chmod(0o600)
    (endings,) = run(session(monthly, script, {"input": "1"}))
    assert isinstance(endings[0], UsageError)
    assert endings[0].exit_code == 2
    assert "damaged" in endings[0].message
    assert all(message(ending).endswith(REFUSED) for ending in endings[1:])


def test_further_computations_of_a_session_count_too(script: Path, policy: Callable[..., onionmpc.Policy]) -> None:
    first, second, third = run(session(policy(script, 'max_runs = "2/1h"'), script, {"input": "1"}, times=3))
    assert [outputs(ending) for ending in (*first, *second)] == ["sum 2\n"] * 6
    assert "max_runs: 2 runs count" in message(third[0])
    assert len(counted()) == 2


def test_two_policies_over_one_input_share_the_count(
    script: Path, tmp_path: Path, policy: Callable[..., onionmpc.Policy]
) -> None:
    (tmp_path / "q.txt").write_text("40")
    lines = ('stdin = "@q.txt"', 'max_runs = "1/30d"')
    one = policy(script, *lines)
    other = policy(script, *lines, "seats = [3, 5]", name="other.toml")
    assert one.rules.rules[0].digest != other.rules.rules[0].digest
    run(session(one, script, {"input": "1"}))
    (endings,) = run(session(other, script, {"input": "1"}))
    assert "max_runs" in message(endings[0])


def test_a_program_that_declares_its_inputs_gets_them_from_the_rule(
    tmp_path: Path, policy: Callable[..., onionmpc.Policy]
) -> None:
    (tmp_path / "q.txt").write_text("6000")
    monthly = policy("average-salary", 'inputs = {salary = "@q.txt"}', 'max_runs = "1/30d"')
    (endings,) = run(session(monthly, "average-salary", {"inputs": {"salary": 3000}}))
    assert outputs(endings[0]) == "average salary of 3 parties: 4000\n"


def test_an_unusual_input_is_refused_unless_the_caller_confirms_it(
    tmp_path: Path, policy: Callable[..., onionmpc.Policy]
) -> None:
    (tmp_path / "q.txt").write_text("600")
    declared = tmp_path / "declared.py"
    declared.write_text(DECLARED + SUM)
    monthly = policy(declared, 'inputs = {wage = "@q.txt"}', 'max_runs = "1/30d"')
    others: dict[str, Any] = {"inputs": {"wage": 3}}
    (endings,) = run(session(monthly, declared, others))
    assert "wage: an unusual value" in message(endings[0])
    assert counted() == ()
    (endings,) = run(session(monthly, declared, others, confirm=onionmpc.ALLOW_UNUSUAL))
    assert outputs(endings[0]) == "sum 606\n"


def test_a_program_under_a_policy_reads_nothing_that_the_rule_does_not_give(
    script: Path, policy: Callable[..., onionmpc.Policy]
) -> None:
    (endings,) = run(session(policy(script), script, {"input": "1"}))
    assert outputs(endings[0]) == "sum 2\n"
    assert counted() == ()


def test_what_a_private_argument_opens_counts(
    tmp_path: Path, script: Path, policy: Callable[..., onionmpc.Policy]
) -> None:
    (tmp_path / "q.txt").write_text("40")
    given = [f"--data={tmp_path}/q.txt"]
    (endings,) = run(session(policy(script), script, {"input": "1"}, arguments=given))
    assert "max_runs: a private argument names a file" in message(endings[0])
    (endings,) = run(session(policy(script, 'max_runs = "1/30d"'), script, {"input": "1"}, arguments=given))
    assert isinstance(endings[0], onionmpc.Result)
    assert counted()[0].files == (str(tmp_path / "q.txt"),)


def test_the_caller_gives_no_input_beside_a_policy(script: Path, policy: Callable[..., onionmpc.Policy]) -> None:
    async def main() -> None:
        async with local_parties(1) as (anna,), anna.host(script, parties=3) as table:
            ways: list[dict[str, Any]] = [{"input": "1"}, {"inputs": {}}, {"ask": agree}]
            for given in ways:
                ending = await compute(table, consent=policy(script), **given)
                assert "the rules of a policy give the inputs" in message(ending)

    run(main())


def test_what_a_result_may_expose_is_refused_as_without_a_policy(
    script: Path, policy: Callable[..., onionmpc.Policy]
) -> None:
    async def main() -> None:
        async with (
            local_parties(4) as (anna, *guests),
            anna.host(script, parties=4) as table,
            contextlib.AsyncExitStack() as stack,
        ):
            leaving = await stack.enter_async_context(contextlib.AsyncExitStack())
            tables = [
                await (stack if place < 2 else leaving).enter_async_context(guest.join(str(invite), script))
                for place, (guest, invite) in enumerate(zip(guests, table.invites, strict=True))
            ]
            rules = policy(script, "parties = {max_introduced = 3}")
            ways: list[tuple[onionmpc.Table, dict[str, Any]]]
            ways = [(table, {"consent": rules}), *((guest, {"input": "1", "consent": agree}) for guest in tables)]
            first = await asyncio.gather(*(compute(place, **how) for place, how in ways))
            assert [outputs(ending) for ending in first] == ["sum 3\n"] * 4
            await leaving.aclose()
            ways.pop()
            second = await asyncio.gather(*(compute(place, **how) for place, how in ways))
            assert "may expose" in message(second[0])

    run(main())


def test_the_first_rosters_parties_are_those_of_all_counted_runs(
    script: Path, policy: Callable[..., onionmpc.Policy]
) -> None:
    rules = policy(script, 'max_runs = "9/1d"', "parties = {max_introduced = 2}")

    async def main() -> list[Ending]:
        async with (
            local_parties(3) as (anna, ben, cleo),  # nobody's contacts: their new addresses are other parties
            anna.host(script, parties=3) as table,
            ben.join(str(table.invites[0]), script) as second,
            cleo.join(str(table.invites[1]), script) as third,
        ):
            others = (compute(place, input="1", consent=agree) for place in (second, third))
            return await asyncio.gather(compute(table, consent=rules), *others)

    assert outputs(run(main())[0]) == "sum 2\n"
    assert "same_roster: the parties differ from the first run" in message(run(main())[0])


def test_a_program_that_two_people_have_reviewed_is_allowed_and_no_other_one(script: Path, tmp_path: Path) -> None:
    """Signed by the real ssh-keygen, and verified by this user's own list of keys."""
    keys = {name: make_ssh_key(tmp_path, name=name) for name in ("anna", "ben", "cleo")}
    trust = private_directory(private_directory(tmp_path / "state") / "trust")
    (trust / "allowed_signers").write_text("".join(f"{name} {key.public}\n" for name, key in keys.items()))
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    review = Statement(
        None, StatementPurpose.PROGRAM, digest(find_program(str(script))), None, now, now + timedelta(days=30)
    )
    other = replace(review, program=bytes(32))

    def sign(file: str, name: str, statement: Statement) -> None:
        text = format_statement(statement)
        (tmp_path / file).write_text(text)
        (tmp_path / f"{file}.sig").write_text(keys[name].sign(text))

    sign("one", "anna", review)
    sign("two", "cleo", review)
    sign("three", "ben", other)
    lines = 'version = 1\n[[allow]]\nreviewed_by = ["anna", "ben"]\nreviews = ["one", "two", "three"]\n'
    (tmp_path / "policy.toml").write_text(lines)
    (endings,) = run(session(onionmpc.load_policy(tmp_path / "policy.toml"), script, {"input": "1"}))
    assert "a valid review of anna alone, expected 2 of anna, ben" in message(endings[0])
    sign("three", "ben", replace(review, until=now - timedelta(days=1), start=now - timedelta(days=2)))
    (endings,) = run(session(onionmpc.load_policy(tmp_path / "policy.toml"), script, {"input": "1"}))
    assert "a valid review of anna alone" in message(endings[0])
    sign("three", "ben", review)
    (endings,) = run(session(onionmpc.load_policy(tmp_path / "policy.toml"), script, {"input": "1"}))
    assert outputs(endings[0]) == "sum 2\n"


def test_a_policy_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*nothing.toml: No such file"):
        onionmpc.load_policy(tmp_path / "nothing.toml")
    with pytest.raises(UsageError, match="policy: int, expected a path"):
        onionmpc.load_policy(3)  # type: ignore[arg-type]
    (tmp_path / "bad.toml").write_text("version = 1\n[[allow]]\n")
    with pytest.raises(UsageError, match=r"bad.toml, line 2: rule 1: "):
        onionmpc.load_policy(tmp_path / "bad.toml")
