"""Stored identities: private, never overwritten, and opened only with the passphrase."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from onionmpc import files
from onionmpc.errors import InvalidIdentityFile, UnsafeSetting, UsageError
from onionmpc.identity import key_file as key_format
from onionmpc.session import keystore
from tests.support.identities import cheaply_sealed, keep_sealed

BAD_NAMES = ["", ".", "..", ".hidden", "-x", "_x", "a/b", "../a", "a b", "Alice", "a\n", "\u00e4", "a" * 65, "a\x00"]


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory of our own."""
    monkeypatch.setenv("ONIONMPC_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


def key_file(state: Path, name: str) -> Path:
    return state / "identities" / f"{name}.key"


def says(passphrase: bytes) -> Callable[[], bytearray]:
    return lambda: bytearray(passphrase)


def never() -> bytearray:
    raise AssertionError("asked for a passphrase")


def test_created_identity_is_loaded_again() -> None:
    made = keystore.create("alice", None)
    assert keystore.load("alice", never) == made
    assert keystore.describe_identity("alice") == key_format.KeyFileFacts(made.onion, sealed=False, exposed=False)


def test_sealed_identity_is_described_without_its_passphrase_and_loaded_with_it() -> None:
    made = keystore.create("alice", says(b"passphrase"))
    assert keystore.describe_identity("alice") == key_format.KeyFileFacts(made.onion, sealed=True, exposed=False)
    assert keystore.load("alice", says(b"passphrase")) == made
    with pytest.raises(InvalidIdentityFile, match="passphrase is wrong"):
        keystore.load("alice", says(b"another"))


def test_two_new_identities_differ() -> None:
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
    assert key_file(state, "alice").read_bytes() == key_format.encode_key_file(made, None, b"", b"")


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
    with files.lock(state / "identities" / keystore.KEYSTORE_LOCK_NAME) as held:
        assert held
        with pytest.raises(UsageError, match="another onionmpc process is making an identity"):
            keystore.create("bob", None)
    keystore.create("bob", None)


def test_empty_passphrase_is_refused() -> None:
    with pytest.raises(UsageError, match="passphrase is empty"):
        keystore.create("alice", says(b""))
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
def test_name_that_could_lead_out_of_the_directory_is_refused(name: str, state: Path) -> None:
    for act in (
        lambda: keystore.create(name, None),
        lambda: keystore.load(name, never),
        lambda: keystore.describe_identity(name),
        lambda: keystore.export_to(state / "copy", name, never),
        lambda: keystore.import_from(state / "copy", name, never),
        lambda: keystore.remove(name),
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


def test_directory_that_others_may_enter_is_refused(state: Path) -> None:
    keystore.create("alice", None)
    (state / "identities").chmod(0o755)
    for act in (lambda: keystore.load("alice", never), keystore.list_names, lambda: keystore.create("bob", None)):
        with pytest.raises(UsageError, match="open to others"):
            act()


def test_missing_identity_is_reported_with_a_hint() -> None:
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
    keep_sealed("alice")
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


def test_the_passphrase_is_overwritten_after_use(tmp_path: Path) -> None:
    given: list[bytearray] = []

    def ask(passphrase: bytes = b"passphrase") -> bytearray:
        given.append(bytearray(passphrase))
        return given[-1]

    keystore.create("alice", ask)
    keystore.load("alice", ask)
    with pytest.raises(InvalidIdentityFile, match="passphrase is wrong"):
        keystore.load("alice", lambda: ask(b"a wrong one"))
    keystore.export_to(tmp_path / "copy", "alice", never)
    keystore.remove("alice")
    keystore.import_from(tmp_path / "copy", "alice", ask)
    assert len(given) == 4
    assert all(set(passphrase) == {0} for passphrase in given)


# --- To another machine, and away --------------------------------------------------------------------------------


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return tmp_path / "alice.key"


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Switch to an empty state directory, as on another machine."""
    return lambda: monkeypatch.setenv("ONIONMPC_STATE", str(tmp_path / "elsewhere"))


@pytest.mark.parametrize("exposed", [False, True], ids=["anonymous", "for short"])
@pytest.mark.parametrize("sealed", [False, True], ids=["open", "sealed"])
def test_an_imported_identity_is_the_same_on_another_machine(
    copy: Path, elsewhere: Callable[[], None], *, sealed: bool, exposed: bool
) -> None:
    made = keep_sealed("alice", exposed=exposed) if sealed else keystore.create("alice", None, exposed=exposed)
    facts = keystore.describe_identity("alice")
    assert keystore.export_to(copy, "alice", None) == facts
    assert copy.stat().st_mode & 0o777 == 0o600
    elsewhere()
    assert keystore.import_from(copy, "bob", says(b"passphrase")) == facts == keystore.describe_identity("bob")
    assert keystore.load("bob", says(b"passphrase"), exposed=exposed) == made
    with pytest.raises(UnsafeSetting):
        keystore.load("bob", never, exposed=not exposed)


@pytest.mark.parametrize("exposed", [False, True], ids=["anonymous", "for short"])
def test_the_copy_of_an_open_identity_is_sealed_and_the_identity_stays_open(
    copy: Path, elsewhere: Callable[[], None], *, exposed: bool
) -> None:
    made = keystore.create("alice", None, exposed=exposed)
    assert keystore.export_to(copy, "alice", says(b"passphrase")).sealed
    assert not keystore.describe_identity("alice").sealed
    elsewhere()
    assert keystore.import_from(copy, "alice", says(b"passphrase")).exposed is exposed
    assert keystore.load("alice", says(b"passphrase"), exposed=exposed) == made


def test_an_export_replaces_nothing_and_asks_for_nothing_first(copy: Path, tmp_path: Path) -> None:
    keystore.create("alice", None)
    copy.write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for path in (copy, tmp_path / "link", tmp_path):
        with pytest.raises(UsageError, match="already exists"):
            keystore.export_to(path, "alice", never)
    assert copy.read_text() == "precious"
    assert not (tmp_path / "nowhere").exists()


def test_an_export_that_cannot_be_written_leaves_nothing(copy: Path, tmp_path: Path) -> None:
    keystore.create("alice", None)
    with pytest.raises(UsageError, match=r"cannot write .*: No such file or directory"):
        keystore.export_to(tmp_path / "missing" / "copy", "alice", None)
    with pytest.raises(InvalidIdentityFile, match="no identity named bob"):
        keystore.export_to(copy, "bob", None)
    assert not copy.exists()


def test_an_open_copy_is_not_left_where_files_are_open_to_others(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A memory stick has no modes: whatever is asked for, its files are open to all."""
    keystore.create("alice", None)
    monkeypatch.setattr(files, "FILE_MODE", 0o644)
    with pytest.raises(UsageError, match=r"are open to others \(mode 644"):
        keystore.export_to(copy, "alice", None)
    assert not copy.exists()
    assert keystore.export_to(copy, "alice", says(b"passphrase")).sealed
    assert copy.exists()


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o755])
def test_a_sealed_copy_may_be_open_to_others_and_an_open_one_may_not(
    copy: Path, elsewhere: Callable[[], None], mode: int
) -> None:
    keystore.create("alice", None)
    keystore.export_to(copy, "alice", None)
    sealed = copy.with_name("sealed")
    sealed.write_bytes(cheaply_sealed())
    elsewhere()
    for path in (copy, sealed):
        path.chmod(mode)
    with pytest.raises(
        InvalidIdentityFile, match=rf"has no passphrase and is open to others \(mode {mode:o}, expected 600"
    ):
        keystore.import_from(copy, "alice", never)
    assert keystore.list_names() == ()
    keystore.import_from(sealed, "alice", says(b"passphrase"))


