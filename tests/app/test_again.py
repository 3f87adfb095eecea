"""A second start of the app, which gets a fresh link from the first one."""

from __future__ import annotations

import asyncio
import itertools
import signal
import stat
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from onionmpc.app.again import LOCK, POINTER, AlreadyRunning, answering, ask_running
from onionmpc.errors import UsageError
from onionmpc.files import lock

DEADLINE_S = 30.0


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory whose path is too long for a socket."""
    folder = tmp_path / ("long" * 30)
    monkeypatch.setenv("ONIONMPC_STATE", str(folder))
    return folder


def numbered() -> Callable[[], str]:
    count = itertools.count(1)
    return lambda: f"link {next(count)}"


def socket_of(state: Path) -> Path:
    return Path((state / POINTER).read_text())


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(DEADLINE_S):
            await scenario()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(bounded())


def test_each_later_start_gets_a_link_of_its_own_over_a_private_socket(state: Path) -> None:
    async def scenario() -> None:
        async with answering(numbered()):
            assert [await ask_running() for _ in range(3)] == ["link 1", "link 2", "link 3"]
            path = socket_of(state)
            assert stat.S_ISSOCK(path.stat().st_mode)
            assert [mode_of(each) for each in (path, path.parent, state / POINTER)] == [0o600, 0o700, 0o600]
        assert not path.exists()
        assert not (state / POINTER).exists()

    run(scenario)


def test_there_is_one_app_at_a_time() -> None:
    async def second() -> None:
        async with answering(numbered()):
            raise AssertionError

    async def scenario() -> None:
        async with answering(numbered()):
            with pytest.raises(AlreadyRunning):
                await second()
            assert await ask_running() == "link 1"
        async with answering(numbered()):
            assert await ask_running() == "link 1"

    run(scenario)


def test_a_start_waits_for_an_app_that_is_just_starting() -> None:
    async def scenario() -> None:
        asking = asyncio.ensure_future(ask_running())
        await asyncio.sleep(0)
        async with answering(numbered()):
            assert await asking == "link 1"

    run(scenario)


def test_an_app_that_does_not_answer_is_reported_in_time(state: Path) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def scenario() -> None:
        async with answering(numbered()):
            path = socket_of(state)
            path.unlink()
            server = await asyncio.start_unix_server(silent, path)
            with pytest.raises(UsageError, match="does not answer"):
                await ask_running(within_s=0.2)
            server.close()
            await asyncio.sleep(0)
        with pytest.raises(UsageError, match="does not answer"):
            await ask_running(within_s=0.1)

    run(scenario)


def test_after_a_kill_the_next_start_is_the_app(state: Path) -> None:
    script = """if True:
        import asyncio
        from onionmpc.app.again import answering
        async def main():
            async with answering(lambda: "link"):
                print(flush=True)
                await asyncio.Event().wait()
        asyncio.run(main())
    """
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        first.stdout.readline()
        with lock(state / LOCK) as is_ours:
            assert not is_ours
        first.send_signal(signal.SIGKILL)

    async def scenario() -> None:
        async with answering(numbered()):
            assert await ask_running() == "link 1"

    run(scenario)


def test_an_address_that_others_could_have_written_is_refused(state: Path) -> None:
    async def scenario() -> None:
        async with answering(numbered()):
            (state / POINTER).chmod(0o666)
            with pytest.raises(UsageError, match="open to others"):
                await ask_running()

    run(scenario)
