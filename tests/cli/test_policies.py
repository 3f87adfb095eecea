"""`onionmpc policy`, and parties with --policy as real processes over local sockets instead of tor."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from onionmpc.api.policy import load_policy
from onionmpc.cli.main import run
from onionmpc.names.contacts import add_contact
from onionmpc.program.code.catalogue import digest, find_program
from onionmpc.session.policy_runs import Run, RunCount, own_count
from onionmpc.session.receipt import encode_receipt
from tests.cli.test_turns import local_stage
from tests.e2e.kit import Stage
from tests.support.policies import DIGEST, EVERY_KEY, digest_of
from tests.support.receipts import AGREEMENT, IDENTITIES, change, receipt

PLAIN = f'version = 1\n[[allow]]\nprogram = ["{digest_of(AGREEMENT.common)}"]\npublic = ["tea", "*"]\nreceipt = "any"\n'
WAITS = """
    import sys, time
    print("given", sys.stdin.read(), flush=True)
    time.sleep(3600)
"""

OTHER_PARTIES = (
    "* of the other parties, at most 1 are vouched for by an issuer that you trust, at most 2 are introduced by the "
    "host alone, at most 3 are strangers, and the rest are known, as acme.example or bank"
)

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(name="command")
def command_in_a_folder(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """Runs `onionmpc` in a folder and state of its own; returns the exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ONIONMPC_STATE", str(tmp_path / "state"))

    def run_command(*words: str) -> tuple[int, str, str]:
        code = run(list(words))
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        assert "\x1b" not in out + err
        return code, out, err

    return run_command


def test_a_policy_is_explained_in_sentences(command: Command, tmp_path: Path) -> None:
    program = f"sha256:{digest(find_program('average-salary')).hex()}"
    (tmp_path / "q.csv").write_text("1")
    for name in ("anna", "ben"):
        (tmp_path / f"{name}.statement").write_text("onionmpc statement 1\n")
    text = EVERY_KEY.replace("/data/q.csv", "q.csv").partition("[[allow]]\nreviewed_by")[0].replace(DIGEST, program)
    (tmp_path / "my.toml").write_text(text)
    code, out, err = command("policy", "check", "my.toml")
    assert (code, err) == (0, "")
    lines = [line.strip() for line in out.splitlines()]
    assert re.fullmatch(r"Rule 1 \(SHA-256 [0-9a-f]{16}…\) consents if", lines[0])
    assert lines[1:] == [
        "* the program is average_salary (included)",
        "* the public arguments match, in this order: --quarter=20??Q?",
        "* 3 to 7 parties take part",
        OTHER_PARTIES,
        "* at least 2 different people or companies are known",
        "* the threshold is at least 1",
        "* each party uses circuit length long",
        "* there is a receipt, or none",
        "* parties can send each other no other classes than __main__.Ballot",
        "* the MPyC options are -L64",
        "* the option --padding is 20",
        "* the option --circuits is 1",
        "* all other options have their defaults",
        "It gives the program salary from q.csv.",
        "It allows 1 run in 30 days, by any policy, of the same program over the same file.",
        "The parties can change: TWO ROSTERS THAT DIFFER BY ONE PARTY CAN REVEAL WHAT IT GAVE.",
        "Anything else is refused.",
    ]


def test_a_rule_of_one_key_is_explained_with_its_defaults(command: Command, tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_text(f'version = 1\n[[allow]]\nprogram = ["{DIGEST}"]\nmax_runs = "3/36h"\n')
    _, out, _ = command("policy", "check", "my.toml")
    for words in (
        f"the program is {DIGEST}",
        "there are no public arguments",
        "at least 3 parties take part",
        "all other parties are known",
        "the threshold is the largest below half of the parties",
        "each party uses circuit length standard or long",
        "there is no receipt",
        "It gives the program no input.",
        "It allows 3 runs in 36 hours",
        "The first counted run says who the other parties are, for all later ones.",
    ):
        assert words in out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("version = 1\n[[allow]]\nseats = [3]", "my.toml, line 3: rule 1: seats: expected"),
        (f'{PLAIN}stdin = "@none"\nmax_runs = "1/1d"', "the input none of my.toml is not a file"),
        ('version = 1\n[[allow]]\nreviewed_by = ["a"]\nreviews = ["none"]', "cannot read"),
    ],
)
def test_a_policy_that_cannot_be_used_ends_with_2(command: Command, tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "my.toml").write_text(text)
    for line in (("policy", "check", "my.toml"), ("host", "sort", "--parties", "3", "--policy", "my.toml")):
        code, _, err = command(*line)
        assert code == 2
        assert words in err
    assert not (tmp_path / "state").exists()


