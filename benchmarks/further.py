"""`python -m benchmarks.further`: what a further computation of the same parties costs. No Tor.

All parties are in this process, on local sockets with a known round trip, and their programs in processes of their own.
The whole delay is on the way back to the dialler: the worst case for a message that all parties wait for.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.benchmark import Aim, Benchmark, Turn, main, no_setup
from benchmarks.common import MB, Failed, memory_of
from benchmarks.sessions import scratch
from onionmpc.identity import Onion
from onionmpc.levels import Level
from onionmpc.session.computation import SessionResult
from onionmpc.session.events import Agreed, ConsentQuestion, Event, PrivateInputs
from onionmpc.session.local import Plan
from onionmpc.session.session import Session
from tests.support.further import Several, Step
from tests.support.mesh import Network
from tests.support.session import CuttableNetwork, Person, Room, give_answer_files, listed_plan, room, write_script

PARTIES = 3
ROUND_TRIP_S = 0.5
LIMIT_S = 1800.0
EARLY, LATE = 2, 100  # computations
START, MEMORY = "a second computation", f"{LATE} computations"
# Answers with the time at which it began, and does what a program must.
TICK = """
import time
answer(time.monotonic())
from mpyc.runtime import mpc
mpc.run(mpc.start())
mpc.run(mpc.shutdown())
"""


def plans_in(folder: Path, parties: int) -> dict[int, Plan]:
    """Return a plan for each party, whose program answers in a file of its own."""
    plan = listed_plan(write_script(folder / "tick.py", TICK), allow_no_privacy=True)
    return give_answer_files(plan, folder, parties)


def last_began_s(folder: Path) -> float:
    """Return when the last program began, in seconds of the monotonic clock."""
    return max(float((folder / f"answer{number}").read_text().strip("(),")) for number in range(PARTIES))


class SlowNetwork(Network, CuttableNetwork):
    """Local sockets with a known round trip, for a room."""

    def __init__(self, directory: Path, onion: Onion, level: Level = Level.STANDARD) -> None:
        super().__init__(directory, onion, level)
        self.delays_s = [ROUND_TRIP_S]


class Clocked(Person):
    """A user that consents, and notes when it does and when all have.

    Attributes:
        consented_s, agreed_s: of the last computation, in seconds of the monotonic clock.
    """

    def __init__(self) -> None:
        super().__init__()
        self.consented_s = self.agreed_s = 0.0

    def tell(self, event: Event) -> None:
        """Note when the program starts: all have committed."""
        super().tell(event)
        if isinstance(event, Agreed):
            self.agreed_s = time.monotonic()

    async def consents(self, question: ConsentQuestion) -> PrivateInputs | None:
        """Consent at once."""
        self.consented_s = time.monotonic()
        return await super().consents(question)


async def compute(place: Room, steps: Sequence[Plan | Step], *, besides: Sequence[Plan | Step]) -> None:
    """Have party 0 take these steps after the first computation, and the others the steps besides.

    Raises:
        Failed: a party did not end well.
    """
    several = Several(place)
    for number in place.numbers:
        several.computes(number, *(besides if number else steps))
    place.start_listed()
    for ending in await place.endings():
        if not isinstance(ending, SessionResult):
            raise Failed(f"a computation failed: {ending.message}")


async def take_start(turn: Turn) -> None:
    """Measure from the last consent to the second computation to the first line of the last program."""
    with scratch() as folder:
        plans = plans_in(folder, PARTIES)
        dials: list[int] = []
        async with asyncio.timeout(LIMIT_S), room(PARTIES, plans[0], plans) as place:
            networks = [SlowNetwork(place.directory, onion) for onion in place.onions]
            persons = [Clocked() for _ in place.numbers]
            place.networks[:], place.persons[:] = networks, persons

            async def count(_session: Session) -> None:
                dials.append(sum(network.dials for network in networks))

            await compute(place, [count, plans[0], count], besides=[plans[0]])
        consented_s = max(person.consented_s for person in persons)
        agreed_s = max(person.agreed_s for person in persons) - consented_s
        turn.note(
            START,
            program_s=last_began_s(folder) - consented_s,
            agreed_s=agreed_s,
            round_trips=agreed_s / ROUND_TRIP_S,
            dials=dials[1] - dials[0],
        )


async def take_memory(turn: Turn) -> None:
    """Measure what memory all supervisors of a session, in this process, add in many computations."""
    with scratch() as folder:
        plans = plans_in(folder, 2)
        resident_mb: list[float] = []

        async def note(_session: Session) -> None:
            gc.collect()
            resident_mb.append(memory_of("self")["rss_bytes"] / MB)

        async with asyncio.timeout(LIMIT_S), room(2, plans[0], plans) as place:
            early, late = [plans[0]] * (EARLY - 1), [plans[0]] * (LATE - EARLY)
            await compute(place, [*early, note, *late, note], besides=[plans[1]] * (LATE - 1))
        turn.note(MEMORY, early_mb=resident_mb[0], late_mb=resident_mb[1], grown_mb=resident_mb[1] - resident_mb[0])


async def take(turn: Turn) -> None:
    """Measure the start, or the memory."""
    await (take_start if turn.name == START else take_memory)(turn)


BENCHMARK = Benchmark(
    name="further",
    question="What does a further computation of the same parties cost? (no Tor)",
    turns=[START, MEMORY],
    opened=no_setup(take),
    figures={
        "program_s": ("last consent to the last program's first line, s", 2),
        "agreed_s": ("of these to the start of its process, s", 2),
        "round_trips": ("the same in round trips", 2),
        "dials": ("streams dialled", 0),
        "early_mb": (f"MB after {EARLY}", 1),
        "late_mb": (f"MB after {LATE}", 1),
        "grown_mb": ("MB more", 1),
    },
    aims=[
        Aim("further computation: last consent to the start of the program, in round trips", START, "round_trips", 2.0),
        Aim("streams dialled for a further computation", START, "dials", 0.0),
        Aim(f"memory after {LATE} computations, less that after {EARLY}", MEMORY, "grown_mb", 5.0, "MB"),
    ],
    repeats=3,
)

if __name__ == "__main__":
    main(BENCHMARK)
