"""The command line as a whole: help, versions, exit codes, and the way out on Ctrl-C."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import click
import pytest

from onionmpc import __version__
from onionmpc.cli import main as module
from onionmpc.cli.loop import run_until_interrupted, while_read
from onionmpc.cli.main import cli, run
from onionmpc.errors import (
    AgreementError,
    AuthenticationFailed,
    LinkExpired,
    LocalProtocolError,
    OnionMPCError,
    ProgramError,
    TorNotFound,
    UsageError,
)
from onionmpc.program.code.catalogue import catalogue

DEADLINE_S = 60.0


def commands(
    command: click.Command = cli, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from commands(below, (*path, name))


COMMANDS = dict(commands())


def test_all_commands_are_there() -> None:
    others = {"contact", "levels", "programs", "id", "doctor", "testnet", "trust", "policy"}
    assert set(cli.commands) == {"host", "join", "demo", "estimate", "verify"} | others


# Issue 12.
@pytest.mark.parametrize("name", module.COMMANDS)
def test_the_list_of_commands_has_the_first_sentence_of_each_commands_help(name: str) -> None:
    _, summary = module.COMMANDS[name]
    assert summary == COMMANDS[(name,)].get_short_help_str(limit=200)
    assert COMMANDS[(name,)].name == name


# Issue 12.
@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["programs"], ["levels"]])
def test_commands_without_a_session_do_not_import_sessions(arguments: list[str]) -> None:
    script = f"""if True:
        import sys
        from onionmpc.cli.main import run
        assert run({arguments}) == 0
        print([name for name in ("asyncio", "cryptography", "rich", "stem", "onionmpc.session") if name in sys.modules])
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help_describes_a_command_and_each_of_its_options(
    capfd: pytest.CaptureFixture[str], path: tuple[str, ...], word: str
) -> None:
    assert run([*path, word]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    command = COMMANDS[path]
    assert command.help
    assert " ".join(command.help.split(".")[0].split()) in " ".join(out.split())
    for option in command.params:
        if isinstance(option, click.Option) and not option.hidden:
            assert option.help or option.name == "version", option.name
            for name in option.opts:
                assert name in out
    if isinstance(command, click.Group):
        for name in command.commands:
            assert f"\n  {name} " in out


def needs_subcommand(command: click.Command) -> bool:
    return isinstance(command, click.Group) and not command.invoke_without_command  # as `onionmpc programs` does


@pytest.mark.parametrize("path", [path for path, command in COMMANDS.items() if needs_subcommand(command)])
def test_a_group_alone_shows_its_help_and_no_error(capfd: pytest.CaptureFixture[str], path: tuple[str, ...]) -> None:
    assert run(list(path)) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith(f"Usage: {' '.join(['onionmpc', *path])} ")
    assert "error" not in err


def test_version() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "onionmpc.cli", "--version"],
        capture_output=True,
        timeout=DEADLINE_S,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"onionmpc, version {__version__}\n", "")


