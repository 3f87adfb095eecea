"""The examples of docs/examples, over a private Tor network."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from pathlib import Path

import pytest

import onionmpc
from onionmpc import events
from onionmpc.identity import Identity
from tests.support.session import processes_of_ours

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
TIMEOUT_S = 120
AVERAGE = "average salary of 3 parties: {}"

pytestmark = pytest.mark.tor


def start(name: str, *arguments: str | Path, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", str(EXAMPLES / name), *map(str, arguments)],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_three_parties_in_one_process_compute_twice(testnet_dir: Path, tmp_path: Path) -> None:
    with start("three_parties_twice.py", testnet_dir, folder=tmp_path) as process:
        out, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, err
    assert [line for line in out.splitlines() if "average" in line] == [AVERAGE.format(4200), AVERAGE.format(4300)], out


def test_a_host_asks_its_user_and_two_others_join(testnet_dir: Path, tmp_path: Path) -> None:
    name = "average_of_three.py"
    with contextlib.ExitStack() as stack:
        host = stack.enter_context(start(name, "host", "4200", testnet_dir, folder=tmp_path))
        stack.callback(host.kill)
        assert host.stdout is not None
        for _ in range(2):
            assert host.stdout.readline().startswith("send invite-")
        joiners = []
        for number, salary in ((1, "3100"), (2, "5300")):
            joiner = start(name, "join", salary, f"invite-{number}.txt", testnet_dir, folder=tmp_path)
            joiners.append(stack.enter_context(joiner))
            stack.callback(joiner.kill)
        for process in (host, *joiners):
            assert process.stdin is not None
            process.stdin.write("y\n")
            process.stdin.flush()
        for process in (host, *joiners):
            out, err = process.communicate(timeout=TIMEOUT_S)
            assert process.returncode == 0, err
            assert out.endswith(f"{AVERAGE.format(4200)}\n"), out
            assert "The agreement:\n  program      average_salary " in out
            assert "Compare the roster" in out or process is host


def test_events_show_progress_and_a_host_that_is_not_there_is_named(testnet_dir: Path, tmp_path: Path) -> None:
    with start("progress_and_errors.py", Identity(bytes(32)).onion, testnet_dir, folder=tmp_path) as process:
        out, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, err
    assert "bootstrap: 100 %" in out
    assert out.splitlines()[-1].startswith("a party is not there: "), out


@pytest.mark.parametrize(
    "moment", [None, ("tor", 0), ("bootstrap", 50), ("publish", 0)], ids=["at once", "tor", "bootstrap", "publish"]
)
def test_a_cancelled_party_leaves_no_tor_and_no_file_behind(
    testnet_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: tuple[str, int] | None
) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    before = processes_of_ours()

    async def main() -> None:
        reached = asyncio.Event()

        def note(event: events.Event) -> None:
            if isinstance(event, events.TorProgress) and moment is not None:
                phase, percent = moment
                if event.phase == phase and event.percent >= percent:
                    reached.set()

        async def take_part() -> None:
            async with (
                onionmpc.party(testnet=testnet_dir, on_event=note) as me,
                me.host("average-salary", parties=3) as table,
            ):
                await table.compute(input="1", consent=onionmpc.AGREE_TO_ANYTHING)

        async with asyncio.timeout(TIMEOUT_S):
            task = asyncio.create_task(take_part())
            if moment is None:
                await asyncio.sleep(0)
            else:
                await reached.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
    assert processes_of_ours() == before
    assert list(tmp_path.iterdir()) == []


def test_a_host_is_published_before_it_computes_and_a_table_that_is_left_makes_room_for_the_next(
    testnet_dir: Path,
) -> None:
    async def until(table: onionmpc.Table, phase: str | None) -> None:
        """Wait until publishing has begun, or is done."""
        async for event in table.events:
            if isinstance(event, events.Published) or (isinstance(event, events.TorProgress) and event.phase == phase):
                return

    async def main() -> None:
        async with asyncio.timeout(TIMEOUT_S), onionmpc.party(testnet=testnet_dir) as me:
            async with me.host("average-salary", parties=3) as table:
                await until(table, "publish")
            async with me.host("average-salary", parties=3) as table:
                await until(table, None)
            async with me.host(
                "vote", parties=3, public=["tea,coffee"]
            ) as table:  # another session of the same address
                await until(table, None)

    asyncio.run(main())
