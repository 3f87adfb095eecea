"""Runs a script by several parties, with plain MPyC and with onionmpc, and returns what each party prints.

With onionmpc, the parties are those of a whole session on local sockets: supervisor, walls, pump and unpickler.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

import pytest

from onionmpc.program.code.catalogue import find_program
from onionmpc.program.process.launch import ProgramProcess, start_program
from onionmpc.program.process.streams import Streams
from onionmpc.program.spec import ProgramSpec
from onionmpc.session import running
from onionmpc.session.computation import SessionResult
from tests.support.examples import run_parties
from tests.support.session import listed_plan, room, run

DEADLINE_S = 300.0
# What MPyC uses of gmpy2 and uvloop, by the variables that turn them off.
Packages = Mapping[str, str]
NEITHER: Packages = {"MPYC_NOGMPY": "1", "MPYC_NOUVLOOP": "1"}
BOTH: Packages = {"MPYC_NOGMPY": "0", "MPYC_NOUVLOOP": "0"}
ONLY_GMPY: Packages = {**BOTH, "MPYC_NOUVLOOP": "1"}
ONLY_UVLOOP: Packages = {**BOTH, "MPYC_NOGMPY": "1"}


def printed_by_mpyc(
    folder: Path, script: Path, arguments: Sequence[str] = (), parties: int = 3, options: Sequence[str] = ()
) -> list[str]:
    """Run the parties as `-M` does, without gmpy2 and uvloop."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in NEITHER.items():
            patch.setenv(name, value)
        return run_parties(folder, script, [*options, *arguments], [""] * parties, DEADLINE_S)


def printed_by_onionmpc(
    folder: Path,
    script: Path,
    arguments: Sequence[str] = (),
    parties: Sequence[Packages] = (NEITHER,) * 3,
    **changes: Any,
) -> list[str]:
    """Run the parties in a session. Each has the packages of its place in `parties`.

    Args:
        changes: of the plan.
    """
    plan = listed_plan(find_program(str(script)), private=tuple(arguments), **changes)
    outputs = [folder / f"printed{number}" for number in range(len(parties))]

    async def main() -> list[Any]:
        with contextlib.ExitStack() as stack:
            plans = {}
            for number, path in enumerate(outputs):
                file = stack.enter_context(path.open("wb"))
                plans[number] = replace(plan, streams=Streams(DEVNULL, file.fileno(), 2))
            async with room(len(parties), plan, plans) as place:
                place.start_listed()
                return await place.endings()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "start_program", Environments(parties).start_program)
        endings = run(main(), DEADLINE_S)
    assert [type(ending) for ending in endings] == [SessionResult] * len(parties), endings
    return [path.read_text() for path in outputs]


class Environments:
    """Starts programs, each in the environment of its party: all supervisors of a test are one process."""

    def __init__(self, parties: Sequence[Packages]) -> None:
        self._parties = parties
        self._one_at_a_time = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def start_program(self, spec: ProgramSpec, *arguments: Any, **named: Any) -> AsyncIterator[ProgramProcess]:
        async with contextlib.AsyncExitStack() as stack:
            async with self._one_at_a_time:
                with pytest.MonkeyPatch.context() as patch:
                    for name, value in self._parties[spec.number].items():
                        patch.setenv(name, value)
                    program = await stack.enter_async_context(start_program(spec, *arguments, **named))
            yield program
