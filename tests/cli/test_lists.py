"""Words, files and standard input that hold addresses or an invite."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import subprocess
import sys
import termios
import textwrap
from pathlib import Path

import pytest

from onionmpc.cli.lists import MAX_LIST_BYTES, expand
from onionmpc.errors import UsageError
from onionmpc.identity import Identity
from onionmpc.names.address_book import AddressBook
from onionmpc.names.address_link import format_link
from onionmpc.session.invite import Invite, format_invite

A, B = (Identity(bytes([number]) * 32).onion for number in range(2))
INVITE, OTHER = (format_invite(Invite(A, bytes([number]) * 16)) for number in range(2))
NOBODY = AddressBook()
BOOK = NOBODY.with_contact("acme", A).with_contact("bank", B)
LIST = f"# ours\n{A}  # Alice\n> <{B}>,\n"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


FILES = {
    "an invite": (INVITE.encode(), [INVITE]),
    "an invite in a mail": (f"Hi!\n\n> \u201c{INVITE[:40]}\n> {INVITE[40:].upper()}\u201d.\n#1 fan".encode(), [INVITE]),
    "an invite in UTF-16": (f"{INVITE}\r\n".encode("utf-16"), [INVITE]),
    "an invite with a mark": (f"{INVITE}\r\n".encode("utf-8-sig"), [INVITE]),
    "an invite in latin-1": (f"Grüße: {INVITE}".encode("latin-1"), [INVITE]),
    "an invite beside an address": (f"{A}: {INVITE}".encode(), [INVITE]),
    "an invite in a comment": (f"# {INVITE}".encode(), [INVITE]),
    "addresses": (LIST.encode(), [A, B]),
    "addresses in UTF-16": (LIST.encode("utf-16"), [A, B]),
    "addresses below half an invite": (f"# onionmpc1...\n{LIST}".encode(), [A, B]),
}


# Issue 12.
@pytest.mark.parametrize(("content", "words"), FILES.values(), ids=FILES)
def test_a_file_is_read_with_and_without_an_at_sign(content: bytes, words: list[str]) -> None:
    Path("their file.txt").write_bytes(content)
    assert expand(["@their file.txt"], NOBODY) == expand(["their file.txt"], NOBODY) == words
    assert expand(["vote", "their file.txt", "my.py"], NOBODY) == ["vote", *words, "my.py"]


# Issue 12.
def test_an_address_is_taken_out_of_its_quotes() -> None:
    for word in (A, f"<{A}>", f"\u201e{A}\u201c", f"`{A}`.", f"\u200b{A}\u00a0", f"{A},"):
        assert expand([word], NOBODY) == [A]
    assert expand([f"{A},{B}"], NOBODY) == [A, B]
    for word in (f"http://{A}/", f"{A}:9735", "vote", "<vote>", ".", "#", "a,b", f"{A} my.py"):
        assert expand([word], NOBODY) == [word]


def test_a_link_is_an_address_wherever_one_is() -> None:
    link, bare = format_link(A), format_link(A).removesuffix(".onion")
    for word in (link, bare, bare.upper(), f"<{link}>", f"\u201c{bare}\u201d."):
        assert expand([word], NOBODY) == [A]
    Path("list").write_text(f"{link}\n- {B}  # ours\n")
    assert expand(["list"], NOBODY) == expand(["@list"], NOBODY) == [A, B]
    for text in (f"Hi!\n\nMine is {link}.\n", f"> this one: {bare[:40]}\n> {bare[40:]} see you\n", f"{link} {link} hi"):
        Path("mail").write_text(text)
        assert expand(["mail"], NOBODY) == [A]


def test_a_list_with_a_mistake_beside_a_link_is_no_message_and_leaves_no_party_out() -> None:
    for text, sentence in (
        (f"{format_link(A)}\n{B}\ntypo\n", "line 3 of @list contains neither"),
        (f"hi {format_link(A)} and {format_link(B)}", "links to 2 different addresses"),
        (f"{format_link(A)[:60]}", "the link has 51 characters after onionmpc:, expected 56"),
        (f"{format_link(A)[:30]}a{format_link(A)[31:]}", "the checksum is wrong"),
    ):
        Path("list").write_text(text)
        with pytest.raises(UsageError, match=sentence):
            expand(["@list"], NOBODY)


def test_a_name_is_its_address_even_where_a_file_or_a_script_has_it_too() -> None:
    assert expand(["acme", "bank", "my.py"], BOOK) == [A, B, "my.py"]
    Path("acme").write_text(f"{B}\n")  # planted
    assert expand(["acme"], BOOK) == [A]
    assert expand(["./acme"], BOOK) == expand(["@acme"], BOOK) == [B]
    Path("bank").write_text("import sys\n")
    assert expand(["bank", "./bank"], BOOK) == [B, "./bank"]
    assert expand(["Acme", "acme.py"], BOOK) == ["Acme", "acme.py"]


def test_a_list_may_have_names_and_a_name_beside_an_address_is_compared() -> None:
    Path("list").write_text(f"acme\n{B}  # the bank\n")
    assert expand(["@list"], BOOK) == [A, B]
    Path("list").write_text(f"acme {A}\n{format_link(B)} bank\n")
    assert expand(["list"], BOOK) == [A, B]
    Path("list").write_text(f"bank\nacme {B}\n")
    with pytest.raises(UsageError, match=f"the contact acme has another address: you keep {A}, and this is {B}"):
        expand(["@list"], BOOK)
    Path("list").write_text(f"acme bank {A}\n")
    with pytest.raises(UsageError, match="line 1 of @list has several names or addresses"):
        expand(["@list"], BOOK)
    Path("list").write_text("acme\nbnak\n")
    with pytest.raises(UsageError, match="line 2 of @list contains neither") as raised:
        expand(["@list"], BOOK)
    assert raised.value.hint == "did you mean your contact bank?"


# Issue 12.
def test_a_program_is_not_read_as_a_list() -> None:
    for name, content in (
        ("my.py", f"# {INVITE}\n"),
        ("vote", LIST),  # it comes along
        ("script", "import sys\nprint(sys.argv)\n"),
        ("folder", None),
    ):
        Path(name).mkdir() if content is None else Path(name).write_text(content)
        assert expand([name], NOBODY) == [name]
    assert expand(["no such file", INVITE, A, "x" * 5000, "a\0b"], NOBODY) == [
        "no such file",
        INVITE,
        A,
        "x" * 5000,
        "a\0b",
    ]


# Issue 12.
def test_a_pipe_from_the_shell_is_read_as_a_file() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading), os.fdopen(writing, "wb") as pipe:
        pipe.write(INVITE.encode())
        pipe.close()
        assert expand([f"/dev/fd/{reading}"], NOBODY) == [INVITE]


# Issue 12: no error shows what a file holds, be it a secret of another kind.
@pytest.mark.parametrize("prefix", ["@", ""])
@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (f"{A}\nhunter2 is my password\n".encode(), "line 2 of {name} contains neither an address nor an invite"),
        (f"{INVITE[:60]}\nhunter2\n".encode(), "the invite has 67 characters, expected 93"),
        (f"{INVITE[:60]}\nhunter2 {'hunter' * 9}\n".encode(), "the invite's checksum is wrong"),
        (f"{INVITE}\nhunter2\n{OTHER}".encode(), "this contains 2 different invites, expected one"),
        (b"hunter2" * MAX_LIST_BYTES, "{name} has more than 1048576 bytes"),
    ],
    ids=["a word", "cut short", "altered", "two", "too large"],
)
def test_no_error_quotes_a_file(prefix: str, content: bytes, sentence: str) -> None:
    Path("secret").write_bytes(content)
    with pytest.raises(UsageError) as raised:
        expand([f"{prefix}secret"], NOBODY)
    assert sentence.format(name=f"{prefix}secret") in raised.value.message
    told = raised.value.message + raised.value.hint
    assert "hunter2" not in told
    assert INVITE[9:21] not in told


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everywhere")
def test_a_file_that_may_not_be_read_is_named() -> None:
    Path("theirs").touch(0)
    for word in ("theirs", "@theirs"):
        with pytest.raises(UsageError, match=f"cannot read {word}: Permission denied"):
            expand([word], NOBODY)


ASKING = textwrap.dedent("""
    import asyncio, os, subprocess, sys
    from onionmpc.cli.lists import expand
    from onionmpc.cli.prompt import confirm, is_interactive
    from onionmpc.names.address_book import AddressBook
    words = expand(sys.argv[1:], AddressBook())
    print(words, is_interactive(), flush=True)
    if is_interactive():
        print(asyncio.run(confirm("Well?", default=False)), flush=True)
        subprocess.run([sys.executable, "-c", "print(input('Name? '))"], check=True)
