"""Sessions that stay at one step until the test goes on, and sessions with a hostile party."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

from onionmpc.mesh.runner import LinkRunner
from onionmpc.session.events import LinkUp, ProgramEnded
from onionmpc.session.timings import DEFAULT_TIMINGS, Timings
from tests.support.session import HASTY, Ending, Hostile, Room, listed_plan, room, write_script

RENDEZVOUS = "A" * 40


QUICK = """
from mpyc.runtime import mpc
mpc.run(mpc.start())
mpc.run(mpc.shutdown())
"""


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


def with_our_path() -> dict[str, str]:
    """An environment in which a process finds the modules of tests, before those that this one finds."""
    paths = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


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


async def survivors(place: Room, victim: int) -> list[Ending]:
    return [await place.tasks[number] for number in sorted(place.tasks) if number != victim]


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
        def say(_party: int, runner: LinkRunner) -> None:
            for payload in payloads:
                runner.send_control(payload(hostile))

        hostile.on_up = say

    return prepare
