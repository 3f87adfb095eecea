"""The supervisor reads a program's notices, and ends its process."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import msgspec
import pytest

from onionmpc.errors import ProgramError
from onionmpc.program.process.launch import TERMINATE_S, Ends, ProgramProcess, start_program
from onionmpc.program.process.streams import unattended
from onionmpc.program.spec import HANDED_AT_ONCE, Notice, encode
from tests.support.machine import open_descriptors
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
    with socket.socket(socket.AF_UNIX) as unused:
        return (await ProgramProcess(Ended(), control, unused, []).wait()).notice  # type: ignore[arg-type]


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
        with socket.socket(socket.AF_UNIX) as unused:
            async with asyncio.timeout(DEADLINE_S):
                await ProgramProcess(Runs(), control, unused, []).wait()  # type: ignore[arg-type]

    with pytest.raises(ProgramError, match="wrote to onionmpc's own channel"):
        asyncio.run(main())


# A program may send anything over its channel; a descriptor would be a way to hand us a file of its choice.
GIVES_A_DESCRIPTOR = """
    import glob, os, socket
    for link in glob.glob("/proc/self/fd/*"):
        if os.path.exists(link) and os.readlink(link).startswith("socket:"):
            end = socket.socket(fileno=int(os.path.basename(link)))
            socket.send_fds(end, [b'{"kind":"revealed","party":null,"detail":""}\\n'], [0, 1, 2])
            end.detach()
    os._exit(3)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="finds its channel in /proc")
def test_no_descriptor_is_taken_from_the_program(tmp_path: Path) -> None:
    revealed = []

    async def main() -> None:
        spec = write_spec(tmp_path, GIVES_A_DESCRIPTOR)
        async with asyncio.timeout(DEADLINE_S), start_program(spec, [1, 2]) as program:
            before = open_descriptors()
            ended = await program.wait(lambda: revealed.append(open_descriptors() - before))
            assert ended.status == 3

    asyncio.run(main())
    assert set(revealed) == {0}


def test_more_descriptors_than_one_message_carries_are_handed_over(tmp_path: Path) -> None:
    peers = HANDED_AT_ONCE + 3
    script = f"""
    import os
    from onionmpc.program.process import mpyc_seam
    from mpyc.runtime import mpc
    links = mpc._loop.create_server.__self__
    links._start_epoch()
    assert sorted(links._sockets) == list(range(1, {peers} + 1))
    for number, end in links._sockets.items():
        end.sendall(number.to_bytes(2, "little"))
    os._exit(0)
    """
    got: dict[int, socket.socket] = {}

    async def main() -> None:
        async def keep(ends: Ends) -> None:
            got.update(ends)

        spec = msgspec.structs.replace(write_spec(tmp_path, script), parties=peers + 1)
        async with asyncio.timeout(DEADLINE_S), start_program(spec, range(1, peers + 1)) as program:
            assert (await program.wait(on_epoch=keep)).status == 0

    asyncio.run(main())
    for peer, end in got.items():
        with end:
            assert int.from_bytes(end.recv(2), "little") == peer
    assert len(got) == peers
