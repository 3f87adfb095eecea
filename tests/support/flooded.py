"""A session that strangers will come to, in a process of its own, so that nothing else counts as its memory.

Usage: python -m flooded FOLDER GATE, with scripts that wait at GATE. When they wait, and again for each line that it
reads, cuts what party 0 dialled to party 1, and writes a line of JSON when that link is back: where party 1 listens,
the first messages of party 0's streams so far, and its memory. At the end of its input it waits for the session's, and
writes what all answered, and its memory.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from benchmarks.common import memory_of
from onionmpc.identity import Onion
from onionmpc.mesh.network import Stream
from onionmpc.session.computation import SessionResult
from onionmpc.session.events import LinkResumed
from tests.support.session import CuttableNetwork, answers, give_answer_files, listed_plan, room, write_script

PARTIES = 3
ROUNDS = 100
# What scripts wait at: see tests/support/stages.py.
SCRIPT = f"""
from mpyc.runtime import mpc
secint = mpc.SecInt(32)
mpc.run(mpc.start())
with open(sys.argv[1] + "/came", "w") as came, open(sys.argv[1] + "/go") as go:
    came.write(".")
    came.flush()
    go.read()
found = [int(mpc.run(mpc.output(mpc.sum(mpc.input(secint(turn)))))) for turn in range({ROUNDS})]
mpc.run(mpc.shutdown())
answer(found)
"""
RIGHT = [[[PARTIES * turn for turn in range(ROUNDS)]]] * PARTIES


class Recording(CuttableNetwork):
    """A network of which somebody keeps the first message of each stream that is dialled."""

    firsts: list[bytes]

    async def dial(self, onion: Onion, timeout_s: float) -> Stream:
        stream = await super().dial(onion, timeout_s)
        write = stream.writer.write

        def keep(data: bytes | bytearray | memoryview) -> None:
            self.firsts.append(bytes(data))
            stream.writer.write = write  # type: ignore[method-assign]
            write(data)

        stream.writer.write = keep  # type: ignore[method-assign]
        return stream


async def main(folder: Path, gate: str) -> None:
    """Run the session."""
    plan = listed_plan(write_script(folder / "script.py", SCRIPT), private=(gate,))
    async with room(PARTIES, plan, give_answer_files(plan, folder, PARTIES)) as place:
        recording = Recording(place.directory, place.onions[0])
        recording.firsts = []
        place.networks[0] = recording
        place.start_listed()
        await place.agreed()
        lines = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
        times = 0
        while not times or await lines.readline():
            times += 1
            await recording.cut(place.onions[1])
            await place.persons[0].hears(LinkResumed, times)
            firsts = [first.hex() for first in recording.firsts]
            say([str(recording._socket(place.onions[1])), firsts, memory_of("self")])
        for ending in await place.endings():
            assert isinstance(ending, SessionResult), ending
    say([answers(folder, PARTIES), memory_of("self")])


def say(what: object) -> None:
    """Write a line."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
