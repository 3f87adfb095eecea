"""`onionmpc estimate`: what it says, what it refuses, and that Ctrl-C leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import pytest

from onionmpc.cli import estimate as module
from onionmpc.cli.main import run
from onionmpc.cli.profile import OPEN_TOGETHER
from onionmpc.files import socket_directory
from onionmpc.program.code.catalogue import find_program, program_files
from onionmpc.program.rehearsal import Hops, Profile
from onionmpc.program.spec import ProgramSpec
from onionmpc.session.estimates import Case
from tests.support.blocks import SALARY_INPUT, script_of
from tests.support.rehearsal import CHAIN, HOPS_BESIDE_ROUNDS, PAUSE, is_there, pids_at

DEADLINE_S = 60.0
# Opens eight numbers, each on its own.
SLOW = """
from mpyc.runtime import mpc
secint = mpc.SecInt(32)

def shown(number):
    return mpc.run(mpc.output(number))

mpc.run(mpc.start())
numbers = mpc.input([secint(mpc.pid)] * 8, senders=1)
print([shown(number) for number in numbers])
mpc.run(mpc.shutdown())
"""
ERROR = "onionmpc: error: "


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ONIONMPC_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[ProgramSpec]:
    """Replace dry runs: each is recorded, and finds 57 hops."""
    specs: list[ProgramSpec] = []

    async def note(spec: ProgramSpec, _timeout_s: float, **_options: object) -> Profile:
        specs.append(spec)
        return Profile(Hops(57, 0.4), ())

    monkeypatch.setattr(module, "profile", note)
    return specs


def said(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(["estimate", *arguments]) == 0
    return capfd.readouterr().out


def test_estimate_prints_a_time_for_each_level(capfd: pytest.CaptureFixture[str], asked: list[ProgramSpec]) -> None:
    first, second = said(capfd, "sort", "--parties", "3").splitlines()
    assert first == "sort: 57 hops in a dry run with 3 parties; takes 0.4 s without network delays"
    assert second.startswith("about ")
    for level in ("standard", "long", "short"):
        assert f" s at {level}" in second


@pytest.mark.parametrize(
    ("arguments", "options"),
    [(("-m14",), ()), (("-m15",), ("--no-prss",)), (("-m15", "--mpyc=-L32"), ("-L32",))],
)
def test_the_dry_run_has_the_options_of_a_session(
    capfd: pytest.CaptureFixture[str], asked: list[ProgramSpec], arguments: tuple[str, ...], options: tuple[str, ...]
) -> None:
    # Else it would count the hops of another case than the one that its parties are shown later.
    said(capfd, "sort", *arguments)
    assert asked[0].mpyc_options == options


def test_given_round_trips_replace_the_levels(capfd: pytest.CaptureFixture[str], asked: list[ProgramSpec]) -> None:
    told = said(capfd, "sort", "-m3", "--round-trip", "300ms", "--round-trip", "2s").splitlines()
    assert told[1:] == ["about 8.9 s with a round trip of 300 ms, about 57 s with a round trip of 2000 ms"]


def test_json_has_the_numbers(capfd: pytest.CaptureFixture[str], asked: list[ProgramSpec]) -> None:
    data = json.loads(said(capfd, "sort", "-m3", "--json", "--round-trip", "300ms"))
    assert data == {
        "program": "sort",
        "parties": 3,
        "hops": 57,
        "without_delay_s": 0.4,
        "estimates": {"300 ms": {"round_trip_s": 0.3, "seconds": 8.9}},
    }
    assert set(json.loads(said(capfd, "sort", "-m3", "--json"))["estimates"]) == {"short", "standard", "long"}


DECLARES = script_of(
    f"""\
[tool.onionmpc]
version = 1
title = "T"
reveals = "R"

[[tool.onionmpc.public]]
name = "rounds"
label = "Rounds"
type = "integer"
option = "--rounds"
demo = "2"

{SALARY_INPUT}demo = "4200"

