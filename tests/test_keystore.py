"""Where identities are kept: private, never overwritten, and opened only by who may."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from onionmpc import files, identity
from onionmpc.errors import InvalidIdentityFile, UsageError
from onionmpc.session import keystore

BAD_NAMES = ["", ".", "..", ".hidden", "-x", "_x", "a/b", "../a", "a b", "Alice", "a\n", "\u00e4", "a" * 65, "a\x00"]


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory of our own, and a seal that costs nothing."""
    monkeypatch.setenv("ONIONMPC_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(identity, "SCRYPT_N", 2)
    return tmp_path / "state"


def key_file(state: Path, name: str) -> Path:
    return state / "identities" / f"{name}.key"


def never() -> bytes:
    raise AssertionError("asked for a passphrase")


def test_created_identity_is_loaded_again() -> None:
    made = keystore.create("alice", None)
    assert keystore.load("alice", never) == made
    assert keystore.describe("alice") == identity.KeyFileFacts(made.onion, sealed=False, exposed=False)


def test_sealed_identity_is_described_without_its_passphrase_and_loaded_with_it() -> None:
    made = keystore.create("alice", b"passphrase")
    assert keystore.describe("alice") == identity.KeyFileFacts(made.onion, sealed=True, exposed=False)
    assert keystore.load("alice", lambda: b"passphrase") == made
    with pytest.raises(InvalidIdentityFile, match="passphrase is wrong"):
        keystore.load("alice", lambda: b"another")


def test_every_identity_is_another() -> None:
    assert keystore.create("alice", None) != keystore.create("bob", None)


def test_key_file_and_directories_are_private(state: Path) -> None:
    before = os.umask(0)
    try:
        keystore.create("alice", None)
    finally:
        os.umask(before)
    assert key_file(state, "alice").stat().st_mode & 0o777 == 0o600
    for directory in (state, state / "identities"):
        assert directory.stat().st_mode & 0o777 == 0o700


def test_key_file_is_text_of_the_published_layout(state: Path) -> None:
    made = keystore.create("alice", None)
    assert key_file(state, "alice").read_bytes() == identity.encode_key_file(made, None, b"", b"")


def test_identity_is_never_overwritten(state: Path) -> None:
    keystore.create("alice", None)
    before = key_file(state, "alice").read_bytes()
    with pytest.raises(UsageError, match="an identity named alice already"):
        keystore.create("alice", None)
    assert key_file(state, "alice").read_bytes() == before


def test_dangling_link_in_the_place_of_an_identity_is_not_followed(state: Path, tmp_path: Path) -> None:
    keystore.create("alice", None)
    key_file(state, "bob").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="an identity named bob already"):
        keystore.create("bob", None)
    assert not (tmp_path / "elsewhere").exists()


def test_two_processes_do_not_create_at_once(state: Path) -> None:
    keystore.create("alice", None)
    with files.lock(state / "identities" / keystore.LOCK_NAME) as held:
        assert held
        with pytest.raises(UsageError, match="another onionmpc is making an identity"):
            keystore.create("bob", None)
    keystore.create("bob", None)


def test_empty_passphrase_is_refused() -> None:
    with pytest.raises(UsageError, match="passphrase is empty"):
        keystore.create("alice", b"")
    assert keystore.list_names() == ()


def test_names_are_listed_sorted_and_nothing_else_is(state: Path) -> None:
    assert keystore.list_names() == ()
    assert not state.exists()
    for name in ("bob", "alice", "0.a_b-c", "a" * 64):
        keystore.create(name, None)
    for other in ("notes.txt", ".bob.key.x7", "Upper.key", ".key"):
        (state / "identities" / other).write_text("")
    assert keystore.list_names() == ("0.a_b-c", "a" * 64, "alice", "bob")


@pytest.mark.parametrize("name", BAD_NAMES)
def test_name_that_could_lead_elsewhere_is_refused(name: str, state: Path) -> None:
    for act in (
        lambda: keystore.create(name, None),
        lambda: keystore.load(name, never),
        lambda: keystore.describe(name),
    ):
        with pytest.raises(UsageError, match="cannot name an identity") as caught:
            act()
        assert caught.value.hint
        assert "\n" not in str(caught.value)
    assert not state.exists()


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o644, 0o620, 0o777])
def test_key_file_that_others_may_touch_is_refused_with_the_remedy(state: Path, mode: int) -> None:
    keystore.create("alice", None)
    path = key_file(state, "alice")
    path.chmod(mode)
    with pytest.raises(InvalidIdentityFile, match=f"mode {mode:o}, expected 600") as caught:
        keystore.load("alice", never)
    assert f"chmod 600 {path}" in caught.value.hint
    path.chmod(0o600)
    keystore.load("alice", never)


def test_key_file_of_another_user_is_refused(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keystore.create("alice", None)
    path = key_file(state, "alice")
    fields = list(path.stat())
    fields[4] += 1
    with pytest.raises(InvalidIdentityFile, match="belongs to another user"):
        keystore._check_private(path, os.stat_result(fields))


def test_directory_that_others_may_enter_is_refused(state: Path) -> None:
    keystore.create("alice", None)
    (state / "identities").chmod(0o755)
    for act in (lambda: keystore.load("alice", never), keystore.list_names, lambda: keystore.create("bob", None)):
        with pytest.raises(UsageError, match="open to others"):
            act()


def test_missing_identity_is_said_with_what_there_is_to_do() -> None:
    with pytest.raises(InvalidIdentityFile, match="no identity named alice") as caught:
        keystore.load("alice", never)
    assert "onionmpc id new alice" in caught.value.hint


def test_key_file_behind_a_link_is_refused(state: Path) -> None:
    keystore.create("alice", None)
    key_file(state, "bob").symlink_to(key_file(state, "alice"))
    with pytest.raises(InvalidIdentityFile, match="cannot read"):
        keystore.load("bob", never)


def test_directory_or_pipe_in_place_of_a_key_file_is_refused(state: Path) -> None:
    keystore.create("alice", None)
    key_file(state, "bob").mkdir(mode=0o700)
    os.mkfifo(key_file(state, "carol"), 0o600)
    for name in ("bob", "carol"):
        with pytest.raises(InvalidIdentityFile):
            keystore.load(name, never)


def test_key_file_cut_anywhere_is_refused_before_a_passphrase_is_asked_for(state: Path) -> None:
    keystore.create("alice", b"passphrase")
    path = key_file(state, "alice")
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(InvalidIdentityFile):
            keystore.load("alice", never)


def test_file_far_too_long_is_refused(state: Path) -> None:
    keystore.create("alice", None)
    path = key_file(state, "alice")
    path.write_bytes(path.read_bytes() + bytes(10**6))
    with pytest.raises(InvalidIdentityFile, match="goes on after its 4 lines"):
        keystore.load("alice", never)
