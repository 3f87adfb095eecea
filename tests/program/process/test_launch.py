"""The supervisor reads a program's notices, and ends its process."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from onionmpc.errors import ProgramError
from onionmpc.program.process.launch import TERMINATE_S, ProgramProcess, start_program
from onionmpc.program.process.streams import unattended
from onionmpc.program.spec import Notice, encode
from tests.support.rehearsal import write_spec

DEADLINE_S = 30.0

# Still runs while the interpreter shuts down.
LINGERS = """
    import sys, threading
    def linger():
        threading.main_thread().join()
        print("ending", file=sys.stderr, flush=True)
        threading.Event().wait()
    threading.Thread(target=linger).start()
"""


@pytest.mark.parametrize("how", ["", "raise KeyboardInterrupt", "sys.exit(3)"])
def test_a_program_that_is_shutting_down_is_terminated_silently(tmp_path: Path, how: str) -> None:
    async def main() -> None:
        said = asyncio.StreamReader()
        near, far = os.pipe()
        with os.fdopen(near, "rb") as reading, os.fdopen(far, "wb") as writing:
            await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(said), reading)
            spec = write_spec(tmp_path, f"{LINGERS}    {how}\n", parties=1)
            async with asyncio.timeout(DEADLINE_S), start_program(spec, [], streams=unattended(writing)) as program:
                assert await said.readline() == b"ending\n"
                async with asyncio.timeout(TERMINATE_S):
                    await program.end()
                assert (await program.wait()).status == -signal.SIGTERM
            writing.close()
            assert await said.read() == b""

    asyncio.run(main())


# Issue 12: a second cancellation, while the first one waited for the program to end, left the program running.
def test_a_program_that_ignores_sigterm_is_killed_if_the_wait_for_its_end_is_cancelled(tmp_path: Path) -> None:
    deaf = """
        import signal, sys
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("deaf", file=sys.stderr, flush=True)
        signal.pause()
    """

    async def main() -> None:
        said = asyncio.StreamReader()
        near, far = os.pipe()
        with os.fdopen(near, "rb") as reading, os.fdopen(far, "wb") as writing:
            await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(said), reading)
            spec = write_spec(tmp_path, deaf, parties=1)
            async with asyncio.timeout(DEADLINE_S), start_program(spec, [], streams=unattended(writing)) as program:
                assert await said.readline() == b"deaf\n"
                ending = asyncio.create_task(program.end())
                await asyncio.sleep(0)  # until it waits
                ending.cancel()
                await asyncio.wait({ending})
                async with asyncio.timeout(TERMINATE_S):
                    assert (await program.wait()).status == -signal.SIGKILL
            writing.close()
            assert await said.read() == b""

    asyncio.run(main())


class Ended:
    """A process that has exited."""

    async def wait(self) -> int:
        return 0


async def heard(said: bytes) -> Notice | None:
    control = asyncio.StreamReader()
    control.feed_data(said)
    control.feed_eof()
    return (await ProgramProcess(Ended(), control, {}).wait()).notice  # type: ignore[arg-type]


def test_the_last_notice_is_returned() -> None:
    notice = Notice("pickle", 1, "os.system")
    assert asyncio.run(heard(encode(Notice("started", None, "")) + encode(notice))) == notice
    assert asyncio.run(heard(b"")) is None


@pytest.mark.parametrize(
    "said", [b"{}\n", b"{", b'{"kind":"\xff","party":1,"detail":""}\n', b"[" * 2**16, b"9" * 2**17 + b"\n"]
)
def test_anything_but_a_notice_is_reported(said: bytes) -> None:
    with pytest.raises(ProgramError, match="wrote to onionmpc's own channel"):
        asyncio.run(heard(said))


# Issue 12.
@pytest.mark.parametrize(("script", "said"), [("pass", "it ended without starting MPyC"), ("exit(3)", "status 3")])
def test_a_program_that_never_starts_mpyc_has_failed(tmp_path: Path, script: str, said: str) -> None:
    async def main() -> None:
        async with asyncio.timeout(DEADLINE_S), start_program(write_spec(tmp_path, script), [1, 2]) as program:
            ended = await program.wait()
            assert ended.status
            assert said in ended.describe()

    asyncio.run(main())


# Issue 12.
def test_anything_but_a_notice_is_reported_while_the_program_runs() -> None:
    class Runs:
        async def wait(self) -> int:
            return await asyncio.get_running_loop().create_future()

    async def main() -> None:
        control = asyncio.StreamReader()
        control.feed_data(b"{}\n")
        async with asyncio.timeout(DEADLINE_S):
            await ProgramProcess(Runs(), control, {}).wait()  # type: ignore[arg-type]

    with pytest.raises(ProgramError, match="wrote to onionmpc's own channel"):
        asyncio.run(main())
