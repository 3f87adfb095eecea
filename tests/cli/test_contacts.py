"""`onionmpc contact`: what it prints, where, and what it asks for; and names in sessions."""

from __future__ import annotations

import asyncio
import datetime
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result

import onionmpc
from onionmpc.cli import contacts as module
from onionmpc.cli.main import cli
from onionmpc.errors import UsageError
from onionmpc.identity import Onion
from onionmpc.names import contacts
from onionmpc.names.address_book import AddressBook
from onionmpc.names.address_link import format_link
from onionmpc.session import keystore
from tests.cli.test_turns import DEMO, local_stage
from tests.e2e.kit import Stage, keep_identity
from tests.support.commands import A, B, Refused

DAY = datetime.date(2026, 5, 3)

pytestmark = pytest.mark.usefixtures("alone")


def run(*arguments: str, typed: str = "") -> Result:
    """Run `onionmpc contact`; our own errors pass through to the caller, as they do to the main command."""
    result = CliRunner().invoke(cli, ["contact", *arguments], input=typed)
    if isinstance(result.exception, UsageError):
        raise result.exception
    return result


def test_add_takes_an_address_a_link_a_message_and_standard_input() -> None:
    Path("mail.txt").write_text(f"Hi!\nHere is mine: {format_link(A)}\nbye\n")
    for word in (A, format_link(A), format_link(A).upper(), "mail.txt", "@mail.txt"):
        assert run("add", "acme", word).stdout == f"{A}\n"
    assert run("add", "bank", "-", typed=f"{B}\n").stdout == f"{B}\n"
    assert [line.split() for line in run("list").stdout.splitlines()] == [["acme", A], ["bank", B]]


def test_add_refuses_what_is_not_one_address() -> None:
    run("add", "acme", A)
    Path("two.txt").write_text(f"{A}\n{B}\n")
    for word, sentence in (
        ("two.txt", "contains 2 addresses, expected one"),
        ("acme", "is neither an address, a link nor a file with one"),  # no second name by the first
        (A[:-10], "does not end in"),
        ("nothing.txt", "is neither an address"),
    ):
        with pytest.raises(UsageError, match=sentence):
            run("add", "bank", word)
    with pytest.raises(UsageError, match="cannot name a contact"):
        run("add", "Bank", B)


def test_a_changed_address_blocks_until_it_is_replaced_with_consent(monkeypatch: pytest.MonkeyPatch) -> None:
    run("add", "acme", A)
    with pytest.raises(UsageError, match=f"you keep {A}, and this is {B}") as raised:
        run("add", "acme", B)
    assert "--replace" in raised.value.hint
    with pytest.raises(UsageError, match="needs your consent"):
        run("add", "acme", B, "--replace")
    monkeypatch.setattr(module, "is_interactive", lambda: True)
    with pytest.raises(UsageError, match="you typed another name"):
        run("add", "acme", B, "--replace", typed="y\n")
    assert contacts.load_book().onion("acme") == A
    result = run("add", "acme", B, "--replace", typed="acme\n")
    assert A in result.stderr
    assert B in result.stderr
    assert contacts.load_book().onion("acme") == B
    assert run("add", "acme", A, "--replace", "--yes").stdout == f"{A}\n"


def test_show_prints_the_address_or_a_link_and_draws_a_code_of_it() -> None:
    run("add", "acme", A)
    contacts.note_meeting([A], "vote", DAY)
    for options, text, width in (((), A, 29), (("--link",), format_link(A), 29)):
        result = run("show", "acme", *options)
        assert result.stdout == text + "\n"
        *drawn, met = result.stderr.splitlines()
        assert len(drawn[0]) == width + 2 * 4
        assert met == "met once in vote on 3 May 2026"
    assert json.loads(run("show", "acme", "--json").stdout) == {
        "name": "acme",
        "onion": A,
        "link": format_link(A),
        "met": {"count": 1, "last": "2026-05-03", "program": "vote"},
    }


def test_an_identity_is_shown_as_a_link_that_add_takes() -> None:
    onion = keystore.create("work", None).onion
    link = CliRunner().invoke(cli, ["id", "show", "work", "--link"]).stdout
    assert link == f"onionmpc:{onion}\n"
    assert run("add", "me", link).stdout == f"{onion}\n"


def test_list_is_for_people_and_for_machines() -> None:
    assert run("list").stdout == ""
    assert "onionmpc contact add" in run("list").stderr
    run("add", "acme.example", A)
    run("add", "bank", B)
    contacts.note_meeting([B], "vote", DAY)
    assert run("list").stdout == f"acme.example  {A}\nbank          {B}  met once in vote on 3 May 2026\n"
    first, second = map(json.loads, run("list", "--json").stdout.splitlines())
    assert first == {"name": "acme.example", "onion": A, "met": None}
    assert second["met"] == {"count": 1, "last": "2026-05-03", "program": "vote"}