def test_an_import_replaces_no_identity_and_asks_for_nothing_first(copy: Path, state: Path) -> None:
    keep_sealed("alice")
    bob = keystore.create("bob", None)
    keystore.export_to(copy, "alice", never)
    with pytest.raises(UsageError, match="an identity named bob already"):
        keystore.import_from(copy, "bob", never)
    assert keystore.load("bob", never) == bob


def test_an_identity_has_one_name(copy: Path) -> None:
    """The lock that keeps it to one session at a time goes by its name."""
    keystore.create("alice", None)
    keystore.export_to(copy, "alice", None)
    with pytest.raises(UsageError, match="this identity is already kept, under the name alice"):
        keystore.import_from(copy, "bob", never)
    assert keystore.list_names() == ("alice",)


def test_a_damaged_neighbour_does_not_keep_an_identity_out(copy: Path, state: Path) -> None:
    made = keystore.create("alice", None)
    keystore.export_to(copy, "alice", None)
    key_file(state, "alice").write_bytes(b"onionmpc identity 1\n")
    keystore.import_from(copy, "bob", never)
    assert keystore.load("bob", never) == made


def test_a_file_that_cannot_be_opened_is_not_imported(copy: Path, elsewhere: Callable[[], None]) -> None:
    keep_sealed("alice", exposed=True)
    keystore.export_to(copy, "alice", None)
    elsewhere()
    with pytest.raises(InvalidIdentityFile, match="passphrase is wrong"):
        keystore.import_from(copy, "alice", says(b"another"))
    content = copy.read_bytes()
    copy.write_bytes(content.replace(b"exposed ", b""))
    with pytest.raises(InvalidIdentityFile, match="passphrase is wrong, or the key file was altered"):
        keystore.import_from(copy, "alice", says(b"passphrase"))
    for length in range(len(content)):
        copy.write_bytes(content[:length])
        with pytest.raises(InvalidIdentityFile):
            keystore.import_from(copy, "alice", never)
    assert keystore.list_names() == ()


