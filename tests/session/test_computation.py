"""Whole sessions of several parties on local sockets: they compute, or all of them end and say the same."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import operator
import os
import random
import re
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import msgspec
import pytest

from onionmpc.errors import (
    AgreementError,
    LinkExpired,
    OnionMPCError,
    PeerLeft,
    ProgramError,
    RemoteProtocolError,
    UsageError,
)
from onionmpc.files import socket_directory
from onionmpc.identity import Onion
from onionmpc.levels import Level
from onionmpc.mesh import pace, redial
from onionmpc.mesh.direct import DirectNetwork
from onionmpc.mesh.mesh import Mesh
from onionmpc.mesh.network import OwnPath, Stream
from onionmpc.mesh.pace import DIALS_IN_A_ROW
from onionmpc.mesh.redial import DIAL_TIMEOUT_S
from onionmpc.mesh.runner import LinkRunner
from onionmpc.program.code.attached import attach
from onionmpc.program.code.catalogue import find_program
from onionmpc.program.process import launch
from onionmpc.session import running
from onionmpc.session.agreement import Agreement, Common
from onionmpc.session.computation import Result
from onionmpc.session.dispatch import Dispatcher
from onionmpc.session.events import Agreed, LinkResumed, LinkUp, ProgramEnded, Rounding
from onionmpc.session.local import Plan
from onionmpc.session.messages import AnyMessage, Commit, Done, Report, Verdict, encode_message
from onionmpc.session.timings import DEFAULT_TIMINGS, Timings
from onionmpc.wire.frames import Ack, Channel, Data, Frame, Ping, encode_frame
from onionmpc.wire.link import WINDOW_BYTES
from tests.support.session import (
    HASTY,
    Ending,
    Hostile,
    Room,
    answers,
    give_answer_files,
    listed_plan,
    processes_of_ours,
    room,
    run,
    same_sentence,
    write_script,
)

RENDEZVOUS = "A" * 40
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


# -- sessions that go well

GOES_WELL = """
import os
import numpy as np
from mpyc.runtime import mpc

