"""`onionmpc demo` without a network: its parties are small processes whose output each test chooses."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import click
import pytest

from onionmpc.cli import demo as module
from onionmpc.cli.demo import Demo, Rehearsal
from onionmpc.cli.followed import follow, start
from onionmpc.cli.main import cli, run
from onionmpc.cli.output import StatusLine
from onionmpc.errors import ProgramError
from tests.cli.test_estimate import DECLARES
from tests.support.rehearsal import is_there

DEADLINE_S = 60.0
# A host of two and its joiner: a whole session in events, with what a test has the program do in its midst.
PARTY = """
import json, os, sys
from pathlib import Path
role = sys.argv[1]
events = int(sys.argv[sys.argv.index("--events") + 1])
def tell(name, **values):
    os.write(events, json.dumps({"event": name, "at_s": 0.5, **values}).encode() + b"\\n")
number = 0 if role == "host" else 1
if role == "host":
    tell("invite_ready", seat=1, invite="an invite")
tell("roster_known", own_number=number)
try:
    exec(Path(__file__).with_name("program.py").read_text())
except SystemExit as end:
    tell("failed", error="the program failed", hint="", exit_code=end.code)
    raise
tell("ended", own_number=number, links={}, connect_s=1.0, agree_s=1.0, run_s=1.0)
"""


class Status(StatusLine):
    """Records the lines that it is asked to show."""

    def __init__(self) -> None:
        super().__init__()
        self.told = asyncio.Event()
        self.lines: list[str] = []
        self.states: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)
        self.told.set()

    def going_on(self, what: str, detail: str = "") -> None:
        self.states.append(f"{what}: {detail}")
        self.told.set()


class Scene:
    """Where fake parties play a program."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.status = Status()
        self.demo = Demo(folder, self.status, (sys.executable, str(folder / "party.py")))

    def play(self, program: str, *, party: str = PARTY, **how: Any) -> None:
        asyncio.run(self.playing(program, party=party, **how))

    async def playing(self, program: str, *, party: str = PARTY, stdin: bytes = b"", **how: Any) -> None:
        (self.folder / "party.py").write_text(party)
        (self.folder / "program.py").write_text(textwrap.dedent(program))
        rehearsal = Rehearsal("my.py", 2, options=(), private=(), **how)
        async with asyncio.timeout(DEADLINE_S):
            await self.demo.run(rehearsal, self.folder / "net", stdin)

    @property
    def shown(self) -> list[str]:
        """What was shown of party 0's program. A first line may come before the party's number, from another pipe."""
        parts = [line.partition(" | ") for line in self.status.lines]
        return [text for name, mark, text in parts if mark and name in ("host", "party 0")]

    def output(self, number: int = 0) -> list[str]:
        """What was kept of a party's program."""
        return next(party.output for party in self.demo.parties if party.number == number)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


# Issue 12. This ended with "this is a bug in onionmpc".
@pytest.mark.parametrize(
    "word",
    [
        '{"event": "x"}',
        '{"event": "ended"}',
        '{"event": "invite_ready", "at_s": 1, "invite": "forged"}',
        '{"event": ["roster_known"], "at_s": {}}',
        "[" * 100_000,
    ],
)
def test_what_a_program_writes_to_stderr_is_never_an_event(scene: Scene, word: str) -> None:
    scene.play(f"print({word!r}, file=sys.stderr)")
    assert all(party.results[0]["run_s"] == 1.0 for party in scene.demo.parties)
    # Events and stderr come through two pipes: the line may be read before the party's number.
    assert any(f" stderr | {word[:100]}" in line for line in scene.status.lines)


# Issue 12. So did this.
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_line_of_any_length_is_shown_truncated_and_kept_whole(scene: Scene, stream: str) -> None:
    scene.play(f"sys.{stream}.write('x' * 3 * 2**20 + ' the result\\n')", keep=True)
    label = " | " if stream == "stdout" else " stderr | "
    (shown,) = [
        line.partition(label)[2] for line in scene.status.lines if line.startswith((f"host{label}", f"party 0{label}"))
    ]
    assert shown == "x" * 499 + "…"
    assert scene.output() == (["x" * 3 * 2**20 + " the result"] if stream == "stdout" else [])


# Issue 12. The second result never reached the screen: all states of its line were shown as one, cut to 500 characters.
def test_a_result_that_follows_progress_in_its_line_is_shown_and_kept(scene: Scene) -> None:
    survival = """
        for result in ("Chi2=5.494, p=0.019 for all events in the clear", "Chi2=5.494, p=0.019 for all events secure"):
            for percent in range(100):
                print(f"Progress ... {percent}%", end="\\r", flush=True)
            print(result)
    """
    scene.play(survival, keep=True)
    results = ["Chi2=5.494, p=0.019 for all events in the clear", "Chi2=5.494, p=0.019 for all events secure"]
    assert scene.shown == scene.output(0) == scene.output(1) == results


def test_a_last_line_without_a_line_end_is_a_line(scene: Scene) -> None:
    scene.play("sys.stdout.write('one\\n42')", keep=True)
    assert scene.shown == scene.output() == ["one", "42"]