def test_only_a_file_is_imported(copy: Path, tmp_path: Path) -> None:
    os.mkfifo(copy)
    for path, sentence in (
        (copy, "is not a file"),
        (tmp_path, "Is a directory"),
        (tmp_path / "no", "cannot read .*: No such"),
    ):
        with pytest.raises(InvalidIdentityFile, match=sentence):
            keystore.import_from(path, "alice", never)


def test_a_removed_identity_is_gone_with_its_lock_and_its_name_is_free(state: Path) -> None:
    made = keystore.create("alice", None)
    with keystore.in_use("alice"):
        pass
    keystore.remove("alice")
    assert keystore.list_names() == ()
    assert {path.name for path in (state / "identities").iterdir()} == {keystore.KEYSTORE_LOCK_NAME}
    with pytest.raises(InvalidIdentityFile, match="no identity named alice"):
        keystore.load("alice", never)
    assert keystore.create("alice", None) != made


def test_an_identity_in_use_is_not_removed() -> None:
    made = keystore.create("alice", None)
    with keystore.in_use("alice"), pytest.raises(UsageError, match="another session uses the identity alice"):
        keystore.remove("alice")
    assert keystore.load("alice", never) == made


def test_an_identity_that_cannot_be_used_can_be_removed(state: Path, tmp_path: Path) -> None:
    for name in ("alice", "bob", "carol"):
        keystore.create(name, None)
    key_file(state, "alice").write_bytes(b"")
    key_file(state, "bob").chmod(0o644)
    key_file(state, "carol").unlink()
    (tmp_path / "precious").touch()
    key_file(state, "carol").symlink_to(tmp_path / "precious")
    for name in ("alice", "bob", "carol"):
        keystore.remove(name)
    assert keystore.list_names() == ()
    assert (tmp_path / "precious").exists()


def test_an_unknown_identity_cannot_be_removed(state: Path) -> None:
    with pytest.raises(InvalidIdentityFile, match="no identity named alice"):
        keystore.remove("alice")
    keystore.create("alice", None)
    key_file(state, "dir").mkdir()
    with pytest.raises(UsageError, match="cannot remove"):
        keystore.remove("dir")