def inet_sockets():
    links = [read(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
    ours = {link[8:-1] for link in links if link.startswith("socket:")}
    known = set()
    for kind in ("tcp", "tcp6", "udp", "udp6"):
        path = Path(f"/proc/self/net/{kind}")
        known |= {line.split()[9] for line in path.read_text().splitlines()[1:]} if path.exists() else set()
    return sorted(ours & known)

def read(path):
    try:
        return os.readlink(path)
    except OSError:
        return ""

async def main():
    mine = int(sys.argv[1]) + mpc.pid
    secint = mpc.SecInt(32)
    async with mpc:
        total = await mpc.output(mpc.sum(mpc.input(secint(mine))))
        product = await mpc.output(mpc.prod(mpc.input(secint(mine))))
        array = mpc.input(secint.array(np.arange(6).reshape(2, 3) + mine))
        doubled = await mpc.output(sum(array) * 2)
        told = await mpc.transfer({"party": mpc.pid, "array": np.arange(3) * mpc.pid})
        sockets = inet_sockets() if sys.platform == "linux" else []
    sys.stdout.write(f"total {total}\\n")  # in one piece, since the parties of a test share their standard output
    answer(
        total, product, doubled.tolist(), [(one["party"], one["array"].tolist()) for one in told], sys.argv[1:-1],
        sockets, Path("/proc/self/cmdline").read_text() if sys.platform == "linux" else "", sorted(os.environ),
    )
mpc.run(main())
"""


@pytest.mark.parametrize("parties", [2, 3])
def test_strangers_at_a_host_compute_and_all_learn_the_result(
    tmp_path: Path, parties: int, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MPYC_NOPRSS", "1")
    monkeypatch.setenv("ONIONMPC_CONTROL_PASSWORD", "secret")
    program = write_script(tmp_path / "well.py", GOES_WELL)
    plan = listed_plan(program, public=("10",), allow_no_privacy=parties == 2)
    plans = give_answer_files(plan, tmp_path, parties, {n: (f"private{n}",) for n in range(parties)})
    # What a joiner does not name is as the host says; the script is no shipped one.
    plans |= {n: replace(plans[n], public=None, mpyc_options=None) for n in range(1, parties)}
    plans[1] = replace(plans[1], verbose=True)

    async def main() -> None:
        async with room(parties, plan, plans) as place:
            place.start_hosted()
            endings = await place.endings()
            for number, ending in enumerate(endings):
                assert isinstance(ending, Result)
                assert ending.own_number == number
                assert set(ending.links) == set(place.numbers) - {number}
            assert len({ending.session for ending in endings if isinstance(ending, Result)}) == 1
            assert all(len(person.heard(Agreed)) == 1 == len(person.heard(ProgramEnded)) for person in place.persons)

    run(main())
    inputs = [10 + number for number in range(parties)]
    for number, answer in enumerate(answers(tmp_path, parties)):
        total, product, doubled, told, arguments, sockets, command_line, environment = answer
        assert total == sum(inputs)
        assert product == (1320 if parties == 3 else 110)
        assert doubled == [
            [2 * (sum(inputs) + parties * (3 * row + column)) for column in range(3)] for row in range(2)
        ]
        assert told == [(other, [0, other, 2 * other]) for other in range(parties)]
        assert arguments == ["10", f"private{number}"]
        assert sockets == []  # nothing listens, nothing is dialled
        assert "private" not in command_line
        assert "well" not in command_line
        assert not {"MPYC_NOPRSS", "ONIONMPC_CONTROL_PASSWORD"} & set(environment)
    out, err = capfd.readouterr()
    assert sorted(out.split("\n")) == ["", *[f"total {sum(inputs)}"] * parties]
    assert err.count("Start MPyC runtime") == 1  # of the party that asked for it


def test_five_parties_share_arrays(capfd: pytest.CaptureFixture[str]) -> None:
    plan = listed_plan(find_program("regression"), public=("--rows=20", "--columns=2"), private=("--demo",))

    async def main() -> None:
        async with room(5, plan) as place:
            place.start_listed()
            assert all(isinstance(ending, Result) for ending in await place.endings())

    run(main())
    # Not by line: five programs share this output, and what one prints may come in parts (PYTHONUNBUFFERED).
    fits = re.findall(r"[+-][\d.]+ [+-][\d.]+ x1 [+-][\d.]+ x2", capfd.readouterr().out)
    assert len(fits) == 5
    assert len(set(fits)) == 1


def test_order_of_a_full_list_does_not_matter(tmp_path: Path) -> None:
    plan = listed_plan(write_script(tmp_path / "nothing.py", QUICK))

    async def main() -> None:
        async with room(3, plan) as place:
            for number in place.numbers:
                party = place.party(number)
                common = party.full_list(place.others(number)[:: 1 - 2 * (number % 2)])
                place.start(number, party.join_listed(place.networks[number], common))
            assert all(isinstance(ending, Result) for ending in await place.endings())

    run(main())


QUICK = """
from mpyc.runtime import mpc
mpc.run(mpc.start())
mpc.run(mpc.shutdown())
"""

ASKS = """
from mpyc.runtime import mpc
mpc.run(mpc.start())
told = mpc.run(mpc.transfer(input("what? ") if sys.argv[1] == "asks" else None))
mpc.run(mpc.shutdown())
sys.stdout.write(f"{told}\\n")
"""

# Run in a process of its own, since a program has its supervisor's standard input.
ASKING_SESSION = """
import sys
from pathlib import Path
from tests.support.session import give_answer_files, listed_plan, room, run, write_script
from onionmpc.session.computation import Result
folder = Path(sys.argv[1])
script = write_script(folder / "asks.py", Path(sys.argv[2]).read_text())
plans = give_answer_files(listed_plan(script), folder, 3, {0: ("-",), 1: ("asks",), 2: ("-",)})
async def main():
    async with room(3, plans[0], plans) as place:
        place.start_listed()
        assert all(isinstance(ending, Result) for ending in await place.endings())
run(main())
"""


def with_our_path() -> dict[str, str]:
    """An environment in which a process finds the modules of tests, before those that this one finds."""
    paths = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def test_a_program_can_ask_its_person(tmp_path: Path) -> None:
    (tmp_path / "body").write_text(ASKS)
    ended = subprocess.run(
        [sys.executable, "-c", ASKING_SESSION, str(tmp_path), str(tmp_path / "body")],
        input="forty-two\n",
        capture_output=True,
        text=True,
        timeout=60,
        env=with_our_path(),
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.replace("what? ", "") == "[None, 'forty-two', None]\n" * 3


PRINTS = """
from mpyc.runtime import mpc
async def main():
    async with mpc:
        print("the first result", flush=True)
        print(await mpc.output(mpc.sum(mpc.input(mpc.SecInt(32)(1)))), flush=True)
    print("afterwards")
mpc.run(main())
"""


# Issue 12. At whoever's reader had gone the program failed, and with it the session of all.
@pytest.mark.parametrize(
    ("place", "flaw"),
    [
        ("a pipe that nobody reads", "None"),
        pytest.param(
            "/dev/full",
            "the program's standard output could not be written: No space left on device",
            marks=pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full"),
        ),
    ],
)
def test_an_output_that_nobody_takes_spoils_no_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, flaw: str
) -> None:
    if place.startswith("/"):
        out = os.open(place, os.O_WRONLY)
    else:
        near, out = os.pipe()
        os.close(near)
    monkeypatch.setattr(launch, "STDOUT", out)
    plan = listed_plan(write_script(tmp_path / "well.py", PRINTS))

    async def main() -> None:
        async with room(3, plan) as stage:
            stage.start_listed()
            for ending in await stage.endings():
                assert isinstance(ending, Result)
                assert str(ending.output_flaw) == flaw

    run(main())
    os.close(out)


# -- programs that fail

# All parties compute for ever, until one does what its private argument says, in the middle of it.
MISFORTUNE = """
import os, signal
from mpyc.runtime import mpc
what = sys.argv[1]
async def main():
    if what == "raises-early":
        raise RuntimeError("before the start")
    if what == "exits-0-early":
        sys.exit(0)
    await mpc.start()
    secint = mpc.SecInt(32)
    for turn in range(10**6):
        total = await mpc.output(mpc.sum(mpc.input(secint(turn))))
        if turn == 2:
            if what == "raises":
                raise RuntimeError("in the middle")
            if what == "exits-0":
                sys.exit(0)
            if what == "exits-3":
                sys.exit(3)
            if what == "is-killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if what == "shuts-down":
                await mpc.shutdown()
                return
mpc.run(main())
"""


async def misfortune(tmp_path: Path, what: str, number: int, parties: int = 3) -> tuple[list[object], str]:
    plan = listed_plan(write_script(tmp_path / "misfortune.py", MISFORTUNE))
    plans = give_answer_files(plan, tmp_path, parties, {n: (what if n == number else "-",) for n in range(parties)})
    async with room(parties, plan, plans) as place:
        place.start_listed()
        endings = await place.endings()
        return endings, same_sentence(endings)


@pytest.mark.parametrize("number", [0, 2])
@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("raises-early", "it exited with status 1"),
        ("exits-0-early", "it ended without starting MPyC"),
        ("raises", "it exited with status 1"),
        ("exits-0", "it ended while another party still waited for it"),
        ("exits-3", "it exited with status 3"),
        ("is-killed", "it was killed by signal 9 (Killed)"),
    ],
)
def test_a_program_that_fails_ends_the_session_at_all_parties(
    tmp_path: Path, what: str, said: str, number: int, capfd: pytest.CaptureFixture[str]
) -> None:
    async def main() -> None:
        endings, sentence = await misfortune(tmp_path, what, number)
        assert {type(ending) for ending in endings} == {ProgramError}
        assert f"the program failed at party {number} while the program ran: {said}" in sentence

    run(main())


@pytest.mark.parametrize("number", [0, 2])
def test_a_program_that_shuts_down_alone_does_not_leave_the_others_waiting(tmp_path: Path, number: int) -> None:
    async def main() -> None:
        # Its messages and the others' cross, and MPyC cannot tell who is at the wrong place of the program.
        endings, _ = await misfortune(tmp_path, "shuts-down", number)
        assert {type(ending) for ending in endings} <= {ProgramError, RemoteProtocolError}

    run(main())


OTHER_THRESHOLD = """
from mpyc.runtime import mpc
if sys.argv[1] == "other":
    mpc.threshold = 0
mpc.run(mpc.start())
mpc.run(mpc.shutdown())
"""

TWICE = """
from mpyc.runtime import mpc
for _ in range(2):
    mpc.run(mpc.start())
    mpc.run(mpc.shutdown())
"""

# Says that it is another party, where its supervisor has proved who it is.
FALSE_HELLO = """
import mpyc.asyncoro
from mpyc.runtime import mpc
def lie(self, transport):
    self.transport = transport
    if self.peer_pid is not None:
        transport.writelines([(1).to_bytes(2, "little"), *self.runtime._prss_keys_to_peer(self.peer_pid)])
        self.runtime.set_protocol(self.peer_pid, self)
if sys.argv[1] == "other":
    mpyc.asyncoro.MessageExchanger.connection_made = lie
mpc.run(mpc.start())
mpc.run(mpc.transfer(1))
mpc.run(mpc.shutdown())
"""

SENDS_CLASSES = """
from mpyc.runtime import mpc
from ballots import Ballot

class Vote:
    def __init__(self, choice):
        self.choice = choice

async def main():
    async with mpc:
        told = await mpc.transfer([Vote(mpc.pid), Ballot(mpc.pid, "x")])
    answer([(vote.choice, type(vote).__module__, tuple(ballot)) for vote, ballot in told])
mpc.run(main())
"""


@pytest.mark.parametrize("allowed", [("__main__.Vote", "ballots.Ballot"), ("__main__.Vote",)], ids=["both", "one"])
def test_a_programs_own_classes_pass_if_all_parties_allow_them(
    tmp_path: Path, allowed: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ballots.py").write_text(
        "import collections\nBallot = collections.namedtuple('Ballot', ['number', 'cross'])\n"
    )
    plan = listed_plan(write_script(tmp_path / "script.py", SENDS_CLASSES), allowed_types=allowed)
    plans = give_answer_files(plan, tmp_path, 3)
    plans |= {n: replace(plans[n], public=None, mpyc_options=None, allowed_types=None) for n in range(1, 3)}

    kind = Result if len(allowed) == 2 else ProgramError

    async def main() -> None:
        async with room(3, plan, plans) as place:
            place.start_hosted()
            assert {type(ending) for ending in await place.endings()} == {kind}

    run(main())
    if kind is Result:
        assert answers(tmp_path, 3) == [([(n, "__main__", (n, "x")) for n in range(3)],)] * 3
    else:
        told = capfd.readouterr().err
        assert "the program sends a ballots.Ballot, which the other parties would refuse" in told
        assert "--allow-type ballots.Ballot" in told


# Sends a pickle that runs a command where it is unpickled.
HOSTILE_PICKLE = """
import os, pickle
import mpyc.runtime
from mpyc.runtime import mpc
class Command:
    def __reduce__(self):
        return os.system, (f"touch {Path(sys.argv[-1]).parent}/owned",)
mpc.run(mpc.start())
mpc.run(mpc.transfer(1))
if sys.argv[1] == "other":
    mpyc.runtime.pickle.dumps = lambda obj: pickle.dumps(Command())
    mpyc.runtime.pickle.loads = lambda data: None
for _ in range(100):
    mpc.run(mpc.transfer(1))
"""

LONG_MESSAGE = """
import struct
from mpyc.runtime import mpc
mpc.run(mpc.start())
if sys.argv[1] == "other":
    for peer in mpc.parties:
        if peer.pid != mpc.pid:
            peer.protocol.transport.write(struct.pack("<qI", 0, 2**30 + 1))
mpc.run(mpc.transfer(1))
mpc.run(mpc.transfer(2))
"""


async def one_is_other(tmp_path: Path, body: str, number: int) -> tuple[list[Ending], str]:
    plan = listed_plan(write_script(tmp_path / "script.py", body))
    plans = give_answer_files(plan, tmp_path, 3, {n: ("other" if n == number else "-",) for n in range(3)})
    async with room(3, plan, plans) as place:
        place.start_listed()
        endings = await place.endings()
        return endings, same_sentence(endings)


@pytest.mark.parametrize("number", [0, 1])
def test_a_script_that_sets_another_threshold_is_stopped(tmp_path: Path, number: int) -> None:
    async def main() -> None:
        endings, sentence = await one_is_other(tmp_path, OTHER_THRESHOLD, number)
        assert {type(ending) for ending in endings} == {ProgramError}
        assert f"the program failed at party {number} while the program ran: the script sets the threshold" in sentence

    run(main())


def test_a_script_that_starts_mpyc_twice_is_stopped(tmp_path: Path) -> None:
    async def main() -> None:
        endings, sentence = await one_is_other(tmp_path, TWICE, 0)
        assert {type(ending) for ending in endings} == {ProgramError}
        assert "while the program ran: the script starts MPyC again after its shutdown" in sentence

    run(main())


@pytest.mark.parametrize(
    ("body", "number", "said"),
    [
        (FALSE_HELLO, 0, "party 0 calls itself party 1 in its hello"),
        (HOSTILE_PICKLE, 0, "a message asks for posix.system, which is not allowed"),
        (HOSTILE_PICKLE, 2, "a message asks for posix.system, which is not allowed"),
        (LONG_MESSAGE, 0, "party 0 announces a message of 1073741825 bytes, expected at most 1073741824"),
        (LONG_MESSAGE, 2, "party 2 announces a message of 1073741825 bytes, expected at most 1073741824"),
    ],
    ids=["false hello", "pickle from 0", "pickle from 2", "long message from 0", "long message from 2"],
)
def test_a_program_that_breaks_the_rules_is_named_at_all_parties(
    tmp_path: Path, body: str, number: int, said: str
) -> None:
    async def main() -> None:
        endings, sentence = await one_is_other(tmp_path, body, number)
        assert {type(ending) for ending in endings} == {RemoteProtocolError}
        assert f"says that party {number} broke the rules while the program ran: {said}" in sentence
        assert not (tmp_path / "owned").exists()

    run(main())


# -- parties that do not agree


def change(**changes: Any) -> Callable[[Common], Common]:
    return lambda common: msgspec.structs.replace(common, **changes)


@pytest.fixture
def no_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """No program may start in this test."""

    def start(*_: object) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr(running, "start_program", start)


@pytest.fixture
def quick_redials(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dial that failed is repeated at once."""
    monkeypatch.setattr(redial, "RETRY_FIRST_S", 0.05)
    monkeypatch.setattr(redial, "RETRY_LAST_S", 0.05)


@pytest.fixture
def with_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever dials knows of three relays on its side, and at which the circuits join."""
    dial = DirectNetwork.dial

    async def dial_with_path(network: DirectNetwork, onion: Onion, timeout_s: float) -> Stream:
        return replace(await dial(network, onion, timeout_s), path=OwnPath(3, RENDEZVOUS))

    monkeypatch.setattr(DirectNetwork, "dial", dial_with_path)


@pytest.mark.usefixtures("no_program")
@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("protocol", 1, ("protocol version differs", "2 at", "1 at")),
        ("threshold", 0, ("threshold differs", "1 at", "0 at")),
        ("program", "other", ("program differs", "script at", "other at")),
        ("files", {"script.py": "ab" * 32}, ("program file script.py differs", "SHA-256 abababababababab… at")),
        ("files", {}, ("program file script.py differs", "missing at")),
        ("public_arguments", ("1", "2"), ("public arguments differs", "() at", "(1, 2) at")),
        ("mpyc_version", "0.10", ("MPyC version differs", "0.11 at", "0.10 at")),
        ("mpyc_options", ("-L64",), ("MPyC options differs", "() at", "(-L64) at")),
        ("python", "PyPy 32-bit", ("Python differs", "CPython 64-bit at", "PyPy 32-bit at")),
        ("numpy", None, ("numpy's major version differs", "2 at", "none at")),
        ("allowed_types", ("a.B",), ("allowed types differs", "() at", "(a.B) at")),
        ("padding_rate", 5, ("padding rate differs", "0 at", "5 at")),
        ("circuits", 2, ("circuits per link differs", "3 at", "2 at")),
        ("receipt", True, ("receipt differs", "not wanted at", " wanted at party 1")),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_difference_is_named_with_both_values_at_every_party(
    tmp_path: Path, field: str, value: object, said: tuple[str, ...]
) -> None:
    number = len(field) % 3  # each party is the one that differs in some of them
    plan = listed_plan(write_script(tmp_path / "script.py", QUICK))

    async def main() -> None:
        async with room(3, plan) as place:
            place.start_listed(doctors={number: change(**{field: value})})
            endings = await place.endings()
            assert {type(ending) for ending in endings} == {AgreementError}
            sentence = same_sentence(endings)
            assert f"party {number}" in sentence
            for part in said:
                assert part in sentence

    run(main())


OWN_FILES: dict[str, Callable[[Path, Plan], Plan]] = {
    "script": lambda folder, plan: replace(plan, program=write_script(folder / "script.py", "import helper, os")),
    "helper": lambda folder, plan: replace(plan, program=find_program(str(folder / "script.py"))),
    "with": lambda folder, plan: replace(plan, attached=attach([folder / "data.csv"])),
    "public": lambda _folder, plan: replace(plan, public=("3",)),
    "name": lambda _folder, plan: replace(plan, program=find_program("vote")),
    "catalogue": lambda _folder, plan: replace(plan, program=None),
    "threshold": lambda _folder, plan: replace(plan, threshold=0, allow_no_privacy=True),
    "padding": lambda _folder, plan: replace(plan, padding=5),
    "circuits": lambda _folder, plan: replace(plan, circuits=5),
    "receipt": lambda folder, plan: replace(plan, receipt=folder / "receipt"),
}


@pytest.mark.usefixtures("no_program")
@pytest.mark.parametrize(
    ("own", "said"),
    [
        ("script", "program file script.py differs: SHA-256 "),
        ("helper", "program file helper.py differs: SHA-256 "),
        ("with", "program file with/data.csv differs: SHA-256 "),
        ("public", "public arguments differs: (3) at party {joiner}, (2) at party {host}"),
        ("name", "program differs: vote at party {joiner}, script at party {host}"),
        ("catalogue", "the host runs script, which is not in the catalogue here"),
        ("threshold", "threshold differs: 0 at party {joiner}, 1 at party {host}"),
        ("padding", "padding rate differs: 5 at party {joiner}, 0 at party {host}"),
        ("circuits", "circuits per link differs: 5 at party {joiner}, 3 at party {host}"),
        ("receipt", "receipt differs: wanted at party {joiner}, not wanted at party {host}"),
    ],
)
@pytest.mark.parametrize(("host", "joiner"), [(0, 2), (1, 0)])
def test_a_joiner_that_does_not_agree_with_the_host_tells_all(
    tmp_path: Path, host: int, joiner: int, own: str, said: str
) -> None:
    for folder, helper in (tmp_path, "1"), (tmp_path / "other", "2"):
        folder.mkdir(exist_ok=True)
        (folder / "helper.py").write_text(f"number = {helper}")
        (folder / "data.csv").write_text(helper)
        program = write_script(folder / "script.py", "import helper")
    plan = listed_plan(program, public=("2",), attached=attach([tmp_path / "other" / "data.csv"]))
    if own == "script":
        (tmp_path / "helper.py").write_text("number = 2")

    async def main() -> None:
        async with room(3, plan) as place:
            place.plans[joiner] = OWN_FILES[own](tmp_path, plan)
            place.start_hosted(host)
            endings = await place.endings()
            assert {type(ending) for ending in endings} == {AgreementError}
            for number, ending in enumerate(endings):
                assert isinstance(ending, AgreementError)
                assert said.format(host=host, joiner=joiner) in ending.message
                if number != joiner:
                    assert ending.message.startswith(f"party {joiner} did not agree: ")

    run(main())


def test_a_joiner_without_a_program_runs_the_one_of_that_name_here(capfd: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        plan = listed_plan(find_program("vote"), public=("tea,coffee",), private=("--demo",))
        joins = listed_plan(None, public=None, mpyc_options=None, private=("--demo",))
        async with room(3, plan, dict.fromkeys((0, 2), joins)) as place:
            place.start_hosted(1)
            for ending in await place.endings():
                assert isinstance(ending, Result)

    run(main())
    assert capfd.readouterr().out.count("tea") == 3


@pytest.mark.usefixtures("no_program", "quick_redials")
@pytest.mark.parametrize(
    ("level", "floor", "told"),
    [
        (Level.SHORT, Level.STANDARD, "party 2 takes part at circuit length short, and party 0 accepts no less than "),
        (
            Level.STANDARD,
            Level.LONG,
            "party 2 takes part at circuit length standard, and party 0 accepts no less than ",
        ),
    ],
)
def test_a_session_below_someones_floor_does_not_start_and_says_whose(
    tmp_path: Path, level: Level, floor: Level, told: str
) -> None:
    plan = listed_plan(
        write_script(tmp_path / "never.py", "answer('started')"), min_circuit_length=Level.SHORT, timings=HASTY
    )
    strict = replace(plan, min_circuit_length=floor, private=(str(tmp_path / "answer"),))

    async def main() -> None:
        async with room(3, plan, {0: strict}) as place:
            for number in (0, 1):
                place.set_level(number, Level.LONG)
            place.set_level(2, level)
            place.start_listed()
            assert same_sentence(await place.endings()).endswith(f" do not agree: {told}{floor.value}")
            assert not any(person.heard(Agreed) for person in place.persons)

    run(main())
    assert not (tmp_path / "answer").exists()


@pytest.mark.usefixtures("with_paths")
def test_levels_are_agreed_and_each_side_is_told_the_others_count_as_a_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def accepted_path(_network: DirectNetwork, rendezvous: str) -> OwnPath:
        assert rendezvous == RENDEZVOUS
        return OwnPath(1, rendezvous)

    monkeypatch.setattr(DirectNetwork, "accepted_path", accepted_path)
    plan = listed_plan(
        write_script(tmp_path / "rounds.py", ROUNDS), min_circuit_length=Level.SHORT, allow_no_privacy=True
    )
    plans = give_answer_files(plan, tmp_path, 2)

    async def main() -> None:
        async with room(2, plan, plans) as place:
            place.set_level(0, Level.SHORT)
            place.start_listed()
            first, second = await place.endings()
            assert isinstance(first, Result)
            assert isinstance(second, Result)
            assert [own.circuit_length for own in first.own] == [Level.SHORT, Level.STANDARD]
            assert first.own == second.own
            # Party 0 shows its address: it was dialled, though it is the lower one.
            assert (first.links[1].own_relays, first.links[1].claimed_relays) == (1, 3)
            assert (second.links[0].own_relays, second.links[0].claimed_relays) == (3, 1)

    run(main())


def test_a_list_with_someone_else_in_it_is_no_agreement(tmp_path: Path) -> None:
    plan = listed_plan(write_script(tmp_path / "script.py", QUICK))

    async def main() -> None:
        async with room(4, plan) as place:
            for number, others in {0: (1, 2), 1: (0, 2), 2: (0, 3)}.items():
                party = place.party(number)
                common = party.full_list([place.onions[other] for other in others])
                place.start(number, party.join_listed(place.networks[number], common))
            for ending in await place.endings():
                assert isinstance(ending, AgreementError)
                assert "parties differs" in ending.message

    run(main())


@pytest.mark.usefixtures("no_program")
@pytest.mark.parametrize("number", [0, 2])
def test_who_does_not_consent_ends_the_session_for_all(tmp_path: Path, number: int) -> None:
    plan = listed_plan(write_script(tmp_path / "script.py", QUICK))

    async def no(_agreement: object) -> bool:
        return False

    async def main() -> None:
        async with room(3, plan) as place:
            place.persons[number].consent = no
            place.start_listed()
            endings = await place.endings()
            assert {type(ending) for ending in endings} == {AgreementError}
            assert same_sentence(endings) == f"party {number} did not agree: its user said no"

    run(main())


@pytest.mark.usefixtures("no_program", "quick_redials")
def test_who_does_not_answer_in_time_is_named(tmp_path: Path) -> None:
    plan = listed_plan(write_script(tmp_path / "script.py", QUICK), timings=HASTY)

    async def never(_agreement: object) -> bool:
        return await asyncio.get_running_loop().create_future()

    async def main() -> None:
        async with room(3, plan, {n: replace(plan, wait_s=0.5 + n) for n in range(3)}) as place:
            place.persons[2].consent = never
            place.start_listed()
            endings = await place.endings()
            assert {type(ending) for ending in endings} == {AgreementError}
            assert same_sentence(endings) == "party 0 and party 2 do not agree: it did not answer within 0.5 s"

    run(main())


# -- peers that do not keep to the rules


async def with_hostile(
    tmp_path: Path, number: int, prepare: Callable[[Hostile], None], timings: Timings = HASTY
) -> tuple[Room, list[Ending]]:
    """Let two honest parties meet one that does what `prepare` has it do; return how the honest ones end."""
    plan = listed_plan(write_script(tmp_path / "script.py", QUICK), timings=timings)
    async with room(3, plan) as place:
        hostile = Hostile(place, number, place.party(number).full_list(place.others(number)))
        prepare(hostile)
        async with hostile.there():
            place.start_listed([other for other in place.numbers if other != number])
            return place, await place.endings()


def says(*payloads: Callable[[Hostile], bytes]) -> Callable[[Hostile], None]:
    def prepare(hostile: Hostile) -> None:
        hostile.on_up = lambda _party, runner: [runner.send_control(payload(hostile)) for payload in payloads]

    return prepare


def message(message: AnyMessage) -> Callable[[Hostile], bytes]:
    return lambda _hostile: encode_message(message)


def sends_program_bytes(hostile: Hostile) -> None:
    def on_up(_party: int, runner: LinkRunner) -> None:
        runner.send_control(hostile.offer())
        runner.link.send_data(b"a share")
        runner.wake()

    hostile.on_up = on_up


def ends_program_bytes(hostile: Hostile) -> None:
    def on_up(_party: int, runner: LinkRunner) -> None:
        runner.send_control(hostile.offer())
        runner.end_data()

    hostile.on_up = on_up


# Issue 12: a new field raises the version, so that a party of ours which sends one is none.
def with_a_field_more(what: Callable[[Hostile], bytes], *path: str) -> Callable[[Hostile], bytes]:
    def said(hostile: Hostile) -> bytes:
        whole = json.loads(what(hostile)[4:])
        reduce(operator.getitem, path, whole)["more"] = 1
        body = json.dumps(whole).encode()
        return len(body).to_bytes(4) + body

    return said


NONSENSE = b'{"type":"nonsense"}'


@pytest.mark.usefixtures("no_program", "quick_redials")
@pytest.mark.parametrize("number", [0, 2])
@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (says(Hostile.offer, Hostile.offer), "it sent Offer out of place"),
        (says(message(Commit("0" * 64))), "it sent Commit out of place"),
        (says(Hostile.offer, message(Done())), "it sent Done out of place"),
        (says(Hostile.offer, *[message(Commit("0" * 64))] * 2), "it sent Commit out of place"),
        (says(lambda _: b"\x00\x00\x00\x01{"), "a control message of 1 bytes is not of our language"),
        (says(lambda _: len(NONSENSE).to_bytes(4) + NONSENSE), "is not of our language"),
        (says(with_a_field_more(Hostile.offer)), "is not of our language"),
        (says(with_a_field_more(Hostile.offer, "common")), "is not of our language"),
        (says(with_a_field_more(Hostile.offer, "own")), "is not of our language"),
        (says(with_a_field_more(message(Report("", "", "lost", "agree")))), "is not of our language"),
        (says(lambda _: b"\x00\x10\x00\x01"), "a control message has 1048577 bytes, at most 1048576 are allowed"),
        (sends_program_bytes, "it sent bytes of the program before the agreement"),
        (ends_program_bytes, "it sent bytes of the program before the agreement"),
    ],
    ids=[
        "two offers", "commit before offer", "done before commit", "two commits", "no JSON", "no message",
        "a field more", "a common field more", "an own field more", "a field more in a report",
        "too long", "program bytes", "end of program bytes",
    ],
)  # fmt: skip
def test_a_peer_that_breaks_the_rules_is_named(
    tmp_path: Path, number: int, prepare: Callable[[Hostile], None], said: str
) -> None:
    async def main() -> None:
        _, endings = await with_hostile(tmp_path, number, prepare)
        assert {type(ending) for ending in endings} == {RemoteProtocolError}
        sentence = same_sentence(endings, [other for other in range(3) if other != number])
        assert f"says that party {number} broke the rules while the parties" in sentence
        assert said in sentence

    run(main())


@pytest.mark.usefixtures("no_program", "quick_redials")
def test_a_commit_to_another_session_starts_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        _, endings = await with_hostile(tmp_path, 1, says(Hostile.offer, message(Commit("0" * 64))))
        assert {type(ending) for ending in endings} == {AgreementError}
        assert "party 1 do not agree: it committed to another session" in same_sentence(endings, [0, 2])

    run(main())


@pytest.mark.usefixtures("no_program", "quick_redials")
def test_a_flood_of_forged_reports_is_bounded(tmp_path: Path) -> None:
    def prepare(hostile: Hostile) -> None:
        onions = hostile.common.addresses
        strangers = ["x" * 56 + ".onion", "", "\x1b[2J"]

        def on_up(_party: int, runner: LinkRunner) -> None:
            runner.send_control(hostile.offer())
            for reporter in [*strangers, *onions]:
                for about in [*strangers, *onions]:
                    for turn in range(50):
                        report = Report(reporter, about, "lost", "agree", f"\x1b[2Jlie {turn}")
                        runner.send_control(encode_message(report))
            runner.send_control(encode_message(Verdict(tuple(strangers))))

        hostile.on_up = on_up

    heard: list[AnyMessage] = []

    async def main() -> None:
        plan = listed_plan(write_script(tmp_path / "script.py", QUICK), timings=HASTY)
        async with room(3, plan) as place:
            hostile = Hostile(place, 2, place.party(2).full_list(place.others(2)))
            prepare(hostile)
            hostile.on_message = lambda _party, _runner, message: heard.append(message)
            async with hostile.there():
                place.start_listed([0, 1])
                endings = await place.endings()
        for ending in endings:
            assert isinstance(ending, OnionMPCError)
            assert ending.message.isprintable()
            assert "lost each other while the parties agreed: \\x1b[2Jlie 0" in ending.message

    run(main())
    # Each of the two passes on what it heard first from the other, and no more than two reports of each reporter.
    assert len([message for message in heard if isinstance(message, Report)]) <= 2 * 2 * 3


# -- parties that are lost or leave


STAGES = ["connect", "agree", "run", "finish"]
DURING = dict(
    zip(
        STAGES,
        ["while the parties connected", "while the parties agreed", "while the program ran", "after the program had"],
        strict=True,
    )
)

# What scripts wait at: no program can connect to a socket of the test's.
WAIT = """
def wait_for_the_test():
    with open(sys.argv[1] + "/came", "w") as came, open(sys.argv[1] + "/go") as go:
        came.write(".")
        came.flush()
        go.read()
"""
WAITS = (
    WAIT
    + """
from mpyc.runtime import mpc
mpc.run(mpc.start())
if sys.argv[2] == "run":
    wait_for_the_test()
mpc.run(mpc.shutdown())
if sys.argv[2] == "finish":
    wait_for_the_test()
"""
)


class Gate:
    """Where scripts wait for the test: a directory of two pipes, whose ends in the test keep them open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        for name in ("came", "go"):
            os.mkfifo(path / name)
        self._reader = asyncio.StreamReader()
        self._ends = [os.open(path / name, os.O_RDWR | os.O_NONBLOCK) for name in ("came", "go")]

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        came = os.fdopen(os.open(self.path / "came", os.O_RDONLY | os.O_NONBLOCK))
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(self._reader), came)
        try:
            yield
            await self.release()
        finally:
            self._close()
            transport.close()

    async def holds(self, scripts: int) -> None:
        await self._reader.readexactly(scripts)

    async def release(self) -> None:
        """Let all go, and see that they have gone."""
        self._close()
        assert await self._reader.read() == b""

    async def all_gone(self) -> None:
        """Wait until all who waited have ended, by themselves."""
        os.close(self._ends.pop(0))
        assert await self._reader.read() == b""

    def _close(self) -> None:
        while self._ends:
            os.close(self._ends.pop())


@contextlib.asynccontextmanager
async def held_at(
    stage: str, tmp_path: Path, patience_s: float = 60.0, timings: Timings = DEFAULT_TIMINGS
) -> AsyncIterator[Room]:
    """Three parties whose session has come to this stage, and stays there: party 1 does not go on."""
    program = write_script(tmp_path / "waits.py", WAITS)
    async with room(3, listed_plan(program, patience_s=patience_s, timings=timings)) as place:
        gate = Gate(place.directory / "gate")
        for number in place.numbers:
            waits_at = stage if stage == "run" or number == 1 else "-"
            place.plans[number] = replace(
                place.plan,
                private=(str(gate.path), waits_at, str(tmp_path / f"answer{number}")),
                # Whoever loses a third party first says so, at its own step, and the other has no more to say. It is to
                # be the one that does not go on.
                patience_s=patience_s * (0.8 if number == 1 else 1.0),
            )
        asked = asyncio.Semaphore(0)

        async def never(_agreement: object) -> bool:
            asked.release()
            return await asyncio.get_running_loop().create_future()

        if stage == "agree":
            for person in place.persons:
                person.consent = never
        async with gate.open():
            place.start_listed([0, 2] if stage == "connect" else None)
            match stage:
                case "connect":
                    for number in (0, 2):
                        await place.persons[number].hears(LinkUp)
                case "agree":
                    for _ in place.numbers:
                        await asked.acquire()
                case "run":
                    await gate.holds(3)
                case "finish":
                    await gate.holds(1)
                    for number in (0, 2):
                        await place.persons[number].hears(ProgramEnded)
            yield place


@pytest.fixture
def meshes(monkeypatch: pytest.MonkeyPatch) -> dict[int, Mesh]:
    """The mesh of each party, by its number, once it is there."""
    kept: dict[int, Mesh] = {}
    make = Mesh.__init__

    def keep(mesh: Mesh, *arguments: Any, **named: Any) -> None:
        make(mesh, *arguments, **named)
        kept[mesh.own_number] = mesh

    monkeypatch.setattr(Mesh, "__init__", keep)
    return kept


Attack = Callable[[Mesh], Awaitable[None]]
FAR = 2 * WINDOW_BYTES  # whatever was said before


async def comes_back_without_end(mesh: Mesh) -> None:
    link = mesh._links[1]
    while link.runner.alive:
        with contextlib.suppress(OnionMPCError):
            _, secure = await mesh._dial_again(1, link.id, link.runner, 1, DIAL_TIMEOUT_S)
            secure.send([encode_frame(Ping(0))])
            await secure.flush(1.0)
            await secure.close()


def sends(*frames: Frame) -> Attack:
    async def attack(mesh: Mesh) -> None:
        carrier = next(iter(mesh._links[1].runner._carriers.values()))
        carrier.secure.send(map(encode_frame, frames))

    return attack


@pytest.mark.parametrize(
    ("attack", "said"),
    [
        (comes_back_without_end, "it came back more than"),
        (sends(Data(Channel.DATA, FAR, b"far")), "bytes of the data channel came unasked"),
        (sends(Data(Channel.CONTROL, FAR, b"far")), "bytes of the control channel came unasked"),
        (
            sends(*(Data(Channel.DATA, FAR // 4 + 2 * piece, b".") for piece in range(1025))),
            "more than 1024 pieces came",
        ),
        (sends(Ack(10**9, 0)), "the peer acknowledges"),
    ],
    ids=["comes back without end", "data beyond", "control beyond", "pieces", "acknowledges what was not sent"],
)
def test_a_member_that_attacks_a_running_session_ends_it_and_is_named_by_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, meshes: dict[int, Mesh], attack: Attack, said: str
) -> None:
    monkeypatch.setattr(pace, "ACCEPTED_PER_HOUR", 30)

    async def main() -> None:
        async with held_at("run", tmp_path) as place:
            tracemalloc.start()
            began_s = time.monotonic()
            await attack(meshes[0])
            endings = await place.endings()
            assert time.monotonic() - began_s < DEFAULT_TIMINGS.ending_s
            assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
        assert {type(ending) for ending in endings} == {RemoteProtocolError}
        sentence = same_sentence(endings)
        assert "says that party 0 broke the rules while the program ran" in sentence
        assert said in sentence

    try:
        run(main())
    finally:
        tracemalloc.stop()


async def survivors(place: Room, victim: int) -> list[Ending]:
    return [await place.tasks[number] for number in sorted(place.tasks) if number != victim]


@pytest.mark.usefixtures("quick_redials")
@pytest.mark.parametrize("stage", STAGES)
def test_whose_network_dies_is_lost_to_all_others(tmp_path: Path, stage: str) -> None:
    async def main() -> None:
        async with held_at(stage, tmp_path, patience_s=1.0, timings=HASTY) as place, asyncio.timeout(10):
            await place.networks[2].kill()
            endings = await survivors(place, 2)
            assert {type(ending) for ending in endings} == {LinkExpired}
            sentence = same_sentence(endings, [0] if stage == "connect" else [0, 1])
            assert sentence.startswith("party 2 is lost: no other party reaches it (party ")
            assert DURING["run" if stage == "finish" else stage] in sentence  # party 1's program ran still
            own = await place.tasks[2]
            assert isinstance(own, LinkExpired)
            assert "is lost: no other party reaches it (this party (party 2) lost it first" in own.message

    run(main())


@pytest.mark.usefixtures("quick_redials")
@pytest.mark.parametrize("stage", ["agree", "run", "finish"])
def test_two_parties_whose_link_is_cut_lost_each_other(tmp_path: Path, stage: str) -> None:
    async def main() -> None:
        async with held_at(stage, tmp_path, patience_s=1.0, timings=HASTY) as place, asyncio.timeout(10):
            await place.part(0, 2)
            endings = await place.endings()
            assert {type(ending) for ending in endings} == {LinkExpired}
            sentence = same_sentence(endings)
            assert "party 0" in sentence
            assert "party 2" in sentence
            assert f"lost each other {DURING[stage]}" in sentence

    run(main())


@pytest.mark.usefixtures("quick_redials")
@pytest.mark.parametrize("stage", STAGES)
def test_who_is_interrupted_has_left_as_the_others_say(tmp_path: Path, stage: str) -> None:
    async def main() -> None:
        async with held_at(stage, tmp_path, timings=HASTY) as place, asyncio.timeout(10):
            place.tasks[2].cancel()
            await asyncio.wait([place.tasks[2]])
            assert place.tasks[2].cancelled()
            endings = await survivors(place, 2)
            assert {type(ending) for ending in endings} == {PeerLeft}
            sentence = same_sentence(endings, [0] if stage == "connect" else [0, 1])
            assert sentence.startswith(f"party 2 left {DURING[stage]}")

    run(main())


# Issue 12. Whatever fails beside the steps of a session ends it with that error, and the others hear of it.


async def fail(*_: object) -> None:
    raise RuntimeError("a bug")


async def a_task_of_the_mesh(place: Room, mesh: Mesh) -> None:
    mesh._start(fail())


async def a_dial_in_the_wrong_words(place: Room, mesh: Mesh) -> None:
    async def dial(*_: object) -> Stream:
        raise UsageError("cannot write layers.json: No space left on device")

    place.networks[0].dial = dial  # type: ignore[method-assign]
    await place.networks[0].cut(place.onions[2])


async def sending(place: Room, mesh: Mesh) -> None:
    def transmit(*_: object) -> bytes:
        raise RuntimeError("a bug")

    runner = mesh._links[2].runner
    runner.link.transmit = transmit  # type: ignore[method-assign]
    runner.ping()


async def an_alarm(place: Room, mesh: Mesh) -> None:
    def stale(*_: object) -> list[int]:
        raise RuntimeError("a bug")

    runner = mesh._links[2].runner
    runner.link.stale = stale  # type: ignore[method-assign]
    runner._drop_alarm()
    runner._set_alarm(time.monotonic())


async def upkeep(place: Room, mesh: Mesh) -> None:
    mesh._links[2].upkeep._until_back = fail  # type: ignore[assignment, method-assign]
    await place.networks[0].cut(place.onions[2])


async def counting_a_circuit(place: Room, mesh: Mesh) -> None:
    place.networks[0].accepted_path = fail  # type: ignore[assignment, method-assign]
    dispatcher = mesh._observer
    assert isinstance(dispatcher, Dispatcher)
    peer = dispatcher._peers[1]
    dispatcher._background.start(dispatcher._find_own_half(peer, peer.ledger.fastest(None), "F" * 40))


@pytest.mark.usefixtures("quick_redials")
@pytest.mark.parametrize(
    "what",
    [
        a_task_of_the_mesh,
        a_dial_in_the_wrong_words,
        sending,
        an_alarm,
        upkeep,
        counting_a_circuit,
    ],
)
def test_what_fails_beside_a_session_ends_it_and_the_others_hear_of_it(
    tmp_path: Path, meshes: dict[int, Mesh], what: Callable[[Room, Mesh], Awaitable[None]]
) -> None:
    async def main() -> None:
        async with held_at("run", tmp_path, timings=HASTY) as place, asyncio.timeout(10):
            await what(place, meshes[0])
            (ending,) = await asyncio.gather(place.tasks[0], return_exceptions=True)
            assert str(ending) in ("a bug", "cannot write layers.json: No space left on device")
            endings = await survivors(place, 0)
            assert same_sentence(endings, [1, 2]).startswith("party 0 left while the program ran")

    run(main())


def test_who_has_left_is_not_waited_for_even_if_its_close_is_lost(tmp_path: Path) -> None:
    def leaving(hostile: Hostile) -> bytes:
        onion = hostile.mesh.roster[hostile.number]
        return hostile.offer() + encode_message(Report(onion, onion, "left", "agree"))

    async def main() -> None:
        began_s = time.monotonic()
        _, endings = await with_hostile(tmp_path, 2, says(leaving), DEFAULT_TIMINGS)
        assert time.monotonic() - began_s < DEFAULT_TIMINGS.probe_s
        assert {type(ending) for ending in endings} == {PeerLeft}

    run(main())


@pytest.mark.usefixtures("quick_redials")
def test_who_never_comes_is_lost(tmp_path: Path) -> None:
    plan = listed_plan(write_script(tmp_path / "script.py", QUICK), wait_s=0.5, timings=HASTY)

    async def main() -> None:
        async with room(3, plan) as place:
            place.start_listed([0, 2])
            endings = await place.endings()
            assert {type(ending) for ending in endings} == {LinkExpired}
            assert "party 1 is lost: no other party reaches it" in same_sentence(endings, [0, 2])

    run(main())


# -- sessions at a constant rate


def padded_room(tmp_path: Path, bucket_s: float, **changes: Any) -> contextlib.AbstractAsyncContextManager[Room]:
    plan = listed_plan(write_script(tmp_path / "few.py", FEW_ROUNDS), padding_bucket_s=bucket_s, **changes)
    return room(3, plan, give_answer_files(plan, tmp_path, 3))


FEW_ROUNDS = """
from mpyc.runtime import mpc
async def main():
    async with mpc:
        answer(int(await mpc.output(mpc.sum(mpc.input(mpc.SecInt(32)(mpc.pid))))))
mpc.run(main())
"""


def test_a_padded_session_lasts_a_whole_number_of_buckets(tmp_path: Path) -> None:
    bucket_s = 0.4
    consented_at: list[float] = []

    async def note(_agreement: Agreement) -> bool:
        consented_at.append(time.monotonic())
        return True

    async def main() -> None:
        async with padded_room(tmp_path, bucket_s, padding=200) as place:
            for person in place.persons:
                person.consent = note
            place.start_listed()
            endings = await place.endings()
            length_s = time.monotonic() - min(consented_at)
            for person, ending in zip(place.persons, endings, strict=True):
                assert isinstance(ending, Result), ending
                (rounding,) = person.heard(Rounding)
                assert 0 <= rounding.seconds < bucket_s
                # Whoever agreed a moment later than another may end a moment earlier in its bucket.
                assert length_s > bucket_s * math.ceil((ending.run_s - bucket_s / 4) / bucket_s)
        assert answers(tmp_path, 3) == [(3,)] * 3

    run(main())


def test_a_joiner_pads_as_the_host_says(tmp_path: Path) -> None:
    rates: list[int] = []

    async def note(agreement: Agreement) -> bool:
        rates.append(agreement.common.padding_rate)
        return True

    async def main() -> None:
        async with padded_room(tmp_path, 0.1) as place:
            place.plans[0] = replace(place.plans[0], padding=200)
            for person in place.persons:
                person.consent = note
            place.start_hosted()
            assert all(isinstance(ending, Result) for ending in await place.endings())
            assert rates == [200] * 3

    run(main())


@pytest.mark.usefixtures("no_program")
def test_parties_of_different_rates_do_not_agree(tmp_path: Path) -> None:
    async def main() -> None:
        async with padded_room(tmp_path, 0.1, padding=100) as place:
            place.plans[1] = replace(place.plan, padding=200)
            place.start_listed()
            endings = await place.endings()
            assert {type(ending) for ending in endings} == {AgreementError}
            assert "padding rate differs: " in same_sentence(endings)
            assert "200 at party 1" in same_sentence(endings)

    run(main())


def test_who_leaves_while_links_only_stay_busy_spoils_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with padded_room(tmp_path, 3600.0, padding=200) as place:
            place.start_listed()
            for person in place.persons:
                await person.hears(Rounding)
            for number in (2, 0):
                place.tasks[number].cancel()
                await asyncio.wait([place.tasks[number]])
            # Nobody is left to be busy with.
            assert isinstance(await place.tasks[1], Result)

    run(main())


def test_a_gap_is_counted(tmp_path: Path) -> None:
    async def main() -> None:
        async with padded_room(tmp_path, 0.1, padding=200) as place:
            cut = asyncio.Event()

            async def cut_first(_agreement: Agreement) -> bool:
                if not cut.is_set():
                    cut.set()
                    await place.networks[0].cut_all()
                for peer in place.persons:
                    await peer.hears(LinkResumed)
                return True

            place.persons[0].consent = cut_first
            place.start_listed()
            (result, *others) = await place.endings()
            assert isinstance(result, Result)
            assert [link.gaps for link in result.links.values()] == [1, 1]
            assert all(0 < link.gap_s < 10 for link in result.links.values())
            assert all(isinstance(other, Result) for other in others)

    run(main())


# -- sessions that outlive their streams


ROUNDS = """
from mpyc.runtime import mpc
async def main():
    async with mpc:
        x = mpc.SecInt(32)(1)
        for _ in range(200):
            x += 1
            await mpc.output(x * x)
        answer(int(await mpc.output(x)))
mpc.run(main())
"""


@pytest.mark.parametrize("stage", STAGES)
def test_a_session_outlives_its_streams_at_any_step(tmp_path: Path, stage: str) -> None:
    async def main() -> None:
        async with held_at(stage, tmp_path) as place:
            for network in place.networks:
                await network.cut_all()
            if stage == "connect":
                place.start_listed([1])
            for number in (0, 2):
                await place.persons[number].hears(LinkResumed)

    run(main())


# Issue 3: a rendezvous point was named of a stream that its listener never saw, and that was taken for an offence.
@pytest.mark.usefixtures("with_paths")
def test_a_session_whose_streams_are_cut_all_the_time_computes_the_same(tmp_path: Path) -> None:
    plan = listed_plan(write_script(tmp_path / "rounds.py", ROUNDS))

    async def main() -> None:
        async with room(3, plan) as place:
            place.plans = give_answer_files(plan, tmp_path, 3)

            async def cut() -> None:
                choose = random.Random(1)
                # Fewer than a party may dial in a row.
                for _ in range(DIALS_IN_A_ROW // 2):
                    await asyncio.sleep(0.2 * choose.random())
                    await choose.choice(place.networks).cut_all()

            place.start_listed()
            cutting = asyncio.create_task(cut())
            endings = await place.endings()
            cutting.cancel()
            for ending in endings:
                assert isinstance(ending, Result), ending
            assert answers(tmp_path, 3) == [(201,)] * 3
            assert any(person.heard(LinkResumed) for person in place.persons)

    run(main())


STUMBLES = """
from mpyc.runtime import mpc
async def main():
    async with mpc:
        x = mpc.SecInt(32)(1)
        await mpc.output(x > 0) if sys.argv[1] == "late" else await mpc.gather(x > 0)
        if mpc.pid == 1:
            raise RuntimeError("stumbled")
        await mpc.transfer(None)
mpc.run(main())
"""


@pytest.mark.usefixtures("quick_redials")
@pytest.mark.parametrize(
    ("when", "told"),
    [("early", "no output had been revealed"), ("late", "some output may have been revealed before")],
)
def test_a_session_that_fails_says_whether_anything_was_revealed(tmp_path: Path, when: str, told: str) -> None:
    # The comparison opens masked values inside MPyC, which reveals nothing.
    plan = listed_plan(write_script(tmp_path / "stumbles.py", STUMBLES), private=(when,), timings=HASTY)

    async def main() -> None:
        async with room(3, plan) as place:
            place.start_listed()
            assert same_sentence(await place.endings()).endswith(f"; {told}")

    run(main())


# Run in a process of its own, which the test kills.
DOOMED_SESSION = """
import asyncio, sys
from dataclasses import replace
from pathlib import Path
from tests.support.session import listed_plan, room, write_script
script = write_script(Path(sys.argv[1]) / "waits.py", Path(sys.argv[1], "body").read_text())
async def main():
    async with room(3, listed_plan(script, private=(sys.argv[2], "run", "-"))) as place:
        place.start_listed()
        await place.endings()
asyncio.run(main())
"""


@pytest.mark.parametrize("stopped", [pytest.param(True, marks=ON_LINUX), False])
def test_programs_end_when_their_supervisor_is_killed(tmp_path: Path, *, stopped: bool) -> None:
    (tmp_path / "body").write_text(WAITS)

    async def main() -> None:
        with socket_directory() as directory:
            gate = Gate(directory / "gate")
            async with gate.open():
                supervisor = await asyncio.create_subprocess_exec(
                    sys.executable,
                    *("-c", DOOMED_SESSION, str(tmp_path), str(gate.path)),
                    env=with_our_path(),
                )
                await gate.holds(3)
                for program in processes_of_ours(supervisor.pid) if stopped else ():
                    os.kill(program, signal.SIGSTOP)
                supervisor.kill()
                await supervisor.wait()
                await gate.all_gone()

    run(main())


# -- what a session costs


SENDS_MUCH = (
    WAIT
    + """
from mpyc.runtime import mpc
SIZE = 48 * 2**20
mpc.run(mpc.start())
if mpc.pid == 1:
    wait_for_the_test()  # reads nothing until the test has seen that nothing moves
received = mpc.run(mpc.transfer(bytes(SIZE) if mpc.pid == 0 else None, senders=[0], receivers=[1]))
mpc.run(mpc.shutdown())
if mpc.pid == 1:
    assert received == [bytes(SIZE)]
"""
)


def test_a_program_that_does_not_read_fills_no_memory_of_the_supervisors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = asyncio.Event()
    send_data = LinkRunner.send_data

    async def watched(runner: LinkRunner, payload: bytes) -> None:
        if len(payload) > runner.link.room():
            full.set()
        await send_data(runner, payload)

    monkeypatch.setattr(LinkRunner, "send_data", watched)

    async def main() -> None:
        plan = listed_plan(write_script(tmp_path / "much.py", SENDS_MUCH), allow_no_privacy=True)
        async with room(2, plan) as place:
            gate = Gate(place.directory / "gate")
            place.plan = replace(place.plan, private=(str(gate.path),))
            async with gate.open():
                place.start_listed()
                await gate.holds(1)
                await full.wait()
                await gate.release()
                for ending in await place.endings():
                    assert isinstance(ending, Result)

    tracemalloc.start()
    try:
        run(main())
        # Twice a window of 4 MiB, and the buffers between; the message is 48 MiB long.
        assert tracemalloc.get_traced_memory()[1] < 24 * 2**20
    finally:
        tracemalloc.stop()
