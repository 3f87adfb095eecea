"""What the pages say is true of the program: commands parse, code runs or compiles, targets exist, lines are short.

A shell block in docs/ carries a mark above it: `<!-- run -->`, `<!-- run: tor -->` (in a private Tor network), or
`<!-- not run: why -->`. Commands of a block that is not run are still parsed by the real command line.
"""

from __future__ import annotations

import ast
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from onionmpc.cli.main import cli
from onionmpc.errors import UsageError
from onionmpc.names.evidence_files import read_pieces
from onionmpc.names.examine import Context, examine
from onionmpc.names.findings import Grade
from onionmpc.names.trust import load_trust
from onionmpc.program.code.catalogue import digest, find_program
from onionmpc.session import keystore
from onionmpc.session.computation import SessionResult
from tests.support.evidence import Authority, make_ssh_key, pem
from tests.support.session import listed_plan, room
from tests.support.session import run as run_session
from tests.support.walls import machine_walls

ROOT = Path(__file__).parents[1]
TOP_LEVEL = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")]
PAGES = [*TOP_LEVEL, *sorted((ROOT / "docs").rglob("*.md")), ROOT / "examples" / "README.md"]
GUIDES = [ROOT / "docs" / "tutorial.md", *sorted((ROOT / "docs" / "howto").glob("*.md"))]
BLOCK = re.compile(
    r"(?:<!-- (?P<mark>(?:not )?run(?::[^>]*)?) -->\n\s*)?^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page.

    Attributes:
        mark: what the comment above it says, or the empty string.
    """

    page: Path
    mark: str
    language: str
    text: str

    @property
    def commands(self) -> list[str]:
        """The lines after a prompt; a backslash continues one."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [line.strip().removeprefix("$ ") for line in lines if line.strip().startswith("$ ")]


def blocks_of(page: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a page."""
    for found in BLOCK.finditer(page.read_text()):
        yield Block(page, found["mark"] or "", found["language"], found["text"])


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def name_of(item: object) -> str:
    """Name a page or a block for pytest."""
    page = item.page if isinstance(item, Block) else item
    return str(page.relative_to(ROOT)) if isinstance(page, Path) else str(item)


COMMANDS = [
    (block, command) for block in BLOCKS for command in block.commands if command.split()[0].endswith("onionmpc")
]


@pytest.mark.parametrize(("block", "command"), COMMANDS, ids=name_of)
def test_the_command_line_takes_each_command_of_the_pages(block: Block, command: str) -> None:
    words = shlex.split(command, comments=True)[1:]
    group: click.Command = cli
    name = "onionmpc"
    with click.Context(cli, info_name=name, resilient_parsing=True) as context:
        while isinstance(group, click.Group) and words and not words[0].startswith("-"):
            name = words.pop(0)
            found = group.get_command(context, name)
            assert found is not None, f"there is no command {name}"
            group = found
        group.make_context(name, words, resilient_parsing=True)


@pytest.mark.parametrize("page", GUIDES, ids=name_of)
def test_each_shell_block_of_the_guides_is_run_or_says_why_not(page: Path) -> None:
    for block in blocks_of(page):
        if block.commands:
            assert block.mark in {"run", "run: tor"} or re.fullmatch(r"not run: \S.*", block.mark), block.text


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "python"], ids=name_of)
def test_python_in_the_pages_compiles(block: Block) -> None:
    ast.parse(block.text)


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(
            page, marks=[pytest.mark.tor] if any(block.mark == "run: tor" for block in blocks_of(page)) else []
        )
        for page in PAGES
        if any(block.mark.startswith("run") for block in blocks_of(page))
    ],
    ids=name_of,
)
def test_the_commands_of_a_page_that_are_marked_so_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """A demo of a page runs in the network that tests share; tests/e2e/test_demo.py starts one with each demo."""
    monkeypatch.setenv("ONIONMPC_STATE", str(tmp_path / "state"))
    for block in blocks_of(page):
        if block.language == "python":
            save_named_program(block, tmp_path)
    try:
        for block in blocks_of(page):
            if block.mark.startswith("run"):
                for command in block.commands:
                    if command.startswith("onionmpc demo ") and "--testnet" not in command:
                        run(f"{command} --testnet {request.getfixturevalue('testnet_dir')}", tmp_path)
                    else:
                        run(command, tmp_path)
    finally:
        if (tmp_path / "net").is_dir():
            run("onionmpc testnet down net", tmp_path)


def test_the_tutorial_shows_the_hops_that_its_estimate_shows(tmp_path: Path) -> None:
    blocks = list(blocks_of(ROOT / "docs" / "tutorial.md"))
    for block in blocks:
        if block.language == "python":
            save_named_program(block, tmp_path)
    (command,) = (command for block in blocks for command in block.commands if command.startswith("onionmpc estimate "))
    (shown,) = (block.text for block in blocks if "hops in a dry run" in block.text)
    assert shown.partition(";")[0] in run(command, tmp_path)


def save_named_program(block: Block, folder: Path) -> None:
    """Save a block where the sentence above it says: "save this as `NAME`"."""
    before = block.page.read_text().partition(block.text)[0]
    name = re.search(r"[Ss]ave this as `([\w.]+)`:\s*```(?:python|text)\s*$", before)
    if name:
        (folder / name[1]).write_text(block.text)


def run(command: str, folder: Path) -> str:
    """Run one command of a page, which has to succeed; return what it showed."""
    program, *words = shlex.split(command)
    assert program == "onionmpc", "only commands of onionmpc are run"
    result = subprocess.run(
        [sys.executable, "-m", "onionmpc.cli", *words],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout + result.stderr


def test_the_page_on_data_has_a_program_that_runs_and_plots_at_three_parties(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("program", "here"):
        (tmp_path / name).mkdir()
    for block in blocks_of(ROOT / "docs" / "howto" / "data.md"):
        save_named_program(block, tmp_path / "program")
    shutil.move(tmp_path / "program" / "visits.csv", tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # three parties share this machine
    program = find_program(str(tmp_path / "program" / "wards.py"))
    plan = listed_plan(program, private=("--input", "visits.csv"), walls=machine_walls())

    async def main() -> None:
        async with room(3, plan) as place:
            place.start_listed()
            assert all(isinstance(ending, SessionResult) for ending in await place.endings())

    run_session(main(), deadline_s=240)
    wards = [f"wards-{number}" for number in range(3)]
    assert {path.name for path in (tmp_path / "here").iterdir()} == {
        "visits.csv",
        *(f"{name}{kind}" for name in wards for kind in (".csv", ".png")),
    }
    for name in wards:
        assert (tmp_path / "here" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        # Each clinic has the same visits, so all are three times those of the page.
        assert (tmp_path / "here" / f"{name}.csv").read_text().splitlines() == [
            *(",visits,minutes,mean", "eye,6,144,24.0", "heart,6,285,47.5", "skin,3,36,12.0"),
        ]


def test_the_page_on_proof_makes_one_party_known_to_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    homes = {"one party": tmp_path / "alice", "another party": tmp_path / "ben"}
    company = Authority.make("Acme CA")
    for home in homes.values():
        home.mkdir()
    alice, ben = homes.values()
    (alice / ".ssh").mkdir()
    make_ssh_key(alice / ".ssh", name="id_ed25519")
    secret = company.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (alice / "ca.key").write_bytes(secret)
    for file in (alice / "ca.pem", ben / "acme-ca.pem"):
        file.write_text(pem(company.certificate))
    shutil.copy(alice / ".ssh" / "id_ed25519.pub", ben / "alice.pub")
    for block in blocks_of(ROOT / "docs" / "howto" / "prove.md"):
        who = block.mark.rpartition(" as ")[2]
        if who in homes:
            script = "set -eu\n" + "\n".join(block.commands)
            environment = {"HOME": str(homes[who]), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
            subprocess.run(["bash", "-c", script], cwd=homes[who], env=environment, check=True, timeout=60)
    pieces = read_pieces([alice / "work.statement", alice / "work.pem"])
    monkeypatch.setenv("ONIONMPC_STATE", str(alice / ".local" / "state" / "onionmpc"))
    onion = keystore.describe_identity("work").onion
    context = Context(onion, digest(find_program("average-salary")), " ".join(["word"] * 10), datetime.now(UTC))
    trust = load_trust(ben / ".local" / "state" / "onionmpc" / "trust")
    by_key, by_certificate = (examine(piece, context, trust) for piece in pieces)
    assert (by_key.grade, by_key.name) == (Grade.NAMES, "alice")
    assert by_key.words.startswith("SSH key in your list, for this program, until ")
    assert (by_certificate.grade, by_certificate.name) == (Grade.NAMES, "acme")
    with pytest.raises(UsageError, match="secret key"):
        read_pieces([alice / "work.key"])


FASTER = ROOT / "docs" / "howto" / "faster.md"


def test_the_page_on_speed_shows_the_profiles_of_its_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONIONMPC_STATE", str(tmp_path / "state"))
    blocks = list(blocks_of(FASTER))
    for block in blocks:
        save_named_program(block, tmp_path)
    shown = [block.text for block in blocks if block.text.startswith(" hops  share")]
    commands = [command for block in blocks for command in block.commands]
    assert len(shown) == len(commands) == 2
    for command, table in zip(commands, shown, strict=True):
        assert table in run(command, tmp_path)


def test_the_page_on_speed_knows_what_operations_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONIONMPC_STATE", str(tmp_path / "state"))
    costs = dict(re.findall(r"^\| `(.+)` \| (\d+) \|$", FASTER.read_text(), re.MULTILINE))
    assert len(costs) == 11
    before = """
from mpyc.runtime import mpc
async def main():
    async with mpc:
        a, b, *few = mpc.input([mpc.SecInt(32)(n) for n in range(10)], senders=0)
        x, y = mpc.input([mpc.SecFxp(32)(n) for n in (1.5, 2.5)], senders=0)
        await mpc.output(a)
"""
    lines = [f"        await mpc.output({operation})" for operation in costs]
    (tmp_path / "costs.py").write_text("\n".join([before.rstrip(), *lines, "mpc.run(main())"]))
    data, _ = json.JSONDecoder().raw_decode(run("onionmpc estimate costs.py --parties 3 --profile --json", tmp_path))
    hops = {line["text"]: line["hops"] for line in data["lines"]}
    # The output itself is one more.
    assert {operation: hops[f"await mpc.output({operation})"] - 1 for operation in costs} == {
        operation: int(cost) for operation, cost in costs.items()
    }


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_each_target_that_a_page_names_is_in_the_makefile(page: Path) -> None:
    targets = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = page.read_text()
    named = re.findall(r"`make(?: [A-Z]+=\S+)* ([a-z][\w-]*)", text) + re.findall(
        r"^(?:\$ )?make(?: [A-Z]+=\S+)* ([a-z][\w-]*)", text, re.MULTILINE
    )
    assert set(named) <= targets


FILES = [
    str(path.relative_to(ROOT))
    for folder in ("onionmpc", "tests", "benchmarks", "examples", "torrc.d", "docs")
    for path in (ROOT / folder).rglob("*")
    if path.is_file()
]


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=name_of)
def test_each_module_that_a_page_names_is_there(page: Path) -> None:
    named = set(re.findall(r"`(?:onionmpc/)?([a-z_/]+/[a-z_0-9]+\.py)(?:::\w+)?`", page.read_text()))
    assert not [name for name in named if not any(file.endswith("/" + name) or file == name for file in FILES)]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_lines_are_of_a_width(page: Path) -> None:
    width = 100 if page.name == "README.md" and page.parent == ROOT else 120
    wide = [
        line
        for line in page.read_text().splitlines()
        if len(line) > width and not line.startswith("|")  # a row of a table cannot be broken
    ]
    assert not wide


def without_particulars(line: str) -> str:
    """Return a line of a session without its times, counts, addresses and parties' numbers."""
    line = re.sub(r"[a-z2-7]{56}\.onion", "ONION", " ".join(line.split()))
    return re.sub(r"\d+(?:\.\d+)?", "N", line)


@pytest.mark.tor
def test_readme_shows_what_a_session_shows(testnet_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONIONMPC_STATE", str(tmp_path / "state"))
    seen = run(f"onionmpc demo --testnet {testnet_dir}", tmp_path)
    lines = {without_particulars(line) for line in seen.splitlines()}
    transcript = next(block.text for block in blocks_of(ROOT / "README.md") if "$ make demo" in block.text)
    shown = {without_particulars(line) for line in transcript.splitlines()[1:] if line.strip() != "..."}
    only_without_testnet = {line for line in shown if "private Tor network" in line or "network is ready" in line}
    only_without_testnet |= {line for line in shown if "stopping the network" in line}
    assert len(only_without_testnet) == 3
    assert len(shown - only_without_testnet) >= 5
    assert shown - only_without_testnet <= lines


def test_readme_is_a_screen_and_a_half() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 125  # with the transcript


def test_the_check_of_the_site_finds_what_a_browser_would_load_and_links_that_lead_nowhere(tmp_path: Path) -> None:
    problems = runpy.run_path(str(ROOT / ".ci" / "check_site.py"))["problems"]
    (tmp_path / "other.html").write_text('<h1 id="here">x</h1>')
    (tmp_path / "index.html").write_text(
        '<a href="https://example.org">may be anywhere</a><a href="other.html#here">x</a><a href="#">x</a>'
    )
    assert problems(tmp_path) == []
    (tmp_path / "index.html").write_text(
        '<script src="//cdn.example.org/a.js"></script><img src="https://badge.example.org/b.svg">'
        '<a href="missing.html">x</a><a href="other.html#gone">x</a>'
    )
    (tmp_path / "style.css").write_text("@import 'https://fonts.example.org/f.css'; a { background: url(c.png) }")
    (tmp_path / "script.js").write_text("fetch('https://example.org/d'); open('page.html')")
    found = "\n".join(problems(tmp_path))
    for part in ("a.js", "b.svg", "missing.html", "#gone", "f.css", "example.org/d"):
        assert part in found
    assert len(found.splitlines()) == 6
