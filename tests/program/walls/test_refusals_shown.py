"""The hint about files that the program could not open."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from onionmpc.cli.demo import Demo
from onionmpc.cli.display import JsonDisplay, TextDisplay
from onionmpc.cli.followed import Followed
from onionmpc.cli.output import StatusLine
from onionmpc.cli.reach import reach_lines
from onionmpc.program.walls.asked import OutOfReach

# Issue 12.

SEEN = OutOfReach(("/data/x.csv",), ("/data/",), ("/lib/mine/",), 3, not_whole=True)
LINES = [
    "the program asked for /data/x.csv, which it may not read",
    "the program asked to write in /data/, which it may not",
    "the program looked for modules in /lib/mine/, which it may not read",
    "and for at least 3 more",
]


def test_the_hint_names_what_was_refused_and_what_would_open_it() -> None:
    lines = reach_lines(**asdict(SEEN))
    assert lines[:4] == LINES
    for line, words in zip(lines[4:], ("pass its path after --", "--with PATH", "a home folder"), strict=True):
        assert words in line
    at_home = reach_lines(**asdict(OutOfReach((), (), (), 0, not_whole=True)))
    assert at_home[0] == "the program asked for files in a folder that is never opened as a whole"
    assert "because it contains keys and passwords" in at_home[1]
    (modules,) = reach_lines(**asdict(OutOfReach((), (), ("/lib/",), 0, not_whole=False)))[1:]
    assert "--with PATH" in modules


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/data/a b", "'/data/a b'"),
        ("/data/$(id);x", "'/data/$(id);x'"),
        ("/data/a'b", "'/data/a'\"'\"'b'"),
        ("/data/--allow-subprocess", "/data/--allow-subprocess"),
        ("/data/\x1b[2K\rdone", "'/data/\\x1b[2K\\rdone'"),
        ("/data/a\nonionmpc: hint: b", "'/data/a\\nonionmpc: hint: b'"),
        ("/data/\u202ecod.exe", "'/data/\\u202ecod.exe'"),
        ("/data/\udcff", "'/data/\\udcff'"),
    ],
)
def test_a_name_is_quoted_for_the_terminal_and_the_shell(path: str, shown: str) -> None:
    line = reach_lines(reads=[path], writes=[], imports=[], more=0, not_whole=False)[0]
    assert line == f"the program asked for {shown}, which it may not read"


def test_a_long_name_is_cut() -> None:
    line = reach_lines(reads=["/" + "a" * 5000], writes=[], imports=[], more=0, not_whole=False)[0]
    assert len(line) < 600


def test_text_and_json_displays_show_it_and_demo_repeats_what_its_parties_show(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    TextDisplay(yes=True).tell(SEEN)
    lines = [line.split("s  ", 1)[1] for line in capsys.readouterr().err.splitlines()]
    assert lines == reach_lines(**asdict(SEEN))
    JsonDisplay(yes=True).tell(SEEN)
    event = json.loads(capsys.readouterr().err)
    assert event.pop("at_s") >= 0
    assert event == {"event": "out_of_reach", **{name: value for name, value in event.items() if name != "event"}}
    assert (event["reads"], event["more"], event["not_whole"]) == (["/data/x.csv"], 3, True)
    party = Followed("party 2", None, 0, 0, 0)  # type: ignore[arg-type]
    Demo(tmp_path, StatusLine())._show(party, {**event, "at_s": 1.0})
    shown = [line.split("s  ", 1)[1] for line in capsys.readouterr().err.splitlines()]
    assert shown == [f"party 2: {line}" for line in lines]