# Issue 12. Where stdout is a pipe, Python keeps what is printed until there are 8 KiB of it.
def test_a_programs_output_is_shown_as_it_is_written(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    waits = """
        print("before")
        print("half", end="\\r")
        if number == 0:
            open(Path(__file__).with_name("seen")).read()
    """
    os.mkfifo(scene.folder / "seen")

    async def main() -> None:
        playing = asyncio.create_task(scene.playing(waits))
        while "party 0 | before" not in scene.status.lines or "party 0: half" not in scene.status.states:
            scene.status.told.clear()
            await scene.status.told.wait()
        assert not playing.done()
        await asyncio.to_thread((scene.folder / "seen").write_text, "")
        await playing

    asyncio.run(main())


def test_each_program_reads_the_same_text_from_its_stdin(scene: Scene) -> None:
    scene.play("print(sys.stdin.read())", stdin=b"forty\ntwo", keep=True)
    assert scene.output(0) == scene.output(1) == ["forty", "two"]


def test_a_program_that_asks_without_a_terminal_gets_a_hint(scene: Scene) -> None:
    with pytest.raises(ProgramError) as caught:
        scene.play("print('EOFError: EOF when reading a line', file=sys.stderr)\nsys.exit(1)")
    assert "--stdin FILE" in caught.value.hint


def test_a_program_that_fails_is_reported_with_its_last_lines(scene: Scene) -> None:
    with pytest.raises(ProgramError) as caught:
        scene.play("print('stumbled', file=sys.stderr)\nsys.exit(1)")
    assert caught.value.message in (f"party {n}: the program failed; its last lines:\nstumbled" for n in (0, 1))


# Issue 12. The host waited for it, for as long as --wait says.
def test_a_joiner_that_fails_before_it_met_the_host_ends_the_demo(scene: Scene) -> None:
    party = """
import json, os, signal, sys
events = int(sys.argv[sys.argv.index("--events") + 1])
if sys.argv[1] == "join":
    sys.exit("onionmpc: error: no such thing")
os.write(events, b'{"event": "invite_ready", "at_s": 0, "invite": "an invite"}\\n')
signal.pause()
"""
    with pytest.raises(ProgramError) as caught:
        scene.play("", party=party)
    assert caught.value.message == "joiner 1 ended with status 1; its last lines:\nonionmpc: error: no such thing"
    assert not any(is_there(party.process.pid) for party in scene.demo.parties)


def test_a_process_that_holds_the_pipes_after_its_party_has_ended_is_not_waited_for(scene: Scene) -> None:
    leaves = """
        import subprocess
        if number == 0:
            left = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
            print(left.pid)
    """
    try:
        scene.play(leaves, keep=True)
    finally:
        with contextlib.suppress(LookupError, ProcessLookupError):
            os.kill(int(scene.output()[0]), signal.SIGKILL)
    assert [party.process.returncode for party in scene.demo.parties] == [0, 0]


def test_no_line_is_lost_when_a_party_ends_before_all_is_shown(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = scene.status.line

    def line(text: str) -> None:
        slow(text)
        if text.endswith("000"):
            time.sleep(0.02)  # a slow terminal: all of the loop waits

    monkeypatch.setattr(scene.status, "line", line)
    program = scene.folder / "program.py"
    # What is left to write when the party has ended is more than a pipe holds.
    program.write_text("import os\nif os.fork() == 0: print(*range(100_000, 160_001), sep=chr(10))")

    async def main() -> list[str]:
        party = await start("party 0", [sys.executable, str(program)], (), (), Path(os.devnull))
        await follow(party, scene.status, lambda _: None, keep=True, last_output_s=0.2)
        return party.output

    output = asyncio.run(main())
    assert scene.shown[-1] == output[-1] == "160000"


def test_receipts_are_kept_by_the_numbers_of_their_parties(scene: Scene) -> None:
    place = scene.folder / "kept" / "mine.json"
    place.parent.mkdir()
    writes = "Path(sys.argv[sys.argv.index('--receipt') + 1]).write_text(f'of {number}')"
    scene.play(writes, receipt=place)
    kept = scene.demo.keep_receipts(Rehearsal("my.py", 2, (), (), place))
    assert {path.name: path.read_text() for path in kept} == {"mine-0.json": "of 0", "mine-1.json": "of 1"}
    assert sorted(place.parent.iterdir()) == kept


# -- the command


@pytest.fixture
def rehearsed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[Rehearsal, bytes]]:
    """Replace the demonstration itself, and record what it would have run."""
    seen: list[tuple[Rehearsal, bytes]] = []

    async def take(rehearsal: Rehearsal, stdin: bytes, _status: StatusLine) -> dict[str, Any]:
        seen.append((rehearsal, stdin))
        return {}

    monkeypatch.setattr(module, "_run", take)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.py").write_text("class Bid: pass\nfrom mpyc.runtime import mpc\n")
    return seen


def test_the_demo_passes_the_options_of_host_on_as_typed(rehearsed: list[tuple[Rehearsal, bytes]]) -> None:
    Path("data.csv").write_text("")
    typed = [
        *("--threshold", "0", "--allow-no-privacy", "--public", "tea,coffee", "--public=-x", "--with", "data.csv"),
        *("--mpyc=-L64", "--allow-type", "__main__.Bid", "--allow-subprocess", "--padding", "50", "--circuits", "1"),
        *("--wait", "5m", "--patience", "90s", "--verbose"),
    ]
    assert run(["demo", "my.py", "-m2", *typed, "--", "--input", "x"]) == 0
    ((rehearsal, _),) = rehearsed
    assert rehearsal.private == ("--input", "x")
    passed = [word if word != "5m" else "300s" for word in typed]
    assert sorted(rehearsal.options) == sorted(passed)
    host = cli.get_command(click.Context(cli), "host")
    assert host is not None
    again = ["my.py", "-m2", *rehearsal.options]
    with host.make_context("host", again, help_option_names=["-h", "--help"]) as context:
        assert context.params["patience"] == 90.0
        assert context.params["public"] == ("tea,coffee", "-x")


def test_the_demo_passes_on_only_options_that_were_typed(rehearsed: list[tuple[Rehearsal, bytes]]) -> None:
    assert run(["demo"]) == 0
    assert rehearsed == [(Rehearsal("average-salary", 3, [], ("--demo",)), b"")]


def test_the_demo_gives_what_the_block_has_for_it(
    rehearsed: list[tuple[Rehearsal, bytes]], capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["demo", "rank-vote"]) == 0
    assert run(["demo", "rank-vote", "--public", "tea,coffee"]) == 0
    assert [rehearsal.options for rehearsal, _ in rehearsed] == [
        ["--public=tea,coffee,cocoa,water"],
        ["--public", "tea,coffee"],
    ]
    Path("my.py").write_text(DECLARES)
    Path("letter").write_text("hello")
    assert run(["demo", "my.py"]) == 2
    assert "the program needs an input letter (A letter)" in capfd.readouterr().err
    assert run(["demo", "my.py", "--input", "letter=@letter", "--allow-unusual"]) == 0
    rehearsal, _ = rehearsed[-1]
    assert (list(rehearsal.options), rehearsal.private) == (["--allow-unusual", "--public=--rounds=2"], ())
    assert rehearsal.inputs == {"salary": b"4200", "letter": b"hello"}
    assert "4200" not in repr(rehearsal)


def test_each_party_of_the_demo_reads_the_inputs_from_private_files(scene: Scene) -> None:
    program = """
    word = sys.argv[sys.argv.index("--input") + 1]
    name, _, path = word.partition("=@")
    print(name, Path(path).read_text(), oct(Path(path).stat().st_mode & 0o777))
    """
    scene.play(program, inputs={"salary": b"4200"})
    assert scene.shown == ["salary 4200 0o600"]


def test_the_demo_passes_on_each_then_with_a_made_up_input_for_included_programs(
    rehearsed: list[tuple[Rehearsal, bytes]],
) -> None:
    then = ("my.py 1", "vote 'tea, black' coffee", "sort -- --input x")
    assert run(["demo", *(word for text in then for word in ("--then", text)), "--receipt", "r.json"]) == 0
    ((rehearsal, _),) = rehearsed
    assert rehearsal.then == ("my.py 1", "vote 'tea, black' coffee -- --demo", "sort -- --input x")
    assert rehearsal.receipt_of(2, 1) == Path("r-2.json")
    assert rehearsal.receipt_of(2, 3) == Path("r-2-3.json")


def test_the_demo_reads_what_programs_will_read(rehearsed: list[tuple[Rehearsal, bytes]]) -> None:
    Path("answers.txt").write_bytes(b"42\n")
    assert run(["demo", "my.py", "--stdin", "answers.txt"]) == 0
    assert rehearsed[0][1] == b"42\n"


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        (["--threshold", "2"], "threshold 2 with 3 parties"),
        (["-m2"], "hides nothing"),
        (["--mpyc", "-M3"], '"-M3" is not one of'),
        (["--allow-type", "os.system"], "os.system is not a class of the program"),
        (["--with", "nowhere"], "'nowhere' does not exist"),
        (["--stdin", "nowhere"], "nowhere"),
        (["--testnet", "nowhere"], "no test network runs in nowhere"),
        (["--testnet", "nowhere", "--latency", "none"], "--latency and --testnet exclude each other"),
        (["--receipt", "nowhere/r.json"], "cannot write nowhere/r-0.json"),
        (["--receipt", "taken.json"], "taken-2.json already exists"),
        (["--json", "nowhere/r.json"], "cannot write nowhere/r.json"),
        (["--then", "sort", "--then", "nothing"], "--then 2 (nothing): there is no program nothing"),
        (["--then", "sort -- -M3"], "--then 1 (sort): -M3 is a connection option of MPyC"),
    ],
)
def test_the_demo_refuses_impossible_options_before_it_starts_a_network(
    rehearsed: list[tuple[Rehearsal, bytes]], capfd: pytest.CaptureFixture[str], typed: list[str], sentence: str
) -> None:
    Path("taken-2.json").write_text("")
    assert run(["demo", "my.py", *typed]) == 2
    assert sentence in capfd.readouterr().err
    assert rehearsed == []