""")


def at_a_terminal(asked: list[tuple[bytes, bytes]], *, terminal: bool = True) -> list[str]:
    """Pipe an invite in and answer questions at the terminal, if there is one; return what is printed."""
    near, far = pty.openpty()

    def take() -> None:
        if terminal:
            fcntl.ioctl(2, termios.TIOCSCTTY, 0)

    command = [sys.executable, "-c", ASKING, "-"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=far, start_new_session=True, preexec_fn=take
    ) as process:
        os.close(far)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(INVITE.encode())
        process.stdin.close()
        for question, answer in asked:
            read_until(process.stdout.fileno() if question.startswith(b"Name") else near, question)
            os.write(near, answer)
        rest = process.stdout.read().decode().splitlines()
        assert process.wait(60) == 0
    os.close(near)
    return rest


def read_until(descriptor: int, end: bytes) -> None:
    shown = b""
    while not shown.endswith(end):
        assert select.select([descriptor], [], [], 30)[0], shown
        shown += os.read(descriptor, 1)


# Issue 12.
def test_piped_input_leaves_the_terminal_for_questions_and_for_the_program() -> None:
    assert at_a_terminal([(b"Well? [y/N] ", b"y\n"), (b"Name? ", b"Alice\n")]) == ["Alice"]


# Issue 12.
@pytest.mark.parametrize("terminal", [True, False])
def test_a_joiner_whose_invite_is_piped_in_needs_no_yes_where_it_has_a_terminal(
    terminal: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tor = tmp_path / "tor"
    tor.write_text('#!/bin/sh\nif [ "$1" = --version ]; then echo "Tor version 0.4.9.11."; exit; fi\nexit 1\n')
    tor.chmod(0o700)
    monkeypatch.setenv("ONIONMPC_TOR", str(tor))
    monkeypatch.setenv("ONIONMPC_STATE", str(tmp_path / "state"))
    near, far = pty.openpty()
    command = [sys.executable, "-m", "onionmpc.cli", "join", "-"]

    def take() -> None:
        if terminal:
            fcntl.ioctl(2, termios.TIOCSCTTY, 0)

    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=far, start_new_session=True, preexec_fn=take
    ) as process:
        os.close(far)
        process.communicate(INVITE.encode(), timeout=60)
    os.close(near)
    # It gets as far as its tor, which does not start; or it is refused before.
    assert process.returncode == (3 if terminal else 2)


# Issue 12.
def test_without_a_terminal_nobody_is_asked() -> None:
    assert at_a_terminal([], terminal=False) == [f"{[INVITE]} False"]