def test_a_crash_leaves_no_core_of_ours_or_of_our_child_processes() -> None:
    script = """if True:
        import contextlib, resource, subprocess, sys
        from onionmpc.cli.main import main
        with contextlib.suppress(SystemExit):
            main(["--version"])
        shown = "import resource; print(resource.getrlimit(resource.RLIMIT_CORE)[0])"
        subprocess.run([sys.executable, "-c", shown], check=True)
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "0"


def test_programs_lists_each_with_what_it_does(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["programs"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert [line.split(maxsplit=1) for line in out.splitlines()] == [list(entry) for entry in catalogue()]
    assert "average_salary" in out
    assert "private_input" not in out


def test_a_reader_that_goes_away_gets_no_traceback() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "onionmpc.cli", "programs"],
            stdout=writer,
            stderr=subprocess.PIPE,
            timeout=DEADLINE_S,
            check=False,
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize(
    ("arguments", "sentence", "hint"),
    [
        (["hots"], "No such command 'hots'.", "onionmpc --help"),
        (["--colour"], "--colour", "onionmpc --help"),
        (["host", "vote"], "Missing option '--parties' / '-m'.", "onionmpc host --help"),
        (["host", "vote", "-m", "three"], "'three' is not a valid integer", "onionmpc host --help"),
        (["host", "vote", "-m3", "--partys", "4"], "--partys", "onionmpc host --help"),
        (["join"], "Missing argument 'ONION|CONTACT|INVITE|FILE... [PROGRAM]'.", "onionmpc join --help"),
        (["id", "new"], "Missing argument 'NAME'.", "onionmpc id new --help"),
        (["demo", "--latency", "far"], "'far' is neither regions, none nor a number", "onionmpc demo --help"),
    ],
)
def test_a_mistake_in_the_command_line_is_reported_with_a_hint(
    capfd: pytest.CaptureFixture[str], arguments: list[str], sentence: str, hint: str
) -> None:
    assert run(arguments) == 2
    out, err = capfd.readouterr()
    assert out == ""
    told, where = err.splitlines()
    assert told.startswith("onionmpc: error: ")
    assert sentence in told
    assert where == f"onionmpc: hint: {hint}"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--parties", "1"],
        ["--parties", "2"],
        ["--parties", "257"],
        ["averige"],
        ["--public", "-M3"],
        ["--", "--threshold=1"],
        ["--latency", "100000"],
    ],
)
def test_demo_refuses_impossible_options_before_it_starts_a_network(
    capfd: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert run(["demo", *arguments]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert "\nonionmpc: error: " in "\n" + err


def command_that(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Add a command `fail` that raises `error`."""

    @click.command()
    def fail() -> None:
        raise error

    monkeypatch.setitem(module.cli.commands, "fail", fail)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ProgramError, 1),
        (UsageError, 2),
        (TorNotFound, 3),
        (LinkExpired, 4),
        (AgreementError, 5),
        (AuthenticationFailed, 6),
        (LocalProtocolError, 70),
    ],
)
def test_every_error_of_ours_is_a_sentence_with_its_exit_code(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: type[OnionMPCError], code: int
) -> None:
    command_that(monkeypatch, error("it went wrong", hint="mend it"))
    assert run(["fail"]) == code
    assert capfd.readouterr() == ("", "onionmpc: error: it went wrong\nonionmpc: hint: mend it\n")
    command_that(monkeypatch, error("it went wrong"))
    assert run(["fail"]) == code
    assert capfd.readouterr() == ("", "onionmpc: error: it went wrong\n")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.exceptions.Abort()])
