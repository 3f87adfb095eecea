"""The address book on the disk: private, changed by one process at a time, and refused when it cannot be trusted."""

from __future__ import annotations

import datetime
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from onionmpc import files
from onionmpc.errors import UsageError
from onionmpc.names import contacts
from onionmpc.names.address_book import AddressBook
from tests.support.commands import A, B

DAY = datetime.date(2026, 5, 3)


@pytest.fixture(autouse=True, name="state")
def state_of_our_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ONIONMPC_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


def test_reading_makes_nothing_and_writing_makes_private_files(state: Path) -> None:
    assert contacts.load_book() == AddressBook()
    contacts.note_meeting([A], "vote", DAY)
    assert not state.exists()
    contacts.add_contact("acme", A)
    assert contacts.load_book() == AddressBook().with_contact("acme", A)
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in (state, *state.iterdir())} == {
        "state": 0o700,
        "contacts": 0o600,
        "contacts.lock": 0o600,
    }


def test_what_is_changed_is_kept() -> None:
    contacts.add_contact("acme", A)
    contacts.note_meeting([A, B], "vote", DAY)
    assert str(contacts.load_book().contact("acme").met) == "met once in vote on 3 May 2026"
    contacts.keep_history(keep=False)
    assert contacts.load_book() == AddressBook(history=False).with_contact("acme", A)
    contacts.add_contact("acme", B, replacing=True)
    contacts.remove_contact("acme")
    assert contacts.load_book() == AddressBook(history=False)


def test_a_book_that_others_can_read_or_that_is_no_file_is_refused(state: Path) -> None:
    contacts.add_contact("acme", A)
    book = state / "contacts"
    book.chmod(0o640)
    with pytest.raises(UsageError, match="open to others") as raised:
        contacts.load_book()
    assert f"chmod 600 {book}" in raised.value.hint
    book.rename(state / "elsewhere")
    book.symlink_to(state / "elsewhere")
    with pytest.raises(UsageError, match="cannot read"):
        contacts.load_book()
    book.unlink()
    os.mkfifo(book)
    with pytest.raises(UsageError, match="is not a file"):
        contacts.load_book()


def test_a_damaged_book_is_named_and_not_replaced(state: Path) -> None:
    contacts.add_contact("acme", A)
    book = state / "contacts"
    book.write_text(book.read_text() + "gibberish\n")
    before = book.read_text()
    for change in (
        lambda: contacts.add_contact("bank", B),
        lambda: contacts.note_meeting([A], "vote", DAY),
        lambda: contacts.keep_history(keep=False),
    ):
        with pytest.raises(UsageError, match=f"line 4 of the address book {book} is damaged"):
            change()
    assert book.read_text() == before


def test_a_name_of_an_included_program_is_refused() -> None:
    for name in ("vote", "average-salary", "average_salary"):
        with pytest.raises(UsageError, match="a program that comes with onionmpc"):
            contacts.add_contact(name, A)


def test_no_change_is_lost_when_parties_on_one_machine_note_a_meeting_at_once() -> None:
    contacts.add_contact("acme", A)
    note = (
        "import datetime, sys; from onionmpc.names import contacts\n"
        "sys.stdin.read()\n"
        f"for _ in range(5): contacts.note_meeting(['{A}'], 'vote', datetime.date(2026, 5, 3))"
    )
    running = [subprocess.Popen([sys.executable, "-c", note], stdin=subprocess.PIPE) for _ in range(3)]
    for process in running:
        assert process.stdin is not None
        process.stdin.close()
    assert [process.wait(timeout=60) for process in running] == [0, 0, 0]
    met = contacts.load_book().contact("acme").met
    assert met is not None
    assert met.count == 15


def test_a_lock_that_another_process_keeps_is_not_waited_for_without_end(state: Path) -> None:
    contacts.add_contact("acme", A)
    with files.lock(state / "contacts.lock") as held:
        assert held
        with pytest.raises(UsageError, match="another onionmpc process is changing the address book now"):
            contacts.add_contact("bank", B)
