"""Where a passphrase may come from, and where it may not."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import threading
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onionmpc.cli import passphrase
from onionmpc.cli.passphrase import MAX_PASSPHRASE_BYTES, ask_passphrase, passphrase_from, read_passphrase
from onionmpc.errors import UnsafeSetting, UsageError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.touch(0o600)
    return path


@pytest.fixture
def pipe() -> Iterator[tuple[Path, int]]:
    """A pipe by the name of its descriptor, and where to write."""
    reading, writing = os.pipe()
    with os.fdopen(reading), os.fdopen(writing, "wb"):
        yield Path(f"/dev/fd/{reading}"), writing


LINES = {
    b"open sesame": b"open sesame",
    b"open sesame\n": b"open sesame",
    b"open sesame\r\n": b"open sesame",
    b"open sesame\nand more\n": b"open sesame",
    b" open  sesame \n": b" open  sesame ",
    "e\u0301\n".encode(): "\u00e9".encode(),
    b"x" * MAX_PASSPHRASE_BYTES + b"\n": b"x" * MAX_PASSPHRASE_BYTES,
}


@pytest.mark.parametrize(("content", "expected"), LINES.items())
def test_the_first_line_of_a_file_is_the_passphrase(file: Path, content: bytes, expected: bytes) -> None:
    file.write_bytes(content)
    assert read_passphrase(file) == passphrase_from(file)() == expected


REFUSED = {
    b"": "is empty, expected a passphrase",
    b"\nopen sesame\n": "is empty, expected a passphrase",
    b"x" * (MAX_PASSPHRASE_BYTES + 1): f"longer than {MAX_PASSPHRASE_BYTES} bytes",
    b"sesame \xff\n": r"the passphrase is not UTF-8 \(byte 8\)",
}


@pytest.mark.parametrize(("content", "sentence"), REFUSED.items())
def test_a_file_that_holds_no_passphrase_is_refused(file: Path, content: bytes, sentence: str) -> None:
    file.write_bytes(content)
    with pytest.raises(UsageError, match=sentence) as caught:
        read_passphrase(file)
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_file_that_others_may_read_is_refused(file: Path, mode: int) -> None:
    file.write_bytes(b"open sesame")
    file.chmod(mode)
    with pytest.raises(UnsafeSetting, match=f"mode {mode:o}, expected 600"):
        read_passphrase(file)


def test_an_unreadable_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read the passphrase from .*: No such file"):
        read_passphrase(tmp_path / "missing")
    with pytest.raises(UsageError, match=r"cannot read the passphrase from .*: Is a directory"):
        read_passphrase(tmp_path)


def test_a_terminal_is_refused_as_a_passphrase_file(monkeypatch: pytest.MonkeyPatch) -> None:
    near, far = pty.openpty()
    try:
        with pytest.raises(UsageError, match="is a terminal, which would show the passphrase"):
            read_passphrase(Path(os.ttyname(far)))
    finally:
        os.close(near)
        os.close(far)


def test_a_pipe_gives_one_line_and_need_not_end(pipe: tuple[Path, int]) -> None:
    path, writing = pipe
    os.write(writing, b"open sesame\nthe rest\n")
    assert read_passphrase(path) == b"open sesame"
    assert read_passphrase(path) == b"the rest"


def test_a_pipe_is_waited_for(pipe: tuple[Path, int]) -> None:
    path, writing = pipe
    os.write(writing, b"open ")
    rest = threading.Thread(target=os.write, args=(writing, b"sesame\n"))
    rest.start()
    assert read_passphrase(path) == b"open sesame"
    rest.join()


def test_an_empty_pipe_is_waited_for_only_for_a_while(pipe: tuple[Path, int], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    for path in (pipe[0], tmp_path / "fifo"):  # nobody has opened the second one for writing
        with pytest.raises(UsageError, match="did not send a line within"):
            read_passphrase(path, pipe_wait_s=0.0)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\n\r\0"), min_size=1, max_size=50))
def test_a_passphrase_is_the_same_however_its_letters_are_composed(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passphrase, "has_terminal", lambda: True)
        answers = []
        for form in ("NFC", "NFD"):
            patch.setattr("click.prompt", lambda *_, form=form, **__: unicodedata.normalize(form, text))
            answers.append(ask_passphrase())
    assert answers[0] == answers[1] == unicodedata.normalize("NFC", text).encode()


def test_without_a_terminal_nobody_is_asked_for_a_passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passphrase, "has_terminal", lambda: False)
    with pytest.raises(UsageError, match="there is no terminal to ask at") as caught:
        passphrase_from(None)()
    assert "--passphrase-file" in caught.value.hint


def test_a_terminal_shows_nothing_of_a_passphrase_and_asks_for_a_new_one_twice(tmp_path: Path) -> None:
    terminal, far = pty.openpty()
    command = [sys.executable, "-m", "onionmpc.cli", "id", "new", "alice", "--passphrase"]
    environment = os.environ | {"ONIONMPC_STATE": str(tmp_path / "state")}
    with subprocess.Popen(
        command, stdin=far, stdout=far, stderr=far, start_new_session=True, env=environment
    ) as asking:
        os.close(far)
        shown = b""
        for prompt in (b"assphrase: ", b"confirmation: "):
            shown += read_until(terminal, prompt)
            os.write(terminal, b"open sesame\n")
        shown += read_until(terminal, b"\0")
        assert asking.wait(30) == 0
    os.close(terminal)
    assert b"sesame" not in shown
    assert (tmp_path / "state" / "identities" / "alice.key").read_text().splitlines()[2].startswith("seal scrypt 17 ")


def read_until(terminal: int, end: bytes) -> bytes:
    shown = b""
    while not shown.endswith(end):
        assert select.select([terminal], [], [], 30)[0], shown
        try:
            shown += os.read(terminal, 1024)
        except OSError:  # its other end was closed
            break
    return shown
