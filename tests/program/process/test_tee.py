"""A program's output arrives as it was written, and is hashed. A slow reader does not block the loop.

A reader that goes away does not end the program: the other parties compute with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import pty
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from onionmpc.machine import READ_BYTES
from onionmpc.program.process.launch import ProgramExit, start_program
from onionmpc.program.process.streams import Streams
from onionmpc.program.process.tee import Tee
from tests.support.rehearsal import write_spec

DEADLINE_S = 30.0
FULL = Path("/dev/full")


def in_a_loop(test: Callable[..., Awaitable[None]]) -> Callable[[], None]:
    def run() -> None:
        async def bounded() -> None:
            async with asyncio.timeout(DEADLINE_S):
                await test()

        asyncio.run(bounded())

    run.__name__ = test.__name__
    return run


@contextlib.contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    near, far = os.pipe()
    try:
        yield near, far
    finally:
        os.close(near)
        with contextlib.suppress(OSError):
            os.close(far)


async def read(descriptor: int, size: int) -> bytes:
    """Read this many bytes, or up to the end."""
    read = b""
    while len(read) < size and (chunk := await asyncio.to_thread(os.read, descriptor, size - len(read))):
        read += chunk
    return read


@in_a_loop
async def test_output_arrives_at_once_and_all_of_it_is_hashed() -> None:
    with pipe() as (near, far):
        tee = Tee(far)
        said = b""
        for word in (b"a line\n", b"\x00\xff", b"no end of line"):
            tee.write_end.write(word)
            assert await read(near, len(word)) == word
            said += word
        tee.write_end.close()
        assert await tee.finish() == hashlib.sha256(said).digest()
        tee.close()


@in_a_loop
async def test_no_output_has_a_hash_too() -> None:
    with pipe() as (_, far):
        tee = Tee(far)
        tee.write_end.close()
        assert await tee.finish() == hashlib.sha256().digest()
        tee.close()


@in_a_loop
async def test_a_process_that_still_holds_the_pipe_is_not_waited_for() -> None:
    with pipe() as (near, far):
        tee = Tee(far)
        left_behind = os.dup(tee.write_end.fileno())  # by a process that the program started
        tee.write_end.write(b"said before the end")
        assert await tee.finish() == hashlib.sha256(b"said before the end").digest()
        assert await read(near, 19) == b"said before the end"
        with pytest.raises(BrokenPipeError):
            os.write(left_behind, b"too late")
        os.close(left_behind)
        tee.close()


async def write_as_much_as_possible(tee: Tee) -> int:
    """Write as much as the tee takes in many turns of the loop; return how many bytes that was."""
    os.set_blocking(tee.write_end.fileno(), False)
    written = 0
    for _ in range(1000):
        written += tee.write_end.write(bytes(READ_BYTES)) or 0
        await asyncio.sleep(0)
    return written


@in_a_loop
async def test_a_reader_that_takes_nothing_blocks_only_the_writer() -> None:
    with pipe() as (near, far):
        tee = Tee(far)
        written = await write_as_much_as_possible(tee)
        assert written <= 3 * READ_BYTES  # two pipes, and what we hold
        finishing = asyncio.create_task(tee.finish())
        assert await read(near, written) == bytes(written)
        assert await finishing == hashlib.sha256(bytes(written)).digest()
        tee.close()


@in_a_loop
async def test_a_reader_that_never_takes_anything_does_not_delay_the_end() -> None:
    with pipe() as (_, far):
        tee = Tee(far)
        await write_as_much_as_possible(tee)
        tee.close()


# Issue 12: the program noticed it and failed, and so did the session.
@in_a_loop
async def test_a_reader_that_is_gone_is_noted_and_the_rest_is_hashed() -> None:
    near, far = os.pipe()
    os.close(near)
    tee = Tee(far)
    said = bytes(20 * READ_BYTES)
    await asyncio.to_thread(tee.write_end.write, said[:READ_BYTES])
    for place in range(READ_BYTES, len(said), READ_BYTES):
        await asyncio.to_thread(tee.write_end.write, said[place : place + READ_BYTES])
    tee.write_end.close()
    assert await tee.finish() == hashlib.sha256(said).digest()
    assert isinstance(tee.loss, BrokenPipeError)
    tee.close()
    os.close(far)


# -- a program whose output goes through us


def into(out: int) -> Streams:
    """Return our own standard streams with another standard output."""
    return Streams(0, out, 2)


async def ending(tmp_path: Path, script: str, out: int, *, hash_output: bool = True) -> ProgramExit:
    spec = write_spec(tmp_path, script, parties=1)
    async with (
        asyncio.timeout(DEADLINE_S),
        start_program(spec, [], streams=into(out), hash_output=hash_output) as program,
    ):
        return await program.wait()


def test_the_hash_covers_all_output_whichever_way_it_was_written(tmp_path: Path) -> None:
    script = """
        import os, sys
        print("first", flush=True)
        os.write(1, b"second\\n")
        sys.stdout.write("last, without an end of line" + "x" * 300_000)
    """
    expected = b"first\nsecond\nlast, without an end of line" + b"x" * 300_000

    async def main() -> None:
        with (tmp_path / "out").open("wb") as out:
            ended = await ending(tmp_path, script, out.fileno())
        assert ended == ProgramExit(0, None, hashlib.sha256(expected).digest())
        assert (tmp_path / "out").read_bytes() == expected

    asyncio.run(main())


def test_output_before_a_failure_arrives(tmp_path: Path) -> None:
    async def main() -> None:
        with (tmp_path / "out").open("wb") as out:
            ended = await ending(tmp_path, "print('half')\nraise SystemExit(3)", out.fileno())
        assert ended.status == 3
        assert (tmp_path / "out").read_bytes() == b"half\n"

    asyncio.run(main())


# Issue 12.
WRITES_ON = """
    import os, sys
    print("a result")
    for _ in range(100):
        os.write(1, bytes(2**16))
    print("another result")