[[tool.onionmpc.input]]
name = "letter"
label = "A letter"
type = "file"
give = "file"
option = "--letter"
"""
)
CHECKED = (
    DECLARES
    + """
import sys
from pathlib import Path
from mpyc.runtime import mpc
rounds, option, letter = sys.argv[1:]
assert (rounds, option, Path(letter).read_text()) == ("--rounds=2", "--letter", "hello"), sys.argv
assert sys.stdin.read() == "4200\\n"
mpc.run(mpc.start())
mpc.run(mpc.shutdown())
"""
)


# Issue 15: a program with a block needed its arguments by hand.
def test_a_dry_run_gets_what_the_block_declares(capfd: pytest.CaptureFixture[str], alone: Path) -> None:
    (alone / "own.py").write_text(CHECKED)
    (alone / "letter").write_text("hello")
    assert run(["estimate", "own.py", "-m3", "--input", "letter=@letter"]) == 0
    out, err = capfd.readouterr()
    assert out.startswith("own: 4 hops")
    assert "onionmpc: note: public arguments to try it out: --rounds=2" in err
    assert "onionmpc: note: inputs to try it out, the same at all parties: salary" in err


def test_a_dry_run_says_which_input_it_needs(capfd: pytest.CaptureFixture[str], alone: Path) -> None:
    (alone / "own.py").write_text(CHECKED)
    assert run(["estimate", "own.py", "-m3"]) == 2
    err = capfd.readouterr().err
    assert f"{ERROR}the program needs an input letter (A letter)" in err
    assert "onionmpc: hint: pass --input letter=@FILE; it is a file of at most 1048576 bytes" in err


def test_included_programs_make_up_their_input(capfd: pytest.CaptureFixture[str], asked: list[ProgramSpec]) -> None:
    said(capfd, "vote", "-m5", "--public", "tea,coffee", "--mpyc=-L64", "-t1")
    said(capfd, "sort", "-m3", "--", "1", "2")
    said(capfd, "logistic-regression", "-m3")
    Path("own.py").write_text("class Ballot: ...")
    said(capfd, "own.py", "-m3", "--allow-type", "__main__.Ballot")
    assert [spec.arguments for spec in asked] == [("tea,coffee", "--demo"), ("1", "2"), ("--columns=2", "--demo"), ()]
    assert [spec.allowed_types for spec in asked] == [(), (), (), ("__main__.Ballot",)]
    assert (asked[0].parties, asked[0].threshold, asked[0].mpyc_options) == (5, 1, ("-L64",))


def test_a_later_session_of_the_same_case_knows_the_estimate(
    capfd: pytest.CaptureFixture[str], asked: list[ProgramSpec]
) -> None:
    said(capfd, "sort", "-m3")
    files = {file.path: file.sha256.hex() for file in program_files(find_program("sort"))}
    assert Case(files, 3, 1, (), ()).recall() == Hops(57, 0.4)


def test_a_real_dry_run(capfd: pytest.CaptureFixture[str]) -> None:
    Path("chain.py").write_text(CHAIN)
    data = json.loads(said(capfd, "chain.py", "-m3", "--json", "--", "40"))
    assert data["hops"] == 40 + HOPS_BESIDE_ROUNDS
    assert "lines" not in data


def test_the_lines_of_a_program_with_their_hops(capfd: pytest.CaptureFixture[str]) -> None:
    Path("slow.py").write_text(SLOW)
    out = said(capfd, "slow.py", "-m3", "--profile").splitlines()
    assert out[0].startswith("slow: 13 hops in a dry run with 3 parties")
    assert out[1:-1] == [
        " hops  share  line",
        "    8    62%  slow.py:6   return mpc.run(mpc.output(number))",
        f"              hint: {OPEN_TOGETHER.format(calls=8)}",
        "    3    23%  slow.py:11  mpc.run(mpc.shutdown())",
        "    1     8%  slow.py:8   mpc.run(mpc.start())",
        "    1     8%  slow.py:9   numbers = mpc.input([secint(mpc.pid)] * 8, senders=1)",
        "   13   100%  in all",
    ]
    assert out[-1].startswith("about ")


def test_machines_get_the_lines_too(capfd: pytest.CaptureFixture[str]) -> None:
    Path("slow.py").write_text(SLOW)
    data = json.loads(said(capfd, "slow.py", "-m3", "--profile", "--json"))
    assert data["hops"] == sum(line["hops"] for line in data["lines"]) == 13
    assert [(line["file"], line["line"], line["hops"]) for line in data["lines"]] == [
        ("slow.py", 6, 8),
        ("slow.py", 11, 3),
        ("slow.py", 8, 1),
        ("slow.py", 9, 1),
    ]
    first, *others = data["lines"]
    assert (first["text"], first["share"]) == ("return mpc.run(mpc.output(number))", 0.615)
    assert "collect them in a list" in first["hint"]
    assert [line["hint"] for line in others] == [None] * 3


@pytest.mark.parametrize(
    ("arguments", "sentence", "code"),
    [
        (("srot", "-m3"), "there is no program srot", 2),
        (("sort", "-m1"), "1 parties, expected 2 to 256", 2),
        (("sort", "-m3", "-t2"), "threshold 2 with 3 parties", 2),
        (("sort", "-m3", "--mpyc=-Z"), "is not one of MPyC's options", 2),
        (("sort", "-m3", "--round-trip", "soon"), "'soon' is not a duration", 2),
        (("sort", "-m3", "--", "-M3"), "is a connection option of MPyC", 2),
        (("sort", "-m3", "--", "--numbers"), "the program of party 0 failed in the dry run", 1),
        (("sort", "-m3", "--timeout", "200ms"), "the dry run did not end within 0.2 s", 1),
    ],
)
def test_impossible_options_are_refused_in_one_sentence(
    capfd: pytest.CaptureFixture[str], arguments: tuple[str, ...], sentence: str, code: int
) -> None:
    assert run(["estimate", *arguments]) == code
    out, err = capfd.readouterr()
    assert out == ""
    assert "Traceback" not in err
    assert sentence in err[err.index(ERROR) :]


# A program that never communicates, and one that goes round in circles while the others wait for it.
@pytest.mark.parametrize("script", [PAUSE, PAUSE.replace("signal.pause()", "while True: pass")], ids=["idle", "busy"])
def test_ctrl_c_ends_all_programs(alone: Path, script: str) -> None:
    Path("pause.py").write_text(script)

    async def main(path: Path) -> tuple[int, bytes, list[int]]:
        async with asyncio.timeout(DEADLINE_S), pids_at(path) as told:
            command = [
                *(sys.executable, "-m", "onionmpc.cli", "estimate", "--profile", "pause.py", "-m3"),
                *("--", str(path)),
            ]
            process = await asyncio.create_subprocess_exec(
                *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
            )
            try:
                programs = [int(await told.readline()) for _ in range(3)]
                process.send_signal(signal.SIGINT)
                said, _ = await process.communicate()
                return process.returncode or 0, said, programs
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()

    with socket_directory() as sockets:
        status, said, programs = asyncio.run(main(sockets / "told"))
    assert status == 130
    assert b"Traceback" not in said
    assert not [program for program in programs if is_there(program)]


# Issue 12.
@pytest.mark.parametrize(("script", "noted"), [("print(1)", True), ("from mpyc.runtime import mpc", False)])
def test_a_script_without_mpyc_is_noted_before_the_dry_run(
    capfd: pytest.CaptureFixture[str], asked: list[ProgramSpec], alone: Path, script: str, *, noted: bool
) -> None:
    Path("my.py").write_text(script)
    assert run(["estimate", "my.py", "-m3"]) == 0
    assert ("note: my.py does not import mpyc" in capfd.readouterr().err) == noted
