"""Standard streams that are full, closed, non-blocking, of a poor encoding, or a terminal without size."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from onionmpc.cli.main import COMMANDS
from onionmpc.cli.prompt import confirm
from tests.support.commands import A
from tests.support.machine import check_told, in_shell

DEADLINE_S = 60.0
CONNECTS = "from mpyc.runtime import mpc\nprint('into what?')\nmpc.run(mpc.start())\nmpc.run(mpc.shutdown())\n"
SAYS = {
    "help": "--help",
    "version": "--version",
    "programs": "programs",
    "levels": "levels",
    "doctor": "doctor --json",
    "estimate": "estimate average-salary --parties 3",
}


# Issue 12.
@pytest.mark.parametrize("words", SAYS.values(), ids=SAYS)
def test_a_full_stdout_is_reported(words: str) -> None:
    done = in_shell(f"onionmpc {words} > /dev/full")
    check_told(done, "cannot write to standard output: No space left on device")
    assert done.stderr.count("onionmpc: error: ") == 1


def test_every_command_that_prints_is_tested_here() -> None:
    # These need more than a word to print anything.
    others = {"demo", "host", "join", "verify", "id", "contact", "policy", "testnet", "trust"}
    assert others | {name.split()[0] for name in SAYS.values() if name[0] != "-"} == set(COMMANDS)


def test_learn_says_what_it_asks_on_stderr_alone() -> None:
    done = in_shell("onionmpc contact learn acme.example > /dev/full")  # what it prints, it has to fetch
    check_told(done, "fetching a page of acme.example needs your consent")


def test_a_full_stdout_is_reported_by_what_needs_a_state_too(tmp_path: Path) -> None:
    state = str(tmp_path / "state")
    full = "cannot write to standard output: No space left on device"
    check_told(in_shell("onionmpc id new me > /dev/full", ONIONMPC_STATE=state), full)
    check_told(in_shell("onionmpc id show me > /dev/full", ONIONMPC_STATE=state), full)
    check_told(in_shell("onionmpc id list > /dev/full", ONIONMPC_STATE=state), full)
    check_told(in_shell("onionmpc id statement --identity me > /dev/full", ONIONMPC_STATE=state), full)
    check_told(in_shell("onionmpc trust > /dev/full", ONIONMPC_STATE=state), full)
    assert in_shell(f"onionmpc contact add acme {A}", ONIONMPC_STATE=state).returncode == 0
    for words in ("list", "list --json", "show acme"):
        check_told(in_shell(f"onionmpc contact {words} > /dev/full", ONIONMPC_STATE=state), full)


def test_with_an_unwritable_stderr_the_exit_code_is_still_right() -> None:
    assert in_shell("onionmpc host 2> /dev/full").returncode == 2
    assert in_shell("onionmpc programs > /dev/full 2> /dev/full").returncode == 2
    done = in_shell("onionmpc estimate average-salary --parties 3 2> /dev/full")
    assert done.returncode == 0
    assert "hops in a dry run" in done.stdout


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("words", ["estimate average-salary --parties 3", "join -"])
def test_a_closed_stream_counts_as_no_terminal(closed: str, words: str) -> None:
    done = in_shell(f"onionmpc {words} {closed}")
    assert done.returncode == (2 if words == "join -" else 0), done.stderr
    assert "Traceback" not in done.stderr
    assert ("hops in a dry run" in done.stdout) == (words != "join -" and " >&-" not in f" {closed}")


def test_the_first_opened_file_does_not_replace_a_closed_stdout(tmp_path: Path) -> None:
    """A program's print would go into it."""
    script = tmp_path / "prints.py"
    script.write_text(CONNECTS)
    done = in_shell(f"onionmpc estimate {script} --parties 3 <&- >&-")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("encoding", "words"),
    [
        ("ascii", "levels"),
        ("ascii", "doctor"),
        ("ascii", "id show me"),
        ("latin-1", "id show me"),
        ("utf-16", "programs"),
    ],
)
def test_an_encoding_that_lacks_a_character_ends_nothing(encoding: str, words: str, tmp_path: Path) -> None:
    state = str(tmp_path / "state")
    if words == "id show me":
        assert in_shell("onionmpc id new me", ONIONMPC_STATE=state).returncode == 0
    done = in_shell(f"onionmpc {words}", PYTHONIOENCODING=encoding, ONIONMPC_STATE=state)
    assert done.returncode == 0, done.stderr
    assert "\\u25" not in done.stderr  # no QR code in escapes


