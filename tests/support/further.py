"""Sessions of several computations: what each party runs, one after the other, and what it may do in between."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from onionmpc.mesh.changes import Changes
from onionmpc.session.computation import SessionResult
from onionmpc.session.local import Plan
from onionmpc.session.messages import AnyMessage, encode_message
from onionmpc.session.peers import ConnectedPeer
from onionmpc.session.session import Session
from tests.support.session import Person, Room, Then, give_answer_files, listed_plan, write_script

SUM = """
from mpyc.runtime import mpc
async def main():
    secint = mpc.SecInt(32)
    async with mpc:
        total = int(await mpc.output(mpc.sum(mpc.input(secint(10 ** mpc.pid)))))
        answer(len(mpc.parties), mpc.threshold, mpc.pid, total)
mpc.run(main())
"""
PRODUCT = SUM.replace("mpc.sum(", "mpc.prod(").replace("10 ** mpc.pid", "mpc.pid + 2")
QUICK = """
from mpyc.runtime import mpc
mpc.run(mpc.start())
mpc.run(mpc.shutdown())
"""
FAIL = "raise SystemExit(3)"

Step = Callable[[Session], Awaitable[object]]


def plans(folder: Path, name: str, body: str, parties: int, **changes: Any) -> dict[int, Plan]:
    """A plan for each party; it answers in a file of this program."""
    place = folder / name
    place.mkdir(exist_ok=True)
    return give_answer_files(listed_plan(write_script(place / f"{name}.py", body), **changes), place, parties)


class Several:
    """Has each party of a room run several computations.

    Attributes:
        results: what each party has got so far.
    """

    def __init__(self, place: Room) -> None:
        self._place = place
        self._got = Changes()
        self.results: dict[int, list[SessionResult]] = {number: [] for number in place.numbers}

    def computes(self, number: int, *steps: Plan | Step) -> None:
        """Have a party run the first computation, and then take these steps: a plan is one more computation."""
        self._place.then[number] = self._then(number, steps)

    def _then(self, number: int, steps: Sequence[Plan | Step]) -> Then:
        async def then(session: Session) -> SessionResult:
            results = self.results[number]
            results.append(await session.first())
            self._got.notify()
            for step in steps:
                if isinstance(step, Plan):
                    results.append(await session.next(step, self._place.persons[number]))
                    self._got.notify()
                else:
                    await step(session)
            return results[-1]

        return then

    async def gets(self, number: int, results: int) -> None:
        """Wait until a party has got so many results."""
        await self._got.until(lambda: len(self.results[number]) >= results)


def hears(person: Person, kind: type[Any], times: int = 1) -> Step:
    """A step that waits until a party was told of something."""
    return lambda _session: person.hears(kind, times)


def says(*payloads: bytes | AnyMessage | Callable[[Session], AnyMessage]) -> Step:
    """A step that sends all peers what the test wants."""

    async def step(session: Session) -> None:
        for payload in payloads:
            said = payload(session) if callable(payload) else payload
            for peer in peers_of(session):
                peer.runner.send_control(said if isinstance(said, bytes) else encode_message(said))

    return step


def peers_of(session: Session) -> list[ConnectedPeer]:
    """The peers of the computation that a session has begun last."""
    return list(session._computation.parts.peers)


async def for_ever(_session: Session) -> None:
    """A step that never ends."""
    await asyncio.get_running_loop().create_future()


async def all_gone(session: Session) -> None:
    """A step that waits until all peers have closed their links."""
    peers = session._computation.parts.peers
    await peers.changes.until(lambda: not any(peer.alive for peer in peers))
