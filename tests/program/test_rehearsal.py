"""Dry runs count hops correctly, blame the party that failed, and leave nothing behind."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from onionmpc.errors import ProgramError
from onionmpc.files import socket_directory
from onionmpc.program.process.stuck import USUAL_CAUSES
from onionmpc.program.rehearsal import Hops, evenly, profile, rehearse
from onionmpc.program.spec import ProgramSpec
from tests.support.rehearsal import CHAIN, HOPS_BESIDE_ROUNDS, PAUSE, is_there, pids_at, write_spec

DEADLINE_S = 60.0
CONNECT = """
    from mpyc.runtime import mpc
    mpc.run(mpc.start())
    mpc.run(mpc.shutdown())
"""


def failure_of(spec: ProgramSpec) -> ProgramError:
    with pytest.raises(ProgramError) as caught:
        asyncio.run(profile(spec, DEADLINE_S))
    return caught.value


@pytest.mark.parametrize(("rounds", "parties"), [(2, 3), (9, 3), (3, 5)])
def test_a_chain_of_products_has_one_hop_per_product_and_a_few_more(tmp_path: Path, rounds: int, parties: int) -> None:
    spec = write_spec(tmp_path, CHAIN, str(rounds), parties=parties)
    profiled = asyncio.run(profile(spec, DEADLINE_S))
    assert profiled.hops.count == len(profiled.chain) == rounds + HOPS_BESIDE_ROUNDS


@pytest.mark.parametrize("number", [0, 2])
def test_a_party_that_starts_mpyc_more_often_than_others_is_named(tmp_path: Path, number: int) -> None:
    script = f"""
    from mpyc.runtime import mpc
    for _ in range(2 if mpc.pid == {number} else 1):
        mpc.run(mpc.start())
        mpc.run(mpc.shutdown())
    """
    message = failure_of(write_spec(tmp_path, script)).message
    assert f"ended after start 1 of MPyC, and that of party {number} has begun start 2" in message


def test_an_estimate_is_half_a_round_trip_per_hop_plus_the_computation() -> None:
    assert Hops(57, 0.5).estimate_s(0.3) == pytest.approx(57 * 0.15 + 0.5)


def test_a_script_that_connects_nobody_is_refused(tmp_path: Path) -> None:
    error = failure_of(write_spec(tmp_path, "pass"))
    assert "failed in the dry run: it ended without starting MPyC" in error.message


# Issue 12: the others waited for it until --timeout.
@pytest.mark.parametrize("end", ["sys.exit()", "os._exit(0)", "raise SystemExit(3)"])
def test_a_party_that_exits_at_once_ends_the_dry_run(tmp_path: Path, end: str) -> None:
    script = f"""
    import os, sys
    from mpyc.runtime import mpc
    if mpc.pid == 1:
        {end}
    mpc.run(mpc.start())
    """
    error = failure_of(write_spec(tmp_path, script))
    why = "it exited with status 3" if "3" in end else "it ended without starting MPyC"
    assert f"the program of party 1 failed in the dry run: {why}" in error.message


def test_each_pair_of_parties_has_its_own_delay(tmp_path: Path) -> None:
    spec = write_spec(tmp_path, CHAIN, "3")
    slow = asyncio.run(rehearse(spec, lambda one, other: 0.1 if {one, other} == {1, 2} else 0.0))
    assert slow.seconds >= 3 * 0.1
    assert slow.held_s >= 0.1 * 2 / 6 * 0.5


def test_bytes_are_held_as_long_as_asked(tmp_path: Path) -> None:
    assert asyncio.run(rehearse(write_spec(tmp_path, CHAIN, "1"), evenly(0.05))).held_s >= 0.05


def test_the_party_that_failed_is_named_with_its_last_lines(tmp_path: Path) -> None:
    script = """
    from mpyc.runtime import mpc
    async def main():
        async with mpc:
            if mpc.pid == 1:
                raise ValueError("one is enough")
            await mpc.transfer("more")
    mpc.run(main())
    """
    error = failure_of(write_spec(tmp_path, script))
    assert error.message.startswith(
        "the program of party 1 failed in the dry run: it exited with status 1; its last lines:\n"
    )
    assert error.message.endswith("ValueError: one is enough")
    assert error.hint == ""


def test_a_party_that_waits_for_one_that_ended_too_early_reports_it(tmp_path: Path) -> None:
    script = """
    import os
    from mpyc.runtime import mpc
    async def main():
        await mpc.start()
        if mpc.pid == 1:
            os._exit(0)
        await mpc.transfer("more")
    mpc.run(main())
    """
    assert "it ended while another party still waited for it" in failure_of(write_spec(tmp_path, script)).message


@pytest.mark.parametrize(
    "question",
    [
        "input('your number: ')",
        "import getpass; getpass.getpass('your number: ')",
        "import sys; sys.exit('no number given: use --input FILE, or --demo to try this program out')",
    ],
)
def test_a_program_that_prompts_gets_no_answer_and_brings_a_hint(tmp_path: Path, question: str) -> None:
    error = failure_of(write_spec(tmp_path, question))
    assert "pass the program's input after --" in error.hint


def test_a_program_has_no_terminal_to_prompt_at(tmp_path: Path) -> None:
    script = """
    import os, sys
    assert os.getsid(0) == os.getpid()
    assert sys.stdin.read() == ""
    """
    asyncio.run(rehearse(write_spec(tmp_path, script + CONNECT), evenly(0)))


def test_the_output_of_programs_is_not_shown(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    script = """
    import sys
    print('out')
    print('err', file=sys.stderr)
    """
    asyncio.run(rehearse(write_spec(tmp_path, script + CONNECT), evenly(0)))
    assert capfd.readouterr() == ("", "")


def test_a_program_that_never_ends_is_ended(tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match=r"did not end within 0\.2 s"):
        asyncio.run(profile(write_spec(tmp_path, "import signal; signal.pause()"), 0.2))


# Issue 12.
def test_programs_that_wait_for_each_other_are_reported_before_the_timeout(tmp_path: Path) -> None:
    script = """
    from mpyc.runtime import mpc
    async def main():
        secint = mpc.SecInt(32)
        async with mpc:
            columns = mpc.input([secint(1)] * (4 if mpc.pid == 1 else 3))
            await mpc.output([mpc.sum(column) for column in columns])
    mpc.run(main())
    """
    error = failure_of(write_spec(tmp_path, script))
    assert error.message.startswith("the programs wait for each other in the dry run: party 0 is shutting down and ")
    assert "party 1 waits for a value that no message can bring at script.py line 7" in error.message
    assert error.hint == USUAL_CAUSES


# Issue 12.
def test_delays_between_parties_do_not_look_like_programs_that_wait_for_each_other(tmp_path: Path) -> None:
    spec = msgspec.structs.replace(write_spec(tmp_path, CHAIN, "2"), waiting_s=0.02)
    assert asyncio.run(rehearse(spec, evenly(0.2))).seconds > 2 * 0.2


def test_a_cancelled_run_leaves_nothing_behind(tmp_path: Path) -> None:
    async def main(path: Path) -> list[int]:
        async with asyncio.timeout(DEADLINE_S), pids_at(path) as lines:
            running = asyncio.create_task(profile(write_spec(tmp_path, PAUSE, str(path)), DEADLINE_S))
            processes = [int(await lines.readline()) for _ in range(3)]
            running.cancel()
            await asyncio.wait([running])
            assert running.cancelled()
            return processes

    with socket_directory() as sockets:
        processes = asyncio.run(main(sockets / "pids"))
    assert not [process for process in processes if is_there(process)]