@pytest.mark.parametrize("locale", ["C", "nonsense"])
def test_an_unknown_locale_ends_nothing(locale: str) -> None:
    switched_off = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": locale}
    done = in_shell("onionmpc estimate average-salary --parties 3", **switched_off)
    assert done.returncode == 0, done.stderr


def test_file_names_that_are_not_utf_8_are_shown_and_passed_on_unchanged(tmp_path: Path) -> None:
    (tmp_path / "connects.py").write_text(CONNECTS)
    odd = "$(printf 'n\\377')"
    done = in_shell(f"cd {tmp_path}; onionmpc testnet down {odd}; onionmpc testnet status {odd}")
    check_told(done, f"no test network runs in {tmp_path}/n\\udcff")
    done = in_shell(f"cd {tmp_path}; cp connects.py {odd}.py; onionmpc estimate {odd}.py --parties 3")
    check_told(done, "the file name n\\udcff.py is not UTF-8")
    check_told(
        in_shell(f"onionmpc estimate vote --parties 3 --public={odd}"), "the public argument n\\udcff is not UTF-8"
    )
    # Where only this machine sees it, it may be what it likes.
    done = in_shell(
        f"cd {tmp_path}; mkdir {odd}; cp connects.py {odd}/a.py; onionmpc estimate {odd}/a.py --parties 3 -- {odd}"
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("rows", "columns", "term"),
    [(0, 0, "xterm"), (1, 1, "xterm"), (1, 1, ""), (24, 2, "dumb"), (65535, 65535, "no-such-terminal")],
)
def test_a_terminal_of_any_size_works(rows: int, columns: int, term: str) -> None:
    done = at_terminal(["estimate", "average-salary", "--parties", "3"], rows, columns, TERM=term)
    assert done[0] == 0, done[1]
    assert b"Traceback" not in done[1]


def test_a_terminal_that_is_gone_causes_no_bug() -> None:
    code, said = at_terminal(
        ["host", "average-salary", "--parties", "3", "--circuit-length", "short"], 24, 80, gone=True
    )
    assert code in (129, 130, 2, -1), said  # SIGHUP comes first, or the end of input


def test_a_terminal_that_hangs_up_during_a_question_means_no_consent(monkeypatch: pytest.MonkeyPatch) -> None:
    near, far = pty.openpty()

    async def main() -> None:
        with os.fdopen(far) as terminal:
            monkeypatch.setattr("sys.stdin", terminal)
            asyncio.get_running_loop().call_soon(os.close, near)
            assert not await confirm("Compute on these terms?", default=True)

    asyncio.run(main())


def test_a_stream_that_another_program_made_non_blocking_is_waited_for() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    script = "import sys; from onionmpc.cli.streams import prepare_streams; prepare_streams(); print('x' * 100_000)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=writer, stderr=subprocess.PIPE) as process:
        os.close(writer)
        with os.fdopen(reader, "rb") as out:
            assert len(out.read()) == 100_001
        assert process.wait(DEADLINE_S) == 0


def at_terminal(
    words: list[str], rows: int, columns: int, *, gone: bool = False, **variables: str
) -> tuple[int, bytes]:
    """Run a command at a terminal of this size; return its exit code and all that it wrote there."""
    near, far = pty.openpty()
    fcntl.ioctl(far, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environment = {name: value for name, value in (os.environ | variables).items() if value}
    for name in ("COLUMNS", "LINES"):
        environment.pop(name, None)
    command = [sys.executable, "-P", "-m", "onionmpc.cli", *words]
    with subprocess.Popen(
        command, stdin=far, stdout=far, stderr=far, env=environment, start_new_session=True
    ) as process:
        os.close(far)
        said = b""
        try:
            while not (gone and b"Type" in said) and (chunk := os.read(near, 2**16)):
                said += chunk
        except OSError:  # EIO: nobody has it open any more
            pass
        os.close(near)
        return process.wait(DEADLINE_S), said
