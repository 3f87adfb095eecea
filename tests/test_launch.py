"""How a program process is ended."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from rehearsal_kit import write_spec

from onionmpc.program.launch import TERMINATE_S, start_program

DEADLINE_S = 30.0

# Still there when Python has begun to end it.
LINGERS = """
    import sys, threading
    def linger():
        threading.main_thread().join()
        print("ending", file=sys.stderr, flush=True)
        threading.Event().wait()
    threading.Thread(target=linger).start()
"""


@pytest.mark.parametrize("how", ["", "raise KeyboardInterrupt", "sys.exit(3)"])
def test_a_program_that_ends_already_is_terminated_without_a_word(tmp_path: Path, how: str) -> None:
    async def main() -> None:
        said = asyncio.StreamReader()
        near, far = os.pipe()
        with os.fdopen(near, "rb") as reading, os.fdopen(far, "wb") as writing:
            await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(said), reading)
            spec = write_spec(tmp_path, f"{LINGERS}    {how}\n", parties=1)
            async with asyncio.timeout(DEADLINE_S), start_program(spec, [], unattended=writing) as program:
                assert await said.readline() == b"ending\n"
                async with asyncio.timeout(TERMINATE_S):
                    await program.end()
                assert (await program.wait()).status == -signal.SIGTERM
            writing.close()
            assert await said.read() == b""

    asyncio.run(main())
