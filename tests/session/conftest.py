"""Fixtures for whole sessions of several parties."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from onionmpc.identity import Onion
from onionmpc.mesh.mesh import Mesh
from onionmpc.mesh.network import OwnPath, Stream
from onionmpc.program.process.launch import ProgramExit
from onionmpc.program.spec import ProgramSpec
from onionmpc.session import running
from tests.support.direct import DirectNetwork
from tests.support.stages import RENDEZVOUS


@pytest.fixture
def no_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """No program may start in this test."""

    def start(*_: object) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr(running, "start_program", start)


@pytest.fixture
def instant(monkeypatch: pytest.MonkeyPatch) -> list[ProgramSpec]:
    """Have each program succeed at once, without a process; return what was to run.

    For tests of what is between two computations: a process that starts MPyC takes a second.
    """
    ran: list[ProgramSpec] = []

    class Instant:
        async def wait(self, *_: object, **__: object) -> ProgramExit:
            return ProgramExit(0, None, bytes(32))

        def out_of_reach(self) -> None:
            return None

    @contextlib.asynccontextmanager
    async def start(spec: ProgramSpec, *_: object, **__: object) -> AsyncIterator[Instant]:
        ran.append(spec)
        yield Instant()

    monkeypatch.setattr(running, "start_program", start)
    return ran


@pytest.fixture
def with_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make each dialler report three relays on its side, and where the circuits join."""
    dial = DirectNetwork.dial

    async def dial_with_path(network: DirectNetwork, onion: Onion, timeout_s: float) -> Stream:
        return replace(await dial(network, onion, timeout_s), path=OwnPath(3, RENDEZVOUS))

    monkeypatch.setattr(DirectNetwork, "dial", dial_with_path)


@pytest.fixture
def meshes(monkeypatch: pytest.MonkeyPatch) -> dict[int, Mesh]:
    """The mesh of each party, by its number, once it exists."""
    kept: dict[int, Mesh] = {}
    make = Mesh.__init__

    def keep(mesh: Mesh, *arguments: Any, **named: Any) -> None:
        make(mesh, *arguments, **named)
        kept[mesh.own_number] = mesh

    monkeypatch.setattr(Mesh, "__init__", keep)
    return kept
