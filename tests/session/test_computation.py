"""Whole sessions of several parties on local sockets: they compute, or their programs fail."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from onionmpc.errors import OnionMPCError, ProgramError, RemoteProtocolError
from onionmpc.files import socket_directory
from onionmpc.mesh.runner import LinkRunner
from onionmpc.program.code.catalogue import find_program
from onionmpc.program.process.streams import Streams
from onionmpc.session.computation import SessionResult
from onionmpc.session.events import Agreed, ProgramEnded
from tests.support.session import (
    HASTY,
    Ending,
    answers,
    give_answer_files,
    listed_plan,
    processes_of_ours,
    room,
    run,
    same_sentence,
    write_script,
)
from tests.support.stages import QUICK, WAIT, WAITS, Gate, with_our_path

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
                assert isinstance(ending, SessionResult)
                assert ending.own_number == number
                assert set(ending.links) == set(place.numbers) - {number}
            assert len({ending.session for ending in endings if isinstance(ending, SessionResult)}) == 1
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
            assert all(isinstance(ending, SessionResult) for ending in await place.endings())

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
                place.join_listed(number, party, common)
            assert all(isinstance(ending, SessionResult) for ending in await place.endings())

    run(main())


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
from onionmpc.session.computation import SessionResult
folder = Path(sys.argv[1])
script = write_script(folder / "asks.py", Path(sys.argv[2]).read_text())
plans = give_answer_files(listed_plan(script), folder, 3, {0: ("-",), 1: ("asks",), 2: ("-",)})
async def main():
    async with room(3, plans[0], plans) as place:
        place.start_listed()
        assert all(isinstance(ending, SessionResult) for ending in await place.endings())
run(main())
"""


def test_a_program_can_ask_its_user(tmp_path: Path) -> None:
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
def test_an_output_that_cannot_be_written_does_not_fail_the_session(tmp_path: Path, place: str, flaw: str) -> None:
    if place.startswith("/"):
        out = os.open(place, os.O_WRONLY)
    else:
        near, out = os.pipe()
        os.close(near)
    plan = replace(listed_plan(write_script(tmp_path / "well.py", PRINTS)), streams=Streams(0, out, 2))

    async def main() -> None:
        async with room(3, plan) as stage:
            stage.start_listed()
            for ending in await stage.endings():
                assert isinstance(ending, SessionResult)
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


async def misfortune(
    tmp_path: Path, what: str, number: int, parties: int = 3
) -> tuple[list[SessionResult | OnionMPCError], str]:
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

    kind = SessionResult if len(allowed) == 2 else ProgramError

    async def main() -> None:
        async with room(3, plan, plans) as place:
            place.start_hosted()
            assert {type(ending) for ending in await place.endings()} == {kind}

    run(main())
    if kind is SessionResult:
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


@pytest.mark.parametrize(
    ("when", "told"),
    [("early", "no output had been revealed"), ("late", "some output may have been revealed before")],
)
def test_the_error_of_a_failed_session_says_whether_an_output_was_revealed(
    tmp_path: Path, when: str, told: str
) -> None:
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


def test_a_program_that_does_not_read_does_not_fill_the_supervisors_memory(
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
                    assert isinstance(ending, SessionResult)

    tracemalloc.start()
    try:
        run(main())
        # Twice a window of 4 MiB, and the buffers between; the message is 48 MiB long.
        assert tracemalloc.get_traced_memory()[1] < 24 * 2**20
    finally:
        tracemalloc.stop()