def test_a_policy_is_tried_on_a_receipt(command: Command, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_bytes(encode_receipt(receipt(0)))
    (tmp_path / "my.toml").write_text(PLAIN)
    code, out, err = command("policy", "check", "my.toml", "r.json")
    assert code == 5
    assert "A receipt holds no evidence" in out
    assert "* parties.max_introduced: 2 (parties 1, 2), expected 0 at most" in out
    assert "no rule of my.toml allows the agreement in the receipt" in err
    for name, identity in zip(("ben", "cleo"), IDENTITIES[1:], strict=True):
        add_contact(name, identity.onion)
    code, out, err = command("policy", "check", "my.toml", "r.json")
    assert (code, err) == (0, "")
    assert f"party 1  {IDENTITIES[1].onion} (ben)  known" in out
    assert "Rule 1 would allow this computation of vote now." in out
    (tmp_path / "r.json").write_bytes(encode_receipt(change(receipt(0), opening=None)))
    code, _, err = command("policy", "check", "my.toml", "r.json")
    assert code == 2
    assert "does not say which party is yours" in err
    assert command("policy", "check", "my.toml", "my.toml")[0] == 2


def test_host_and_join_refuse_what_does_not_go_with_a_policy(command: Command, tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_text(PLAIN)
    host = ("host", "sort", "--parties", "3", "--policy", "my.toml")
    for words, sentence in (
        (["--yes"], "--policy and --yes exclude each other"),
        (["--open"], "--policy and --open exclude each other"),
        (["--input", "a=@my.toml"], "--policy and --input exclude each other"),
        (["--circuit-length", "short"], "you have not agreed to that"),
    ):
        code, _, err = command(*host, *words)
        assert code == 2
        assert sentence in err
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "state/policy-runs").write_text("gibberish")
    (tmp_path / "state/policy-runs").chmod(0o600)
    code, _, err = command(*host)
    assert code == 2
    assert "line 1 of the count of policy runs" in err


# -- sessions


def write_policy(stage: Stage, program: str, *lines: str) -> None:
    sha256 = digest(find_program(str(stage.folder / program) if program.endswith(".py") else program)).hex()
    head = f'version = 1\n[[allow]]\nprogram = ["sha256:{sha256}"]\nparties = {{max_introduced = 2}}\n'
    (stage.folder / "my.toml").write_text("\n".join([head, *lines]))


async def sessions_ends(stage: Stage, *options: str) -> tuple[list[int], str, str]:
    """Host a session of sort with a policy; return all exit codes, what the host said, and what a joiner did."""
    host = await stage.host("average-salary", "--policy", "my.toml", *options, state="anna")
    invites = await stage.invites(host, 2)
    (stage.folder / "salary.txt").write_text("3000")
    given = ("--input", "salary=@salary.txt")
    joiners = [await stage.start(f"joiner {n}", "join", invite, *given) for n, invite in enumerate(invites)]
    codes = await stage.ended([host, *joiners])
    return codes, host.screen, joiners[0].screen


def test_a_party_consents_by_its_policy_until_its_runs_are_used_up(tmp_path: Path, command: Command) -> None:
    async def main() -> None:
        async with local_stage(tmp_path) as stage:
            (tmp_path / "q.txt").write_text("6000")
            write_policy(stage, "average-salary", 'inputs = {salary = "@q.txt"}', 'max_runs = "1/30d"')
            codes, screen, _ = await sessions_ends(stage)
            assert codes == [0, 0, 0], screen
            (host, *_) = stage.parties
            (agreement,) = host.heard("agreement")
            assert agreement["allowed_by"]["rule"] == 1
            assert agreement["allowed_by"]["file"] == "my.toml"
            assert len(agreement["allowed_by"]["digest"]) == len(agreement["allowed_by"]["policy"]) == 64
            assert host.output == "average salary of 3 parties: 4000\n"
            codes, screen, others = await sessions_ends(stage)
            assert codes == [5, 5, 5]
            assert "no rule of my.toml allows this: rule 1 of 1 comes nearest, but max_runs: 1 run counts" in screen
            assert "same_roster: the parties differ from the first run" in screen  # their addresses are fresh
            assert "its policy does not allow this" in others
            assert "max_runs" not in others

    asyncio.run(main())
    (run_of,) = RunCount(tmp_path / "anna").load()
    assert run_of.files == (str(tmp_path / "q.txt"),)


def test_a_party_that_is_killed_after_its_program_started_has_used_its_run(tmp_path: Path) -> None:
    async def main() -> None:
        async with local_stage(tmp_path) as stage:
            (tmp_path / "q.txt").write_text("6000")
            stage.script("wait.py", WAITS)
            write_policy(stage, "wait.py", 'stdin = "@q.txt"', 'max_runs = "1/30d"')
            for killed in (True, False):
                host = await stage.host("wait.py", "--policy", "my.toml", state="anna", parties=3)
                invites = await stage.invites(host, 2)
                joiners = [await stage.start(f"joiner {n}", "join", each, "wait.py") for n, each in enumerate(invites)]
                if killed:
                    await host.prints("given 6000\n")
                    host.kill()
                    assert await host.ends() != 0
                    for joiner in joiners:
                        joiner.interrupt()
                else:
                    assert await host.ends() == 5
                    assert "max_runs: 1 run counts" in host.failure
                await stage.ended(joiners)

    asyncio.run(main())
    assert len(RunCount(tmp_path / "anna").load()) == 1


def test_runs_are_listed_with_what_counts_against_a_policy(tmp_path: Path, command: Command) -> None:
    assert command("policy", "runs") == (0, "", "no run was counted yet\n")
    (tmp_path / "my.toml").write_text(PLAIN + 'max_runs = "2/1d"\n')
    policy = load_policy(tmp_path / "my.toml")
    (rule,) = policy.rules.rules
    for number in range(2):
        own_count().reserve(
            lambda _, now, n=number: Run(f"{n:016x}", now, rule.digest, "0a" * 32, ("/q\x1b",), ("ben",))
        )
    code, out, _ = command("policy", "runs")
    assert code == 0
    assert out.count("program 0a0a0a0a0a0a0a0a…, by rule ") == 2
    assert "over         /q\\x1b" in out
    assert "with         ben" in out
    code, out, _ = command("policy", "runs", "my.toml")
    assert code == 0
    assert out.startswith("Rule 1: 2 of 2 runs in 1 day; the next is possible at ")
    (tmp_path / "my.toml").write_text(PLAIN)
    assert command("policy", "runs", "my.toml")[1] == "Rule 1 counts no runs.\n"
    (tmp_path / "state/policy-runs").chmod(0o644)
    code, _, err = command("policy", "runs")
    assert code == 2
    assert "open to others" in err