def test_remove_asks_unless_yes_and_history_off_deletes(monkeypatch: pytest.MonkeyPatch) -> None:
    run("add", "acme", A)
    contacts.note_meeting([A], "vote", DAY)
    assert run("history").stdout == "on\n"
    assert run("history", "off").stdout == "off\n"
    assert contacts.load_book().contact("acme").met is None
    with pytest.raises(UsageError, match="needs your consent"):
        run("remove", "acme")
    monkeypatch.setattr(module, "is_interactive", lambda: True)
    with pytest.raises(UsageError, match="you typed another name"):
        run("remove", "acme", typed="\n")
    run("remove", "acme", typed="acme\n")
    assert contacts.load_book().contacts == {}
    with pytest.raises(UsageError, match="there is no contact named 'acme'"):
        run("remove", "acme", "--yes")


def test_an_unknown_name_in_a_session_is_answered_with_the_nearest(refused: Refused) -> None:
    contacts.add_contact("acme", A)
    host = ("host", "sort", "--parties", "3", "--yes")
    assert refused(*host, "--expect", "acne") == (
        "acne is neither an address nor a contact\ndid you mean your contact acme?"
    )
    assert "see: onionmpc contact list" in refused(*host, "--expect", "zebra")
    assert refused("join", "acne", "--yes") == (
        "acne is neither an invite, an address nor a contact\ndid you mean your contact acme?"
    )
    assert "did you mean your contact acme?" in refused("join", "acne", "my.py", "--yes")
    assert "did you mean your contact acme?" in refused("join", A, "acne", "my.py", "--yes")


def test_a_name_stands_for_its_address_in_a_session(refused: Refused) -> None:
    contacts.add_contact("acme", A)
    contacts.add_contact("bank", B)
    Path("my.py").write_text("print()\n")
    Path("acme").write_text("not a list")
    assert "a full list of parties needs --identity" in refused("join", "acme", "bank", "my.py", "--yes")
    assert "addresses 1 and 2 are the same" in refused(
        *("host", "sort", "--parties", "3", "--yes", "--expect", "acme", "--expect", format_link(A))
    )


def test_a_damaged_book_is_named_before_a_session_begins(refused: Refused, alone: Path) -> None:
    contacts.add_contact("acme", A)
    book = alone / "state" / "contacts"
    book.write_text(book.read_text() + "?\n")
    assert f"line 4 of the address book {book} is damaged" in refused("join", A, "--yes")


def book_of(stage: Stage, state: str, names: Mapping[str, Onion] | None = None) -> AddressBook:
    """Return the address book of one state directory, after these contacts have been added."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ONIONMPC_STATE", str(stage.folder / state))
        for name, onion in (names or {}).items():
            contacts.add_contact(name, onion)
        return contacts.load_book()


def test_parties_join_each_other_by_name_and_meetings_are_kept_for_kept_addresses_alone(tmp_path: Path) -> None:
    async def main() -> None:
        async with local_stage(tmp_path) as stage:
            onions = {state: Onion(keep_identity(stage, state)) for state in ("anna", "ben", "cleo")}
            joining = []
            for state in onions:
                others = {f"my-{other}": onion for other, onion in onions.items() if other != state}
                book_of(stage, state, others)
                words = ("join", *others, "sort", "--identity", "me", "--then", "vote tea,coffee -- --demo")
                joining.append(await stage.start(state, *words, private=DEMO, state=state))
            assert await stage.ended(joining) == [0, 0, 0], joining[0].last_words
            for state, party in zip(onions, joining, strict=True):
                met = [each.met for each in book_of(stage, state).contacts.values()]
                assert [(each.count, each.program) for each in met if each] == [(2, "vote"), (2, "vote")]
                names = [None if other == state else f"my-{other}" for other in sorted(onions, key=onions.__getitem__)]
                assert [event["names"] for event in party.heard("agreement")] == [names, names]
            # A guest with a fresh address knows its host by name. Its own address book says nothing of it.
            book_of(stage, "guest", {"anna": onions["anna"]})
            hosting = ("host", "sort", "-m3", "--identity", "me", "--open", "--strangers-may-read-everything")
            host = await stage.start("host", *hosting, private=DEMO, state="anna")
            guests = [await stage.start(name, "join", "anna", private=DEMO, state="guest") for name in ("one", "two")]
            assert await stage.ended([host, *guests]) == [0, 0, 0], host.last_words
            assert book_of(stage, "guest").contact("anna").met is None
            assert all("anna" in event["names"] for event in guests[0].heard("agreement"))

    asyncio.run(main())


def test_a_shell_completes_names(capfd: pytest.CaptureFixture[str], alone: Path) -> None:
    contacts.add_contact("acme", A)
    contacts.add_contact("bank", B)

    def completed(*words: str) -> list[str]:
        asked = ShellComplete(cli, {}, "onionmpc", "_ONIONMPC_COMPLETE").get_completions(list(words[:-1]), words[-1])
        return [item.value for item in asked]

    assert completed("join", "ac") == completed("contact", "show", "a") == ["acme"]
    assert completed("host", "my.py", "--expect", "") == ["acme", "bank"]
    (alone / "state" / "contacts").write_text("?")
    assert completed("join", "ac") == []
    assert capfd.readouterr() == ("", "")


def test_the_python_api_shows_contacts() -> None:
    assert onionmpc.contacts() == {}
    contacts.add_contact("acme", A)
    assert onionmpc.contacts()["acme"].onion == A
