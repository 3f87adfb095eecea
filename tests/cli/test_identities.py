"""`onionmpc id`: what it prints, where, and what it asks for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from onionmpc.cli import identities, passphrase
from onionmpc.cli.main import cli
from onionmpc.errors import InvalidIdentityFile, UnsafeSetting, UsageError
from onionmpc.identity import parse_onion
from onionmpc.session import keystore
from tests.support.identities import keep_sealed


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory of our own, and a terminal."""
    monkeypatch.setenv("ONIONMPC_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(passphrase, "has_terminal", lambda: True)
    return tmp_path / "state"


def says(words: bytes) -> Callable[[], bytearray]:
    return lambda: bytearray(words)


def run(*arguments: str, typed: str = "") -> Result:
    """Run `onionmpc id`; our own errors pass through to the caller, as they do to the main command."""
    result = CliRunner().invoke(cli, ["id", *arguments], input=typed)
    if isinstance(result.exception, UsageError):
        raise result.exception
    return result


def test_new_prints_the_address_alone() -> None:
    result = run("new", "alice")
    assert result.exit_code == 0
    assert result.stdout == keystore.describe_identity("alice").onion + "\n"
    assert result.stderr == ""
    assert not keystore.describe_identity("alice").sealed


def test_an_identity_for_short_is_marked_as_such() -> None:
    run("new", "alice", "--for-short", "--passphrase", typed="open sesame\nopen sesame\n")
    run("new", "bob")
    assert json.loads(run("show", "alice", "--json").stdout)["exposed"] is True
    first, second = run("list").stdout.splitlines()
    assert first.endswith("sealed  for short")
    assert second.endswith("open")
    assert keystore.load("alice", says(b"open sesame"), exposed=True)
    with pytest.raises(UnsafeSetting, match="is for circuit length short"):
        keystore.load("alice", says(b"open sesame"))
    with pytest.raises(UnsafeSetting, match="IP address"):
        keystore.load("bob", says(b""), exposed=True)


def test_new_with_passphrase_asks_twice_on_stderr_without_echo() -> None:
    result = run("new", "alice", "--passphrase", typed="open sesame\nopen sesame\n")
    assert parse_onion(result.stdout) == keystore.describe_identity("alice").onion
    assert result.stderr.count("assphrase") == 1
    assert "confirm" in result.stderr.lower()
    assert "sesame" not in result.output
    assert keystore.load("alice", says(b"open sesame")).onion == result.stdout.strip()


def test_new_asks_again_when_the_two_passphrases_differ_or_are_empty() -> None:
    run("new", "alice", "--passphrase", typed="\none\ntwo\nthree\nthree\n")
    assert keystore.load("alice", says(b"three"))


def test_new_without_a_passphrase_typed_makes_nothing() -> None:
    result = run("new", "alice", "--passphrase", typed="")
    assert result.exit_code == 1
    assert keystore.list_names() == ()


def test_list_shows_each_identity_and_asks_for_nothing() -> None:
    alice, bob = keep_sealed("alice"), keystore.create("bob", None)
    result = run("list")
    assert result.stdout == f"alice  {alice.onion}  sealed\nbob    {bob.onion}  open\n"
    assert result.stderr == ""


def test_an_empty_list_prints_a_hint_on_stderr() -> None:
    result = run("list")
    assert result.exit_code == 0
    assert result.stdout == ""
    assert "onionmpc id new" in result.stderr


def test_list_continues_after_a_damaged_file(state: Path) -> None:
    keystore.create("alice", None)
    bob = keystore.create("bob", None)
    (state / "identities" / "alice.key").write_bytes(b"onionmpc identity 1\n")
    result = run("list")
    assert result.stdout == f"bob    {bob.onion}  open\n"
    assert result.stderr.startswith("alice: the key file is truncated")


def test_show_prints_the_address_and_draws_a_code_of_it_on_stderr() -> None:
    onion = keep_sealed("alice").onion
    result = run("show", "alice")
    assert result.stdout == onion + "\n"
    drawn = result.stderr.splitlines()
    assert len({len(line) for line in drawn}) == 1
    assert len(drawn[0]) == 29 + 2 * 4  # modules of a version 3 code, and its margins
    assert set(result.stderr) <= set(" \u2580\u2584\u2588\n")


def test_show_as_json_is_one_line() -> None:
    onion = keep_sealed("alice").onion
    result = run("show", "alice", "--json")
    assert json.loads(result.stdout) == {"name": "alice", "onion": onion, "sealed": True, "exposed": False}
    assert result.stdout.count("\n") == 1
    assert result.stderr == ""


def test_errors_are_raised_for_the_main_command_to_print() -> None:
    with pytest.raises(InvalidIdentityFile, match="no identity named alice"):
        run("show", "alice")
    with pytest.raises(UsageError, match="cannot name an identity"):
        run("new", "../alice")


def test_help_says_what_an_identity_is_and_what_keeping_one_costs() -> None:
    text = " ".join(run("--help").stdout.split())
    assert "An identity is a secret key" in text
    assert "can link all sessions" in text
    for command in ("new", "list", "show", "export", "import", "remove"):
        assert run(command, "--help").exit_code == 0


def test_new_takes_a_passphrase_from_a_file(tmp_path: Path) -> None:
    given = secret(tmp_path, b"open sesame\n")
    result = run("new", "alice", "--passphrase-file", given)
    assert result.stdout == keystore.describe_identity("alice").onion + "\n"
    assert result.stderr == ""
    assert keystore.load("alice", says(b"open sesame"))


def test_an_export_is_sealed_unless_no_passphrase_is_given(tmp_path: Path) -> None:
    onion = keystore.create("alice", None).onion
    result = run("export", "alice", str(tmp_path / "copy"), typed="open sesame\nopen sesame\n")
    assert result.stdout == onion + "\n"
    assert "note" not in result.stderr
    assert b"seal scrypt" in (tmp_path / "copy").read_bytes()
    result = run("export", "alice", str(tmp_path / "open"), "--no-passphrase")
    assert result.stdout == onion + "\n"
    warning = f"{tmp_path / 'open'} has no passphrase: anyone who reads it can act as you"
    assert result.stderr == f"onionmpc: note: {warning}\n"
    assert b"seal none" in (tmp_path / "open").read_bytes()


def test_a_sealed_identity_is_exported_sealed_without_asking(tmp_path: Path, state: Path) -> None:
    keep_sealed("alice")
    result = run("export", "alice", str(tmp_path / "copy"))
    assert result.stderr == ""
    assert (tmp_path / "copy").read_bytes() == (state / "identities" / "alice.key").read_bytes()
    with pytest.raises(UsageError, match="alice is sealed, and so is its copy"):
        run("export", "alice", str(tmp_path / "open"), "--no-passphrase")
    with pytest.raises(UsageError, match="exclude each other"):
        run("export", "alice", str(tmp_path / "open"), "--no-passphrase", "--passphrase-file", "x")


def test_import_asks_once_and_prints_the_address(tmp_path: Path) -> None:
    onion = keep_sealed("alice", exposed=True).onion
    run("export", "alice", str(tmp_path / "copy"))
    run("remove", "alice", "--yes")
    result = run("import", "bob", str(tmp_path / "copy"), typed="passphrase\n")
    assert result.stdout == onion + "\n"
    assert result.stderr.count("assphrase") == 1
    assert run("list").stdout == f"bob  {onion}  sealed  for short\n"


def test_import_without_a_terminal_takes_a_passphrase_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_sealed("alice")
    run("export", "alice", str(tmp_path / "copy"))
    run("remove", "alice", "--yes")
    monkeypatch.setattr(passphrase, "has_terminal", lambda: False)
    with pytest.raises(UsageError, match="there is no terminal to ask at") as caught:
        run("import", "alice", str(tmp_path / "copy"))
    assert "--passphrase-file" in caught.value.hint
    run("import", "alice", str(tmp_path / "copy"), "--passphrase-file", secret(tmp_path, b"passphrase"))
    assert keystore.list_names() == ("alice",)


def test_remove_says_what_is_lost_and_asks_for_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    onion = keystore.create("alice", None).onion
    monkeypatch.setattr(identities, "is_interactive", lambda: True)
    for typed in ("yes\n", "\n", "alicia\n"):
        with pytest.raises(UsageError, match="alice was not removed"):
            run("remove", "alice", typed=typed)
    assert keystore.list_names() == ("alice",)
    result = run("remove", "alice", typed="alice\n")
    assert result.stderr.startswith(f"alice is {onion}\nThis removes its address too, permanently unless")
    assert result.stdout == ""
    assert keystore.list_names() == ()


def test_remove_without_a_terminal_needs_yes() -> None:
    keystore.create("alice", None)
    with pytest.raises(UsageError, match="there is no terminal to ask at") as caught:
        run("remove", "alice")
    assert "--yes" in caught.value.hint
    assert run("remove", "alice", "--yes").output == ""
    with pytest.raises(InvalidIdentityFile, match="no identity named alice"):
        run("remove", "alice", "--yes")


def test_a_damaged_identity_can_be_removed(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keystore.create("alice", None)
    (state / "identities" / "alice.key").write_bytes(b"onionmpc identity 1\n")
    monkeypatch.setattr(identities, "is_interactive", lambda: True)
    assert run("remove", "alice", typed="alice\n").stderr.startswith("alice: the key file is truncated")
    assert keystore.list_names() == ()


def secret(directory: Path, content: bytes) -> str:
    path = directory / "passphrase"
    path.write_bytes(content)
    path.chmod(0o600)
    return str(path)
