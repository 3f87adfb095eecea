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
from onionmpc.session.invite import Invite, format_invite

A, B = (Identity(bytes([number]) * 32).onion for number in range(2))
INVITE, OTHER = (format_invite(Invite(A, bytes([number]) * 16)) for number in range(2))
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
    assert expand(["@their file.txt"]) == expand(["their file.txt"]) == words
    assert expand(["vote", "their file.txt", "my.py"]) == ["vote", *words, "my.py"]


# Issue 12.
def test_an_address_is_taken_out_of_its_quotes() -> None:
    for word in (A, f"<{A}>", f"\u201e{A}\u201c", f"`{A}`.", f"\u200b{A}\u00a0", f"{A},"):
        assert expand([word]) == [A]
    assert expand([f"{A},{B}"]) == [A, B]
    for word in (f"http://{A}/", f"{A}:9735", "vote", "<vote>", ".", "#", "a,b", f"{A} my.py"):
        assert expand([word]) == [word]


# Issue 12.
def test_a_program_is_not_read_as_a_list() -> None:
    for name, content in (
        ("my.py", f"# {INVITE}\n"),
        ("vote", LIST),  # it comes along
        ("script", "import sys\nprint(sys.argv)\n"),
        ("folder", None),
    ):
        Path(name).mkdir() if content is None else Path(name).write_text(content)
        assert expand([name]) == [name]
    assert expand(["no such file", INVITE, A, "x" * 5000, "a\0b"]) == ["no such file", INVITE, A, "x" * 5000, "a\0b"]


# Issue 12.
def test_a_pipe_from_the_shell_is_read_as_a_file() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading), os.fdopen(writing, "wb") as pipe:
        pipe.write(INVITE.encode())
        pipe.close()
        assert expand([f"/dev/fd/{reading}"]) == [INVITE]


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
        expand([f"{prefix}secret"])
    assert sentence.format(name=f"{prefix}secret") in raised.value.message
    told = raised.value.message + raised.value.hint
    assert "hunter2" not in told
    assert INVITE[9:21] not in told


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everywhere")
def test_a_file_that_may_not_be_read_is_named() -> None:
    Path("theirs").touch(0)
    for word in ("theirs", "@theirs"):
        with pytest.raises(UsageError, match=f"cannot read {word}: Permission denied"):
            expand([word])


ASKING = textwrap.dedent("""
    import asyncio, os, subprocess, sys
    from onionmpc.cli.lists import expand
    from onionmpc.cli.prompt import confirm, is_interactive
    words = expand(sys.argv[1:])
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
