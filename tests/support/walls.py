"""Runs programs inside walls, with some of them missing."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from onionmpc.program.process.launch import ProgramExit, start_program
from onionmpc.program.spec import ProgramSpec, Walls
from onionmpc.program.walls.probe import probe_walls

DEADLINE_S = 60.0


def run_program(spec: ProgramSpec, deadline_s: float = DEADLINE_S) -> ProgramExit:
    async def main() -> ProgramExit:
        async with asyncio.timeout(deadline_s), start_program(spec, []) as program:
            return await program.wait()

    return asyncio.run(main())


def without(monkeypatch: pytest.MonkeyPatch, folder: Path, *functions: str) -> None:
    """Let the programs of this test find that these functions have no effect."""
    folder.mkdir(exist_ok=True)
    modules = "from onionmpc.program.walls import landlock, namespaces, seccomp"
    lines = [modules, *(f"{name} = lambda *_, **__: False" for name in functions)]
    (folder / "sitecustomize.py").write_text("\n".join(lines))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *sys.path]))


def machine_walls() -> Walls:
    return probe_walls()
