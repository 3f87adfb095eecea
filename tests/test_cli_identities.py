"""`onionmpc id`: what it prints, where, and what it asks for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from onionmpc import identity
from onionmpc.cli.identities import ask_passphrase
from onionmpc.cli.main import cli
from onionmpc.errors import InvalidIdentityFile, UnsafeSetting, UsageError
from onionmpc.identity import parse_onion
from onionmpc.session import keystore


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory of our own, and a seal that costs nothing."""
    monkeypatch.setenv("ONIONMPC_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(identity, "SCRYPT_N", 2)
    return tmp_path / "state"


def run(*arguments: str, typed: str = "") -> Result:
    """Run `onionmpc id`; our own errors pass through to the caller, as they do to the main command."""
    result = CliRunner().invoke(cli, ["id", *arguments], input=typed)
    if isinstance(result.exception, UsageError):
        raise result.exception
    return result


def test_new_prints_the_address_alone() -> None:
    result = run("new", "alice")
    assert result.exit_code == 0
    assert result.stdout == keystore.describe("alice").onion + "\n"
    assert result.stderr == ""
    assert not keystore.describe("alice").sealed


def test_an_identity_for_short_is_made_so_and_shown_so() -> None:
    run("new", "alice", "--for-short", "--passphrase", typed="open sesame\nopen sesame\n")
    run("new", "bob")
    assert json.loads(run("show", "alice", "--json").stdout)["exposed"] is True
    first, second = run("list").stdout.splitlines()
    assert first.endswith("sealed  for short")
    assert second.endswith("open")
    assert keystore.load("alice", lambda: b"open sesame", exposed=True)
    with pytest.raises(UnsafeSetting, match="is for circuit length short"):
        keystore.load("alice", lambda: b"open sesame")
    with pytest.raises(UnsafeSetting, match="IP address"):
        keystore.load("bob", lambda: b"", exposed=True)


def test_new_with_passphrase_asks_twice_on_stderr_without_echo() -> None:
    result = run("new", "alice", "--passphrase", typed="open sesame\nopen sesame\n")
    assert parse_onion(result.stdout) == keystore.describe("alice").onion
    assert result.stderr.count("assphrase") == 1
    assert "confirm" in result.stderr.lower()
    assert "sesame" not in result.output
    assert keystore.load("alice", lambda: b"open sesame").onion == result.stdout.strip()


def test_new_asks_again_when_the_two_passphrases_differ_or_are_empty() -> None:
    run("new", "alice", "--passphrase", typed="\none\ntwo\nthree\nthree\n")
    assert keystore.load("alice", lambda: b"three")


def test_new_without_an_answer_makes_nothing() -> None:
    result = run("new", "alice", "--passphrase", typed="")
    assert result.exit_code == 1
    assert keystore.list_names() == ()


def test_passphrase_is_the_same_however_its_letters_are_composed(monkeypatch: pytest.MonkeyPatch) -> None:
    typed = iter(["\u00e9", "e\u0301"])
    monkeypatch.setattr("click.prompt", lambda *_, **__: next(typed))
    assert ask_passphrase() == ask_passphrase() == "\u00e9".encode()


def test_list_shows_each_identity_and_asks_for_nothing() -> None:
    alice, bob = keystore.create("alice", b"passphrase"), keystore.create("bob", None)
    result = run("list")
    assert result.stdout == f"alice  {alice.onion}  sealed\nbob    {bob.onion}  open\n"
    assert result.stderr == ""


def test_list_of_nothing_says_how_to_begin_on_stderr() -> None:
    result = run("list")
    assert result.exit_code == 0
    assert result.stdout == ""
    assert "onionmpc id new" in result.stderr


def test_list_goes_on_after_a_damaged_file(state: Path) -> None:
    keystore.create("alice", None)
    bob = keystore.create("bob", None)
    (state / "identities" / "alice.key").write_bytes(b"onionmpc identity 1\n")
    result = run("list")
    assert result.stdout == f"bob    {bob.onion}  open\n"
    assert result.stderr.startswith("alice: the key file is cut short")


def test_show_prints_the_address_and_draws_a_code_of_it_on_stderr() -> None:
    onion = keystore.create("alice", b"passphrase").onion
    result = run("show", "alice")
    assert result.stdout == onion + "\n"
    drawn = result.stderr.splitlines()
    assert len({len(line) for line in drawn}) == 1
    assert len(drawn[0]) == 29 + 2 * 4  # modules of a version 3 code, and its margins
    assert set(result.stderr) <= set(" \u2580\u2584\u2588\n")


def test_show_as_json_is_one_line() -> None:
    onion = keystore.create("alice", b"passphrase").onion
    result = run("show", "alice", "--json")
    assert json.loads(result.stdout) == {"name": "alice", "onion": onion, "sealed": True, "exposed": False}
    assert result.stdout.count("\n") == 1
    assert result.stderr == ""


def test_errors_are_raised_for_the_main_command_to_say() -> None:
    with pytest.raises(InvalidIdentityFile, match="no identity named alice"):
        run("show", "alice")
    with pytest.raises(UsageError, match="cannot name an identity"):
        run("new", "../alice")


def test_help_says_what_an_identity_is_and_what_keeping_one_costs() -> None:
    text = " ".join(run("--help").stdout.split())
    assert "An identity is a secret key" in text
    assert "linked to each other" in text
    for command in ("new", "list", "show"):
        assert run(command, "--help").exit_code == 0