def test_an_interruption_exits_with_130_and_no_message(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    command_that(monkeypatch, error)
    assert run(["fail"]) == 130
    assert capfd.readouterr().out == ""


def test_a_bug_of_ours_exits_with_70_and_says_so(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command_that(monkeypatch, ZeroDivisionError("division by zero"))
    assert run(["fail"]) == 70
    out, err = capfd.readouterr()
    assert out == ""
    assert "ZeroDivisionError: division by zero\nonionmpc: error: this is a bug in onionmpc\n" in err


# Issue 12.
@pytest.mark.parametrize("wrapped", [False, True])
def test_an_unexpected_fault_of_the_machine_is_reported_and_not_called_a_bug(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, wrapped: bool
) -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "/some/place")
    command_that(monkeypatch, ExceptionGroup("tasks", [full]) if wrapped else full)
    assert run(["fail"]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("onionmpc: error: cannot use /some/place: No space left on device\nonionmpc: hint: free some")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EBADF, "Bad file descriptor"),
        ExceptionGroup("tasks", [OSError(errno.ENOSPC, "full"), AssertionError()]),
        UnicodeEncodeError("ascii", "é", 0, 1, "not in range"),
    ],
)
def test_an_unlisted_error_is_a_bug(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    command_that(monkeypatch, error)
    assert run(["fail"]) == 70
    assert "Traceback" in capfd.readouterr().err


def test_words_after_a_lone_dash_dash_are_not_our_options(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    @click.command()
    @click.option("--yes", is_flag=True)
    @click.pass_obj
    def note(private: tuple[str, ...], /, yes: bool) -> None:
        seen.append((private, yes))

    monkeypatch.setitem(module.cli.commands, "note", note)
    assert run(["note", "--", "--yes", "--", "-h"]) == 0
    assert run(["note", "--yes"]) == 0
    assert seen == [(("--yes", "--", "-h"), False), ((), True)]


# --- Ctrl-C ------------------------------------------------------------------------------------------------------


def test_the_first_ctrl_c_lets_work_clean_up() -> None:
    told: list[str] = []

    async def work() -> None:
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGINT)
        try:
            await asyncio.Event().wait()
        finally:
            told.append("cleaned up")

    with pytest.raises(KeyboardInterrupt):
        run_until_interrupted(work())
    assert told == ["cleaned up"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_work_that_ends_by_itself_returns_its_result() -> None:
    async def work() -> int:
        return 7

    assert run_until_interrupted(work()) == 7


def test_under_nohup_the_end_of_the_terminal_is_ignored() -> None:
    async def work() -> str:
        os.kill(os.getpid(), signal.SIGHUP)
        return "went on"

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert run_until_interrupted(work()) == "went on"
    finally:
        signal.signal(signal.SIGHUP, before)


# Issue 12. It went on for as long as it takes, for nobody.
def test_work_that_only_shows_something_ends_when_nobody_reads_it() -> None:
    near, far = os.pipe()
    ended: list[str] = []

    async def show() -> None:
        try:
            asyncio.get_running_loop().call_later(0.05, os.close, near)
            await asyncio.Event().wait()
        finally:
            ended.append("cleaned up")

    async def result() -> int:
        return 7

    assert run_until_interrupted(while_read(result, far)) == 7
    with pytest.raises(BrokenPipeError):
        run_until_interrupted(while_read(show, far, every_s=0.01))
    os.close(far)
    assert ended == ["cleaned up"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_second_signal_ends_the_process_at_once(number: signal.Signals) -> None:
    code = """
import asyncio
from onionmpc.cli.loop import run_until_interrupted, while_read
async def work():
    try:
        print("ready", flush=True)
        await asyncio.Event().wait()
    finally:
        print("asked", flush=True)
        await asyncio.Event().wait()
run_until_interrupted(work())
"""
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        # Under nohup a signal is ignored, and so would be ours: the test would wait for ever.
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            process.send_signal(number)
            assert process.stdout.readline() == "asked\n"
            process.send_signal(signal.SIGINT)
            assert process.wait(DEADLINE_S) == 128 + signal.SIGINT
        finally:
            process.kill()


# Issue 13.
MOST_WITHOUT_GROUPS = 4


@pytest.mark.parametrize("path", [path for path in COMMANDS if path], ids=" ".join)
def test_many_options_are_grouped_and_each_has_at_most_two_lines(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, path: tuple[str, ...]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    options = [each for each in COMMANDS[path].params if isinstance(each, click.Option) and not each.hidden]
    if len(options) > MOST_WITHOUT_GROUPS:
        for option in options:
            assert getattr(option, "group", None) is not None, option.name
    assert run([*path, "--help"]) == 0
    _, heading, listed = capfd.readouterr().out.partition(":\n  -")
    # What is below and beside each name, up to the next name or the end of its group.
    blocks = re.findall(r"^  (-.*(?:\n {8,}.*)*)", heading + listed, re.M)
    assert len(blocks) == len(options) + 1  # and --help
    for block in blocks:
        first, *below = block.split("\n")
        beside = "  " in first.strip()
        assert len(below) + beside <= 2, block


def test_the_first_screen_says_what_to_type_and_fits_a_terminal(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run([]) == 2
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) <= 23  # the prompt takes the last of 24
    assert max(map(len, lines)) < 80
    places = [
        next(n for n, line in enumerate(lines) if f"onionmpc {word}" in line) for word in ("demo", "host", "join")
    ]
    assert places == sorted(places)
    assert {name for names in module.SECTIONS.values() for name in names} == set(module.COMMANDS)