"""


def test_a_program_continues_when_its_output_has_no_reader(tmp_path: Path) -> None:
    with pipe() as (near, far):

        async def main() -> ProgramExit:
            running = asyncio.create_task(ending(tmp_path, WRITES_ON, far, hash_output=False))
            assert await read(near, 9)  # like `head -c 9`
            elsewhere = os.open(os.devnull, os.O_RDONLY)
            os.dup2(elsewhere, near)
            os.close(elsewhere)
            return await running

        ended = asyncio.run(main())
    assert (ended.status, ended.notice, ended.lost) == (0, None, "")


@pytest.mark.skipif(not FULL.exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("hash_output", [True, False])
def test_output_that_cannot_be_written_is_reported_and_does_not_stop_the_program(
    tmp_path: Path, *, hash_output: bool
) -> None:
    with FULL.open("wb") as full:
        ended = asyncio.run(ending(tmp_path, WRITES_ON, full.fileno(), hash_output=hash_output))
    assert (ended.status, ended.lost) == (0, "No space left on device")


def test_without_a_hash_a_program_writes_to_the_terminal_directly(tmp_path: Path) -> None:
    script = "import sys; sys.exit(0 if sys.stdout.isatty() else 3)"
    far, near = pty.openpty()
    stdout = os.dup(1)
    os.dup2(near, 1)
    try:
        assert asyncio.run(ending(tmp_path, script, 1, hash_output=False)).status == 0
    finally:
        os.dup2(stdout, 1)
        for descriptor in (stdout, near, far):
            os.close(descriptor)


def test_with_a_hash_the_terminal_shows_each_line_at_once_and_the_program_sees_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "go")
    script = f"""
        import sys
        print("is a terminal:", sys.stdout.isatty())
        open({str(tmp_path / "go")!r}).read()
        print("end")
    """

    async def main() -> None:
        far, near = pty.openpty()
        spec = write_spec(tmp_path, script, parties=1)
        async with (
            asyncio.timeout(DEADLINE_S),
            start_program(spec, [], streams=into(near), hash_output=True) as program,
        ):
            ending = asyncio.create_task(program.wait())
            first = b"is a terminal: False"
            assert await read(far, len(first)) == first
            await asyncio.to_thread((tmp_path / "go").write_text, "")
            ended = await ending
        # The hash is not that of the terminal's bytes: a terminal ends each line in CR LF.
        assert ended.output == hashlib.sha256(first + b"\nend\n").digest()
        os.close(near)
        os.close(far)

    asyncio.run(main())
